//! What a client may send: commands of every form, and the ways to write them.

use super::{choices::Choices, stream::Stream, values::text};
use crate::model::places::{COMMANDS, Form};

/// The words of a command.
pub(crate) type Words = Vec<Vec<u8>>;

const TENANTS: &[&[u8]] = &[
    b"cart",
    b"stock",
    b"session",
    b"a",
    b"eightchr",
    b"sixteen-bytes-xx",
    b"thirty-one-bytes-long-prefix-xx",
    b"thirty-two-bytes-long-prefix-xxx",
    b"thirty-three-bytes-long-prefix-xx",
    b"a-prefix-that-is-longer-than-a-token-may-be-in-the-meter",
    b"",
    b"\xff\0\r\n$",
];

const DELIMITERS: &[&[u8]] = &[b":", b":", b":", b"/", b"::", b""];

/// A key, mostly of one of a few tenants.
pub(crate) fn key(choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.one_in(16) {
        return text(choices);
    }
    let mut key = Vec::new();
    for _ in 0..=choices.below(16) / 13 {
        key.extend(choices.pick(TENANTS));
        key.extend(choices.pick(DELIMITERS));
    }
    key.extend(choices.below(50).to_string().into_bytes());
    if choices.one_in(12) {
        key.extend(text(choices));
    }
    key
}

/// A command that has a key, or may have one.
pub(crate) fn data(choices: &mut Choices<'_>) -> Words {
    let with_keys = COMMANDS
        .iter()
        .position(|(name, _)| *name == "client")
        .expect("a command of the table");
    let (name, form) = choices.pick(&COMMANDS[..with_keys]);
    let mut words = vec![cased(name, choices)];
    complete(&mut words, form, choices);
    for _ in 0..choices.below(4) {
        words.push(text(choices));
    }
    // A client may leave out what the server asks for.
    if choices.one_in(40) {
        words.truncate(1 + choices.below(words.len()));
    }
    words
}

/// Appends the arguments up to the first key.
fn complete(words: &mut Words, form: Form, choices: &mut Choices<'_>) {
    match form {
        Form::Key(index) => {
            while words.len() < index {
                words.push(text(choices));
            }
            words.push(key(choices));
        }
        Form::KeyOrKeys(index) if choices.one_in(2) => {
            while words.len() < index {
                words.push(text(choices));
            }
            words.push(Vec::new());
            for _ in 0..choices.below(4) {
                words.push(text(choices));
            }
            words.push(cased("keys", choices));
            words.push(key(choices));
        }
        Form::KeyOrKeys(index) => complete(words, Form::Key(index), choices),
        Form::Count(index) => {
            while words.len() < index {
                words.push(text(choices));
            }
            let count = choices.below(4);
            words.push(count.to_string().into_bytes());
            for _ in 0..count {
                words.push(key(choices));
            }
        }
        Form::Streams(index) => {
            if index == 4 {
                // A group may have the keyword's name.
                words.push(b"GROUP".to_vec());
                words.push(choices.pick(&[&b"group"[..], b"streams"]).to_vec());
                words.push(b"consumer".to_vec());
            }
            for _ in 0..choices.below(3) {
                let (option, value) = choices.pick(&[("COUNT", "2"), ("block", "0")]);
                words.push(option.into());
                words.push(value.into());
            }
            words.push(cased("streams", choices));
            words.push(key(choices));
            words.push(b"0-0".to_vec());
        }
        Form::Container(commands) => {
            let (name, form) = choices.pick(commands);
            words.push(cased(name, choices));
            complete(words, form, choices);
        }
        Form::Keyless | Form::Channels | Form::Link => {}
    }
}

/// A command without a key that changes nothing.
pub(crate) fn keyless(choices: &mut Choices<'_>) -> Words {
    const LINES: &[&[&str]] = &[
        &["info"],
        &["PING"],
        &["ping", "hello"],
        &["CLIENT", "SETNAME", "cart:1"],
        &["client", "setinfo", "LIB-NAME", "a:b"],
        &["Client", "No-Evict", "on"],
        &["CLIENT", "TRACKING", "ON"],
        &["CLIENT"],
        &["config", "get", "a:b"],
        &["CLUSTER", "KEYSLOT", "cart:1"],
        &["COMMAND", "GETKEYS", "GET", "cart:1"],
        &["AUTH", "user", "secret:1"],
        &["SELECT", "1"],
        &["SCAN", "0", "MATCH", "cart:*"],
        &["ECHO", "cart:1"],
        &["ASKING"],
        &["WAIT", "0", "1"],
        &["OBJECT", "HELP"],
        &["xgroup", "nothing", "cart:1"],
        &["REPLCONF", "capa", "eof"],
        &["ACL", "WHOAMI"],
        &["pubsub", "channels", "a:*"],
    ];
    words(choices.pick(LINES))
}

/// A command of a module, or a mistake.
pub(crate) fn unknown(choices: &mut Choices<'_>) -> Words {
    const NAMES: &[&str] = &[
        "json.set",
        "GETT",
        "a.very.long.name.of.a.module.command",
        "x",
        ":",
    ];
    let mut words = vec![choices.pick(NAMES).into()];
    for _ in 0..choices.below(3) {
        words.push(key(choices));
    }
    words
}

/// Words of ours.
pub(crate) fn words(line: &[&str]) -> Words {
    line.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// A name in any letter case.
pub(crate) fn cased(name: &str, choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.below(4) {
        0 | 1 => name.to_ascii_uppercase().into_bytes(),
        2 => name.as_bytes().to_vec(),
        _ => {
            let capitals = choices.byte();
            let letters = name.bytes().enumerate();
            letters
                .map(|(index, letter)| {
                    if capitals >> (index % 8) & 1 == 1 {
                        letter.to_ascii_uppercase()
                    } else {
                        letter
                    }
                })
                .collect()
        }
    }
}

/// Writes a command: as an array, or where its words allow it and a choice says so, as a line.
pub(crate) fn write(to: &mut Stream, words: &Words, choices: &mut Choices<'_>) {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~');
    let short = words.iter().map(Vec::len).sum::<usize>() < 2_000;
    let inline =
        short && words.iter().flatten().all(plain) && words.first().is_some_and(|word| is_name(word));
    if !inline || choices.below(8) < 6 {
        return to.command(words);
    }
    for word in words {
        to.put(choices.pick(&["", "", "", " ", "\t"]));
        quote(to, word, choices);
        to.put(choices.pick(&[" ", " ", "\t", "  "]));
    }
    to.put(choices.pick(&["\r\n", "\n", " \r\n"]));
}

/// A line must not begin like an array.
fn is_name(word: &[u8]) -> bool {
    word.first().is_some_and(u8::is_ascii_alphabetic)
}

/// A word of a line, in quotes where it needs them.
fn quote(to: &mut Stream, word: &[u8], choices: &mut Choices<'_>) {
    let special = |byte: &u8| matches!(byte, b' ' | b'"' | b'\'' | b'\\');
    let style = choices.below(6);
    if word.iter().any(special) || word.is_empty() || style == 5 {
        to.put(b"\"");
        for byte in word {
            if matches!(byte, b'"' | b'\\') {
                to.put(b"\\");
            }
            to.put([*byte]);
        }
        return to.put(b"\"");
    }
    match style {
        3 => to.put([b"'", word, b"'"].concat()),
        4 => {
            // Quotes may begin inside a word.
            let (head, tail) = word.split_at(word.len() / 2);
            to.put([head, b"\"", tail, b"\""].concat());
        }
        _ => to.put(word),
    }
}
