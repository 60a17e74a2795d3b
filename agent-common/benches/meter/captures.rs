//! The recorded conversations of `tests/captures`; their README has the notation.

use std::{fs, path::Path};

use agent_common::abi::Direction;

use crate::{
    crate_parser,
    driver::Driver,
    streams::{Conversation, Stream},
};

/// All of them, and those that the crate can parse as well.
pub(crate) fn streams() -> [Stream; 2] {
    let all = conversations();
    let common = conversations()
        .into_iter()
        .filter(|one| crate_parser::of_conversation(one).is_some())
        .collect();
    [
        stream("captures, all", all),
        stream("captures, arrays only", common),
    ]
}

fn stream(name: &'static str, conversations: Vec<Conversation>) -> Stream {
    Stream {
        name,
        messages: Driver::new().run(&conversations).commands,
        conversations,
        is_clean: false,
    }
}

fn conversations() -> Vec<Conversation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures");
    let entries = fs::read_dir(&folder).expect("the folder of captures");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a folder that can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "capture"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("a capture is text");
            read(&text).expect("a capture in its notation")
        })
        .collect()
}

/// Only what was sent; the books are for the tests.
fn read(text: &str) -> Option<Conversation> {
    let mut conversation = Conversation {
        mid_stream: text.lines().any(|line| line == "begin: mid-stream"),
        turns: Vec::new(),
    };
    for line in text.lines() {
        match line.split_at_checked(2) {
            Some(("> ", rest)) => conversation.turns.push((Direction::In, bytes(rest)?)),
            Some(("< ", rest)) => conversation.turns.push((Direction::Out, bytes(rest)?)),
            Some(("+ ", rest)) => conversation.turns.last_mut()?.1.extend(bytes(rest)?),
            _ => {}
        }
    }
    Some(conversation)
}

/// Printable ASCII, `\r` `\n` `\t` `\\` `\{` `\xHH`, and `{c*100}` for a hundred times `c`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(repeated) = rest.strip_prefix('{') {
            let (byte, after) = one(repeated)?;
            let (count, after) = after.strip_prefix('*')?.split_once('}')?;
            bytes.extend(std::iter::repeat_n(byte, count.parse().ok()?));
            rest = after;
        } else {
            let (byte, after) = one(rest)?;
            bytes.push(byte);
            rest = after;
        }
    }
    Some(bytes)
}

fn one(text: &str) -> Option<(u8, &str)> {
    let (first, rest) = text.split_at_checked(1)?;
    if first != "\\" {
        return Some((*first.as_bytes().first()?, rest));
    }
    let (escape, rest) = rest.split_at_checked(1)?;
    match escape {
        "r" => Some((b'\r', rest)),
        "n" => Some((b'\n', rest)),
        "t" => Some((b'\t', rest)),
        "\\" | "{" => Some((*escape.as_bytes().first()?, rest)),
        "x" => {
            let (digits, rest) = rest.split_at_checked(2)?;
            Some((u8::from_str_radix(digits, 16).ok()?, rest))
        }
        _ => None,
    }
}
