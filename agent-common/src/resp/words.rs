//! Arithmetic on eight bytes at once: the meter never loops over bytes where one multiplication does.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW: u64 = !HIGH;

/// 2^64 divided by the golden ratio, odd: the high bits of a product with it depend on all bits of a word (Knuth, The Art of Computer
/// Programming, volume 3, 6.4).
pub(super) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Says that the way here is taken rarely: what is on the others then lies closer together, in fewer lines of the cache.
#[inline(always)]
pub(super) const fn rarely() {
    // Rust 1.95, which the compiler of the kernel programs is beyond.
    #[cfg(target_arch = "bpf")]
    core::hint::cold_path();
}

/// `byte`, eight times.
#[inline(always)]
pub(super) const fn repeat(byte: u8) -> u64 {
    (byte as u64).wrapping_mul(ONES)
}

/// The high bit of every byte of `word` that equals that byte of `pattern`. Exact: no borrow runs between bytes.
#[inline(always)]
pub(super) const fn equal_bytes(word: u64, pattern: u64) -> u64 {
    let difference = word ^ pattern;
    !((difference & LOW).wrapping_add(LOW) | difference | LOW)
}

/// Index of the lowest byte marked in a mask of [`equal_bytes`] that is not zero. BPF has no such instruction.
#[inline(always)]
pub(super) const fn first_marked(mask: u64) -> u32 {
    let below = (mask & mask.wrapping_neg()).wrapping_sub(1) & HIGH;
    ((below >> 7).wrapping_mul(ONES) >> 56) as u32
}

