//! Header lines: a type byte, a decimal number, CRLF.

use super::words::{eight_digits, equal_bytes, first_marked, low_bytes, not_zero, repeat};
use crate::abi::Window;

/// Most bytes from the type byte to the CR: 14 digits, all that two words hold, and far beyond what Valkey accepts
/// (`proto-max-bulk-len` is 512 MiB by default, and lengths beyond memory cannot be sent).
const LIMIT: u32 = 15;

/// What [`header`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// A number (-1 for any negative one) and the length of the whole line in bytes.
    Line {
        /// The number.
        value: i64,
        /// Bytes from the type byte to the LF.
        length: u32,
    },
    /// The line does not end within the bytes at hand.
    Cut,
    /// Not a header line.
    Bad,
}

/// Reads the header line at index `at`, of which `available` bytes are there. The type byte is not looked at.
#[inline(always)]
#[must_use]
pub fn header(window: &Window, at: u32, available: u32) -> Header {
    let first = window.word::<0>(at);
    if let Some((value, length)) = short(first) {
        return if length > available {
            Header::Cut
        } else {
            Header::Line { value, length }
        };
    }
    let mask = equal_bytes(first, repeat(b'\r'));
    let end = if mask != 0 {
        first_marked(mask)
    } else {
        let mask = equal_bytes(window.word::<8>(at), repeat(b'\r'));
        if mask != 0 {
            first_marked(mask).wrapping_add(8)
        } else {
            LIMIT.wrapping_add(1)
        }
    };
    let length = end.wrapping_add(2);
    if length > available {
        // A CR behind the bytes at hand is stale; without one the line may still be coming, unless it is too long.
        return if end > LIMIT && available > LIMIT {
            Header::Bad
        } else {
            Header::Cut
        };
    }
    if end > LIMIT || window.byte(at.wrapping_add(end).wrapping_add(1)) != b'\n' {
        return Header::Bad;
    }
    match number(window, first, at, end) {
        Some(value) => Header::Line { value, length },
        None => Header::Bad,
    }
}

/// A number of one or two digits with its CRLF: nearly every header. Without branches but the last, since the verifier
/// would follow the outcomes of each one separately. Stale bytes are no harm: what they complete is longer than the
/// bytes at hand.
#[inline(always)]
pub(super) fn short(first: u64) -> Option<(i64, u32)> {
    const END: u64 = u16::from_le_bytes(*b"\r\n") as u64;
    let digit = first >> 8 & 0xff ^ u64::from(b'0');
    let second = first >> 16 & 0xff ^ u64::from(b'0');
    let two = not_zero(first >> 16 & 0xffff ^ END);
    // Bytes that are no digits are above 9 now.
    let no_digits = (9_u64.wrapping_sub(digit) | 9_u64.wrapping_sub(second) & two.wrapping_neg()) >> 63;
    if no_digits | two & not_zero(first >> 24 & 0xffff ^ END) != 0 {
        return None;
    }
    let value = digit.wrapping_add(two.wrapping_mul(digit.wrapping_mul(9).wrapping_add(second)));
    Some((value as i64, 4_u32.wrapping_add(two as u32)))
}

/// A number of up to five digits with its CRLF, from the eight bytes at hand: what is not there reads as zeros.
#[inline(always)]
pub(super) fn in_word(first: u64) -> Option<(u32, u32)> {
    const LONGEST: u32 = 6;
    if let Some((value, length)) = short(first) {
        return Some((value as u32, length));
    }
    let end = first_marked(equal_bytes(first, repeat(b'\r')) | 1 << 63);
    let line_feed = first >> (end.wrapping_add(1).wrapping_mul(8) & 63) & 0xff;
    if end.wrapping_sub(2) > LONGEST - 2 || line_feed != u64::from(b'\n') {
        return None;
    }
    let value = eight_digits(right_aligned(first, end))?;
    Some((value as u32, end.wrapping_add(2)))
}

/// The number between the type byte and the CR at `end`.
#[inline(always)]
fn number(window: &Window, first: u64, at: u32, end: u32) -> Option<i64> {
    if end < 2 {
        return None;
    }
    if end <= 8 {
        if first & 0xff00 == u64::from(b'-') << 8 {
            // Null, or an empty command; the server takes any negative number for it.
            let digits = end.wrapping_sub(1);
            let known = digits >= 2 && eight_digits(right_aligned(first >> 8, digits)).is_some();
            return known.then_some(-1);
        }
        return eight_digits(right_aligned(first, end)).map(|value| value as i64);
    }
    // Eight to fourteen digits: the last eight, and those before them.
    let low = eight_digits(window.word::<0>(at.wrapping_add(end).wrapping_sub(8)))?;
    let high_end = end.wrapping_sub(8);
    let high = if high_end < 2 {
        0
    } else {
        eight_digits(right_aligned(first, high_end))?
    };
    Some(high.wrapping_mul(100_000_000).wrapping_add(low) as i64)
}

