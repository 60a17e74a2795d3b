//! What a conversation comes to, the simple way: both streams whole in memory, parsed recursively, matched by index. It
//! shares nothing with the meter but the numbers that must come out. It knows the commands of [`crate::conversations`].

use crate::books::{Books, Counts};

/// The books of a clean conversation.
pub(crate) fn books(requests: &[u8], replies: &[u8]) -> Books {
    let mut books = Books::default();
    let mut waiting = Vec::new();
    for (arguments, bytes) in commands(requests) {
        let row = row_of(&arguments);
        let counts = books.rows.entry(row.clone()).or_default();
        counts.bytes_in += bytes as u64;
        if let Some(name) = arguments.first() {
            counts.commands += 1;
            if !name.eq_ignore_ascii_case(b"subscribe") {
                waiting.push(row);
            }
            if !KNOWN
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            {
                *books.losses.entry("unknown_command").or_default() += 1;
            }
        }
    }
    let mut waiting = waiting.into_iter();
    let mut rest = replies;
    while !rest.is_empty() {
        let after = value(rest);
        let bytes = (rest.len() - after.len()) as u64;
        let row = if rest[0] == b'>' {
            Some("(pubsub)".to_owned())
        } else {
            waiting.next()
        };
        books
            .rows
            .entry(row.expect("a command for every reply"))
            .or_default()
            .bytes_out += bytes;
        rest = after;
    }
    books.rows.retain(|_, counts| *counts != Counts::default());
    books
}

/// Commands that the meter's table has, of those that random conversations use.
const KNOWN: &[&str] = &[
    "get",
    "set",
    "mget",
    "del",
    "lrange",
    "eval",
    "bitop",
    "object",
    "xread",
    "ping",
    "info",
    "multi",
    "exec",
    "publish",
    "subscribe",
];

/// The commands of a stream, and how many bytes each took.
fn commands(mut rest: &[u8]) -> Vec<(Vec<Vec<u8>>, usize)> {
    let mut commands = Vec::new();
    while !rest.is_empty() {
        let (line, mut after) = line(rest);
        let mut arguments: Vec<Vec<u8>> = Vec::new();
        if let Some(count) = line.strip_prefix(b"*") {
            for _ in 0..number(count) {
                let (header, content) = self::line(after);
                let length = number(&header[1..]) as usize;
                arguments.push(content[..length].to_vec());
                after = &content[length + 2..];
            }
        } else {
            let words = line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            arguments.extend(words.map(<[u8]>::to_vec));
        }
        commands.push((arguments, rest.len() - after.len()));
        rest = after;
    }
    commands
}

/// What is behind the first value.
fn value(bytes: &[u8]) -> &[u8] {
    let (line, mut rest) = line(bytes);
    let count = || number(&line[1..]);
    match line[0] {
        b'$' | b'=' | b'!' => match count() {
            -1 => rest,
            length => &rest[length as usize + 2..],
        },
        kind @ (b'*' | b'~' | b'>' | b'%' | b'|') => {
            let pairs = matches!(kind, b'%' | b'|');
            for _ in 0..if pairs { 2 * count() } else { count() } {
                rest = value(rest);
            }
            if kind == b'|' { value(rest) } else { rest }
        }
        _ => rest,
    }
}

/// The first line without its end, and what is behind it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').expect("whole lines");
    let line = &bytes[..end];
    (line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..])
}

fn number(digits: &[u8]) -> i64 {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .expect("a number")
}

fn row_of(arguments: &[Vec<u8>]) -> String {
    let Some(name) = arguments.first() else {
        return "(keyless)".to_owned();
    };
    let name = String::from_utf8_lossy(name).to_lowercase();
    let argument = |index: usize| arguments.get(index).map(Vec::as_slice);
    let key = match name.as_str() {
        "publish" | "subscribe" => return "(pubsub)".to_owned(),
        "ping" | "info" | "multi" | "exec" => None,
        "eval" => argument(3).filter(|_| argument(2).is_some_and(|count| count != b"0")),
        "bitop" | "object" => argument(2),
        "xread" => {
            let streams = arguments
                .iter()
                .position(|word| word.eq_ignore_ascii_case(b"streams"));
            streams.and_then(|index| argument(index + 1))
        }
        _ => argument(1),
    };
    let Some(key) = key else {
        return "(keyless)".to_owned();
    };
    match key.iter().position(|byte| *byte == b':') {
        Some(length @ 1..=32) => key[..length].escape_ascii().to_string(),
        _ => "(none)".to_owned(),
    }
}
