//! The kernel's fine buckets, as the buckets that Prometheus is given and as quantiles for people.

use agent_common::abi::{
    DURATION_BUCKETS, DURATION_SHIFT, PrefixCounters, SIZE_BUCKETS, duration_bound, duration_bucket,
    size_bound,
};
use agent_common::limits::LIFETIME_BUCKETS;

/// Exposed bounds of durations: every power of two from 64 units (16.384 us) on, up to 34 s.
pub(super) const DURATION_BOUNDS: usize = 22;

/// The shortest of them, in units of 256 ns.
const SHORTEST_UNITS: u32 = 64;

/// Exposed bounds of sizes: every power of four from 16 B to 64 MiB.
pub(super) const SIZE_BOUNDS: usize = 12;

/// Exposed bounds of lifetimes: every power of four from 1.05 ms to 3.3 days.
pub(super) const LIFETIME_BOUNDS: usize = 15;

/// The smallest of them, as a power of two, which is its bucket.
const SMALLEST_BUCKET: usize = 4;

const NANOSECONDS_PER_SECOND: f64 = 1e9;

/// Buckets for Prometheus.
#[derive(Debug, PartialEq)]
pub(super) struct Exposed {
    /// Upper bounds with their own counts (not cumulative), ascending.
    pub(super) buckets: Vec<(f64, u64)>,
    /// The count above the last bound.
    pub(super) beyond: u64,
}

impl Exposed {
    /// Durations in seconds.
    pub(super) fn durations(cells: &[u64; DURATION_BUCKETS]) -> Self {
        Self::new(
            cells,
            (0..DURATION_BOUNDS).map(|power| {
                // The bucket that begins at the bound is the first one beyond it.
                let end = duration_bucket(SHORTEST_UNITS << power) as usize;
                (seconds(duration_bound(end - 1)), end)
            }),
        )
    }

    /// Sizes in bytes.
    pub(super) fn sizes(cells: &[u64; SIZE_BUCKETS]) -> Self {
        Self::new(
            cells,
            (0..SIZE_BOUNDS).map(|step| {
                let bucket = SMALLEST_BUCKET + 2 * step;
                (size_bound(bucket) as f64, bucket + 1)
            }),
        )
    }

    /// Lifetimes in seconds.
    pub(super) fn lifetimes(cells: &[u64; LIFETIME_BUCKETS]) -> Self {
        Self::new(
            cells,
            (0..LIFETIME_BOUNDS).map(|step| (lifetime_seconds(1 << (2 * step)), 2 * step + 1)),
        )
    }

    /// `ends`: each bound with the first cell beyond it.
    fn new(cells: &[u64], ends: impl Iterator<Item = (f64, usize)>) -> Self {
        let mut rest = cells;
        let mut taken = 0;
        let buckets = ends
            .map(|(bound, end)| {
                let (own, beyond) = rest.split_at(end - taken);
                (rest, taken) = (beyond, end);
                (bound, own.iter().sum())
            })
            .collect();
        Self {
            buckets,
            beyond: rest.iter().sum(),
        }
    }

    /// Whether nothing has been counted.
    pub(super) fn is_empty(&self) -> bool {
        self.beyond == 0 && self.buckets.iter().all(|(_, count)| *count == 0)
    }
}

/// Values below which so many thousandths of all lie, by nearest rank; `None` of nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantiles<T> {
    pub(crate) p50: T,
    pub(crate) p90: T,
    pub(crate) p99: T,
    pub(crate) p999: T,
}

impl Quantiles<f64> {
    /// Durations in seconds: the middle of their bucket, off by at most [`agent_common::abi::DURATION_ERROR`] or by 256 ns.
    pub(crate) fn durations(cells: &[u64; DURATION_BUCKETS]) -> Option<Self> {
        Self::new(cells, |bucket| {
            let lower = bucket.checked_sub(1).map_or(0, duration_bound);
            seconds(lower + duration_bound(bucket)) / 2.0
        })
    }
}

impl Quantiles<u64> {
    /// Sizes in bytes: the upper bound of their bucket, up to twice the size. The last bucket, of more than 1 GiB, has no
    /// bound and stands as 2 GiB.
    pub(crate) fn sizes(cells: &[u64; SIZE_BUCKETS]) -> Option<Self> {
        Self::new(cells, size_bound)
    }
}

impl<T> Quantiles<T> {
    fn new(cells: &[u64], value: impl Fn(usize) -> T) -> Option<Self> {
        let count: u64 = cells.iter().sum();
        let at = |thousandths: u64| {
            let rank = (u128::from(count) * u128::from(thousandths)).div_ceil(1000);
            let mut below = 0;
            let bucket = cells.iter().position(|cell| {
                below += u128::from(*cell);
                below >= rank.max(1)
            });
            bucket.map(&value)
        };
        Some(Self {
            p50: at(500)?,
            p90: at(900)?,
            p99: at(990)?,
            p999: at(999)?,
        })
    }
}

/// Sum of a row's durations in seconds.
pub(crate) fn duration_sum(counters: &PrefixCounters) -> f64 {
    (u128::from(counters.duration_units) << DURATION_SHIFT) as f64 / NANOSECONDS_PER_SECOND
}

