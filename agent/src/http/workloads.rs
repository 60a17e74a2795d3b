//! `/api/v1/workloads` as JSON.

use serde::Serialize;

use super::{Report, views::ClientsQuery};
use crate::workloads::{self, Kind, Range, SurveyStatus, WorkloadRow};

/// `/api/v1/workloads`.
pub(super) fn json(report: &Report, query: &ClientsQuery) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&page(report, query))
}

/// The page: one entry per workload and server, one per server, and when the connections were looked at.
pub(super) fn page<'a>(report: &'a Report, query: &ClientsQuery) -> Page<'a> {
    let all = report.workloads.servers.iter();
    let servers: Vec<_> = all.filter(|server| query.wants(&server.server)).collect();
    let workloads = servers.iter().flat_map(|server| {
        let rows = server.detailed.iter();
        rows.map(|row| Workload::new(&server.server, row))
    });
    Page {
        workloads: workloads.collect(),
        servers: servers.iter().map(|server| Server::new(server)).collect(),
        survey: report.workloads.survey.map(Survey::new),
    }
}

/// How groups of clients use their connections, and what a restart of each server would bring.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Workloads"))]
pub(super) struct Page<'a> {
    /// One per workload and server.
    pub(super) workloads: Vec<Workload<'a>>,
    /// One per server.
    servers: Vec<Server<'a>>,
    /// When the connections were looked at last; null before the first time.
    pub(super) survey: Option<Survey>,
}

/// A group of clients at a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Workload<'a> {
    /// Label of the server.
    pub(super) server: &'a str,
    /// Name of the workload; where no rule groups them, `namespace/owner` of pods, or an address.
    pub(super) workload: &'a str,
    /// `rule`, `owner`, `address` or `other`.
    kind: &'static str,
    /// Different client addresses that hold connections now.
    pub(super) instances: u64,
    /// Connections open now.
    pub(super) connections: u64,
    /// Connections that began.
    pub(super) opened: u64,
    /// Connections that began per minute, of late; null as long as it is not known.
    pub(super) opens_per_minute: Option<f64>,
    /// How connections are spread over the instances.
    pub(super) connections_per_instance: Option<PerInstance>,
    /// Connections that were idle. Of those that the last survey found, as all from here on.
    idle: Option<u64>,
    /// Idle ones among all, 0 to 1.
    pub(super) idle_share: Option<f64>,
    /// Connections that were busy.
    busy: Option<u64>,
    /// Kernel memory that their sockets held, in bytes.
    pub(super) socket_memory_bytes: Option<u64>,
    /// Connections that were busy at once in one instance.
    busy_per_instance: Option<Busy>,
    /// A smaller pool that would do.
    pool_advice: Option<Advice>,
}

/// Connections of an instance.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PerInstance {
    /// Half of the instances have at most so many.
    pub(super) median: f64,
    /// The most that one has.
    max: u64,
}

/// Connections of an instance that were busy at once.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Busy {
    /// At 99 % of the looks at most so many.
    p99: u64,
    /// The most ever seen.
    max: u64,
    /// Surveys that this is of.
    surveys: u64,
    /// Seconds from the first of them to the last.
    over_seconds: u64,
}

/// A smaller pool that would do.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PoolAdvice"))]
struct Advice {
    /// Connections per instance that would be enough.
    connections_per_instance: u64,
    /// Connections per instance there are.
    instead_of: u64,
    /// The same in a sentence.
    text: String,
}

/// A server and its restart.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ServerRestart"))]
struct Server<'a> {
    /// Label of the server.
    server: &'a str,
    /// What a restart would bring.
    restart: Restart,
}

/// What a restart would bring.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Restart {
    /// Connections that would come back.
    connections: u64,
    /// Client addresses that they would come from.
    instances: u64,
    /// Connections per second in the fullest 100 ms so far.
    accept_rate: Option<Bounds>,
    /// Seconds until all are back, at that rate.
    seconds: Option<Bounds>,
}

/// What is known of a number.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Bounds {
    /// It is no less.
    at_least: f64,
    /// It is no more; null: unknown.
    at_most: Option<f64>,
}

/// A look at all connections.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Survey {
    /// Seconds since.
    pub(super) age_seconds: f64,
    /// Seconds of CPU that it took.
    pub(super) cpu_seconds: f64,
    /// Seconds between two looks, as it is now.
    interval_seconds: f64,
}

impl<'a> Workload<'a> {
    fn new(server: &'a str, row: &'a WorkloadRow) -> Self {
        let survey = row.survey.filter(|tally| tally.connections > 0);
        Self {
            server,
            workload: &row.workload,
            kind: match row.kind {
                Kind::Rule => "rule",
                Kind::Owner => "owner",
                Kind::Address => "address",
                Kind::Unassigned | Kind::Other => "other",
            },
            instances: row.instances,
            connections: row.connections,
            opened: row.opened,
            opens_per_minute: row.opens_per_minute,
            connections_per_instance: row.per_instance.map(|of| PerInstance {
                median: of.median,
                max: of.max,
            }),
            idle: row.survey.map(|tally| tally.idle),
            idle_share: survey.map(|tally| tally.idle as f64 / tally.connections as f64),
            busy: row.survey.map(|tally| tally.busy),
            socket_memory_bytes: row.survey.map(|tally| tally.memory_bytes),
            busy_per_instance: row.busy.map(|busy| Busy {
                p99: busy.p99,
                max: busy.max,
                surveys: busy.surveys,
                over_seconds: busy.span.as_secs(),
            }),
            pool_advice: row.advice.map(|advice| Advice {
                connections_per_instance: advice.enough,
                instead_of: advice.now,
                text: advice.sentence(),
            }),
        }
    }
}

impl<'a> Server<'a> {
    fn new(server: &'a workloads::ServerWorkloads) -> Self {
        let restart = &server.restart;
        Self {
            server: &server.server,
            restart: Restart {
                connections: restart.connections,
                instances: restart.instances,
                accept_rate: restart.accept_rate.map(Bounds::new),
                seconds: restart.seconds.map(Bounds::new),
            },
        }
    }
}

impl Bounds {
    const fn new(range: Range) -> Self {
        Self {
            at_least: range.at_least,
            at_most: range.at_most,
        }
    }
}

impl Survey {
    fn new(status: SurveyStatus) -> Self {
        Self {
            age_seconds: status.age.as_secs_f64(),
            cpu_seconds: status.cost.as_secs_f64(),
            interval_seconds: status.interval.as_secs_f64(),
        }
    }
}
