//! The notation of `tests/captures`: a conversation, and the books that it must come to.

use std::{fmt::Write as _, fs, path::Path};

use agent_common::abi::{Direction, Loss, Reason};

use crate::{
    books::{Books, Counts},
    wire::Wire,
};

/// One recorded conversation.
pub(crate) struct Capture {
    /// File name without its ending.
    pub(crate) name: String,
    /// What one side sent at once, in order.
    pub(crate) turns: Vec<(Direction, Vec<u8>)>,
    /// The expected books.
    pub(crate) expected: Books,
    /// The result depends on where segments end: not to be split.
    pub(crate) unsplit: bool,
    mid_stream: bool,
}

impl Capture {
    /// Every capture of the repository, by name.
    pub(crate) fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures");
        let mut captures: Vec<Self> = fs::read_dir(&folder)
            .expect("the folder of captures")
            .map(|entry| entry.expect("a folder that can be read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "capture"))
            .map(|path| Self::read(&path))
            .collect();
        captures.sort_by(|one, other| one.name.cmp(&other.name));
        captures
    }

    /// A connection as the capture begins it.
    pub(crate) fn wire(&self) -> Wire {
        if self.mid_stream {
            Wire::mid_stream()
        } else {
            Wire::from_start()
        }
    }

    fn read(path: &Path) -> Self {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(path).expect("a capture is text");
        let mut capture = Self {
            name,
            turns: Vec::new(),
            expected: Books::default(),
            unsplit: false,
            mid_stream: false,
        };
        assert!(
            text.lines().any(|line| line.starts_with("# from: ")),
            "{}: no provenance",
            capture.name
        );
        for (number, line) in text.lines().enumerate() {
            let read = capture.line(line);
            assert!(read.is_some(), "{} line {}: {line}", capture.name, number + 1);
        }
        capture
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        match mark {
            "# " | "! " | "" => {}
            "> " => self.turns.push((Direction::In, bytes(rest)?)),
            "< " => self.turns.push((Direction::Out, bytes(rest)?)),
            "+ " => self.turns.last_mut()?.1.extend(bytes(rest)?),
            "= " => self.row(rest)?,
            "? " => {
                let (direction, rest) = rest.split_once(' ')?;
                let (reason, count) = rest.split_once(' ')?;
                let reason = Reason::ALL.iter().find(|known| known.label() == reason)?;
                self.expected
                    .unattributed
                    .insert((way(direction)?, reason.label()), count.parse().ok()?);
            }
            "~ " => {
                let (direction, count) = rest.split_once(' ')?;
                self.expected
                    .unfinished
                    .insert(way(direction)?, count.parse().ok()?);
            }
            "% " => {
                let (loss, count) = rest.split_once(' ')?;
                let loss = Loss::ALL.iter().find(|known| known.label() == loss)?;
                self.expected.losses.insert(loss.label(), count.parse().ok()?);
            }
            _ => match line {
                "begin: mid-stream" => self.mid_stream = true,
                "split: no" => self.unsplit = true,
                "books: by hand" => {}
                _ => return None,
            },
        }
        Some(())
    }

    fn row(&mut self, rest: &str) -> Option<()> {
        let mut numbers = rest.rsplitn(4, ' ');
        let bytes_out = numbers.next()?.parse().ok()?;
        let bytes_in = numbers.next()?.parse().ok()?;
        let commands = numbers.next()?.parse().ok()?;
        let name = numbers.next()?.to_owned();
        let previous = self.expected.rows.insert(
            name,
            Counts {
                commands,
                bytes_in,
                bytes_out,
            },
        );
        previous.is_none().then_some(())
    }
}

fn way(text: &str) -> Option<Direction> {
    Direction::ALL
        .into_iter()
        .find(|direction| direction.label() == text)
}

/// Bytes in the notation: printable ASCII, `\r` `\n` `\t` `\\` `\{` `\xHH`, and `{c*100}` for a hundred times `c`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = one(rest) {
        rest = after;
        if byte.is_none() {
            let (repeated, after) = one(rest)?;
            let end = after.iter().position(|byte| *byte == b'}')?;
            let (count, after) = after.split_at(end);
            let count = std::str::from_utf8(count).ok()?.strip_prefix('*')?.parse().ok()?;
            bytes.extend(std::iter::repeat_n(repeated?, count));
            rest = &after[1..];
        }
        bytes.extend(byte);
    }
    rest.is_empty().then_some(bytes)
}

/// One byte of the notation; the inner `None` is an opening brace.
fn one(text: &[u8]) -> Option<(Option<u8>, &[u8])> {
    match text {
        [b'{', rest @ ..] => Some((None, rest)),
        [b'\\', b'r', rest @ ..] => Some((Some(b'\r'), rest)),
        [b'\\', b'n', rest @ ..] => Some((Some(b'\n'), rest)),
        [b'\\', b't', rest @ ..] => Some((Some(b'\t'), rest)),
        [b'\\', b'x', high, low, rest @ ..] => {
            let digits = [*high, *low];
            let byte = u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
            Some((Some(byte), rest))
        }
        [b'\\', byte @ (b'\\' | b'{'), rest @ ..] => Some((Some(*byte), rest)),
        [b'\\', ..] => None,
        [byte @ b' '..=b'~', rest @ ..] => Some((Some(*byte), rest)),
        _ => None,
    }
}

/// Bytes as captures write them.
pub(crate) fn notation(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(byte) = rest.first() {
        let run = rest.iter().take_while(|next| *next == byte).count();
        let one = match byte {
            b'\r' => "\\r".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b'\\' => "\\\\".to_owned(),
            b'{' => "\\{".to_owned(),
            b' '..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        if run >= 40 {
            let _ = write!(text, "{{{one}*{run}}}");
        } else {
            text.push_str(&one.repeat(run));
        }
        rest = &rest[run..];
    }
    text
}

#[test]
fn the_notation_is_read_as_documented() {
    assert_eq!(
        bytes(r"a\r\n\x00\\\{{b*3}{\xff*2}").unwrap(),
        b"a\r\n\0\\{bbb\xff\xff"
    );
    let all: Vec<u8> = (0..=255).chain([b'x'; 50]).collect();
    assert_eq!(bytes(&notation(&all)).unwrap(), all);
    for wrong in [r"\", r"\q", r"\x1", "{", "{a", "{a*", "{a*x}", "\u{e4}"] {
        assert_eq!(bytes(wrong), None, "{wrong}");
    }
}
