//! The RESP meter: one resumable state machine per direction of a connection. The same source runs in the kernel and in
//! host tests; what it reads from ([`Segment`]) and counts into ([`Ledger`]) are traits.
//!
//! It works token by token (a header line, a name, the head of a key) on a [`Window`] of the segment. Payload is jumped
//! over by length and never looked at. A token cut by the end of a segment is carried over in the connection's state,
//! so that parsing code always sees whole tokens. One call of `step` handles one token: the kernel drives it by
//! `bpf_loop`, the host by a `while`.

pub mod command;
mod commands;
mod connection;
mod error_words;
mod header;
mod prefix;
mod replies;
mod requests;
pub mod spill;
pub(crate) mod words;

pub use header::{Header, header};
pub use prefix::{Content, prefix};
pub use replies::{Replies, whole_reply};
pub use requests::{Requests, Turn, Whole};

use crate::abi::{
    Commands, Connection, DURATION_SHIFT, Direction, ErrorWord, Identity, Loss, NameKey, PrefixKey, Pushed,
    Reason, ReplyCounts, RequestCounts, Scratch, Spill, TOKEN_BYTES, WINDOW_BYTES, Waiting, Window,
    clear_token,
};

/// Where the bytes of a segment come from.
pub trait Segment {
    /// Copies `length` bytes (1 to [`WINDOW_BYTES`]) from `offset` of the packet into `window` behind its first `tail`
    /// bytes (fewer than 64). Returns false when that is impossible.
    fn load(&mut self, window: &mut Window, tail: u32, offset: u32, length: u32) -> bool;

    /// Copies `length` bytes (1 to [`HEAD_BYTES`]) from `offset` of the packet to the start of `window`. Returns false when that
    /// is impossible.
    fn load_head(&mut self, window: &mut Window, offset: u32, length: u32) -> bool;

    /// The first `length` bytes (1 to 16) from `offset` of the packet on, zeros behind them. `None` when that is impossible.
    fn first_words(&mut self, offset: u32, length: u32) -> Option<[u64; 2]>;

    /// Overwrites the first `length` bytes (1 to [`WINDOW_BYTES`]) of the window with zeros: nothing of a packet stays
    /// behind.
    fn wipe(&mut self, window: &mut Window, length: u32);

    /// Whether TCP, too, still waits for the byte with this sequence number. If so, a segment behind it can be parked
    /// until that byte comes.
    fn is_awaited(&mut self, sequence: u32) -> bool;
}

/// How much of a segment is looked at to see whether it is one command: a power of two.
pub const HEAD_BYTES: u32 = 128;

/// Where the meter's results go.
pub trait Ledger {
    /// The row of a prefix; rows that do not fit are `(other)`.
    fn row(&mut self, key: &PrefixKey) -> u32;
    /// The row of a special row, which is given as [`crate::abi::Row::special`], of connections of a class other than 0.
    fn special(&mut self, direction: Direction, row: u32, class: u16) -> u32;
    /// The class of a connection by what is known of its client now.
    fn class(&mut self, connection: &Connection) -> u16;
    /// The same as the connection has it, found anew only where that is void: a subscriber may say nothing for long.
    fn known_class(&mut self, connection: &Connection) -> u16;
    /// Length of the longest declared prefix that a key of `length` bytes (as many of them as `words` hold) begins with;
    /// 0: none.
    fn declared(&mut self, words: &[u64; 4], length: u32) -> u32;
    /// Adds commands to a row of a listener.
    fn requests(&mut self, slot: u32, row: u32, counts: &RequestCounts);
    /// Adds replies to a row of a listener.
    fn replies(&mut self, slot: u32, row: u32, counts: &ReplyCounts);
    /// Adds an error reply to a row of a listener.
    fn error(&mut self, slot: u32, row: u32, word: ErrorWord);
    /// Adds bytes that belong to no row.
    fn unattributed(&mut self, slot: u32, direction: Direction, reason: Reason, bytes: u64);
    /// Number of a name of the client; 0 where there is no room for it, which is counted.
    fn name(&mut self, key: &NameKey) -> u32;
    /// What is known of the client of the connection at hand; made if `create` says so. `None`: nothing is, or no memory.
    fn identity(&mut self, create: bool) -> Option<&mut Identity>;
    /// The spill of the connection at hand; made if `create` says so. `None`: it has none, or no memory.
    fn spill(&mut self, create: bool) -> Option<&mut Spill>;
    /// Appends commands for which the connection's queue has no room. The kernel has functions of its own for this and
    /// for the next: nearly no connection needs them.
    #[inline(always)]
    fn push_beyond(&mut self, connection: &mut Connection, commands: &Commands) -> Pushed
    where
        Self: Sized,
    {
        spill::push_beyond(self, connection, commands)
    }
    /// The oldest command that waits, where it is in the spill.
    #[inline(always)]
    fn front_of_spill(&mut self, connection: &mut Connection) -> Waiting
    where
        Self: Sized,
    {
        spill::front_of_spill(self, connection)
    }
    /// Counts something that went wrong without losing bytes.
    fn loss(&mut self, loss: Loss, count: u32);
}

