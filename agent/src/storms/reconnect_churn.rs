//! `reconnect_churn`: clients close connections on which a command waits, and open them again. A server that slows down is
//! followed by this: every client times out, closes, connects anew, and what it asks next waits as well.
//!
//! Signal one is closes with a waiting command, in a cumulative sum over what is usual; it is a storm once the sum is as large
//! as `connections` and `share_percent` of the connections held, and the clients come back: they open again after the first of
//! these closes, or stand before a full accept queue. Signal two needs no waiting command: the same addresses open at least
//! twice as many connections as they held.

use super::course::{Onset, sum};
use super::finding::{Detector, Finding, Measure, Scene, figure, ratio};
use super::storm::{Kind, Moment, Severity};
use super::usual::Cusum;

/// Window in which a storm has to show something to go on.
const QUIET_MILLISECONDS: u64 = 5_000;

/// Those who come back open at least this share of what was closed.
const COME_BACK: f64 = 0.25;

/// Opens per connection held that are churn whatever was waiting, and the least number of clients that do so.
const AMPLIFICATION: f64 = 2.0;
const CLIENTS: usize = 3;

#[derive(Debug, Default)]
pub(super) struct ReconnectChurn {
    waiting: Cusum,
    opens: Cusum,
    on: Option<Onset>,
    queue_most: u64,
}

impl ReconnectChurn {
    /// How much is a storm.
    fn threshold(scene: &Scene<'_>, onset: &Onset) -> f64 {
        let settings = &scene.settings.reconnect_churn;
        let share = settings.share_percent.get() as f64 / 100.0 * scene.held_at(onset);
        share.max(settings.connections.get() as f64)
    }

    /// Whether clients that closed since `onset` come back.
    fn come_back(scene: &Scene<'_>, onset: &Onset, closed: f64) -> bool {
        let window = || scene.course.back(3_000);
        // A queue that was full before they closed was full of them.
        let mut later = window().filter(|tick| tick.onset().at > onset.at);
        let stand = later.any(|tick| {
            tick.queue_drops > 0 || tick.queue_limit > 0 && tick.queue_length * 10 >= tick.queue_limit * 9
        });
        // What was opened before is what has closed.
        let since = onset.grown(scene.tick, |seen| seen.opened_total);
        let again = since.min(sum(window(), |tick| tick.opened));
        stand || again as f64 >= COME_BACK * closed
    }

    fn begins(&self, scene: &Scene<'_>) -> Option<Onset> {
        let onset = self.waiting.onset(scene.tick);
        let waiting = self.waiting.sum();
        if waiting >= Self::threshold(scene, &onset) && Self::come_back(scene, &onset, waiting) {
            return Some(onset);
        }
        let onset = self.opens.onset(scene.tick);
        let (changes, held) = (scene.changes?, scene.held_at(&onset));
        let (opened, held_by_them) = changes.by_the_same();
        let again = self.opens.sum() >= held.max(100.0)
            && opened >= AMPLIFICATION * held_by_them.max(held / 2.0)
            && changes.reopening(AMPLIFICATION) >= CLIENTS;
        again.then_some(onset)
    }

    fn last_seen(scene: &Scene<'_>) -> Moment {
        let usual = &scene.course.usual;
        let (waiting, opens) = (usual.waiting_closes.allowed(), usual.opens_allowed(scene.now));
        scene.last(QUIET_MILLISECONDS, |tick| {
            tick.closed_waiting as f64 > tick.share_of(waiting) || tick.opened as f64 > tick.share_of(opens)
        })
    }

    fn goes_on(scene: &Scene<'_>, onset: &Onset) -> bool {
        let window = || scene.course.back(QUIET_MILLISECONDS);
        let usual = &scene.course.usual;
        let seconds = QUIET_MILLISECONDS as f64 / 1e3;
        let waiting =
            sum(window(), |tick| tick.closed_waiting) as f64 - usual.waiting_closes.allowed() * seconds;
        let opens = sum(window(), |tick| tick.opened) as f64 - usual.opens_allowed(scene.now) * seconds;
        let threshold = Self::threshold(scene, onset);
        waiting >= threshold / 4.0 || opens >= threshold / 2.0
    }
}

impl Detector for ReconnectChurn {
    fn kind(&self) -> Kind {
        Kind::ReconnectChurn
    }

    fn note(&mut self, scene: &Scene<'_>) -> bool {
        let usual = &scene.course.usual;
        let threshold = Self::threshold(scene, &self.waiting.onset(scene.tick));
        let allowed = usual.waiting_closes.allowed();
        let waiting = self.waiting.add(
            scene.tick,
            scene.tick.closed_waiting as f64,
            allowed,
            4.0 * threshold,
        );
        let held = usual.held.max(100.0);
        let allowed = usual.opens_allowed(scene.now);
        let opens = if usual.is_warm() {
            self.opens
                .add(scene.tick, scene.tick.taken(), allowed, 4.0 * held)
        } else {
            0.0
        };
        self.on.is_some() || waiting >= threshold / 2.0 || opens >= held
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Option<Finding> {
        let onset = match self.on {
            Some(onset) if Self::goes_on(scene, &onset) => onset,
            Some(_) => {
                *self = Self::default();
                return None;
            }
            None => self.begins(scene)?,
        };
        self.on = Some(onset);
        self.queue_most = self.queue_most.max(scene.tick.queue_length);
        let opened = onset.grown(scene.tick, |seen| seen.opened_total);
        let closed = onset.grown(scene.tick, |seen| seen.closed_total);
        let waiting = onset.grown(scene.tick, |seen| seen.closed_waiting_total);
        let held = scene.held_at(&onset);
        let amplification = ratio(opened as f64, held);
        Some(Finding {
            kind: Kind::ReconnectChurn,
            severity: if waiting as f64 >= held / 4.0 || amplification >= AMPLIFICATION {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset: onset.at,
            seen: Self::last_seen(scene),
            evidence: vec![
                figure("opens", opened as f64, "connections"),
                figure("closes", closed as f64, "connections"),
                figure("closes_while_a_command_waited", waiting as f64, "connections"),
                figure("amplification", amplification, "ratio"),
                figure("held_before", held, "connections"),
                figure("accept_queue_most", self.queue_most as f64, "connections"),
            ],
            noun: "opens",
            amount: opened as f64,
            measure: Measure::Opens,
        })
    }
}
