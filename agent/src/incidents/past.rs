//! What is kept of a server's last minutes: bounded, however many clients and tenants it has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::record::{ClientAt, Clients, Course, Record, Sample, TenantAt, Traffic, TrafficAt, WorkloadAt};
use crate::storms::{Detail, Moment, Traffic as Counted};
use crate::tenants::UNASSIGNED;

/// Tenants of a second.
const TENANTS: usize = 8;

/// Workloads and clients of a record.
const WORKLOADS: usize = 20;
const CLIENTS: usize = 50;

/// How far apart two looks at clients are that are kept, in milliseconds.
const LOOKS_MILLISECONDS: u64 = 19_000;

/// Looks that are kept.
const LOOKS: usize = 6;

/// See the module. At most 40 bytes a tick, 450 bytes a second, and 8 KiB for each of the looks at clients.
#[derive(Debug, Default)]
pub(super) struct Past {
    ticks: VecDeque<Sample>,
    seconds: VecDeque<Second>,
    looks: VecDeque<Clients>,
}

/// A second of traffic.
#[derive(Debug, Clone)]
pub(super) struct Second {
    /// Without its tenants.
    whole: TrafficAt,
    /// Their names are shared with those of the second before.
    tenants: Vec<(Arc<str>, [u64; 4])>,
}

impl Past {
    /// Keeps a tick.
    pub(super) fn tick(&mut self, sample: Sample) {
        self.ticks.push_back(sample);
    }

    /// Keeps a second.
    pub(super) fn second(&mut self, mut second: Second) {
        if let Some(before) = self.seconds.back() {
            second.share_names(before);
        }
        self.seconds.push_back(second);
    }

    /// Keeps a look at clients, if the last one is long ago.
    pub(super) fn look(&mut self, now: Moment, detail: &Detail) {
        let last = self.looks.back();
        if last.is_none_or(|last| now.since(last.at) >= LOOKS_MILLISECONDS) {
            self.looks.push_back(clients(now, detail));
        }
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
    }

    /// Forgets what is older.
    pub(super) fn forget_before(&mut self, then: Moment) {
        let old = |at: Option<Moment>| at.is_some_and(|at| at <= then);
        while old(self.ticks.front().map(|tick| tick.at)) {
            self.ticks.pop_front();
        }
        while old(self.seconds.front().map(|second| second.whole.at)) {
            self.seconds.pop_front();
        }
        while old(self.looks.front().map(|look| look.at)) {
            self.looks.pop_front();
        }
    }

    /// All that is kept.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        records.extend(course(self.ticks.iter().copied()));
        records.extend(traffic(self.seconds.iter().cloned()));
        records.extend(self.looks.iter().cloned().map(Record::Clients));
        records
    }
}

impl Second {
    /// What was counted in the second that ended now.
    pub(super) fn of(now: Moment, counted: &Counted) -> Self {
        let mut tenants: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
        let (mut answered, mut seconds) = (0, 0.0);
        for row in &counted.rows {
            let name = row.tenant.as_deref().unwrap_or(UNASSIGNED);
            let errors = row.errors.iter().map(|(_, count)| count).sum();
            let counts = [row.commands, row.bytes_in, row.bytes_out, errors];
            let sums = tenants.entry(name).or_default();
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
            answered += row.answered;
            seconds += row.seconds;
        }
        let sum = |column: usize| tenants.values().map(|counts| counts[column]).sum::<u64>();
        let (commands, bytes) = (sum(0).max(1) as f64, (sum(1) + sum(2)).max(1) as f64);
        let share = |counts: &[u64; 4]| {
            let of_bytes = (counts[1] + counts[2]) as f64 / bytes;
            of_bytes.max(counts[0] as f64 / commands)
        };
        let whole = TrafficAt {
            at: now,
            milliseconds: counted.milliseconds,
            commands: sum(0),
            answered,
            latency_microseconds: (seconds * 1e6 / answered.max(1) as f64) as u64,
            bytes_in: counted.bytes_in,
            bytes_out: counted.bytes_out,
            errors: sum(3),
            tenants: Vec::new(),
        };
        let mut order: Vec<_> = tenants.iter().collect();
        order.sort_by(|(_, left), (_, right)| share(right).total_cmp(&share(left)));
        order.truncate(TENANTS);
        let tenants = order
            .into_iter()
            .map(|(name, counts)| (Arc::from(*name), *counts));
        Self {
            whole,
            tenants: tenants.collect(),
        }
    }

    fn share_names(&mut self, before: &Self) {
        for (name, _) in &mut self.tenants {
            if let Some((known, _)) = before.tenants.iter().find(|(known, _)| known == name) {
                *name = Arc::clone(known);
            }
        }
    }

    fn record(self) -> TrafficAt {
        let tenants = self.tenants.iter();
        let tenants = tenants.map(|(name, [commands, bytes_in, bytes_out, errors])| TenantAt {
            tenant: name.to_string(),
            commands: *commands,
            bytes_in: *bytes_in,
            bytes_out: *bytes_out,
            errors: *errors,
        });
        TrafficAt {
            tenants: tenants.collect(),
            ..self.whole
        }
    }
}

/// Ticks as a record; `None` without one.
pub(super) fn course(ticks: impl Iterator<Item = Sample>) -> Option<Record> {
    let mut course = Course::default();
    course.extend(ticks);
    (!course.at.is_empty()).then_some(Record::Course(course))
}

/// Seconds as a record; `None` without one.
pub(super) fn traffic(seconds: impl Iterator<Item = Second>) -> Option<Record> {
    let seconds: Vec<_> = seconds.map(Second::record).collect();
    (!seconds.is_empty()).then_some(Record::Traffic(Traffic { seconds }))
}

/// The clients with the most opens, and their workloads.
pub(super) fn clients(at: Moment, detail: &Detail) -> Clients {
    let text = |name: &Option<Arc<str>>| name.as_deref().unwrap_or_default().to_owned();
    let mut workloads: BTreeMap<&str, WorkloadAt> = BTreeMap::new();
    for client in &detail.clients {
        let name = client.workload.as_deref().unwrap_or_default();
        let workload = workloads.entry(name).or_insert_with(|| WorkloadAt {
            workload: name.to_owned(),
            instances: 0,
            connections: 0,
            opened: 0,
        });
        workload.instances += 1;
        workload.connections += client.connections;
        workload.opened += client.opened;
    }
    let mut workloads: Vec<_> = workloads.into_values().collect();
    workloads.sort_by_key(|workload| Reverse(workload.opened));
    workloads.truncate(WORKLOADS);
    let mut order: Vec<_> = detail.clients.iter().collect();
    order.sort_by_key(|client| (Reverse(client.opened), client.address));
    let clients = order.into_iter().take(CLIENTS).map(|client| ClientAt {
        address: client.address.to_string(),
        workload: text(&client.workload),
        library: text(&client.library),
        user: text(&client.user),
        connections: client.connections,
        opened: client.opened,
    });
    Clients {
        at,
        workloads,
        clients: clients.collect(),
    }
}
