//! Segments that came before the one they follow: on loopback when a sender changes its CPU, on a network after a loss.
//! TCP keeps them until the gap is filled, and so must the meter, which sees each segment once.
//!
//! They are kept by the sequence numbers of their bytes, not as segments: each place holds a cell, [`PARKED_BYTES`] sequence
//! numbers in a row, and which of them have come. So it does not matter where segments begin and end, how they overlap,
//! and how often a byte comes.

use bytemuck::{Pod, Zeroable};

use super::WINDOW_BYTES;
use crate::limits::PARKED_BYTES;

/// Words of a bit per byte of a cell.
const WORDS: usize = PARKED_BYTES / 64;

/// The same of as many bytes as are parked at once.
const WORDS_AT_ONCE: usize = WINDOW_BYTES / 64;

/// Which cell is parked.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParkedKey {
    /// Cookie of the connection's socket; of the listening one, where the connection has none yet.
    pub socket: u64,
    /// Sequence number of its first byte, a multiple of [`PARKED_BYTES`].
    pub sequence: u32,
    /// 0; where the connection has no socket yet, the number of the CPU at work on its handshake, and one.
    pub handshake: u32,
}

/// Where a cell is kept.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct ParkedPlace {
    /// When the last of its bytes were parked, on the monotonic clock in nanoseconds.
    pub parked_at: u64,
    /// Index of the place.
    pub place: u32,
    /// Padding.
    pub reserved: u32,
}

/// A place: the bytes of a cell that have come. Zeros while it is free. The daemon never reads it.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct ParkedBytes {
    /// A bit for each byte that has come and is not taken.
    come: [u64; WORDS],
    /// The bytes, and room for a window read at any of them.
    pub bytes: [u8; PARKED_BYTES + WINDOW_BYTES],
}

/// What came at a listening socket with the end of a handshake: data whose connection has no socket before this very packet
/// has made one, later in the same run of the softirq.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct Handshake {
    /// Cookie of the listening socket.
    pub listener: u64,
    /// The client's address; IPv4 mapped into IPv6.
    pub client: [u32; 4],
    /// The client's port, host byte order.
    pub client_port: u16,
    /// The server's port, host byte order.
    pub port: u16,
    /// Sequence number of the first byte.
    pub sequence: u32,
    /// Length in bytes; 0: nothing came.
    pub length: u32,
    /// Padding.
    pub reserved: u32,
}

impl ParkedKey {
    /// The cell of a connection's byte.
    #[inline(always)]
    #[must_use]
    pub const fn of(socket: u64, handshake: u32, sequence: u32) -> Self {
        Self {
            socket,
            sequence: sequence & !(PARKED_BYTES as u32 - 1),
            handshake,
        }
    }

    /// Where a byte is in its cell.
    #[inline(always)]
    #[must_use]
    pub const fn offset(sequence: u32) -> u32 {
        sequence & (PARKED_BYTES as u32 - 1)
    }
}

impl ParkedBytes {
    /// So many bytes of it are written to, from the first one on.
    pub const WRITTEN: u32 = (PARKED_BYTES / 8 + PARKED_BYTES) as u32;

    /// Bytes `start..end` of the cell have come. Both ends are in the same part of it, of [`WINDOW_BYTES`] bytes: `end` may
    /// be where the next one begins.
    #[inline(always)]
    pub fn add(&mut self, start: u32, end: u32) {
        let part = start as usize / WINDOW_BYTES * WORDS_AT_ONCE;
        let mut index = 0;
        while index < WORDS_AT_ONCE {
            let word = (part + index) % WORDS;
            let first = word as u32 * 64;
            self.come[word] |= below(end, first) & !below(start, first);
            index += 1;
        }
    }

    /// Takes the bytes that have come from `offset` of the cell on, without a gap. Returns where they end: at `offset`, if that
    /// byte has not come.
    #[inline(always)]
    #[must_use]
    pub fn take(&mut self, offset: u32) -> u32 {
        let mut end = offset;
        let mut index = 0;
        while index < WORDS {
            if end as usize / 64 == index {
                let shift = end % 64;
                let come = (!(self.come[index] >> shift)).trailing_zeros();
                self.come[index] &= !(ones(come) << shift);
                end = end.wrapping_add(come);
            }
            index += 1;
        }
        end
    }

    /// Whether nothing is left.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let mut all = 0;
        let mut index = 0;
        while index < WORDS {
            all |= self.come[index];
            index += 1;
        }
        all == 0
    }
}

/// A bit for each byte before `end` in the word whose first byte is `first`.
#[inline(always)]
const fn below(end: u32, first: u32) -> u64 {
    ones(end.saturating_sub(first))
}

/// So many bits.
#[inline(always)]
const fn ones(count: u32) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: u32 = PARKED_BYTES as u32;

    #[test]
    fn what_touches_or_overlaps_is_taken_at_once() {
        for (parts, end) in [
            (&[(0, 10), (10, 20)][..], 20),
            (&[(10, 20), (0, 10)], 20),
            (&[(0, 10), (5, 20), (3, 4)], 20),
            (&[(0, 63), (64, 70)], 63),
            (&[(0, 64), (64, 70)], 70),
            (&[(0, 10), (20, 30), (40, 50), (60, 70), (80, 90), (5, 85)], 90),
            (&[(0, 512), (512, 1_024), (1_536, CELL), (1_024, 1_536)], CELL),
        ] {
            let mut place = ParkedBytes::zeroed();
            for (start, end) in parts {
                place.add(*start, *end);
            }
            assert_eq!(place.take(0), end, "{parts:?}");
        }
    }

    #[test]
    fn bytes_are_taken_from_any_of_them_on_and_the_others_stay() {
        let mut place = ParkedBytes::zeroed();
        place.add(500, 512);
        place.add(512, 600);
        place.add(CELL - 1, CELL);
        assert_eq!(place.take(499), 499);
        assert_eq!(place.take(600), 600);
        assert_eq!(place.take(505), 600);
        assert_eq!(place.take(505), 505, "taken once");
        assert_eq!(place.take(CELL - 1), CELL);
        assert!(!place.is_empty());
        assert_eq!(place.take(500), 505);
        assert!(place.is_empty());
    }

    #[test]
    fn a_byte_is_in_the_cell_of_its_sequence_number() {
        for sequence in [0, 1, CELL - 1, CELL, u32::MAX, 0x1234_5678] {
            let key = ParkedKey::of(3, 0, sequence);
            assert_eq!(key.sequence % CELL, 0);
            assert_eq!(key.sequence + ParkedKey::offset(sequence), sequence);
        }
    }
}
