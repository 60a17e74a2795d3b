//! What is shown: rows, advice on pools, what a restart would bring.

use std::time::{Duration, Instant};

use super::Tally;
use super::groups::Gathered;
use super::history::{Busy, ENOUGH_SURVEYS, History};
use crate::snapshot::BurstHistogram;

/// Everything about workloads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkloadReport {
    /// One entry per live server, in the order of their labels.
    pub servers: Vec<ServerWorkloads>,
    /// The last survey; `None` before the first.
    pub survey: Option<SurveyStatus>,
}

/// A look at every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SurveyStatus {
    /// How long ago it was.
    pub age: Duration,
    /// CPU time that it took.
    pub cost: Duration,
    /// How long after it the next one comes, at the earliest.
    pub interval: Duration,
}

/// The workloads of one server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerWorkloads {
    /// Label `server`.
    pub server: String,
    /// All its connections by the last survey; `None` before the first.
    pub survey: Option<Tally>,
    /// Workloads of the configuration in file order, then `(unassigned)`, then `(other)`: together they are the server.
    pub workloads: Vec<WorkloadRow>,
    /// The same with a row for each owner of pods and each address in the place of `(unassigned)`, as many as `limits.workloads` has room for.
    pub detailed: Vec<WorkloadRow>,
    /// What a restart of the server would bring.
    pub restart: Restart,
}

/// One workload at one server.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadRow {
    /// Label `workload`.
    pub workload: String,
    /// What kind of row this is.
    pub kind: Kind,
    /// Addresses that have a connection now.
    pub instances: u64,
    /// Connections established now.
    pub connections: u64,
    /// Connections established since the agent watches.
    pub opened: u64,
    /// Opens per minute, over the last minute or since the agent follows the workload; `None` at first.
    pub opens_per_minute: Option<f64>,
    /// Connections per instance; `None` without one.
    pub per_instance: Option<PerInstance>,
    /// What the last survey found; `None` before the first.
    pub survey: Option<Tally>,
    /// How many connections of an instance were busy at once; `None` where nobody is followed, and before the first survey.
    pub busy: Option<Busy>,
    /// What could be smaller; `None` if nothing, or if too little is known.
    pub advice: Option<PoolAdvice>,
}

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A workload of the configuration.
    Rule,
    /// The pods of an owner that no rule has.
    Owner,
    /// An address that no rule has, and no known pod.
    Address,
    /// All addresses that no rule has.
    Unassigned,
    /// What has no row of its own.
    Other,
}

/// Connections per instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerInstance {
    /// The middle; between two, their mean.
    pub median: f64,
    /// Of the instance that has the most.
    pub max: u64,
}

/// A pool that could be smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolAdvice {
    /// Connections per instance that would do.
    pub enough: u64,
    /// Connections per instance as they are, at the median.
    pub now: u64,
    /// Busy ones per instance at the 99th percentile.
    pub busy_p99: u64,
}

/// What a restart of a server would bring.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Restart {
    /// Connections that would come back: those established now.
    pub connections: u64,
    /// From how many addresses.
    pub instances: u64,
    /// Connections per second in the fullest 100 ms that the server has shown; `None` if it has shown none.
    pub accept_rate: Option<Range>,
    /// Seconds that the connections take at that rate; `None` without one.
    pub seconds: Option<Range>,
}

/// A number that is known as well as a bucket of a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// It is not less.
    pub at_least: f64,
    /// It is not more; `None` where the bucket is open.
    pub at_most: Option<f64>,
}

/// Windows of the accept-burst histogram in a second.
const WINDOWS_PER_SECOND: f64 = 10.0;

impl Restart {
    pub(super) fn new(connections: u64, instances: u64, bursts: &BurstHistogram) -> Self {
        let accept_rate = highest_rate(bursts);
        let count = connections as f64;
        Self {
            connections,
            instances,
            accept_rate,
            seconds: accept_rate.map(|rate| Range {
                at_least: rate.at_most.map_or(0.0, |rate| count / rate),
                at_most: Some(count / rate.at_least),
            }),
        }
    }
}

/// Bounds of the fullest window's bucket. No window had more than all windows together.
fn highest_rate(bursts: &BurstHistogram) -> Option<Range> {
    let bucket = bursts.windows.iter().rposition(|windows| *windows > 0)?;
    let least = bucket.checked_sub(1).map_or(1, |below| (1_u64 << below) + 1);
    let most =
        (bucket + 1 < bursts.windows.len()).then(|| (1_u64 << bucket).min(bursts.connections.max(least)));
    Some(Range {
        at_least: least as f64 * WINDOWS_PER_SECOND,
        at_most: most.map(|most| most as f64 * WINDOWS_PER_SECOND),
    })
}

impl WorkloadRow {
    /// `opened` is what the row shows, those of addresses that the kernel keeps no more included.
    pub(super) fn new(workload: String, kind: Kind, sum: &Gathered, opened: u64, surveyed: bool) -> Self {
        Self {
            workload,
            kind,
            instances: sum.per_instance.len() as u64,
            connections: sum.connections,
            opened,
            opens_per_minute: None,
            per_instance: PerInstance::new(&sum.per_instance),
            survey: surveyed.then_some(sum.tally),
            busy: None,
            advice: None,
        }
    }

    /// Adds what is remembered.
    pub(super) fn with(mut self, history: Option<&History>, now: Instant) -> Self {
        let Some(history) = history else { return self };
        self.opens_per_minute = history.opens_per_minute(now, self.opened);
        self.busy = history.busy(now);
        self.advice = self
            .busy
            .zip(self.per_instance)
            .and_then(|(busy, per_instance)| PoolAdvice::new(busy, per_instance));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections == 0 && self.opened == 0 && self.survey.is_none_or(|tally| tally.connections == 0)
    }
}

impl PerInstance {
    fn new(per_instance: &[u64]) -> Option<Self> {
        let mut sorted = per_instance.to_vec();
        sorted.sort_unstable();
        let (max, middle) = (*sorted.last()?, sorted.len() / 2);
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) as f64 / 2.0
        } else {
            sorted[middle] as f64
        };
        Some(Self { median, max })
    }
}

impl PoolAdvice {
    /// Half as many again as were busy, and at least one more: a pool at its limit makes its callers wait.
    fn new(busy: Busy, per_instance: PerInstance) -> Option<Self> {
        let enough = busy.p99 + busy.p99.div_ceil(2).max(1);
        let now = per_instance.median as u64;
        (busy.surveys >= ENOUGH_SURVEYS && enough < now).then_some(Self {
            enough,
            now,
            busy_p99: busy.p99,
        })
    }

    /// The advice as a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "p could be {} instead of {}: p99 of simultaneously busy connections per instance was {}",
            self.enough, self.now, self.busy_p99
        )
    }
}
