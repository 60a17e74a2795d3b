//! What a server may answer: values of every type, errors, and what it says unasked.

use super::{choices::Choices, stream::Stream};

/// Texts that look like something else.
const TRAPS: &[&[u8]] = &[
    b"",
    b"x",
    b"\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"$-1\r\n",
    b"-ERR\r\n",
    b":0\r\n",
    b">2\r\n",
    b"*3\r\n$7\r\nmessage\r\n",
    b"+1700000000.5 [0 ::1] \"GET\"\r\n",
    b"\xff\0:{}",
    b"cart:1",
];

const ERRORS: &[&str] = &[
    "ERR no such key",
    "ERR",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "NOAUTH Authentication required.",
    "NOPERM No permissions to run the command",
    "BUSY Valkey is busy running a script.",
    "CLUSTERDOWN Hash slot not served",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "NOSCRIPT No matching script.",
    "LOADING Valkey is loading the dataset in memory",
    "CUSTOMWORDOFAMODULE",
    "lower case",
    "",
];

/// Bytes of an argument or a value: mostly short, now and then long, often hostile.
pub(crate) fn text(choices: &mut Choices<'_>) -> Vec<u8> {
    let pattern = choices.pick(TRAPS);
    let length = match choices.below(32) {
        0..=20 => return pattern.to_vec(),
        21..=26 => choices.below(40),
        27..=29 => choices.below(700),
        30 => choices.below(6_000),
        _ => choices.below(70_000),
    };
    let mut text = pattern.repeat(3);
    text.resize(length.saturating_sub(pattern.len()), b'v');
    text.extend(pattern);
    text
}

/// The content of a line.
fn line(choices: &mut Choices<'_>) -> Vec<u8> {
    const LINES: &[&str] = &["OK", "", "PONG", "Background saving started", "string", "a:b"];
    let line = choices.pick(LINES);
    let repeat = if choices.one_in(8) { choices.below(200) } else { 1 };
    line.repeat(repeat).into_bytes()
}

/// An error that a command may get.
pub(crate) fn error(out: &mut Stream, choices: &mut Choices<'_>) {
    let text = choices.pick(ERRORS);
    let repeat = if choices.one_in(16) { 5 } else { 1 };
    simple(out, b'-', text.repeat(repeat));
}

/// A value on one line.
pub(crate) fn simple(out: &mut Stream, kind: u8, content: impl AsRef<[u8]>) {
    out.put([kind]);
    out.put(content);
    out.put(b"\r\n");
}

/// The null of a version.
pub(crate) fn null(out: &mut Stream, version: u8) {
    out.put(if version == 2 { &b"$-1\r\n"[..] } else { b"_\r\n" });
}

/// The reply to a command that reads or writes data.
pub(crate) fn value(out: &mut Stream, version: u8, choices: &mut Choices<'_>) {
    nested(out, version, 0, choices);
}

fn nested(out: &mut Stream, version: u8, depth: usize, choices: &mut Choices<'_>) {
    let kinds = if depth < 5 { 13 } else { 9 };
    match choices.below(kinds) {
        9 => {
            let count = choices.below(6);
            out.header(b'*', count);
            for _ in 0..count {
                nested(out, version, depth + 1, choices);
            }
        }
        10 if version == 3 => {
            let count = choices.below(5);
            out.header(b'~', count);
            for _ in 0..count {
                leaf(out, version, choices);
            }
        }
        11 if version == 3 => {
            let count = choices.below(4);
            out.header(b'%', count);
            for _ in 0..count {
                leaf(out, version, choices);
                nested(out, version, depth + 1, choices);
            }
        }
        12 if version == 3 => {
            attribute(out, choices);
            if choices.one_in(2) {
                out.header(b'*', 2);
                nested(out, version, depth + 1, choices);
            }
            out.string(b'$', text(choices));
        }
        12 => {
            // What LRANGE or a script may return: as many as a message has.
            out.header(b'*', 3);
            for _ in 0..3 {
                out.string(b'$', text(choices));
            }
        }
        _ => leaf(out, version, choices),
    }
}

/// Attributes stand before a value that is no null: the crate's parser wants it so.
fn attribute(out: &mut Stream, choices: &mut Choices<'_>) {
    let count = choices.below(3);
    out.header(b'|', count);
    for _ in 0..count {
        leaf(out, 3, choices);
        nested(out, 3, 4, choices);
    }
}

/// A value that contains no other.
fn leaf(out: &mut Stream, version: u8, choices: &mut Choices<'_>) {
    match choices.below(if version == 3 { 17 } else { 9 }) {
        0 => null(out, version),
        1 => simple(out, b'+', line(choices)),
        2..=4 => out.string(b'$', text(choices)),
        5 => simple(out, b':', (choices.word() as i64).to_string()),
        6 => simple(out, b':', choices.below(3).to_string()),
        7 => error(out, choices),
        8 if version == 2 => out.put(b"*-1\r\n"),
        8 => null(out, version),
        9 => out.put(b"#t\r\n"),
        10 => out.put(b"#f\r\n"),
        11 => simple(
            out,
            b',',
            choices.pick(&["1.5", "inf", "-inf", "nan", "-1.5e300", "0"]),
        ),
        12 => simple(out, b'(', "3492890328409238509324850943850943825024385"),
        13 => simple(out, b'(', "-".to_owned() + &"9".repeat(1 + choices.below(200))),
        14 => out.string(b'!', [b"ERR ", &text(choices)[..]].concat()),
        15 => out.string(b'=', [b"txt:", &text(choices)[..]].concat()),
        _ => out.string(b'=', [b"mkd:", &text(choices)[..]].concat()),
    }
}