/// A mask of [`equal_bytes`] as eight bits, the lowest for the first byte.
#[inline(always)]
pub(super) const fn marks(mask: u64) -> u64 {
    (mask >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Index of the lowest bit of a number that is not zero.
#[inline(always)]
pub(super) const fn lowest_bit(bits: u64) -> u32 {
    ones((bits & bits.wrapping_neg()).wrapping_sub(1))
}

/// How many bits are set: added up in pairs, fours and bytes. BPF has no such instruction.
#[inline(always)]
const fn ones(bits: u64) -> u32 {
    let pairs = bits.wrapping_sub(bits >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333).wrapping_add(pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = fours.wrapping_add(fours >> 4) & 0x0f0f_0f0f_0f0f_0f0f;
    (bytes.wrapping_mul(ONES) >> 56) as u32
}

/// 1 unless `word` is 0.
#[inline(always)]
pub(super) const fn not_zero(word: u64) -> u64 {
    (word | word.wrapping_neg()) >> 63
}

/// Masks that keep the first `length` bytes of four words, by length; from 32 on all bytes. A table, because BPF has no
/// conditional move: computed masks are a branch a word, and the verifier walks every combination.
static KEEP: [[u64; 4]; 64] = {
    let mut masks = [[0; 4]; 64];
    let mut length = 0;
    while length < 64 {
        let mut byte = 0;
        while byte < 32 && byte < length {
            masks[length][byte / 8] |= 0xff << (byte % 8 * 8);
            byte += 1;
        }
        length += 1;
    }
    masks
};

/// `words` with only their first `length` bytes.
#[inline(always)]
pub(super) fn keep(words: [u64; 4], length: u32) -> [u64; 4] {
    // From 32 on any of the upper rows will do. Masks, not comparisons: older verifiers (seen on 6.1) do not connect a
    // comparison with a copy of what it compared.
    let long = not_zero(u64::from(length >> 5));
    let masks = &KEEP[(u64::from(length & 31) | long << 5) as usize];
    [
        words[0] & masks[0],
        words[1] & masks[1],
        words[2] & masks[2],
        words[3] & masks[3],
    ]
}

/// The first `length` bytes (fewer than 48) of six words, zeros behind them.
#[inline(always)]
pub(super) fn keep_token(words: [u64; 6], length: u32) -> [u64; 6] {
    let head = keep([words[0], words[1], words[2], words[3]], length);
    let behind = if length > 32 { length.wrapping_sub(32) } else { 0 };
    let tail = keep([words[4], words[5], 0, 0], behind);
    [head[0], head[1], head[2], head[3], tail[0], tail[1]]
}

/// The first `length` (1 to 8) bytes of a word.
#[inline(always)]
pub(super) const fn keep_word(word: u64, length: u32) -> u64 {
    word & u64::MAX >> (8_u32.wrapping_sub(length).wrapping_mul(8) & 63)
}

/// Mask of the first `length` bytes of a word, `length` taken modulo 8.
#[inline(always)]
pub(super) const fn low_bytes(length: u32) -> u64 {
    (1_u64 << (length & 7).wrapping_mul(8)).wrapping_sub(1)
}

/// `word` with ASCII capitals as small letters.
#[inline(always)]
pub(super) const fn lower(word: u64) -> u64 {
    let seven = word & LOW;
    let from_a = seven.wrapping_add(repeat(0x80 - b'A'));
    let above_z = seven.wrapping_add(repeat(0x7f - b'Z'));
    let capital = (from_a ^ above_z) & !word & HIGH;
    word | capital >> 2
}

/// The number written in eight ASCII digits, first digit in the lowest byte; `None` when one is no digit.
#[inline(always)]
pub(super) const fn eight_digits(word: u64) -> Option<u64> {
    let digits = word ^ repeat(b'0');
    if (digits.wrapping_add(repeat(0x76)) | digits) & HIGH != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(2_561) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(6_553_601) >> 16 & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(42_949_672_960_001) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &[u8; 8]) -> u64 {
        u64::from_le_bytes(*text)
    }

    #[test]
    fn equal_bytes_marks_exactly_the_equal_ones() {
        let mask = equal_bytes(word(b"a:b::\x00;9"), repeat(b':'));
        assert_eq!(mask.to_le_bytes(), [0, 0x80, 0, 0x80, 0x80, 0, 0, 0]);
        for byte in 0..=255_u8 {
            for other in 0..=255_u8 {
                let marked =
                    equal_bytes(u64::from(byte) << 16 | 0x3a, u64::from(other) << 16) & 0x80_0000 != 0;
                assert_eq!(marked, byte == other);
            }
        }
    }

    #[test]
    fn first_marked_finds_the_lowest_byte() {
        for index in 0..8 {
            assert_eq!(first_marked(0x80 << (8 * index)), index);
            assert_eq!(first_marked(0x80 << (8 * index) | 0x80 << 56), index);
        }
    }

    #[test]
    fn marks_are_in_the_order_of_the_bytes() {
        for pattern in 0..256_u64 {
            let bytes: [u8; 8] =
                std::array::from_fn(|byte| if pattern >> byte & 1 != 0 { b':' } else { b'x' });
            assert_eq!(marks(equal_bytes(word(&bytes), repeat(b':'))), pattern);
        }
        for bit in 0..64 {
            assert_eq!(lowest_bit(1 << bit), bit);
            assert_eq!(lowest_bit(u64::MAX << bit), bit);
        }
    }

    #[test]
    fn keep_masks_by_length() {
        let all = [u64::MAX; 4];
        assert_eq!(keep(all, 0), [0; 4]);
        assert_eq!(keep(all, 3), [0xff_ffff, 0, 0, 0]);
        assert_eq!(keep(all, 8), [u64::MAX, 0, 0, 0]);
        assert_eq!(keep(all, 31), [u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 8]);
        assert_eq!(keep(all, 32), all);
        assert_eq!(keep(all, u32::MAX), all);
        assert_eq!(
            (low_bytes(0), low_bytes(2), low_bytes(7)),
            (0, 0xffff, u64::MAX >> 8)
        );
    }

    #[test]
    fn lower_changes_capitals_only() {
        for byte in 0..=255_u8 {
            assert_eq!(
                lower(u64::from(byte)),
                u64::from(byte.to_ascii_lowercase()),
                "{byte:#x}"
            );
        }
        assert_eq!(lower(word(b"GeT@[Z`A")), word(b"get@[z`a"));
    }

    #[test]
    fn eight_digits_reads_numbers_and_refuses_the_rest() {
        assert_eq!(eight_digits(word(b"00000000")), Some(0));
        assert_eq!(eight_digits(word(b"12345678")), Some(12_345_678));
        assert_eq!(eight_digits(word(b"99999999")), Some(99_999_999));
        for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
            assert_eq!(
                eight_digits(word(&[b'1', b'2', b'3', b'4', byte, b'6', b'7', b'8'])),
                None,
                "{byte:#x}"
            );
        }
    }
}
