//! Bytes per second of each server, from a short history of its sums. Pure: time comes with the call.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::snapshot::Rate;

/// How often the sums are written down: each time all prefixes are looked at, 4,096 at most, by two system calls each.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many are kept: one at least is older than the interval.
const SAMPLES: usize = 3;
/// A rate over less than this says nothing.
const LEAST: Duration = Duration::from_secs(1);

/// Bytes in and out, unattributed ones included.
pub(super) type Bytes = (u64, u64);

/// The sums of the last seconds, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Rates {
    samples: VecDeque<(Instant, BTreeMap<String, Bytes>)>,
}

impl Rates {
    /// Whether the sums should be written down now.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.samples
            .back()
            .is_none_or(|(at, _)| now.duration_since(*at) >= INTERVAL)
    }

    /// Writes down the sums of every server.
    pub(super) fn note(&mut self, now: Instant, sums: BTreeMap<String, Bytes>) {
        self.samples.push_back((now, sums));
        while self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// The rate since 5 to 10 s ago; of a server that is new since then, over what there is. `None` below a second.
    pub(super) fn of(&self, label: &str, now: Instant, sums: Bytes) -> Option<Rate> {
        let mut known = self
            .samples
            .iter()
            .filter_map(|(at, of)| Some((now.duration_since(*at), of.get(label)?)))
            .filter(|(age, _)| *age >= LEAST);
        let oldest = known.next()?;
        let (age, then) = known.rfind(|(age, _)| *age >= INTERVAL).unwrap_or(oldest);
        let seconds = age.as_secs_f64();
        // Sums only grow, unless a server was forgotten and came back.
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Some(Rate {
            in_per_second: per_second(sums.0, then.0),
            out_per_second: per_second(sums.1, then.1),
            seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(bytes: u64) -> BTreeMap<String, Bytes> {
        [("a".to_owned(), (bytes, 2 * bytes))].into()
    }

    /// Rates noted every five seconds with 100 bytes in per second, and the time of the last note.
    fn steady(notes: u64) -> (Rates, Instant) {
        let begin = Instant::now();
        let mut rates = Rates::default();
        for number in 0..notes {
            let now = begin + INTERVAL * number as u32;
            assert!(rates.are_due(now));
            rates.note(now, sums(500 * number));
            assert!(!rates.are_due(now + INTERVAL / 2));
        }
        (rates, begin + INTERVAL * (notes as u32 - 1))
    }

    #[test]
    fn a_rate_is_over_the_last_five_to_ten_seconds() {
        let (rates, last) = steady(20);
        for (after, seconds) in [(0, 5.0), (1, 6.0), (4, 9.0), (5, 5.0)] {
            let bytes = 500 * 19 + 100 * after;
            let rate = rates
                .of("a", last + Duration::from_secs(after), (bytes, 2 * bytes))
                .unwrap();
            assert_eq!((rate.in_per_second, rate.out_per_second), (100.0, 200.0));
            assert_eq!(rate.seconds, seconds, "{after} s after the last note");
        }
        assert_eq!(rates.samples.len(), SAMPLES);
    }

    #[test]
    fn a_server_that_is_new_has_a_rate_after_a_second() {
        let (rates, last) = steady(1);
        assert_eq!(rates.of("a", last + LEAST / 2, (100, 0)), None);
        let rate = rates.of("a", last + 2 * LEAST, (100, 0)).unwrap();
        assert_eq!((rate.in_per_second, rate.seconds), (50.0, 2.0));
        assert_eq!(rates.of("b", last + 2 * LEAST, (100, 0)), None);
        assert_eq!(Rates::default().of("a", last, (1, 1)), None);
    }

    #[test]
    fn sums_that_fell_make_no_rate_below_zero() {
        let (rates, last) = steady(3);
        let rate = rates.of("a", last + LEAST, (0, 0)).unwrap();
        assert_eq!((rate.in_per_second, rate.out_per_second), (0.0, 0.0));
    }
}
