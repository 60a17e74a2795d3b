//! Segments that are one plain reply: what a client gets that waits for each.

use super::{
    super::{
        Ledger, Payload, Segment,
        header::in_word,
        moment, tick,
        words::{equal_bytes, first_marked, repeat},
    },
    NIL,
};
use crate::abi::{Connection, Direction, Mode, ReplyCounts, RunKind, duration_bucket, run_flag, size_bucket};

/// How much of a reply is looked at: two words.
const HEAD_BYTES: u32 = 16;

/// Deals with a segment that is one reply from its first byte to its last: a string, a short status or number, or nil, on a
/// connection that is in step and between two replies, to a command that has one reply. Returns false where anything is otherwise.
/// Then nothing has been counted, and the segment is for [`Replies::begin`](super::Replies::begin).
///
/// There is no state to be kept in between, and no window: half of the instructions, and no scratch.
#[inline(always)]
pub fn whole_reply<S: Segment, L: Ledger>(
    connection: &mut Connection,
    segment: &mut S,
    ledger: &mut L,
    payload: &Payload,
) -> bool {
    // The bytes first: the connection is on its way to the CPU's cache.
    let at_hand = if payload.length < HEAD_BYTES {
        payload.length
    } else {
        HEAD_BYTES
    };
    let Some(head) = segment.first_words(payload.offset, at_hand) else {
        return false;
    };
    let Some(nil) = one_reply(head, payload.length) else {
        return false;
    };
    if !is_between_replies(connection, payload) {
        return false;
    }
    let front = connection.runs.front();
    if front.kind as u32 ^ RunKind::Reply as u32 | front.flags & run_flag::NAME != 0 {
        return false;
    }
    connection.runs.pop();
    connection.runs.set_last_direction(Direction::Out);
    connection.next_out = payload.sequence.wrapping_add(payload.length);
    connection.set_spoke_at(moment(payload.seen_at));
    let reads = u32::from(front.flags & run_flag::READS != 0);
    let timed = u32::from(front.flags & run_flag::UNTIMED == 0);
    // 0 where it has none, without a branch.
    let duration = tick(payload.seen_at).wrapping_sub(front.since) & timed.wrapping_neg();
    let counts = ReplyCounts {
        replies: 1,
        size_bucket: size_bucket(payload.length),
        timed,
        duration_bucket: duration_bucket(duration),
        duration_units: u64::from(duration),
        bytes: u64::from(payload.length),
        hits: reads & (nil ^ 1),
        misses: reads & nil,
    };
    ledger.replies(connection.slot, front.row, &counts);
    true
}

/// Whether the connection is in step and this segment begins a reply, about which there is nothing special.
#[inline(always)]
fn is_between_replies(connection: &Connection, payload: &Payload) -> bool {
    const { assert!(Mode::NORMAL == 0) };
    let shared = &connection.shared;
    let sync = shared.sync();
    // Differences as bits, not as comparisons: the verifier walks both ways of each.
    let open = connection.rests_out ^ sync | shared.mode() | shared.trial();
    u32::from(open) | connection.next_out ^ payload.sequence == 0 && sync != 0
}

/// Whether a segment of `length` bytes is one reply that begins like this, and whether that is nil, as a number.
#[inline(always)]
fn one_reply([first, second]: [u64; 2], length: u32) -> Option<u32> {
    const NULL: u64 = u64::from_le_bytes(*b"_\r\n\0\0\0\0\0");
    const LF: u64 = repeat(b'\n');
    match first as u8 {
        b'$' => {
            if let Some((value, header)) = in_word(first) {
                return (header.wrapping_add(value).wrapping_add(2) == length).then_some(0);
            }
            (first == NIL && length == 5).then_some(1)
        }
        b'+' | b':' => {
            let mask = equal_bytes(first, LF);
            let end = if mask != 0 {
                first_marked(mask)
            } else {
                // Without one there it would be in the last byte, which is none of a longer line.
                first_marked(equal_bytes(second, LF) | 1 << 63).wrapping_add(8)
            };
            (end.wrapping_add(1) == length && length < HEAD_BYTES).then_some(0)
        }
        b'_' => (first == NULL && length == 3).then_some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reply: &str) -> Option<u32> {
        let mut bytes = [0; 16];
        let at_hand = reply.len().min(16);
        bytes[..at_hand].copy_from_slice(&reply.as_bytes()[..at_hand]);
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        one_reply([word(0), word(8)], reply.len() as u32)
    }

    #[test]
    fn plain_replies_are_told_from_all_others() {
        let long = format!("$1024\r\n{}\r\n", "x".repeat(1024));
        for (reply, expected) in [
            ("$3\r\nfoo\r\n", Some(0)),
            ("$0\r\n\r\n", Some(0)),
            (&long, Some(0)),
            (&long[..1_000], None),
            ("$3\r\nfoo\r\n$", None),
            ("$3\r\nfoo\r", None),
            ("$3", None),
            ("$-1\r\n", Some(1)),
            ("$-1\r\n$-1\r\n", None),
            ("_\r\n", Some(1)),
            ("_\r\n_\r\n", None),
            ("+OK\r\n", Some(0)),
            ("+QUEUED\r\n", Some(0)),
            ("+OK\r\n+OK\r\n", None),
            ("+OK\r", None),
            (":17\r\n", Some(0)),
            (":123456789012\r\n", Some(0)),
            (":1234567890123\r\n", None),
            ("+a status that is longer\r\n", None),
            ("-ERR no\r\n", None),
            ("*0\r\n", None),
            ("%0\r\n", None),
            (">0\r\n", None),
            ("x", None),
        ] {
            assert_eq!(read(reply), expected, "{reply:?}");
        }
    }
}
