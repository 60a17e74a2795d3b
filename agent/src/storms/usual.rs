//! What is usual for a server: connections held, and events per second with their spread, learned in every second in which
//! nothing is suspected.

use super::course::{Onset, Tick};
use super::storm::Moment;

/// Seconds of learning before rates are trusted.
const WARM_UP_SECONDS: usize = 10;

/// How long nothing may exceed the allowance before what is piled up is forgotten.
const FORGET_MILLISECONDS: u64 = 10_000;

/// Weight of one second in the averages of rates: a memory of five minutes.
const WEIGHT: f64 = 1.0 / 300.0;

/// Weight of one second in the number of connections held: two minutes, so that a fleet that scaled is soon the usual one.
const WEIGHT_OF_HELD: f64 = 1.0 / 120.0;

/// What an hour of the day had at most is forgotten by this factor a day.
const FADING: f64 = 0.7;

/// Averages of one server.
#[derive(Debug, Default)]
pub(super) struct Usual {
    pub(super) held: f64,
    pub(super) opens: Rate,
    pub(super) waiting_closes: Rate,
    pub(super) rejections: Rate,
    /// Seconds learned.
    learned: usize,
    second: Second,
    hours: Hours,
}

/// Events per second: what is expected, and how far it strays. Counts of connections are over-dispersed (pools open together),
/// so the spread is measured, not derived from the mean.
#[derive(Debug, Default, Clone)]
pub(super) struct Rate {
    mean: f64,
    deviation: f64,
    /// The first seconds, until there are enough of them.
    first: Vec<f64>,
}

/// The second that is being added up.
#[derive(Debug, Default)]
struct Second {
    milliseconds: u64,
    opened: u64,
    waiting: u64,
    rejected: u64,
    suspected: bool,
}

/// The most events per second that each hour of the day had, on the days before.
#[derive(Debug, Default)]
pub(super) struct Hours {
    most: [f64; 24],
    current: usize,
    most_now: f64,
}

impl Usual {
    /// The first look: what is there is usual until more is known.
    pub(super) fn begin(&mut self, connections: u64) {
        self.held = connections as f64;
    }

    /// Whether rates have been learned.
    pub(super) const fn is_warm(&self) -> bool {
        self.learned >= WARM_UP_SECONDS
    }

    /// Learns a tick, unless something was suspected within its second.
    pub(super) fn learn(&mut self, tick: &Tick, suspected: bool) {
        let second = &mut self.second;
        second.milliseconds += tick.milliseconds;
        second.opened += tick.opened;
        second.waiting += tick.closed_waiting;
        second.rejected += tick.rejected;
        second.suspected |= suspected;
        if second.milliseconds < 1_000 {
            return;
        }
        let second = std::mem::take(second);
        if second.suspected {
            return;
        }
        let per_second = |count: u64| count as f64 * 1e3 / second.milliseconds as f64;
        let weight = WEIGHT.max(1.0 / (self.learned + 1) as f64);
        self.learned = self.learned.saturating_add(1);
        self.opens.learn(per_second(second.opened), weight);
        self.waiting_closes.learn(per_second(second.waiting), weight);
        self.rejections.learn(per_second(second.rejected), weight);
        if self.is_warm() {
            self.hours.learn(tick.at, per_second(second.opened));
        }
        // While it warms up, connections of before are being counted: whatever is there is usual.
        let weight = if self.is_warm() { WEIGHT_OF_HELD } else { 1.0 };
        self.held += (tick.connections as f64 - self.held) * weight;
    }

    /// Opens per second that surprise nobody: the mean, three deviations, and what this hour had on the days before.
    pub(super) fn opens_allowed(&self, at: Moment) -> f64 {
        self.opens.allowed().max(self.hours.most(at))
    }
}

impl Rate {
    pub(super) fn learn(&mut self, value: f64, weight: f64) {
        if self.first.len() < WARM_UP_SECONDS {
            self.first.push(value);
            if self.first.len() == WARM_UP_SECONDS {
                self.begin();
            }
            return;
        }
        // One wild second must not move what is usual by more than a wild second's worth of deviations.
        let off = (value - self.mean).clamp(-self.mean, 10.0 * self.deviation + 10.0);
        self.mean += weight * off;
        self.deviation += weight * (off.abs() - self.deviation);
    }

    /// Begins with the median of the first seconds, and how far the middle ones are from it: the connections of a server that has
    /// just started come in a burst, which must not be usual for minutes.
    fn begin(&mut self) {
        let median = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        self.mean = median(&mut self.first);
        let mut off: Vec<f64> = self.first.iter().map(|value| (value - self.mean).abs()).collect();
        self.deviation = median(&mut off);
    }

    /// The mean and three deviations (mean absolute ones: 2.4 standard deviations of a normal spread).
    pub(super) fn allowed(&self) -> f64 {
        self.mean + 3.0 * self.deviation
    }

    pub(super) const fn mean(&self) -> f64 {
        self.mean
    }
}

impl Hours {
    const fn of(at: Moment) -> usize {
        (at.0 / 3_600_000 % 24) as usize
    }

