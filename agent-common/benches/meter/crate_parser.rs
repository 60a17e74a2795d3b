//! redis-protocol on the same bytes: ranges into the buffer, which copies no value; arrays are its only allocations.

use std::hint::black_box;

use agent_common::abi::Direction;
use redis_protocol::{resp2, resp3};

use crate::streams::{Conversation, Stream};

/// One direction of a conversation, in the version of the protocol that it speaks.
pub(crate) struct Input {
    version: Version,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Version {
    Resp2,
    Resp3,
}

/// All bytes of a stream as the crate takes them: whole, which is the best case for it. `None` if there are some that it
/// cannot parse: inline commands, and what is no protocol at all.
pub(crate) fn inputs(stream: &Stream) -> Option<Vec<Input>> {
    let all = stream.conversations.iter().map(of_conversation);
    all.collect::<Option<Vec<_>>>()
        .map(|inputs| inputs.into_iter().flatten().collect())
}

/// Both directions of one conversation, if the crate can parse them.
pub(crate) fn of_conversation(conversation: &Conversation) -> Option<[Input; 2]> {
    let [requests, replies] = Direction::ALL.map(|side| of_side(conversation.side(side)));
    Some([requests?, replies?])
}

/// Parses everything and returns the number of messages.
pub(crate) fn parse(inputs: &[Input]) -> u64 {
    inputs
        .iter()
        .map(|input| messages(input).unwrap_or_default())
        .sum()
}

fn of_side(bytes: Vec<u8>) -> Option<Input> {
    let mut input = Input {
        version: Version::Resp2,
        bytes,
    };
    if messages(&input).is_none() {
        input.version = Version::Resp3;
        messages(&input)?;
    }
    Some(input)
}

/// `None` if the bytes are not whole messages to the last one.
fn messages(input: &Input) -> Option<u64> {
    let (mut rest, mut count) = (input.bytes.as_slice(), 0);
    while !rest.is_empty() {
        let length = match input.version {
            Version::Resp2 => resp2::decode::decode_range(rest).ok()?.map(|(frame, length)| {
                black_box(frame);
                length
            }),
            Version::Resp3 => resp3::decode::complete::decode_range(rest)
                .ok()?
                .map(|(frame, length)| {
                    black_box(frame);
                    length
                }),
        };
        rest = rest.get(length.filter(|length| *length > 0)?..)?;
        count += 1;
    }
    Some(count)
}
