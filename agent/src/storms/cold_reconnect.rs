//! `cold_reconnect`: a large part of a server's usual clients opens anew within a short time, whatever they ask: a restart of
//! everything at three in the morning, when nobody asks anything.
//!
//! The signal is opens in a cumulative sum over what is usual and over a slow turnover of the connections held, as a staggered
//! deploy has. It is a storm once those of them that took the place of others are as many as `connections` and `share_percent`
//! of the connections held, and the connections that ended had nothing to wait for (that is `reconnect_churn`). What takes the
//! place of what is seen in who they are: connections that the usual clients lost within the last two minutes, those of a
//! workload replaced by the same workload. A fleet that grows has lost none, a client that opens the same one again and again
//! has lost that one, and guests do not count.

use super::course::{Onset, sum};
use super::finding::{Detector, Finding, Measure, Scene, figure, ratio};
use super::storm::{Kind, Severity};
use super::usual::Cusum;

/// Share of the connections held whose turnover in a second is nobody's business: fifty seconds for all of them.
const TURNOVER_PER_SECOND: f64 = 0.02;

/// Share of closes with a waiting command from which on it is not this kind.
const WAITING_SHARE: f64 = 0.2;

/// One client that opens its connections anew is a client that was restarted, unless it holds half of all.
const CLIENTS: usize = 3;
const HALF: f64 = 0.5;

/// Window in which a storm has to show something to go on.
const QUIET_MILLISECONDS: u64 = 5_000;

#[derive(Debug, Default)]
pub(super) struct ColdReconnect {
    opens: Cusum,
    on: Option<Onset>,
    opened_most: u64,
}

impl ColdReconnect {
    fn threshold(scene: &Scene<'_>, onset: &Onset) -> f64 {
        let settings = &scene.settings.cold_reconnect;
        let share = settings.share_percent.get() as f64 / 100.0 * scene.held_at(onset);
        share.max(settings.connections.get() as f64)
    }

    /// Opens per second that surprise nobody. A turnover is beside what is opened in any case: clients with short connections go on
    /// while others are deployed.
    fn allowed(scene: &Scene<'_>) -> f64 {
        let usual = &scene.course.usual;
        usual
            .opens_allowed(scene.now)
            .max(usual.opens.mean() + TURNOVER_PER_SECOND * usual.held)
    }

    /// Connections that took the place of others since the onset, by all that is known. Who the clients are may have been seen some
    /// ticks ago: what was opened since is taken to be like what was opened before.
    fn replaced(&self, scene: &Scene<'_>, onset: &Onset) -> f64 {
        let (opened, held) = (self.opens.sum(), scene.held_at(onset));
        let grown = (scene.tick.connections as f64 - held).max(0.0);
        // Without an answer they are looked at in the next tick.
        let Some(changes) = scene.changes else { return 0.0 };
        let Some(before) = changes.opened_before(onset, scene.course.usual.opens.mean()) else {
            return opened - grown;
        };
        let seen = changes.replaced(before);
        let grown = (grown - seen.unnoticed).max(0.0);
        let replaced = (opened * seen.share).min(opened - grown);
        if seen.clients >= CLIENTS || replaced >= HALF * held {
            replaced
        } else {
            0.0
        }
    }

    fn goes_on(scene: &Scene<'_>, onset: &Onset) -> bool {
        let opens = sum(scene.course.back(QUIET_MILLISECONDS), |tick| tick.opened) as f64;
        opens - Self::allowed(scene) * QUIET_MILLISECONDS as f64 / 1e3 >= Self::threshold(scene, onset) / 4.0
    }
}

impl Detector for ColdReconnect {
    fn kind(&self) -> Kind {
        Kind::ColdReconnect
    }

    fn note(&mut self, scene: &Scene<'_>) -> bool {
        let threshold = Self::threshold(scene, &self.opens.onset(scene.tick));
        if !scene.course.usual.is_warm() {
            return false;
        }
        let opens = self.opens.add(
            scene.tick,
            scene.tick.taken(),
            Self::allowed(scene),
            4.0 * threshold,
        );
        self.on.is_some() || opens >= threshold / 2.0
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Option<Finding> {
        if scene.found.contains(&Kind::ReconnectChurn) {
            *self = Self::default();
            return None;
        }
        let onset = match self.on {
            Some(onset) if Self::goes_on(scene, &onset) => onset,
            Some(_) => {
                *self = Self::default();
                return None;
            }
            None => {
                let onset = self.opens.onset(scene.tick);
                let threshold = Self::threshold(scene, &onset);
                let window = || scene.course.back(3_000);
                let (closed, waiting) = (
                    sum(window(), |tick| tick.closed) as f64,
                    sum(window(), |tick| tick.closed_waiting) as f64,
                );
                let begins = self.opens.sum() >= threshold
                    && waiting < WAITING_SHARE * closed.max(threshold)
                    && self.replaced(scene, &onset) >= threshold;
                if !begins {
                    return None;
                }
                onset
            }
        };
        self.on = Some(onset);
        self.opened_most = self.opened_most.max(scene.tick.opened);
        let opened = onset.grown(scene.tick, |seen| seen.opened_total) as f64;
        let closed = onset.grown(scene.tick, |seen| seen.closed_total) as f64;
        let held = scene.held_at(&onset);
        let share = ratio(opened, held);
        Some(Finding {
            kind: Kind::ColdReconnect,
            severity: if share >= 0.5 {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset: onset.at,
            seen: scene.last(QUIET_MILLISECONDS, |tick| {
                tick.opened as f64 > tick.share_of(Self::allowed(scene))
            }),
            evidence: vec![
                figure("opens", opened, "connections"),
                figure("share_of_held", share, "ratio"),
                figure("closes", closed, "connections"),
                figure("held_before", held, "connections"),
                figure("opens_in_a_tick_most", self.opened_most as f64, "connections"),
            ],
            noun: "opens",
            amount: opened,
            measure: Measure::Opens,
        })
    }
}