/// Lives in units of 2^20 ns, as seconds.
pub(crate) fn lifetime_seconds(units: u64) -> f64 {
    (u128::from(units) << 20) as f64 / NANOSECONDS_PER_SECOND
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / NANOSECONDS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use agent_common::abi::{DURATION_ERROR, size_bucket};

    use super::*;

    /// The exposed bound whose bucket holds the only count of `cells`.
    fn bound_of(exposed: &Exposed) -> Option<f64> {
        let found: Vec<_> = exposed.buckets.iter().filter(|(_, count)| *count != 0).collect();
        assert_eq!(
            found.iter().map(|(_, count)| count).sum::<u64>() + exposed.beyond,
            1
        );
        found.first().map(|(bound, _)| *bound)
    }

    #[test]
    fn the_exposed_bounds_are_the_ones_that_the_table_of_metrics_names() {
        let bounds = |exposed: Exposed| exposed.buckets.into_iter().map(|(bound, _)| bound).collect();
        let durations: Vec<f64> = bounds(Exposed::durations(&[0; DURATION_BUCKETS]));
        assert_eq!(durations[0], 0.000_016_384);
        assert_eq!(durations[1], 0.000_032_768);
        assert_eq!(durations[DURATION_BOUNDS - 1], 34.359_738_368);
        let sizes: Vec<f64> = bounds(Exposed::sizes(&[0; SIZE_BUCKETS]));
        assert_eq!(sizes[..3], [16.0, 64.0, 256.0]);
        assert_eq!(sizes[SIZE_BOUNDS - 1], f64::from(64 << 20));
    }

    #[test]
    fn a_duration_is_shorter_than_the_first_bound_above_it_and_not_shorter_than_the_one_before() {
        for units in (0..2_000).chain((10..32).flat_map(|power| [(1 << power) - 1, 1 << power])) {
            let mut cells = [0; DURATION_BUCKETS];
            cells[duration_bucket(units) as usize] = 1;
            let nanoseconds = u64::from(units) << DURATION_SHIFT;
            let exposed = Exposed::durations(&cells);
            let expected = exposed.buckets.iter().map(|(bound, _)| *bound);
            let expected = expected.into_iter().find(|bound| seconds(nanoseconds) < *bound);
            assert_eq!(bound_of(&exposed), expected, "{units}");
        }
    }

    #[test]
    fn a_size_is_at_most_the_first_bound_above_it() {
        for bytes in (0..2_000).chain((10..32).flat_map(|power| [1 << power, (1 << power) + 1])) {
            let mut cells = [0; SIZE_BUCKETS];
            cells[size_bucket(bytes) as usize] = 1;
            let exposed = Exposed::sizes(&cells);
            let expected = exposed.buckets.iter().map(|(bound, _)| *bound);
            let expected = expected.into_iter().find(|bound| f64::from(bytes) <= *bound);
            assert_eq!(bound_of(&exposed), expected, "{bytes}");
        }
    }

    #[test]
    fn a_lifetime_is_below_the_first_bound_above_it() {
        for units in (0..300).chain((9..34).flat_map(|power| [(1_u64 << power) - 1, 1 << power])) {
            // The kernel's rule: bits that the age has, the last bucket for more.
            let bucket = (u64::BITS - units.leading_zeros()).min(LIFETIME_BUCKETS as u32 - 1);
            let mut cells = [0; LIFETIME_BUCKETS];
            cells[bucket as usize] = 1;
            let exposed = Exposed::lifetimes(&cells);
            let expected = exposed.buckets.iter().map(|(bound, _)| *bound);
            let expected = expected
                .into_iter()
                .find(|bound| lifetime_seconds(units) < *bound);
            assert_eq!(bound_of(&exposed), expected, "{units}");
        }
        assert_eq!(lifetime_seconds(1 << 10), 1.073_741_824);
    }

    #[test]
    fn nothing_has_no_quantiles_and_one_value_is_all_of_them() {
        assert_eq!(Quantiles::durations(&[0; DURATION_BUCKETS]), None);
        let mut cells = [0; SIZE_BUCKETS];
        cells[10] = 1;
        let quantiles = Quantiles::sizes(&cells).expect("a value");
        assert_eq!(
            (quantiles.p50, quantiles.p90, quantiles.p99, quantiles.p999),
            (1024, 1024, 1024, 1024)
        );
    }

    #[test]
    fn quantiles_are_the_values_of_nearest_rank() {
        let mut cells = [0; SIZE_BUCKETS];
        (cells[4], cells[6], cells[8], cells[12]) = (500, 400, 90, 10);
        let quantiles = Quantiles::sizes(&cells).expect("values");
        assert_eq!(
            (quantiles.p50, quantiles.p90, quantiles.p99, quantiles.p999),
            (16, 64, 256, 4096)
        );
        cells[4] -= 1;
        let quantiles = Quantiles::sizes(&cells).expect("values");
        assert_eq!((quantiles.p50, quantiles.p90, quantiles.p99), (64, 256, 4096));
    }

    #[test]
    fn a_duration_read_back_is_off_by_an_eighth_at_most() {
        for units in (4..5_000).chain([1 << 20, u32::MAX]) {
            let mut cells = [0; DURATION_BUCKETS];
            cells[duration_bucket(units) as usize] = 1;
            let exact = seconds(u64::from(units) << DURATION_SHIFT);
            let read = Quantiles::durations(&cells).expect("a value").p99;
            assert!((read - exact).abs() <= DURATION_ERROR * exact, "{units}: {read}");
        }
    }

    #[test]
    fn the_sum_of_durations_is_in_seconds() {
        let counters = PrefixCounters {
            duration_units: 3_906_250,
            ..PrefixCounters::default()
        };
        assert_eq!(duration_sum(&counters), 1.0);
    }
}
