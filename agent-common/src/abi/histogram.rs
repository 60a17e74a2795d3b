//! Buckets of the histograms that a row keeps, the same for the kernel, which fills them, and the daemon, which reads
//! them.
//!
//! Sizes: a bucket per power of two, in bytes. Durations: four buckets per power of two, in units of 256 ns; a value
//! taken from the middle of its bucket is off by at most an eighth ([`DURATION_ERROR`]), or by a unit.

/// Buckets of sizes. Bucket 0 is empty or one byte; bucket `i` holds more than `2^(i-1)` and up to `2^i` bytes; the last
/// one is open.
pub const SIZE_BUCKETS: usize = 32;

/// Buckets of durations: all that 32 bits of units hold, 18 minutes.
pub const DURATION_BUCKETS: usize = 128;

/// Nanoseconds of a unit of durations, as a shift.
pub const DURATION_SHIFT: u32 = 8;

/// Relative error of a duration that is read back from the middle of its bucket.
pub const DURATION_ERROR: f64 = 0.125;

/// Bucket of a size in bytes: the smallest power of two that is not below it.
#[inline(always)]
#[must_use]
pub const fn size_bucket(bytes: u32) -> u32 {
    if bytes < SMALL as u32 {
        return SMALL_SIZES[bytes as usize & (SMALL - 1)] as u32;
    }
    bucket_of_size(bytes)
}

/// Sizes whose bucket is read from a table: those of most commands and replies.
const SMALL: usize = 256;

static SMALL_SIZES: [u8; SMALL] = {
    let mut buckets = [0; SMALL];
    let mut bytes = 2;
    while bytes < SMALL {
        buckets[bytes] = bucket_of_size(bytes as u32) as u8;
        bytes += 1;
    }
    buckets
};

/// The same of more than a byte, without a table.
#[inline(always)]
const fn bucket_of_size(bytes: u32) -> u32 {
    let bucket = highest_bit(bytes.wrapping_sub(1)).wrapping_add(1);
    if bucket < SIZE_BUCKETS as u32 {
        bucket
    } else {
        SIZE_BUCKETS as u32 - 1
    }
}

/// Largest size of a bucket in bytes; the last bucket has no bound.
#[must_use]
pub const fn size_bound(bucket: usize) -> u64 {
    1 << bucket
}

/// Bucket of a duration in units of [`DURATION_SHIFT`].
#[inline(always)]
#[must_use]
pub const fn duration_bucket(units: u32) -> u32 {
    if units < 4 {
        return units;
    }
    let octave = highest_bit(units);
    let quarter = units >> (octave.wrapping_sub(2) & 31) & 3;
    octave.wrapping_sub(1).wrapping_mul(4).wrapping_add(quarter)
}

/// End of a bucket of durations in nanoseconds: every duration in it is shorter.
#[must_use]
pub const fn duration_bound(bucket: usize) -> u64 {
    let units = if bucket < 4 {
        bucket as u64 + 1
    } else {
        (bucket as u64 % 4 + 5) << (bucket / 4 - 1)
    };
    units << DURATION_SHIFT
}

/// Index of the highest bit of a number that is not zero. BPF has no such instruction, and the verifier would walk both ways of
/// each comparison. So the bits below it are filled, which makes it one of 32 numbers, and a product tells these apart by its five
/// highest bits.
#[inline(always)]
const fn highest_bit(number: u32) -> u32 {
    BITS[place_of(filled(number))] as u32
}

/// `number` with all bits below its highest one.
#[inline(always)]
const fn filled(number: u32) -> u32 {
    let pair = number | number >> 1;
    let four = pair | pair >> 2;
    let eight = four | four >> 4;
    let sixteen = eight | eight >> 8;
    sixteen | sixteen >> 16
}

/// A place of its own for each number that is filled.
#[inline(always)]
const fn place_of(filled: u32) -> usize {
    /// Found by trying. That it does what it should is tested.
    const FACTOR: u32 = 0x07c4_acdd;
    (filled.wrapping_mul(FACTOR) >> 27) as usize
}

static BITS: [u8; 32] = {
    let mut bits = [0; 32];
    let mut bit = 0;
    while bit < 32 {
        bits[place_of(u32::MAX >> (31 - bit))] = bit as u8;
        bit += 1;
    }
    bits
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bit_is_found() {
        for bit in 0..32 {
            assert_eq!(highest_bit(1 << bit), bit);
            assert_eq!(highest_bit(u32::MAX >> (31 - bit)), bit);
        }
    }

    #[test]
    fn sizes_go_to_the_smallest_power_of_two_that_holds_them() {
        for bytes in (0..100_000).chain([u32::MAX / 2, u32::MAX / 2 + 2, u32::MAX]) {
            let bucket = size_bucket(bytes) as usize;
            assert!(bucket < SIZE_BUCKETS);
            if bucket + 1 < SIZE_BUCKETS {
                assert!(u64::from(bytes) <= size_bound(bucket), "{bytes}");
            }
            assert!(
                bucket == 0 || u64::from(bytes) > size_bound(bucket - 1),
                "{bytes}"
            );
        }
    }

    #[test]
    fn durations_lie_between_the_bounds_of_their_bucket_which_is_a_quarter_wide() {
        for units in (0..100_000).chain([1 << 30, u32::MAX]) {
            let bucket = duration_bucket(units) as usize;
            assert!(bucket < DURATION_BUCKETS);
            let nanoseconds = u64::from(units) << DURATION_SHIFT;
            let upper = duration_bound(bucket);
            let lower = bucket.checked_sub(1).map_or(0, duration_bound);
            assert!((lower..upper).contains(&nanoseconds), "{units}");
            if units >= 4 {
                let middle = (lower + upper) as f64 / 2.0;
                let error = (upper - lower) as f64 / 2.0 / lower as f64;
                assert!(error <= DURATION_ERROR, "{units}: {error}");
                assert!((middle - nanoseconds as f64).abs() <= error * nanoseconds as f64);
            }
        }
    }
}
