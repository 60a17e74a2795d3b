//! The report as JSON: names are an interface of their own, so that the snapshot can change without its readers noticing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use agent_common::abi::PrefixCounters;
use serde::Serialize;

use super::Report;
use crate::metrics::{distributions::Quantiles, rows};

/// `/api/v1/tenants`: every tenant of the configuration, whether it was seen or not, then `(other)` and `(unassigned)`.
pub(super) fn tenants(report: &Report) -> serde_json::Result<Vec<u8>> {
    let mut by_tenant = rows::by_tenant(report);
    let tenants = report.tenant_infos.iter().map(|info| {
        let rows = by_tenant.remove(&*info.name).unwrap_or_default();
        let mut sum = PrefixCounters::default();
        for row in &rows {
            sum.add(&row.counters);
        }
        let servers = rows.into_iter().map(|row| TenantServer {
            server: &row.server,
            traffic: Traffic::new(&row.counters),
            details: Details::new(&row.counters),
        });
        Tenant {
            tenant: &info.name,
            owner: &info.owner,
            labels: &info.labels,
            traffic: Traffic::new(&sum),
            details: Details::new(&sum),
            servers: servers.collect(),
        }
    });
    serde_json::to_vec(&Tenants {
        tenants: tenants.collect(),
    })
}

/// `/api/v1/clients`.
pub(super) fn clients(report: &Report) -> serde_json::Result<Vec<u8>> {
    let clients = report.snapshot.servers.iter().flat_map(|server| {
        rows::clients(server).into_iter().map(|(address, sum)| Client {
            server: &server.label,
            client: rows::client_name(address),
            connections: sum.connections,
            opened: sum.opened,
        })
    });
    serde_json::to_vec(&Clients {
        clients: clients.collect(),
    })
}

#[derive(Serialize)]
struct Tenants<'a> {
    tenants: Vec<Tenant<'a>>,
}

#[derive(Serialize)]
struct Tenant<'a> {
    tenant: &'a str,
    owner: &'a str,
    labels: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    traffic: Traffic,
    #[serde(flatten)]
    details: Details,
    servers: Vec<TenantServer<'a>>,
}

#[derive(Serialize)]
struct TenantServer<'a> {
    server: &'a str,
    #[serde(flatten)]
    traffic: Traffic,
    #[serde(flatten)]
    details: Details,
}

/// What is known of a tenant beside its traffic. Distributions are null as long as nothing is in them.
#[derive(Serialize)]
struct Details {
    /// Answered commands: seconds, by the middle of a fine bucket.
    duration_seconds: Option<Distribution<f64>>,
    /// Commands: bytes, by the upper bound of a bucket.
    request_bytes: Option<Distribution<u64>>,
    /// Replies and pushed messages, likewise.
    reply_bytes: Option<Distribution<u64>>,
    /// Error replies by word; those that occurred.
    errors: BTreeMap<&'static str, u64>,
    /// Values that reads found.
    hits: u64,
    /// Values that reads did not find.
    misses: u64,
}

#[derive(Serialize)]
struct Distribution<T> {
    count: u64,
    p50: T,
    p90: T,
    p99: T,
    p999: T,
}

#[derive(Serialize)]
struct Clients<'a> {
    clients: Vec<Client<'a>>,
}

#[derive(Serialize)]
struct Client<'a> {
    server: &'a str,
    client: Cow<'static, str>,
    connections: u64,
    opened: u64,
}

#[derive(Serialize)]
struct Traffic {
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Traffic {
    fn new(counters: &PrefixCounters) -> Self {
        Self {
            commands: counters.commands(),
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
        }
    }
}

impl Details {
    fn new(counters: &PrefixCounters) -> Self {
        Self {
            duration_seconds: Distribution::new(&counters.durations, Quantiles::durations),
            request_bytes: Distribution::new(&counters.request_sizes, Quantiles::sizes),
            reply_bytes: Distribution::new(&counters.reply_sizes, Quantiles::sizes),
            errors: rows::errors(counters)
                .map(|(word, count)| (word.label(), count))
                .collect(),
            hits: counters.hits,
            misses: counters.misses,
        }
    }
}

impl<T> Distribution<T> {
    fn new<const CELLS: usize>(
        cells: &[u64; CELLS],
        quantiles: fn(&[u64; CELLS]) -> Option<Quantiles<T>>,
    ) -> Option<Self> {
        quantiles(cells).map(|Quantiles { p50, p90, p99, p999 }| Self {
            count: cells.iter().sum(),
            p50,
            p90,
            p99,
            p999,
        })
    }
}
