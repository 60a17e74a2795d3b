//! What is remembered of one workload at one server, from survey to survey.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Surveys without which nothing is said about pools: a quantile of fewer is an anecdote.
pub const ENOUGH_SURVEYS: u64 = 30;

/// How long one of the two generations of busy counts grows. Advice rests on the last 12 to 24 hours: a day has its
/// quiet and its loud half.
const GENERATION: Duration = Duration::from_secs(12 * 3600);

/// Busy connections of one instance that are told apart; more count as so many. Pools are smaller, and each value in use
/// costs an entry.
const MOST_BUSY: u64 = 1024;

/// Over how long opens per minute are taken.
const MINUTE: Duration = Duration::from_secs(60);

/// What is remembered.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    opens: VecDeque<(Instant, u64)>,
    current: Generation,
    previous: Generation,
}

/// How many connections of one instance were busy at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// At the 99th percentile of all instances in all surveys.
    pub p99: u64,
    /// At most.
    pub max: u64,
    /// Surveys that this rests on.
    pub surveys: u64,
    /// Over how long.
    pub span: Duration,
}

#[derive(Debug, Clone, Default)]
struct Generation {
    since: Option<Instant>,
    surveys: u64,
    /// How often an instance had so many busy connections.
    counts: BTreeMap<u64, u64>,
}

impl History {
    /// Takes a survey: busy connections of each instance.
    pub(super) fn survey(&mut self, at: Instant, busy: impl Iterator<Item = u64>) {
        let began = *self.current.since.get_or_insert(at);
        if at.duration_since(began) >= GENERATION {
            self.previous = std::mem::take(&mut self.current);
            self.current.since = Some(at);
        }
        let before = self.current.counts.values().sum::<u64>();
        for connections in busy {
            *self.current.counts.entry(connections.min(MOST_BUSY)).or_default() += 1;
        }
        let after = self.current.counts.values().sum::<u64>();
        self.current.surveys += u64::from(after > before);
    }

    /// Takes how many connections were opened so far.
    pub(super) fn opened(&mut self, at: Instant, opened: u64) {
        self.opens.push_back((at, opened));
        // The one before the last minute is where the minute begins.
        while self
            .opens
            .get(1)
            .is_some_and(|(second, _)| at.duration_since(*second) >= MINUTE)
        {
            self.opens.pop_front();
        }
    }

    /// Opens per minute, over the last minute or what is known of it. `None`: nothing is known yet.
    pub(super) fn opens_per_minute(&self, now: Instant, opened: u64) -> Option<f64> {
        let since = |point: &&(Instant, u64)| now.duration_since(point.0) >= MINUTE;
        let (begin, before) = *self
            .opens
            .iter()
            .rev()
            .find(since)
            .or_else(|| self.opens.front())?;
        let minutes = now.duration_since(begin).as_secs_f64() / MINUTE.as_secs_f64();
        (minutes > 0.0).then(|| opened.saturating_sub(before) as f64 / minutes)
    }

    /// `None` as long as there was no survey with an instance in it.
    pub(super) fn busy(&self, now: Instant) -> Option<Busy> {
        let generations = [&self.previous.counts, &self.current.counts];
        let mut counts: Vec<(u64, u64)> = generations
            .iter()
            .flat_map(|counts| counts.iter().map(|(busy, times)| (*busy, *times)))
            .collect();
        counts.sort_unstable_by_key(|(busy, _)| Reverse(*busy));
        let all: u64 = counts.iter().map(|(_, times)| times).sum();
        let mut seen = 0;
        let p99 = counts.iter().find_map(|(busy, times)| {
            seen += times;
            (seen > all / 100).then_some(*busy)
        })?;
        let since = self.previous.since.or(self.current.since)?;
        Some(Busy {
            p99,
            max: counts.first()?.0,
            surveys: self.previous.surveys + self.current.surveys,
            span: now.duration_since(since),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_99th_percentile_leaves_one_in_a_hundred_out_and_no_more() {
        let begin = Instant::now();
        for (loud, p99) in [(1, 2), (2, 9)] {
            let mut history = History::default();
            for survey in 0..100 {
                let busy = if survey < loud { 9 } else { 2 };
                history.survey(begin + seconds(survey), [busy].into_iter());
            }
            let busy = history.busy(begin + seconds(100)).expect("surveyed");
            assert_eq!((busy.p99, busy.max, busy.surveys), (p99, 9, 100), "{loud}");
            assert_eq!(busy.span, seconds(100));
        }
    }

    #[test]
    fn a_survey_without_an_instance_says_nothing() {
        let now = Instant::now();
        let mut history = History::default();
        history.survey(now, std::iter::empty());
        assert_eq!(history.busy(now), None);
        history.survey(now, [0, 3].into_iter());
        assert_eq!(history.busy(now).map(|busy| busy.surveys), Some(1));
    }

    #[test]
    fn what_is_older_than_a_day_is_forgotten() {
        let begin = Instant::now();
        let mut history = History::default();
        history.survey(begin, [100].into_iter());
        for hour in 1..=48 {
            history.survey(begin + seconds(hour * 3600), [1].into_iter());
        }
        let busy = history.busy(begin + seconds(48 * 3600)).expect("surveyed");
        assert_eq!(busy.max, 1);
        assert!(busy.span >= GENERATION && busy.span <= 2 * GENERATION, "{busy:?}");
    }

    #[test]
    fn the_values_told_apart_are_bounded() {
        let now = Instant::now();
        let mut history = History::default();
        history.survey(now, 0..10 * MOST_BUSY);
        assert_eq!(history.current.counts.len() as u64, MOST_BUSY + 1);
    }

    #[test]
    fn opens_per_minute_are_those_of_the_last_minute() {
        let begin = Instant::now();
        let mut history = History::default();
        assert_eq!(history.opens_per_minute(begin, 5), None);
        // 1,000 long ago, then one a second.
        history.opened(begin, 0);
        for tens in 1..=20 {
            history.opened(begin + seconds(10 * tens), 1000 + 10 * tens);
        }
        let rate = history
            .opens_per_minute(begin + seconds(205), 1205)
            .expect("known");
        assert!((rate - 60.0).abs() < 1e-9, "{rate}");
        assert!(history.opens.len() <= 8, "{}", history.opens.len());
        // Half a minute is enough to begin with.
        let mut young = History::default();
        young.opened(begin, 10);
        let rate = young.opens_per_minute(begin + seconds(30), 40).expect("known");
        assert!((rate - 60.0).abs() < 1e-9, "{rate}");
        assert_eq!(young.opens_per_minute(begin, 40), None);
    }

    #[test]
    fn a_counter_that_began_anew_is_no_negative_rate() {
        let begin = Instant::now();
        let mut history = History::default();
        history.opened(begin, 100);
        assert_eq!(history.opens_per_minute(begin + seconds(60), 3), Some(0.0));
    }
}
