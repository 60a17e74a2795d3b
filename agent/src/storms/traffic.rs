//! What the commands of a server come to, second by second, and what is usual of it.

use std::collections::HashMap;
use std::sync::Arc;

use super::storm::{Culprit, Moment, Subject};
use super::usual::{Hours, Rate};

/// Cells of sizes: the kernel's, a power of two each.
pub const SIZES: usize = agent_common::abi::SIZE_BUCKETS;

/// Seconds of learning before rates are trusted.
const WARM_UP_SECONDS: u64 = 10;

/// Weight of one second in the averages: a memory of five minutes; of a row: one minute.
const WEIGHT: f64 = 1.0 / 300.0;
const WEIGHT_OF_ROW: f64 = 1.0 / 60.0;

/// Rows without traffic for so many seconds are forgotten.
const ROW_SECONDS: u64 = 600;

/// What a server's commands have come to since the look before.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// How long ago that was.
    pub milliseconds: u64,
    /// All payload bytes of its clients' sockets, attributed or not.
    pub bytes_in: u64,
    /// The same of replies.
    pub bytes_out: u64,
    /// Bytes per second that its link carries in one direction, where that is known.
    pub link: Option<u64>,
    /// Share of a CPU that the thread had in which it executes commands, where that is known.
    pub busy: Option<f64>,
    /// Rows with traffic, each prefix of a tenant once.
    pub rows: Vec<TrafficRow>,
}

/// One row of the kernel's counters: a prefix, and whose its connections are.
#[derive(Debug, Clone, Default)]
pub struct TrafficRow {
    /// Its name: label `prefix`, before anything is hashed.
    pub prefix: Arc<str>,
    /// Label `tenant`; `None` if no rule has it.
    pub tenant: Option<Arc<str>>,
    /// Bytes of commands.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Commands received.
    pub commands: u64,
    /// Commands answered whose duration is known.
    pub answered: u64,
    /// How long those took, together.
    pub seconds: f64,
    /// Commands and replies by size, in powers of two.
    pub sizes: Sizes,
    /// Error replies by their first word, those that occurred.
    pub errors: Vec<(&'static str, u64)>,
}

/// Counts by size: cell `i` has those up to `2^i` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes(pub [u64; SIZES]);

impl Default for Sizes {
    fn default() -> Self {
        Self([0; SIZES])
    }
}

impl Sizes {
    /// How many are larger than `bytes`, by the cells that are above it altogether, and how large they are together, about.
    fn above(&self, bytes: u64) -> (u64, f64) {
        let cells = self.0.iter().enumerate();
        let above = cells.filter(|(cell, count)| **count > 0 && 1_u64 << cell.saturating_sub(1) >= bytes);
        above.fold((0, 0.0), |(counts, sum), (cell, count)| {
            // The middle of what the cell has.
            (
                counts + count,
                sum + *count as f64 * 0.75 * (1_u64 << cell) as f64,
            )
        })
    }
}

/// Replies that tell a client where to go, or to load its script again: they belong to a failover or a deploy.
const REDIRECTS: [&str; 5] = ["MOVED", "ASK", "TRYAGAIN", "REDIRECT", "NOSCRIPT"];

impl TrafficRow {
    /// Bytes in both directions.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes_in + self.bytes_out
    }

    /// Error replies that are no redirection.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let errors = self.errors.iter().copied();
        errors.filter(|(word, _)| !REDIRECTS.contains(word))
    }

    /// How many of them.
    pub(super) fn fault_count(&self) -> u64 {
        self.faults().map(|(_, count)| count).sum()
    }

    /// Values of at least so many bytes: how many, and how large together.
    pub(super) fn large(&self, bytes: u64) -> (u64, f64) {
        if &*self.prefix == "(replication)" {
            return (0, 0.0);
        }
        self.sizes.above(bytes)
    }
}

impl Traffic {
    /// How long it took, in seconds.
    pub(super) const fn seconds(&self) -> f64 {
        self.milliseconds as f64 / 1e3
    }

    /// A sum over the rows.
    pub(super) fn sum(&self, count: impl Fn(&TrafficRow) -> u64) -> u64 {
        self.rows.iter().map(count).sum()
    }
}

/// What is usual of a server's traffic.
#[derive(Debug, Default)]
pub(super) struct UsualTraffic {
    pub(super) commands: Rate,
    pub(super) unanswered: Rate,
    pub(super) faults: Rate,
    pub(super) large: Rate,
    hours_of_faults: Hours,
    hours_of_large: Hours,
    /// Seconds from a command to its reply, on average.
    pub(super) latency: f64,
    rows: HashMap<(Arc<str>, Option<Arc<str>>), UsualRow>,
    learned: u64,
}

/// What is usual of a row, each second.
#[derive(Debug, Default, Clone, Copy)]
struct UsualRow {
    commands: f64,
    bytes: f64,
    faults: f64,
    large: f64,
    last: u64,
}

/// What a row is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measured {
    Commands,
    Bytes,
    Faults,
    /// Bytes of values of at least so many.
    Large(u64),
}

impl Measured {
    fn of(self, row: &TrafficRow) -> f64 {
        match self {
            Self::Commands => row.commands as f64,
            Self::Bytes => row.bytes() as f64,
            Self::Faults => row.fault_count() as f64,
            Self::Large(bytes) => row.large(bytes).1,
        }
    }
}

impl UsualTraffic {
    pub(super) const fn is_warm(&self) -> bool {
        self.learned >= WARM_UP_SECONDS
    }

    /// Errors per second that surprise nobody: the mean, three deviations, and what this hour had on the days before.
    pub(super) fn faults_allowed(&self, at: Moment) -> f64 {
        self.faults.allowed().max(self.hours_of_faults.most(at))
    }

