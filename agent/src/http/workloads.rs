//! `/api/v1/workloads` as JSON.

use serde::Serialize;

use super::Report;
use crate::workloads::{self, Kind, Range, SurveyStatus, WorkloadRow};

/// The page: one entry per workload and server, one per server, and when the connections were looked at.
pub(super) fn page(report: &Report) -> serde_json::Result<Vec<u8>> {
    let servers = &report.workloads.servers;
    let workloads = servers.iter().flat_map(|server| {
        let rows = server.detailed.iter();
        rows.map(|row| Workload::new(&server.server, row))
    });
    serde_json::to_vec(&Page {
        workloads: workloads.collect(),
        servers: servers.iter().map(Server::new).collect(),
        survey: report.workloads.survey.map(Survey::new),
    })
}

#[derive(Serialize)]
struct Page<'a> {
    workloads: Vec<Workload<'a>>,
    servers: Vec<Server<'a>>,
    survey: Option<Survey>,
}

#[derive(Serialize)]
struct Workload<'a> {
    server: &'a str,
    workload: &'a str,
    /// `rule`, `address` or `other`.
    kind: &'static str,
    instances: u64,
    connections: u64,
    opened: u64,
    opens_per_minute: Option<f64>,
    connections_per_instance: Option<PerInstance>,
    /// Of the connections that the last survey found.
    idle: Option<u64>,
    idle_share: Option<f64>,
    busy: Option<u64>,
    socket_memory_bytes: Option<u64>,
    busy_per_instance: Option<Busy>,
    pool_advice: Option<Advice>,
}

#[derive(Serialize)]
struct PerInstance {
    median: f64,
    max: u64,
}

#[derive(Serialize)]
struct Busy {
    p99: u64,
    max: u64,
    surveys: u64,
    over_seconds: u64,
}

#[derive(Serialize)]
struct Advice {
    connections_per_instance: u64,
    instead_of: u64,
    text: String,
}

#[derive(Serialize)]
struct Server<'a> {
    server: &'a str,
    restart: Restart,
}

/// What a restart would bring.
#[derive(Serialize)]
struct Restart {
    connections: u64,
    instances: u64,
    /// Connections per second in the fullest 100 ms so far.
    accept_rate: Option<Bounds>,
    seconds: Option<Bounds>,
}

#[derive(Serialize)]
struct Bounds {
    at_least: f64,
    at_most: Option<f64>,
}

#[derive(Serialize)]
struct Survey {
    age_seconds: f64,
    cpu_seconds: f64,
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
