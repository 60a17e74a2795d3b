//! `accept_queue_saturation`: connections wait to be accepted for longer than a busy server needs, or are dropped because too
//! many wait. The kernel has completed their handshake, their clients think that they are connected, and the server does not
//! know them yet.
//!
//! A queue that is `queue_percent` full for a third of a second is a storm; one that drops connections is one at once. A burst
//! that the server takes in is none.
//!
//! The kernel counts what a *socket* drops, for whatever reason: on a network that doubles packets, a SYN or an
//! acknowledgement too many. Only a queue that can have been full has dropped connections.

use super::course::{Onset, Tick, sum};
use super::finding::{Detector, Finding, Measure, Scene, figure, ratio};
use super::storm::{Kind, Severity};

/// How long after it was first seen full the queue has to be full still, and in how many looks.
const FULL_MILLISECONDS: u64 = 300;
const FULL_TICKS: u32 = 3;
/// A queue that dropped connections was full, or so many had come, within this time.
const FILLED_MILLISECONDS: u64 = 1_000;
/// How long it has to be nearly empty to end the storm.
const QUIET_MILLISECONDS: u64 = 3_000;

/// How full a queue is that is too full.
const fn percent(scene: &Scene<'_>) -> u64 {
    scene.settings.accept_queue_saturation.queue_percent.get() as u64
}

#[derive(Debug, Default)]
pub(super) struct AcceptQueueSaturation {
    on: Option<Onset>,
    most: u64,
    full: Full,
}

/// Since when the queue is full. Looks may come late; one that finds it less full changes nothing.
#[derive(Debug, Default)]
struct Full {
    since: Option<Onset>,
    ticks: u32,
    gaps: u32,
}

impl Full {
    fn note(&mut self, scene: &Scene<'_>) {
        let percent = percent(scene);
        let tick = scene.tick;
        if tick.queue_limit > 0 && tick.queue_length * 100 >= percent * tick.queue_limit {
            self.since.get_or_insert_with(|| tick.onset());
            self.ticks += 1;
            self.gaps = 0;
        } else {
            self.gaps += 1;
            if self.gaps > 1 {
                *self = Self::default();
            }
        }
    }

    fn is_lasting(&self, scene: &Scene<'_>) -> Option<Onset> {
        let since = self
            .since
            .filter(|_| self.gaps == 0 && self.ticks >= FULL_TICKS)?;
        (scene.now.since(since.at) >= FULL_MILLISECONDS + scene.tick.milliseconds).then_some(since)
    }
}

impl AcceptQueueSaturation {
    /// Whether the queue has dropped connections.
    fn overflows(scene: &Scene<'_>) -> bool {
        if scene.tick.queue_drops == 0 {
            return false;
        }
        let percent = percent(scene);
        let window = || scene.course.back(FILLED_MILLISECONDS);
        let waited = window().map(|tick| tick.queue_length).max().unwrap_or(0);
        let come = sum(window(), |tick| tick.opened);
        waited.max(come) * 100 >= percent * scene.tick.queue_limit
    }

    fn begins(&self, scene: &Scene<'_>) -> Option<Onset> {
        if Self::overflows(scene) {
            return Some(scene.tick.onset());
        }
        self.full.is_lasting(scene)
    }

    fn goes_on(scene: &Scene<'_>) -> bool {
        scene.course.back(QUIET_MILLISECONDS).any(Self::shows(scene))
    }

    /// Whether a tick is a part of a storm.
    fn shows(scene: &Scene<'_>) -> impl Fn(&Tick) -> bool + use<> {
        let percent = percent(scene);
        move |tick| tick.queue_drops > 0 || tick.queue_length * 200 >= percent * tick.queue_limit.max(1)
    }
}

impl Detector for AcceptQueueSaturation {
    fn kind(&self) -> Kind {
        Kind::AcceptQueueSaturation
    }

    fn note(&mut self, scene: &Scene<'_>) -> bool {
        self.full.note(scene);
        self.on.is_some() || Self::overflows(scene)
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Option<Finding> {
        let onset = match self.on {
            Some(onset) if Self::goes_on(scene) => onset,
            Some(_) => {
                *self = Self::default();
                return None;
            }
            None => self.begins(scene)?,
        };
        self.on = Some(onset);
        self.most = self.most.max(scene.tick.queue_length);
        let (most, limit) = (self.most, scene.tick.queue_limit);
        let drops = onset.grown(scene.tick, |seen| seen.queue_drops_total);
        let opened = onset.grown(scene.tick, |seen| seen.opened_total) as f64;
        Some(Finding {
            kind: Kind::AcceptQueueSaturation,
            severity: if drops > 0 || most >= limit {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset: onset.at,
            seen: scene.last(QUIET_MILLISECONDS, Self::shows(scene)),
            evidence: vec![
                figure("accept_queue_most", most as f64, "connections"),
                figure("accept_queue_limit", limit as f64, "connections"),
                figure("full", ratio(most as f64, limit as f64), "ratio"),
                figure("drops", drops as f64, "connections"),
                figure("opens", opened, "connections"),
            ],
            noun: "opens",
            amount: opened,
            measure: Measure::Opens,
        })
    }
}
