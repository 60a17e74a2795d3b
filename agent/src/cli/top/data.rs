//! What the agent says, and what has changed between two of its answers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stormglass::storms::Storm;

use crate::cli::agent::NOT_UNDERSTOOD;
use crate::cli::storms::Page;

/// The pages that are asked for, in the order of [`Reading::new`].
pub(super) const PAGES: [&str; 4] = [
    "/api/v1/servers",
    "/api/v1/tenants?prefixes=0",
    "/api/v1/workloads",
    "/api/v1/storms",
];

/// What was true at a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// When, on a clock of the reader's own.
    pub(super) at: Duration,
    pub(super) servers: Vec<Server>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) workloads: Vec<Workload>,
    pub(super) active: Vec<Storm>,
    pub(super) ended: Vec<Storm>,
}

/// Why there is no reading.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// When it was noticed, on the clock of [`Reading::at`].
    pub(super) at: Duration,
    pub(super) reason: String,
}

impl Reading {
    /// Reads the four pages.
    pub(super) fn new(at: Duration, pages: [Value; 4]) -> Result<Self> {
        let [servers, tenants, workloads, storms] = pages;
        let Page { active, ended } = read(storms)?;
        Ok(Self {
            at,
            servers: read::<Servers>(servers)?.servers,
            tenants: read::<Tenants>(tenants)?.tenants,
            workloads: read::<Workloads>(workloads)?.workloads,
            active,
            ended,
        })
    }
}

fn read<T: DeserializeOwned>(page: Value) -> Result<T> {
    serde_json::from_value(page).context(NOT_UNDERSTOOD)
}

#[derive(Deserialize)]
struct Servers {
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<Tenant>,
}

#[derive(Deserialize)]
struct Workloads {
    workloads: Vec<Workload>,
}

/// What is read of a server.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Server {
    pub(super) server: String,
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) uptime_seconds: u64,
    #[serde(default)]
    pub(super) clients_at_most: Option<u64>,
    pub(super) connections: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) accept_queue: Queue,
    pub(super) clients: u64,
    pub(super) commands: u64,
    bytes_in: u64,
    bytes_out: u64,
    unattributed: Vec<Unattributed>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Queue {
    pub(super) length: u64,
    pub(super) limit: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Unattributed {
    direction: String,
    bytes: u64,
}

impl Server {
    /// All bytes that it received.
    pub(super) fn all_in(&self) -> u64 {
        self.bytes_in + self.unattributed("in")
    }

    /// All bytes that it sent.
    pub(super) fn all_out(&self) -> u64 {
        self.bytes_out + self.unattributed("out")
    }

    fn unattributed(&self, direction: &str) -> u64 {
        let rows = self.unattributed.iter().filter(|row| row.direction == direction);
        rows.map(|row| row.bytes).sum()
    }
}

/// What is read of a tenant.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tenant {
    pub(super) tenant: String,
    pub(super) owner: String,
    pub(super) commands: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) hit_ratio: Option<f64>,
    errors: BTreeMap<String, u64>,
    pub(super) duration_seconds: Option<Quantiles>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Tenant {
    pub(super) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// What is read of a workload at a server.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Workload {
    pub(super) server: String,
    pub(super) workload: String,
    pub(super) instances: u64,
    pub(super) connections: u64,
    pub(super) opened: u64,
    pub(super) connections_per_instance: Option<PerInstance>,
    pub(super) idle_share: Option<f64>,
    pub(super) socket_memory_bytes: Option<u64>,
    pub(super) busy_per_instance: Option<Busy>,
    pub(super) pool_advice: Option<Advice>,
}

impl Workload {
    /// It and its server.
    pub(super) fn key(&self) -> String {
        format!("{} at {}", self.workload, self.server)
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct PerInstance {
    pub(super) median: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Busy {
    pub(super) p99: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Advice {
    pub(super) text: String,
}

/// Two readings: what is, and what has changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Pair {
    pub(super) now: Reading,
    before: Option<Reading>,
}

impl Pair {
    /// A newer reading takes the place of the last one.
    pub(super) fn next(self, now: Reading) -> Self {
        Self {
            now,
            before: Some(self.now),
        }
    }

    /// One reading, and nothing to compare it with.
    pub(super) const fn first(now: Reading) -> Self {
        Self { now, before: None }
    }

    pub(super) fn servers(&self) -> Changes<'_, Server> {
        self.changes(|reading| &reading.servers, |server| server.server.clone())
    }

    pub(super) fn tenants(&self) -> Changes<'_, Tenant> {
        self.changes(|reading| &reading.tenants, |tenant| tenant.tenant.clone())
    }

    pub(super) fn workloads(&self) -> Changes<'_, Workload> {
        self.changes(|reading| &reading.workloads, Workload::key)
    }

    fn changes<T>(&self, rows: fn(&Reading) -> &[T], key: impl Fn(&T) -> String) -> Changes<'_, T> {
        let before = self.before.as_ref();
        let seconds = before.map_or(0.0, |before| self.now.at.saturating_sub(before.at).as_secs_f64());
        let mut earlier: HashMap<String, &T> = before
            .into_iter()
            .flat_map(rows)
            .map(|row| (key(row), row))
            .collect();
        let rows = rows(&self.now).iter();
        Changes {
            rows: rows.map(|row| (row, earlier.remove(&key(row)))).collect(),
            seconds,
        }
    }
}

/// Rows beside what they were.
pub(super) struct Changes<'a, T> {
    pub(super) rows: Vec<(&'a T, Option<&'a T>)>,
    seconds: f64,
}

impl<T> Changes<'_, T> {
    /// How much a counter has grown per second. `None`: the row is new, or its counter went back.
    pub(super) fn rate(&self, row: &(&T, Option<&T>), counter: impl Fn(&T) -> u64) -> Option<f64> {
        let grown = counter(row.0).checked_sub(counter(row.1?))?;
        (self.seconds > 0.0).then(|| grown as f64 / self.seconds)
    }

    /// The same of all rows together; those that are new count nothing.
    pub(super) fn sum(&self, counter: impl Fn(&T) -> u64) -> Option<f64> {
        let rates = self.rows.iter().filter_map(|row| self.rate(row, &counter));
        rates.reduce(|sum, rate| sum + rate)
    }
}
