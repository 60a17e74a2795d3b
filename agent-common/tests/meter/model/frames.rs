//! Messages and their boundaries, as the crate `redis-protocol` finds them.

use std::borrow::Cow;

use redis_protocol::{resp2, resp3};

/// The words of a command. One whose bytes are not told apart (escapes of inline commands) is empty.
pub(crate) type Words<'a> = Vec<Cow<'a, [u8]>>;

/// The commands of a stream.
#[derive(Debug, Default)]
pub(crate) struct Requests<'a> {
    /// Words and bytes of each; without words it is no command.
    pub(crate) whole: Vec<(Words<'a>, usize)>,
    /// Where the stream breaks off, or breaks the protocol.
    pub(crate) rest: Option<Rest<'a>>,
}

/// What is behind the last whole command.
#[derive(Debug)]
pub(crate) struct Rest<'a> {
    /// The words that are there.
    pub(crate) words: Words<'a>,
    /// Bytes before what is wrong; all of them if nothing is.
    pub(crate) good: usize,
    /// Bytes from there on that the server refuses.
    pub(crate) refused: usize,
}

/// Reads commands: arrays by the crate, inline ones by [`split`].
pub(crate) fn requests(bytes: &[u8]) -> Requests<'_> {
    let mut requests = Requests::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((words, length)) = request(rest) else {
            requests.rest = Some(broken_off(rest));
            break;
        };
        requests.whole.push((words, length));
        rest = &rest[length..];
    }
    requests
}

fn request(bytes: &[u8]) -> Option<(Words<'_>, usize)> {
    if bytes[0] != b'*' {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        return Some((split(&bytes[..end]), end + 1));
    }
    let (frame, length) = resp2::decode::decode_range(bytes).ok()??;
    let resp2::types::RangeFrame::Array(elements) = frame else {
        return Some((Vec::new(), length));
    };
    let words = elements.iter().map(|element| match element {
        resp2::types::RangeFrame::BulkString((start, end)) => Some(Cow::Borrowed(&bytes[*start..*end])),
        _ => None,
    });
    Some((words.collect::<Option<_>>()?, length))
}

/// A command without an end, or with something in it that is no string.
fn broken_off(bytes: &[u8]) -> Rest<'_> {
    let mut rest = Rest {
        words: Vec::new(),
        good: 0,
        refused: 0,
    };
    if bytes[0] != b'*' {
        rest.good = bytes.len();
        return rest;
    }
    let Some((count, header)) = count(bytes) else {
        return ended(rest, bytes, bytes.contains(&b'\n'));
    };
    if count > i32::MAX as i64 {
        return ended(rest, bytes, true);
    }
    rest.good = header;
    for _ in 0..count {
        let left = &bytes[rest.good..];
        match resp2::decode::decode_range(left) {
            Ok(Some((resp2::types::RangeFrame::BulkString((start, end)), length))) => {
                rest.words.push(Cow::Borrowed(&left[start..end]));
                rest.good += length;
            }
            Ok(None) => return ended(rest, bytes, left.first().is_some_and(|byte| *byte != b'$')),
            Ok(Some(_)) | Err(_) => return ended(rest, bytes, true),
        }
    }
    rest
}

fn ended<'a>(mut rest: Rest<'a>, bytes: &[u8], refused: bool) -> Rest<'a> {
    if refused {
        rest.refused = bytes.len() - rest.good;
    } else {
        rest.good = bytes.len();
    }
    rest
}

/// The number in the first line, and the line's length.
fn count(bytes: &[u8]) -> Option<(i64, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(&bytes[1..end]).ok()?.parse().ok()?;
    Some((number, end + 2))
}