    /// Large values per second, likewise.
    pub(super) fn large_allowed(&self, at: Moment) -> f64 {
        self.large.allowed().max(self.hours_of_large.most(at))
    }

    /// Learns a second in which nothing is suspected. `large`: from how many bytes on a value is large.
    pub(super) fn learn(&mut self, at: Moment, traffic: &Traffic, large: u64) {
        let seconds = traffic.seconds();
        let weight = WEIGHT.max(1.0 / (self.learned + 1) as f64);
        self.learned += 1;
        let (commands, answered) = (traffic.sum(|row| row.commands), traffic.sum(|row| row.answered));
        let learn = |rate: &mut Rate, count: u64| rate.learn(count as f64 / seconds, weight);
        learn(&mut self.commands, commands);
        learn(&mut self.unanswered, commands.saturating_sub(answered));
        let (faults, values) = (
            traffic.sum(TrafficRow::fault_count),
            traffic.sum(|row| row.large(large).0),
        );
        learn(&mut self.faults, faults);
        learn(&mut self.large, values);
        if self.is_warm() {
            self.hours_of_faults.learn(at, faults as f64 / seconds);
            self.hours_of_large.learn(at, values as f64 / seconds);
        }
        if answered > 0 {
            let latency = traffic.rows.iter().map(|row| row.seconds).sum::<f64>() / answered as f64;
            self.latency += weight * (latency - self.latency);
        }
        for row in &traffic.rows {
            self.learn_row(row, seconds, large);
        }
        if self.learned.is_multiple_of(ROW_SECONDS) {
            let now = self.learned;
            self.rows.retain(|_, row| now - row.last < ROW_SECONDS);
        }
    }

    fn learn_row(&mut self, row: &TrafficRow, seconds: f64, large: u64) {
        let now = self.learned;
        let key = (Arc::clone(&row.prefix), row.tenant.clone());
        let known = self.rows.entry(key).or_insert(UsualRow {
            last: now - 1,
            ..UsualRow::default()
        });
        let weight = WEIGHT_OF_ROW.max(1.0 / now as f64);
        // Seconds without traffic are learned when there is some again.
        let silent = (1.0 - weight).powi(i32::try_from(now - known.last - 1).unwrap_or(i32::MAX));
        known.last = now;
        let learn = |usual: &mut f64, value: f64| {
            *usual *= silent;
            *usual += weight * (value / seconds - *usual);
        };
        learn(&mut known.commands, Measured::Commands.of(row));
        learn(&mut known.bytes, Measured::Bytes.of(row));
        learn(&mut known.faults, Measured::Faults.of(row));
        learn(&mut known.large, Measured::Large(large).of(row));
    }

    /// What a row usually has in a second.
    pub(super) fn of_row(&self, row: &TrafficRow, measured: Measured) -> f64 {
        let key = (Arc::clone(&row.prefix), row.tenant.clone());
        let usual = self.rows.get(&key).copied().unwrap_or_default();
        match measured {
            Measured::Commands => usual.commands,
            Measured::Bytes => usual.bytes,
            Measured::Faults => usual.faults,
            Measured::Large(_) => usual.large,
        }
    }
}

/// Who has how much of an excess, added up.
#[derive(Debug, Default)]
pub(super) struct Blame {
    sums: HashMap<(Subject, Arc<str>), f64>,
    total: f64,
}

/// Culprits that are named, of each subject.
const NAMED: usize = 3;

/// A share below this is nobody's fault.
const LEAST_SHARE: f64 = 0.05;

impl Blame {
    /// Adds what each row has in a second beyond what it usually has.
    pub(super) fn add(&mut self, traffic: &Traffic, usual: &UsualTraffic, measured: Measured) {
        for row in &traffic.rows {
            let amount = measured.of(row);
            if amount == 0.0 {
                continue;
            }
            let excess = amount - usual.of_row(row, measured) * traffic.seconds();
            if excess <= 0.0 {
                continue;
            }
            self.total += excess;
            if let Some(tenant) = &row.tenant {
                *self
                    .sums
                    .entry((Subject::Tenant, Arc::clone(tenant)))
                    .or_default() += excess;
            }
            *self
                .sums
                .entry((Subject::Prefix, Arc::clone(&row.prefix)))
                .or_default() += excess;
        }
    }

    /// The largest share first; a tenant before its prefixes.
    pub(super) fn culprits(&self) -> Vec<Culprit> {
        let mut culprits: Vec<Culprit> = self
            .sums
            .iter()
            .map(|((subject, name), amount)| Culprit {
                subject: *subject,
                name: name.to_string(),
                share: super::finding::ratio(*amount, self.total),
                instances: 0,
                connections: 0,
                amount: *amount,
            })
            .filter(|culprit| culprit.share >= LEAST_SHARE)
            .collect();
        culprits.sort_by(|left, right| {
            let names = || (left.subject, &left.name).cmp(&(right.subject, &right.name));
            right.share.total_cmp(&left.share).then_with(names)
        });
        let mut named: HashMap<Subject, usize> = HashMap::new();
        culprits.retain(|culprit| {
            let count = named.entry(culprit.subject).or_default();
            *count += 1;
            *count <= NAMED
        });
        culprits
    }
}

/// A second as detectors of traffic see it.
pub(super) struct Second<'a> {
    pub(super) now: Moment,
    pub(super) traffic: &'a Traffic,
    pub(super) usual: &'a UsualTraffic,
    pub(super) settings: &'a crate::config::Storms,
    /// Connections held at its end.
    pub(super) connections: u64,
    /// Connections closed in it while a command waited.
    pub(super) given_up: u64,
}

impl Second<'_> {
    /// When it began.
    pub(super) const fn onset(&self) -> Moment {
        Moment(self.now.0.saturating_sub(self.traffic.milliseconds))
    }
}
