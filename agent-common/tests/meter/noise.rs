//! Any bytes at all, in any segments: every one of them is in the books, and where no byte is missed, it does not matter
//! how they were cut. The body of a fuzz target; its corpus is replayed by [`crate::corpus_of_fuzz`].

use agent_common::abi::{
    Direction::{self, In, Out},
    KeySettings,
};

use crate::{books::Books, wire::Wire};

/// One thing that happens on a connection.
#[derive(Debug, Clone, Copy)]
enum Event<'a> {
    Segment(Direction, &'a [u8]),
    /// A segment of requests whose two parts come in the wrong order.
    Swapped(&'a [u8], &'a [u8]),
    /// Bytes that were sent already come again: how many, and how many bytes back they begin.
    Again(Direction, usize, usize),
    /// So many bytes are not seen.
    Missed(Direction, u32),
    /// Milliseconds.
    Silence(u64),
}

/// Reads a connection out of `input`, and runs it through the meter. Panics where something is not as it has to be.
pub(crate) fn check(input: &[u8]) {
    let Some((setting, rest)) = input.split_first() else {
        return;
    };
    let events = events(rest);
    let mid_stream = setting & 1 != 0;
    let books = run(*setting, mid_stream, &events, &mut |bytes| vec![bytes]);
    let whole = |event: &Event<'_>| !matches!(event, Event::Missed(..) | Event::Silence(_));
    if mid_stream || !events.iter().all(whole) {
        return;
    }
    let in_order: Vec<Event<'_>> = events.iter().copied().flat_map(put_in_order).collect();
    for longest in [usize::MAX, 1, 7] {
        let again = run(*setting, false, &in_order, &mut |bytes| {
            bytes.chunks(longest).collect()
        });
        assert_eq!(again.rows, books.rows, "in pieces of {longest}");
        assert_eq!(again.losses, books.losses, "in pieces of {longest}");
        // Whether the rest of a token is unfinished or lost depends on whether a segment comes behind the loss.
        for direction in Direction::ALL {
            assert_eq!(
                again.total(direction),
                books.total(direction),
                "in pieces of {longest}"
            );
        }
    }
}

fn events(mut rest: &[u8]) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    while let [kind, length, after @ ..] = rest {
        let (bytes, behind) = after.split_at(after.len().min(usize::from(*length)));
        let direction = if kind & 8 == 0 { In } else { Out };
        rest = behind;
        events.push(match kind % 8 {
            0..=4 => Event::Segment(direction, bytes),
            5 => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                Event::Swapped(first, second)
            }
            6 => {
                rest = after;
                Event::Again(direction, usize::from(*length), usize::from(kind >> 4) * 20)
            }
            _ => {
                rest = after;
                if kind & 16 == 0 {
                    Event::Missed(direction, u32::from(*length))
                } else {
                    Event::Silence(u64::from(*length) * 8)
                }
            }
        });
    }
    events
}

/// The same bytes without what TCP did to them.
fn put_in_order(event: Event<'_>) -> Vec<Event<'_>> {
    match event {
        Event::Again(..) => Vec::new(),
        Event::Swapped(first, second) => vec![Event::Segment(In, first), Event::Segment(In, second)],
        event => vec![event],
    }
}

fn run(
    setting: u8,
    mid_stream: bool,
    events: &[Event<'_>],
    cut: &mut dyn FnMut(&[u8]) -> Vec<&[u8]>,
) -> Books {
    let mut wire = if mid_stream {
        Wire::mid_stream()
    } else {
        Wire::with_sequences(u32::MAX - 20, u32::from(setting) << 24)
    };
    wire.settings = match setting >> 1 & 3 {
        0 => KeySettings::new(b":", 1, 32),
        1 => KeySettings::new(b":/", 2, 32),
        2 => KeySettings::new(b".-:/", 4, 20),
        _ => KeySettings::new(b"/", 1, 3),
    };
    let mut sent = [Vec::new(), Vec::new()];
    for event in events {
        match *event {
            Event::Segment(direction, bytes) => {
                for piece in cut(bytes) {
                    wire.send(direction, piece);
                }
                sent[direction as usize].extend_from_slice(bytes);
            }
            Event::Swapped(first, second) => {
                let start = wire.sent(In);
                wire.segment(In, start.wrapping_add(first.len() as u32), second);
                wire.segment(In, start, first);
                sent[0].extend_from_slice(first);
                sent[0].extend_from_slice(second);
            }
            Event::Again(direction, length, back) => {
                let sent = &sent[direction as usize];
                let end = sent.len().saturating_sub(back);
                let start = end.saturating_sub(length);
                let sequence = wire.sent(direction).wrapping_sub((sent.len() - start) as u32);
                wire.segment(direction, sequence, &sent[start..end]);
            }
            Event::Missed(direction, length) => {
                wire.lose(direction, length);
                let sent = &mut sent[direction as usize];
                sent.resize(sent.len() + length as usize, 0);
            }
            Event::Silence(milliseconds) => wire.wait(milliseconds),
        }
    }
    wire.books()
}