/// Words of an inline command, as the server's `sdssplitargs` finds them.
fn split(line: &[u8]) -> Words<'_> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|byte| !blank(byte));
        let Some(start) = start else { return words };
        rest = &rest[start..];
        let mut word = Vec::new();
        let mut escapes = false;
        while let Some((byte, mut after)) = rest.split_first().filter(|(byte, _)| !blank(byte)) {
            if let quote @ (b'"' | b'\'') = *byte {
                while let Some((byte, next)) = after.split_first().filter(|(byte, _)| **byte != quote) {
                    // In single quotes only the quote itself can be escaped.
                    let escape = *byte == b'\\' && (quote == b'"' || next.first() == Some(&quote));
                    escapes |= escape;
                    word.push(*byte);
                    after = &next[usize::from(escape)..];
                }
                after = after.get(1..).unwrap_or_default();
            } else {
                word.push(*byte);
            }
            rest = after;
        }
        words.push(Cow::Owned(if escapes { Vec::new() } else { word }));
    }
}

/// A message from the server, as far as matching needs to know it.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) length: usize,
    /// Its type byte; of a value with attributes, the value's.
    pub(crate) kind: u8,
    /// The content of a line.
    pub(crate) line: &'a [u8],
    /// The elements of an array or push that are strings; `None` for others.
    pub(crate) strings: Vec<Option<&'a [u8]>>,
}

/// Reads the first message of `bytes` by one of the protocol's versions.
pub(crate) fn reply(bytes: &[u8], version: u8) -> Option<Reply<'_>> {
    if version == 2 {
        resp2_reply(bytes)
    } else {
        resp3_reply(bytes)
    }
}

fn resp2_reply(bytes: &[u8]) -> Option<Reply<'_>> {
    use resp2::types::RangeFrame as Frame;
    let (frame, length) = resp2::decode::decode_range(bytes).ok()??;
    let mut reply = Reply {
        length,
        kind: bytes[0],
        line: &[],
        strings: Vec::new(),
    };
    match frame {
        Frame::SimpleString((start, end)) | Frame::Error((start, end)) => reply.line = &bytes[start..end],
        Frame::Array(elements) => {
            let strings = elements.iter().map(|element| match element {
                Frame::BulkString((start, end)) => Some(&bytes[*start..*end]),
                _ => None,
            });
            reply.strings = strings.collect();
        }
        _ => {}
    }
    Some(reply)
}

fn resp3_reply(bytes: &[u8]) -> Option<Reply<'_>> {
    use resp3::types::RangeFrame as Frame;
    let (frame, length) = resp3::decode::complete::decode_range(bytes).ok()??;
    let mut reply = Reply {
        length,
        kind: bytes[0],
        line: &[],
        strings: Vec::new(),
    };
    match frame {
        Frame::SimpleString {
            data: (start, end), ..
        } => {
            reply.kind = b'+';
            reply.line = &bytes[start..end];
        }
        Frame::Array { data, .. } | Frame::Push { data, .. } => {
            let strings = data.iter().map(|element| match element {
                Frame::BlobString {
                    data: (start, end), ..
                } => Some(&bytes[*start..*end]),
                _ => None,
            });
            reply.strings = strings.collect();
        }
        _ => {}
    }
    Some(reply)
}

/// A value that contains no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf<'a> {
    Nil,
    Value,
    /// An error on a line: the line.
    Error(&'a [u8]),
    /// An error with its length before it.
    LongError,
}

/// The values inside a message, those of attributes included. The crate keeps no equal elements of sets and maps, but it
/// says where each one ends.
pub(crate) fn leaves<'a>(bytes: &'a [u8], version: u8, found: &mut Vec<Leaf<'a>>) {
    let line_end = bytes
        .iter()
        .position(|byte| *byte == b'\r')
        .unwrap_or(bytes.len());
    let line = &bytes[1..line_end];
    let count = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.parse::<i64>().ok());
    let elements = match (bytes[0], count) {
        (b'_', _) | (b'$' | b'*', Some(-1)) => return found.push(Leaf::Nil),
        (b'-', _) => return found.push(Leaf::Error(line)),
        (b'!', _) => return found.push(Leaf::LongError),
        (b'*' | b'~' | b'>', Some(count)) => count,
        (b'%', Some(count)) => 2 * count,
        (b'|', Some(count)) => 2 * count + 1,
        _ => return found.push(Leaf::Value),
    };
    let mut rest = &bytes[line_end + 2..];
    for _ in 0..elements {
        let length = reply(rest, version).map_or(rest.len(), |element| element.length);
        leaves(&rest[..length], version, found);
        rest = &rest[length..];
    }
}