/// What to do with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing more.
    Done,
    /// Call `step` until it returns false, then `end`.
    Read,
    /// It came early: keep it until the one before it has been read, or give it up with [`Requests::give_up_early`].
    Park,
}

/// A moment as the connection keeps it: units of 2^20 ns, wrapping after 52 days.
#[inline(always)]
fn moment(nanoseconds: u64) -> u32 {
    (nanoseconds >> 20) as u32
}

/// The same in the units of durations, wrapping after 18 minutes.
#[inline(always)]
fn tick(nanoseconds: u64) -> u32 {
    (nanoseconds >> DURATION_SHIFT) as u32
}

/// The payload of one TCP segment (or GSO super-segment).
#[derive(Debug, Clone, Copy)]
pub struct Payload {
    /// When it was seen, on the monotonic clock in nanoseconds.
    pub seen_at: u64,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Offset of its first byte in the packet.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
}

/// What a segment brings that has not been seen, after TCP's sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// Bytes missing before it.
    pub hole: u32,
    /// Offset in the packet of the first new byte.
    pub offset: u32,
    /// New bytes.
    pub length: u32,
}

/// Compares a segment with the next expected sequence number. `None`: nothing new (a duplicate, a keep-alive).
#[inline(always)]
#[must_use]
pub fn fresh(next_sequence: u32, payload: &Payload) -> Option<Fresh> {
    let ahead = payload.sequence.wrapping_sub(next_sequence);
    if ahead < 1 << 31 {
        return Some(Fresh {
            hole: ahead,
            offset: payload.offset,
            length: payload.length,
        });
    }
    let old = next_sequence.wrapping_sub(payload.sequence);
    if old >= payload.length {
        return None;
    }
    Some(Fresh {
        hole: 0,
        offset: payload.offset.wrapping_add(old),
        length: payload.length.wrapping_sub(old),
    })
}

/// How much is loaded at once: what the window holds behind a cut token.
const WIDE: u32 = (WINDOW_BYTES - 64) as u32;

/// The same where a value so long is expected that all behind its header would be copied in vain. No less than a token.
const NARROW: u32 = 64;

/// How many commands or replies that are alike are taken at once.
const AT_ONCE: u32 = 8;

/// The segment at hand, and the meter's way through it, kept in the scratch.
impl Scratch {
    /// The segment at hand.
    #[inline(always)]
    #[must_use]
    pub fn segment(&self) -> Payload {
        Payload {
            seen_at: self.segment_seen_at,
            sequence: self.segment_sequence,
            offset: self.segment_offset,
            length: self.segment_length,
        }
    }

    /// Puts a segment at hand.
    #[inline(always)]
    pub fn set_segment(&mut self, payload: &Payload) {
        self.segment_seen_at = payload.seen_at;
        self.segment_sequence = payload.sequence;
        self.segment_offset = payload.offset;
        self.segment_length = payload.length;
    }

    /// Starts on a segment: the carried token first, then the packet.
    #[inline(always)]
    fn enter<const WORDS: usize>(&mut self, fresh: &Fresh, carry: &mut [u64; WORDS], carry_length: u8) {
        self.position = 0;
        self.fill = u32::from(carry_length);
        let bytes = self.fill.wrapping_add(fresh.length);
        self.dirty = if bytes < WINDOW_BYTES as u32 {
            bytes
        } else {
            WINDOW_BYTES as u32
        };
        self.next = fresh.offset;
        self.end = fresh.offset.wrapping_add(fresh.length);
        self.lost = 0;
        if carry_length != 0 {
            self.window.set_token(carry);
            clear_token(carry);
        }
    }

