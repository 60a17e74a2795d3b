//! What the detectors of traffic have in common: too much of something, in a cumulative sum over what is allowed, and who has it.

use super::storm::{Culprit, Moment};
use super::traffic::{Blame, Measured, Second};

/// A storm goes on while something exceeded the allowance within so long.
const QUIET_MILLISECONDS: u64 = 5_000;

/// Share of the threshold from which on something is suspected.
const SUSPICIOUS: f64 = 0.25;

/// Too much of something.
#[derive(Debug, Default)]
pub(super) struct Excess {
    sum: f64,
    onset: Moment,
    exceeded: Moment,
    /// All of it since the onset.
    amount: f64,
    seconds: f64,
    blame: Blame,
    suspected: bool,
    on: bool,
}

/// A second's worth of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    pub(super) amount: f64,
    /// So much per second surprises nobody.
    pub(super) allowed: f64,
    /// So much beyond that is a storm.
    pub(super) threshold: f64,
    pub(super) measured: Measured,
}

impl Excess {
    /// Adds a second. Returns whether there is a storm in it; it begins only if it `may_begin`. A second that does not exceed the
    /// allowance is a pause of the storm, and says nothing of it.
    pub(super) fn add(&mut self, second: &Second<'_>, of: Amount, may_begin: bool) -> bool {
        let seconds = second.traffic.seconds();
        let exceeds = of.amount > of.allowed * seconds;
        if exceeds {
            self.exceeded = second.now;
        }
        let quiet = second.now.since(self.exceeded) >= QUIET_MILLISECONDS;
        let idle = self.is_idle();
        if quiet || (idle && !exceeds) {
            *self = Self {
                exceeded: self.exceeded,
                ..Self::default()
            };
            return false;
        }
        if idle {
            self.onset = second.onset();
        }
        self.sum = (self.sum + of.amount - of.allowed * seconds).clamp(0.0, 4.0 * of.threshold);
        if exceeds {
            self.amount += of.amount;
            self.seconds += seconds;
            self.blame.add(second.traffic, second.usual, of.measured);
        }
        self.suspected = self.on || self.sum >= SUSPICIOUS * of.threshold;
        self.on |= may_begin && self.sum >= of.threshold;
        self.on && exceeds
    }

    /// Whether what is seen now should not be learned.
    pub(super) const fn is_suspected(&self) -> bool {
        self.suspected
    }

    /// Whether nothing is piled up.
    pub(super) fn is_idle(&self) -> bool {
        self.sum == 0.0 && !self.on
    }

    pub(super) const fn onset(&self) -> Moment {
        self.onset
    }

    /// All of it since the onset.
    pub(super) const fn amount(&self) -> f64 {
        self.amount
    }

    /// On average since the onset.
    pub(super) fn per_second(&self) -> f64 {
        super::finding::ratio(self.amount, self.seconds)
    }

    pub(super) fn culprits(&self) -> Vec<Culprit> {
        self.blame.culprits()
    }
}
