//! The last seconds of a server, tick by tick, and what is usual for it.

use std::collections::VecDeque;

use super::observation::Observation;
use super::storm::Moment;
use super::usual::Usual;

/// How far back the ticks reach: longer than any window that a detector looks through.
const MEMORY_MILLISECONDS: u64 = 30_000;

/// Most ticks, whatever their spacing.
const TICKS: usize = 320;

/// What happened between two observations.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tick {
    /// When it ended.
    pub(super) at: Moment,
    /// How long it was.
    pub(super) milliseconds: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) closed_waiting: u64,
    pub(super) rejected: u64,
    pub(super) queue_drops: u64,
    /// At its end.
    pub(super) connections: u64,
    pub(super) queue_length: u64,
    pub(super) queue_limit: u64,
    pub(super) clients_limit: Option<u64>,
    /// What had been counted at its beginning, and at its end.
    pub(super) before: Observation,
    pub(super) after: Observation,
}

impl Tick {
    /// Connections opened, less those that were refused: of a connection opened just before, the refusal may come alone.
    pub(super) const fn taken(&self) -> f64 {
        self.opened as f64 - self.rejected as f64
    }

    /// What its length has of so much per second.
    pub(super) const fn share_of(&self, per_second: f64) -> f64 {
        per_second * self.milliseconds as f64 / 1e3
    }

    /// When it began, and what had been counted by then.
    pub(super) const fn onset(&self) -> Onset {
        Onset {
            at: Moment(self.at.0.saturating_sub(self.milliseconds)),
            before: self.before,
        }
    }
}

/// A moment at which something began, and what had been counted by then.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Onset {
    pub(super) at: Moment,
    pub(super) before: Observation,
}

impl Onset {
    /// What a counter has grown by since.
    pub(super) fn grown(&self, tick: &Tick, count: fn(&Observation) -> u64) -> u64 {
        count(&tick.after).saturating_sub(count(&self.before))
    }
}

/// One server, as far as detectors remember it.
#[derive(Debug, Default)]
pub(super) struct Course {
    last: Option<(Moment, Observation)>,
    ticks: VecDeque<Tick>,
    pub(super) usual: Usual,
}

impl Course {
    /// What was counted when it was observed for the last time.
    pub(super) fn counted(&self) -> Option<&Observation> {
        self.last.as_ref().map(|(_, seen)| seen)
    }

    /// Takes an observation. `None`: it is the first, or no time has passed.
    pub(super) fn advance(&mut self, now: Moment, seen: &Observation) -> Option<Tick> {
        let Some((then, before)) = self.last.replace((now, *seen)) else {
            self.usual.begin(seen.connections);
            return None;
        };
        let milliseconds = now.since(then);
        if milliseconds == 0 {
            self.last = Some((then, before));
            return None;
        }
        let grown = |of: fn(&Observation) -> u64| of(seen).saturating_sub(of(&before));
        let tick = Tick {
            at: now,
            milliseconds,
            opened: grown(|seen| seen.opened_total),
            closed: grown(|seen| seen.closed_total),
            closed_waiting: grown(|seen| seen.closed_waiting_total),
            rejected: grown(|seen| seen.rejected_total),
            queue_drops: grown(|seen| seen.queue_drops_total),
            connections: seen.connections,
            queue_length: seen.queue_length,
            queue_limit: seen.queue_limit,
            clients_limit: seen.clients_limit,
            before,
            after: *seen,
        };
        self.ticks.push_back(tick);
        while self.ticks.len() > TICKS
            || self
                .ticks
                .front()
                .is_some_and(|first| now.since(first.at) > MEMORY_MILLISECONDS)
        {
            self.ticks.pop_front();
        }
        Some(tick)
    }

    /// Ticks that ended less than so long ago, the latest first.
    pub(super) fn back(&self, milliseconds: u64) -> impl Iterator<Item = &Tick> {
        let now = self.ticks.back().map_or(Moment(0), |tick| tick.at);
        self.ticks
            .iter()
            .rev()
            .take_while(move |tick| now.since(tick.at) < milliseconds)
    }
}

/// Adds up a count of ticks.
pub(super) fn sum<'a>(ticks: impl Iterator<Item = &'a Tick>, count: fn(&Tick) -> u64) -> u64 {
    ticks.map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_sums_of_what_came_between_observations() {
        let mut course = Course::default();
        let mut seen = Observation::default();
        for tick in 0..=50_u64 {
            seen.opened_total = 3 * tick;
            seen.connections = tick;
            let advanced = course.advance(Moment(1_000 + 100 * tick), &seen);
            assert_eq!(advanced.is_some(), tick > 0);
        }
        assert_eq!(sum(course.back(1_000), |tick| tick.opened), 30);
        let first = course.back(3_000).last().expect("a tick").onset();
        let last = course.back(1_000).next().expect("a tick");
        assert_eq!((first.at, first.before.connections), (Moment(3_000), 20));
        assert_eq!(first.grown(last, |seen| seen.opened_total), 90);
        assert!(
            course.advance(Moment(6_000), &seen).is_none(),
            "no time has passed"
        );
    }

    #[test]
    fn memory_is_bounded_by_time_and_by_ticks() {
        let mut course = Course::default();
        for tick in 0..100_000_u64 {
            course.advance(Moment(tick), &Observation::default());
        }
        assert_eq!(course.ticks.len(), TICKS);
        for tick in 0..1_000_u64 {
            course.advance(Moment(200_000 + 1_000 * tick), &Observation::default());
        }
        assert_eq!(course.ticks.len(), 31);
    }
}