    /// Bytes that can be looked at now, after loading more when fewer than a token are left. `None`: the kernel
    /// refused to copy.
    #[inline(always)]
    fn available<S: Segment>(&mut self, segment: &mut S) -> Option<u32> {
        self.available_in_chunks(segment, WIDE)
    }

    /// The same, loading at most `chunk` bytes: no less than a token.
    #[inline(always)]
    fn available_in_chunks<S: Segment>(&mut self, segment: &mut S, chunk: u32) -> Option<u32> {
        let left = self.fill.wrapping_sub(self.position);
        let rest = self.end.wrapping_sub(self.next);
        if left >= TOKEN_BYTES as u32 || rest == 0 {
            return Some(left);
        }
        if left != 0 && self.position != 0 {
            let token = self.window.token(self.position);
            self.window.set_token(&token);
        }
        let length = if rest < chunk { rest } else { chunk };
        if !segment.load(&mut self.window, left, self.next, length) {
            return None;
        }
        self.position = 0;
        self.fill = left.wrapping_add(length);
        self.next = self.next.wrapping_add(length);
        Some(self.fill)
    }

    /// Jumps over up to `skip` bytes, in the window and then in the packet; returns how many.
    #[inline(always)]
    fn jump(&mut self, skip: u64) -> u64 {
        let left = u64::from(self.fill.wrapping_sub(self.position));
        if skip <= left {
            self.position = self.position.wrapping_add(skip as u32);
            return skip;
        }
        let rest = u64::from(self.end.wrapping_sub(self.next));
        let wanted = skip.wrapping_sub(left);
        let jumped = if wanted < rest { wanted } else { rest };
        self.next = self.next.wrapping_add(jumped as u32);
        self.position = 0;
        self.fill = 0;
        left.wrapping_add(jumped)
    }

    /// Whether the whole segment has been consumed.
    #[inline(always)]
    fn is_read(&self) -> bool {
        (self.fill ^ self.position) | (self.end ^ self.next) == 0
    }

    /// Overwrites what the segment may have written to in the window.
    #[inline(always)]
    fn wipe<S: Segment>(&mut self, segment: &mut S) {
        if self.dirty <= Window::START_BYTES {
            self.window.wipe_start();
        } else {
            segment.wipe(&mut self.window, self.dirty);
        }
    }

    /// Bytes of the segment (and of the carried token) that have not been consumed.
    #[inline(always)]
    fn remaining(&self) -> u64 {
        let left = self.fill.wrapping_sub(self.position);
        u64::from(left).wrapping_add(u64::from(self.end.wrapping_sub(self.next)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(sequence: u32, length: u32) -> Payload {
        Payload {
            sequence,
            offset: 40,
            length,
            seen_at: 0,
        }
    }

    #[test]
    fn sequence_numbers_decide_what_is_new() {
        assert_eq!(
            fresh(100, &payload(100, 5)),
            Some(Fresh {
                hole: 0,
                offset: 40,
                length: 5
            })
        );
        assert_eq!(fresh(100, &payload(95, 5)), None, "a duplicate");
        assert_eq!(fresh(100, &payload(99, 1)), None, "a keep-alive");
        assert_eq!(
            fresh(100, &payload(95, 8)),
            Some(Fresh {
                hole: 0,
                offset: 45,
                length: 3
            }),
            "overlap"
        );
        assert_eq!(
            fresh(100, &payload(110, 5)),
            Some(Fresh {
                hole: 10,
                offset: 40,
                length: 5
            })
        );
    }

    #[test]
    fn sequence_numbers_wrap() {
        assert_eq!(
            fresh(u32::MAX, &payload(u32::MAX - 1, 3)),
            Some(Fresh {
                hole: 0,
                offset: 41,
                length: 2
            })
        );
        assert_eq!(fresh(2, &payload(u32::MAX, 3)), None);
        assert_eq!(
            fresh(u32::MAX, &payload(1, 3)),
            Some(Fresh {
                hole: 2,
                offset: 40,
                length: 3
            })
        );
    }
}
