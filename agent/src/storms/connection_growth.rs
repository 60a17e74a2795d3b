//! `connection_growth`: connections grow towards the most that the server takes, as leaks and n x p creep do.
//!
//! Three horizons look at the number of connections, each through eight equal steps: 16 s, 80 s and 40 min. A horizon finds
//! growth if at least seven of its steps grew and none fell by as much as an eighth of the whole, so that a fleet that scales
//! in one step, or a pool that breathes, is none; if the server holds more than `limit_percent` of what it takes; and if what is
//! left is used up, at this pace, within the horizon's time: 5 min, 30 min, 2 h.

use std::collections::VecDeque;

use super::finding::{Detector, Finding, Measure, Scene, figure, ratio};
use super::storm::{Kind, Moment, Severity};

/// Length of a step, and time left from which on growth is a storm, in milliseconds.
const HORIZONS: [(u64, u64); 3] = [(2_000, 300_000), (10_000, 1_800_000), (300_000, 7_200_000)];

/// Steps of a horizon.
const STEPS: usize = 8;

/// Steps that have to grow.
const GROWING: usize = 7;

/// Growth that counts at all, as a share of the limit over the whole horizon.
const LEAST_SHARE: f64 = 0.02;

/// Less time left than this is critical.
const CRITICAL_MILLISECONDS: f64 = 120_000.0;

/// How long growth has to be absent to end the storm, while below [`NEARLY_FULL`].
const QUIET_MILLISECONDS: u64 = 15_000;

/// Share of the limit that keeps a storm alive without growth, and for how long.
const NEARLY_FULL: f64 = 0.95;
const NEARLY_FULL_MILLISECONDS: u64 = 900_000;

/// Share of what has grown that ends the storm at once when it is gone.
const GONE_SHARE: f64 = 0.5;

#[derive(Debug, Default)]
pub(super) struct ConnectionGrowth {
    horizons: [Horizon; HORIZONS.len()],
    on: Option<Moment>,
    last_growth: Moment,
    /// Connections per millisecond when growth was last seen.
    pace: f64,
    /// Connections at the onset, and the most since.
    from: u64,
    most: u64,
}

/// Connections at the ends of the last steps.
#[derive(Debug, Default)]
struct Horizon {
    ends: VecDeque<(Moment, u64)>,
}

impl Horizon {
    fn note(&mut self, at: Moment, connections: u64, step: u64) {
        if self.ends.back().is_none_or(|(last, _)| at.since(*last) >= step) {
            self.ends.push_back((at, connections));
            if self.ends.len() > STEPS + 1 {
                self.ends.pop_front();
            }
        }
    }

    /// Connections per millisecond, if they grow steadily up to as many as there are `now`; and when and from how many they did.
    fn growth(&self, limit: u64, now: u64) -> Option<(f64, Moment, u64)> {
        let (first, last) = (self.ends.front()?, self.ends.back()?);
        let whole = last.1 as f64 - first.1 as f64;
        if self.ends.len() <= STEPS || whole < LEAST_SHARE * limit as f64 {
            return None;
        }
        let steps = || {
            let pairs = self.ends.iter().zip(self.ends.iter().skip(1));
            pairs.map(|(before, after)| after.1 as f64 - before.1 as f64)
        };
        // The step that is not over yet may fall as far as any.
        let rest = now as f64 - last.1 as f64;
        // A step that does most of it is a fleet that scaled.
        let steady = steps().filter(|step| *step > 0.0).count() >= GROWING
            && steps().all(|step| step < whole / 2.0)
            && steps().chain([rest]).all(|step| step > -whole / STEPS as f64);
        let pace = whole / last.0.since(first.0).max(1) as f64;
        steady.then_some((pace, first.0, first.1))
    }
}

impl ConnectionGrowth {
    /// The growth that is a storm: pace, since when, from how many.
    fn growth(&self, scene: &Scene<'_>, limit: u64) -> Option<(f64, Moment, u64)> {
        let percent = scene.settings.connection_growth.limit_percent.get() as u64;
        if scene.tick.connections * 100 < percent * limit {
            return None;
        }
        let left = limit.saturating_sub(scene.tick.connections) as f64;
        self.horizons
            .iter()
            .zip(HORIZONS)
            .find_map(|(horizon, (_, time_left))| {
                let growth = horizon.growth(limit, scene.tick.connections)?;
                (left / growth.0 <= time_left as f64).then_some(growth)
            })
    }
}

impl Detector for ConnectionGrowth {
    fn kind(&self) -> Kind {
        Kind::ConnectionGrowth
    }

    fn note(&mut self, scene: &Scene<'_>) -> bool {
        for (horizon, (step, _)) in self.horizons.iter_mut().zip(HORIZONS) {
            horizon.note(scene.now, scene.tick.connections, step);
        }
        self.on.is_some()
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Option<Finding> {
        let limit = scene.tick.clients_limit.filter(|limit| *limit > 0)?;
        let growth = self.growth(scene, limit);
        if let Some((pace, since, from)) = growth {
            if self.on.is_none() {
                self.on = Some(since);
                (self.from, self.most) = (from, from);
            }
            (self.pace, self.last_growth) = (pace, scene.now);
        }
        let onset = self.on?;
        let connections = scene.tick.connections;
        let full = ratio(connections as f64, limit as f64);
        // What was leaked and is still held near the limit is no peace.
        let quiet = if full < NEARLY_FULL {
            QUIET_MILLISECONDS
        } else {
            NEARLY_FULL_MILLISECONDS
        };
        let gone = self.most as f64 - connections as f64;
        let is_gone = gone > GONE_SHARE * self.most.saturating_sub(self.from) as f64;
        if is_gone || scene.now.since(self.last_growth) > quiet {
            self.on = None;
            return None;
        }
        let left = ratio(limit.saturating_sub(connections) as f64, self.pace);
        self.most = self.most.max(connections);
        let grown = self.most.saturating_sub(self.from) as f64;
        Some(Finding {
            kind: Kind::ConnectionGrowth,
            severity: if left < CRITICAL_MILLISECONDS || full >= NEARLY_FULL {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset,
            // Growth is seen over a while; what is held near the limit is seen now.
            seen: scene.now,
            evidence: vec![
                figure("connections", connections as f64, "connections"),
                figure("clients_limit", limit as f64, "clients"),
                figure("growth_per_second", self.pace * 1e3, "connections"),
                figure("time_left", left / 1e3, "seconds"),
                figure("grown", grown, "connections"),
            ],
            noun: "more connections",
            amount: grown,
            measure: Measure::Growth,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(connections: impl Fn(u64) -> u64) -> Option<f64> {
        let mut horizon = Horizon::default();
        for step in 0..20 {
            horizon.note(Moment(1_000 * step), connections(step), 1_000);
        }
        let now = horizon.ends.back()?.1;
        assert_eq!(horizon.growth(1_000, now / 2), None, "it has fallen since");
        horizon.growth(1_000, now).map(|(pace, ..)| pace * 1e3)
    }

    #[test]
    fn steady_growth_has_a_pace_and_steps_and_waves_have_none() {
        assert_eq!(pace(|step| 100 + 10 * step), Some(10.0));
        assert_eq!(pace(|step| 100 + 10 * step + step % 2), Some(10.0));
        assert_eq!(
            pace(|step| if step < 15 { 100 } else { 400 }),
            None,
            "a fleet that scaled"
        );
        assert_eq!(pace(|step| 500 + 100 * (step % 3)), None, "a pool that breathes");
        assert_eq!(pace(|step| 100 + step / 8), None, "next to nothing");
        assert_eq!(pace(|_| 900), None);
    }
}