    /// What this hour had on the days before.
    pub(super) const fn most(&self, at: Moment) -> f64 {
        self.most[Self::of(at)]
    }

    pub(super) fn learn(&mut self, at: Moment, per_second: f64) {
        let hour = Self::of(at);
        if hour != self.current {
            let most = &mut self.most[self.current];
            *most = self.most_now.max(*most * FADING);
            self.current = hour;
            self.most_now = 0.0;
        }
        self.most_now = self.most_now.max(per_second);
    }
}

/// A cumulative sum of what exceeds an allowance (CUSUM, Page 1954): it returns to zero by itself as long as the mean is below the
/// allowance, and grows by the excess of every tick once it is above, however ragged.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Cusum {
    sum: f64,
    /// When the sum left zero for the last time.
    onset: Option<Onset>,
    /// When something exceeded the allowance for the last time.
    exceeded: Moment,
}

impl Cusum {
    /// Adds a tick: `count` events where `allowed` per second surprise nobody. No more than `most` is remembered, so that the
    /// end is not put off by what a storm had piled up, and nothing at all once ten seconds have had no excess: a fleet that came to a
    /// server where nothing ever happens is past then.
    pub(super) fn add(&mut self, tick: &Tick, count: f64, allowed: f64, most: f64) -> f64 {
        let allowance = tick.share_of(allowed);
        if count > allowance {
            self.exceeded = tick.at;
        } else if tick.at.since(self.exceeded) >= FORGET_MILLISECONDS {
            self.sum = 0.0;
        }
        if self.sum == 0.0 {
            self.onset = Some(tick.onset());
        }
        self.sum = (self.sum + count - allowance).clamp(0.0, most);
        self.sum
    }

    pub(super) const fn sum(&self) -> f64 {
        self.sum
    }

    /// When what is piled up began; with this tick, if nothing is.
    pub(super) fn onset(&self, tick: &Tick) -> Onset {
        self.onset.unwrap_or_else(|| tick.onset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(at: u64, opened: u64) -> Tick {
        Tick {
            at: Moment(at),
            milliseconds: 1_000,
            opened,
            connections: 100,
            ..Tick::default()
        }
    }

    #[test]
    fn what_is_usual_is_learned_in_seconds_and_not_from_storms() {
        let mut usual = Usual::default();
        for second in 1..=60 {
            usual.learn(&tick(1_000 * second, 10 + second % 3), false);
        }
        assert!(usual.is_warm());
        assert!((usual.opens.mean() - 11.0).abs() < 0.5, "{usual:?}");
        let before = usual.opens_allowed(Moment(61_000));
        assert!((11.5..20.0).contains(&before), "{before}");
        for second in 61..=80 {
            usual.learn(&tick(1_000 * second, 5_000), true);
        }
        assert!((usual.opens_allowed(Moment(81_000)) - before).abs() < 1e-9);
        usual.learn(&tick(81_000, 1_000_000), false);
        assert!(
            usual.opens_allowed(Moment(82_000)) < 2.0 * before,
            "one wild second"
        );
    }

    #[test]
    fn the_burst_at_the_start_of_a_server_is_not_usual() {
        let mut usual = Usual::default();
        for second in 1..=12 {
            let opened = if second <= 3 { 2_000 } else { 5 + second % 3 };
            usual.learn(&tick(1_000 * second, opened), false);
        }
        assert!(usual.is_warm());
        assert!(usual.opens_allowed(Moment(13_000)) < 20.0, "{usual:?}");
    }

    #[test]
    fn an_hour_remembers_what_it_had_the_day_before() {
        let (mut usual, hour) = (Usual::default(), 3_600_000);
        for second in 1..=26 * 3_600_u64 {
            let nightly = second / 60 == 120;
            usual.learn(&tick(1_000 * second, if nightly { 200 } else { 1 }), false);
        }
        assert_eq!(usual.opens_allowed(Moment(24 * hour + 2 * hour + 1)), 200.0);
        assert!(usual.opens_allowed(Moment(24 * hour + 5 * hour)) < 10.0);
    }

    #[test]
    fn a_cumulative_sum_forgets_what_is_allowed_and_knows_when_it_began() {
        let mut cusum = Cusum::default();
        for second in 1..=100 {
            assert_eq!(cusum.add(&tick(1_000 * second, 9), 9.0, 10.0, 100.0), 0.0);
        }
        for second in 101..=104 {
            cusum.add(&tick(1_000 * second, 15), 15.0, 10.0, 100.0);
        }
        let onset = cusum.onset(&tick(105_000, 0));
        assert_eq!((cusum.sum(), onset.at), (20.0, Moment(100_000)));
        cusum.add(&tick(105_000, 1_000), 1_000.0, 10.0, 100.0);
        assert_eq!(cusum.sum(), 100.0);
        for second in 106..=114 {
            cusum.add(&tick(1_000 * second, 0), 0.0, 0.0, 100.0);
        }
        assert_eq!(cusum.sum(), 100.0, "nothing is allowed, nothing taken off");
        cusum.add(&tick(115_000, 0), 0.0, 0.0, 100.0);
        assert_eq!(cusum.sum(), 0.0, "ten seconds");
    }
}