/// The digits in bytes 1 to `end` (2 to 8) of `word`, moved to the end of eight digits with zeros before them.
#[inline(always)]
fn right_aligned(word: u64, end: u32) -> u64 {
    let empty = 9_u32.wrapping_sub(end);
    let digits = word << (empty.wrapping_sub(1).wrapping_mul(8) & 63);
    let filled = low_bytes(empty);
    digits & !filled | repeat(b'0') & filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn read(line: &[u8]) -> Header {
        let mut window = Window::zeroed();
        assert!(window.copy_behind(5, line));
        header(&window, 5, line.len() as u32)
    }

    #[test]
    fn numbers_of_every_length_are_read() {
        let mut value = 0_i64;
        for digits in 1..=14 {
            value = value * 10 + digits % 10;
            let line = format!("${value}\r\n");
            assert_eq!(
                read(line.as_bytes()),
                Header::Line {
                    value,
                    length: line.len() as u32
                },
                "{line:?}"
            );
            let zero = format!("*{}\r\n", "0".repeat(digits as usize));
            assert_eq!(
                read(zero.as_bytes()),
                Header::Line {
                    value: 0,
                    length: zero.len() as u32
                }
            );
        }
        assert_eq!(read(b"$-1\r\n"), Header::Line { value: -1, length: 5 });
        assert_eq!(read(b"*-12345\r\n"), Header::Line { value: -1, length: 9 });
    }

    #[test]
    fn a_line_cut_anywhere_is_cut_and_not_bad() {
        for line in [
            &b"*3\r\n"[..],
            b"$1234567\r\n",
            b"$12345678\r\n",
            b"$12345678901234\r\n",
            b"$-1\r\n",
        ] {
            for length in 0..line.len() {
                assert_eq!(read(&line[..length]), Header::Cut, "{:?}", &line[..length]);
            }
        }
    }

    #[test]
    fn what_is_no_header_is_bad() {
        for line in [
            &b"$\r\n"[..],
            b"$1a\r\n",
            b"$-2a\r\n",
            b"$--1\r\n",
            b"$+1\r\n",
            b"$1\rx",
            b"$ 1\r\n",
            b"$-\r\n",
        ] {
            assert_eq!(read(line), Header::Bad, "{line:?}");
        }
        assert_eq!(read(b"$123456789012345\r\n"), Header::Bad, "too long");
        assert_eq!(
            read(b"$11111111111111111111111111111"),
            Header::Bad,
            "too long, no end"
        );
        assert_eq!(read(b"$123456a89\r\n"), Header::Bad);
    }

    #[test]
    fn a_word_holds_numbers_of_five_digits() {
        let read = |line: &str| {
            let mut bytes = [0; 8];
            bytes[..line.len()].copy_from_slice(line.as_bytes());
            in_word(u64::from_le_bytes(bytes))
        };
        for (line, expected) in [
            ("$0\r\n", Some((0, 4))),
            ("$16\r\nx", Some((16, 5))),
            ("$100\r\nx", Some((100, 6))),
            ("$1024\r\n", Some((1_024, 7))),
            ("$65536\r\n", Some((65_536, 8))),
            ("$99999\r\n", Some((99_999, 8))),
            ("$100000\r", None),
            ("$1000000", None),
            ("$-1\r\n", None),
            ("$-100\r\n", None),
            ("$1x24\r\n", None),
            ("$1024\rx", None),
            ("$1024\r", None),
            ("$65536\r", None),
            ("$100\r", None),
            ("$\r\n", None),
            ("$", None),
            ("", None),
        ] {
            assert_eq!(read(line), expected, "{line:?}");
        }
        for value in 0..100_000 {
            let line = format!("${value}\r\n");
            assert_eq!(read(&line), Some((value, line.len() as u32)));
        }
    }

    #[test]
    fn stale_bytes_behind_the_segment_are_not_read() {
        let mut window = Window::zeroed();
        assert!(window.copy_behind(0, b"$12\r\n"));
        assert_eq!(header(&window, 0, 3), Header::Cut);
        assert_eq!(header(&window, 0, 4), Header::Cut);
    }
}
