//! What detectors are given, and what they answer.

use super::changes::Changes;
use super::course::{Course, Onset, Tick};
use super::storm::{Culprit, Figure, Kind, Moment, Severity};
use super::traffic::Second;
use crate::config::Storms;

/// One server at the end of a tick.
pub(super) struct Scene<'a> {
    pub(super) now: Moment,
    pub(super) tick: &'a Tick,
    pub(super) course: &'a Course,
    /// What its clients have done since the last quiet look at them; not known in every tick.
    pub(super) changes: Option<&'a Changes>,
    pub(super) settings: &'a Storms,
    /// Kinds of the storm that goes on, and those found in this tick so far.
    pub(super) found: Vec<Kind>,
}

impl Scene<'_> {
    /// Connections that the server held when something began: at that moment, or usually, whichever is more.
    pub(super) fn held_at(&self, onset: &Onset) -> f64 {
        (onset.before.connections as f64).max(self.course.usual.held)
    }

    /// When the last tick ended that shows something, of those that began so long ago; else now.
    pub(super) fn last(&self, milliseconds: u64, shows: impl Fn(&Tick) -> bool) -> Moment {
        let mut ticks = self.course.back(milliseconds);
        ticks.find(|tick| shows(tick)).map_or(self.now, |tick| tick.at)
    }
}

/// One kind of storm, looked for at one server. A state machine: it knows nothing but what it is given.
pub(super) trait Detector: std::fmt::Debug + Send {
    /// What it looks for.
    fn kind(&self) -> Kind;

    /// Takes a tick. Whether it suspects something: then nothing is learned, and it wants to know who the clients are.
    fn note(&mut self, scene: &Scene<'_>) -> bool;

    /// Whether there is a storm now; called after [`Detector::note`].
    fn judge(&mut self, scene: &Scene<'_>) -> Option<Finding>;
}

/// One kind of storm, looked for in the traffic of one server, second by second. A state machine likewise.
pub(super) trait TrafficDetector: std::fmt::Debug + Send {
    /// What it looks for.
    fn kind(&self) -> Kind;

    /// Takes a second. Whether there is a storm in it.
    fn judge(&mut self, second: &Second<'_>) -> Option<Finding>;

    /// Whether it suspects something: then nothing is learned. Asked after [`TrafficDetector::judge`].
    fn is_suspicious(&self) -> bool;
}

/// A storm of one kind, in this tick.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    pub(super) severity: Severity,
    pub(super) onset: Moment,
    /// When it showed for the last time. A detector goes on finding for some seconds: a storm may only take a breath.
    pub(super) seen: Moment,
    /// The most telling first.
    pub(super) evidence: Vec<Figure>,
    /// What there is too much of: `opens`.
    pub(super) noun: &'static str,
    /// How much of it since the onset.
    pub(super) amount: f64,
    /// What makes somebody a culprit.
    pub(super) measure: Measure,
}

/// What culprits are measured by.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Measure {
    /// Connections opened beyond what is usual.
    Opens,
    /// Connections held beyond those at the onset.
    Growth,
    /// Nothing of clients: the detector knows from the traffic who it is.
    Traffic(Vec<Culprit>),
}

/// Evidence, said shortly.
pub(super) fn figure(name: &str, value: f64, unit: &str) -> Figure {
    Figure {
        name: name.into(),
        value,
        unit: unit.into(),
    }
}

/// A share of something that may be nothing.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
