//! The report as JSON: names are an interface of their own, so that the snapshot can change without its readers noticing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use agent_common::abi::PrefixCounters;
use serde::{Deserialize, Serialize};

use super::Report;
use super::inventory::KnownPod;
use crate::metrics::{distributions::Quantiles, rows};
use crate::tenants::{UNASSIGNED, row_name};

/// What of the tenants is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TenantsQuery {
    /// The label of the only server that counts; without it, all do.
    pub(super) server: Option<String>,
    /// How many of the prefixes that no rule matches are named.
    pub(super) prefixes: usize,
}

impl Default for TenantsQuery {
    fn default() -> Self {
        Self {
            server: None,
            // So many a person reads; each host has up to 4,096.
            prefixes: 20,
        }
    }
}

/// What of the clients is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClientsQuery {
    /// The label of the only server that counts; without it, all do.
    pub(super) server: Option<String>,
}

impl ClientsQuery {
    /// Whether this server counts.
    pub(super) fn wants(&self, label: &str) -> bool {
        self.server.as_ref().is_none_or(|server| server == label)
    }
}

/// `/api/v1/tenants`: every tenant of the configuration, whether it was seen or not, then `(other)` and `(unassigned)`.
pub(super) fn json(report: &Report, query: &TenantsQuery) -> serde_json::Result<Vec<u8>> {
    let tenants = tenants(report, query).collect();
    serde_json::to_vec(&Tenants { tenants })
}

/// The tenants, with all that is shown of them.
pub(super) fn tenants<'a>(report: &'a Report, query: &'a TenantsQuery) -> impl Iterator<Item = Tenant<'a>> {
    let wanted = |label: &str| query.server.as_ref().is_none_or(|server| server == label);
    let mut by_tenant = rows::by_tenant(report);
    report.tenant_infos.iter().map(move |info| {
        let mut rows = by_tenant.remove(&*info.name).unwrap_or_default();
        rows.retain(|row| wanted(&row.server));
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
            disagreements: disagreements(report, &info.name, wanted),
            unassigned: (info.name == UNASSIGNED).then(|| UnassignedPrefixes::new(report, query)),
        }
    })
}

/// `/api/v1/clients`.
pub(super) fn clients(report: &Report, query: &ClientsQuery) -> serde_json::Result<Vec<u8>> {
    let servers = report.snapshot.servers.iter();
    let wanted = servers.filter(|server| query.wants(&server.label));
    let clients = wanted.flat_map(|server| {
        server.clients.iter().map(|client| Client {
            server: &server.label,
            client: rows::client_name(client.address),
            pod: client
                .address
                .and_then(|address| report.pods.get(&address))
                .map(|pod| KnownPod::new(Some(pod))),
            connections: client.connections,
            opened: client.opened,
        })
    });
    serde_json::to_vec(&Clients {
        clients: clients.collect(),
    })
}

/// The tenants.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Tenants<'a> {
    /// In the order of the configuration, seen or not; then (other) and (unassigned).
    tenants: Vec<Tenant<'a>>,
}

/// A tenant: the sums of the prefixes that its rules match, over the servers asked for.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Tenant<'a> {
    /// Its name; (other): all tenants beyond `limits.tenants`; (unassigned): what no rule matches.
    pub(super) tenant: &'a str,
    /// Who answers for it; empty if nobody is named.
    pub(super) owner: &'a str,
    /// Free labels of the configuration.
    labels: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
    #[serde(flatten)]
    pub(super) details: Details,
    /// The same per server that has seen it.
    servers: Vec<TenantServer<'a>>,
    /// How much of it came on connections that are another tenant's by user, client name or address.
    disagreements: Vec<DisagreeingTenant>,
    /// Only at (unassigned): what a rule is missing for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unassigned: Option<UnassignedPrefixes>,
}

/// Another tenant whose connections used prefixes of this one, over the servers asked for.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DisagreeingTenant {
    /// Whose the connections are.
    connection_tenant: String,
    #[serde(flatten)]
    traffic: Traffic,
}

/// A tenant at one server.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TenantServer<'a> {
    /// Label of the server.
    server: &'a str,
    #[serde(flatten)]
    traffic: Traffic,
    #[serde(flatten)]
    details: Details,
}

/// Prefixes that no rule matches.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct UnassignedPrefixes {
    /// How many there are, special rows included. Those that have moved nothing are left out.
    pub(super) count: usize,
    /// Whether they are shown as keyed hashes (`keys.hash_prefixes`): no rule can be written of these.
    pub(super) hashed: bool,
    /// Those with the most bytes, the most first: 20, or as many as `prefixes` asks for.
    pub(super) prefixes: Vec<UnassignedPrefix>,
}

/// A prefix that no rule matches, over the servers asked for.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct UnassignedPrefix {
    /// As a rule has to be written: bytes that are no text as `\xNN`. If they are hashed: `#` and 16 hexadecimal digits.
    pub(super) prefix: String,
    /// Whether it is one of the special rows, such as (none) for keys without prefix: no glob matches those.
    special: bool,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
}

/// What is known of a tenant beside its traffic. Distributions are null as long as nothing is in them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Details {
    /// Answered commands: seconds from arrival to the departure of the reply.
    pub(super) duration_seconds: Option<Distribution<f64>>,
    /// Commands: bytes, by the upper bound of a bucket.
    request_bytes: Option<Distribution<u64>>,
    /// Replies and pushed messages, likewise.
    pub(super) reply_bytes: Option<Distribution<u64>>,
    /// Error replies by word; those that occurred.
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// Values that reads found.
    hits: u64,
    /// Values that reads did not find.
    misses: u64,
    /// Hits among hits and misses, 0 to 1; null before the first read.
    pub(super) hit_ratio: Option<f64>,
}

/// A distribution by its quantiles: so many of all values are at most so large.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Distribution_of_{T}"))]
pub(super) struct Distribution<T> {
    /// Values in it.
    count: u64,
    /// Half of them.
    pub(super) p50: T,
    /// 90 %.
    p90: T,
    /// 99 %.
    pub(super) p99: T,
    /// 99.9 %.
    p999: T,
}

/// Other tenants whose connections used prefixes of this one, those with the most bytes first.
fn disagreements(report: &Report, tenant: &str, wanted: impl Fn(&str) -> bool) -> Vec<DisagreeingTenant> {
    let mut sums: BTreeMap<&str, Traffic> = BTreeMap::new();
    let rows = report.disagreements.iter();
    for row in rows.filter(|row| row.tenant == tenant && wanted(&row.server)) {
        let sum = sums.entry(&row.connection_tenant).or_default();
        *sum = sum.plus(Traffic {
            commands: row.commands,
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
        });
    }
    let mut tenants: Vec<_> = sums
        .into_iter()
        .map(|(connection_tenant, traffic)| DisagreeingTenant {
            connection_tenant: connection_tenant.to_owned(),
            traffic,
        })
        .collect();
    tenants.sort_by_key(|other| std::cmp::Reverse(other.traffic.bytes_in + other.traffic.bytes_out));
    tenants
}

/// The clients.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Clients<'a> {
    /// In the order of servers, then of addresses.
    clients: Vec<Client<'a>>,
}

/// A client address at a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Client<'a> {
    /// Label of the server.
    server: &'a str,
    /// IP address; (other): all beyond `limits.clients`.
    client: String,
    /// The pod that has the address now; null: none that is known.
    pod: Option<KnownPod<'a>>,
    /// Connections open now.
    connections: u64,
    /// Connections that began.
    opened: u64,
}

/// Commands and their bytes.
#[derive(Clone, Copy, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Traffic {
    /// Commands that arrived whole.
    pub(super) commands: u64,
    /// Bytes of commands.
    pub(super) bytes_in: u64,
    /// Bytes of replies and of pushed messages.
    pub(super) bytes_out: u64,
}

impl Traffic {
    fn new(counters: &PrefixCounters) -> Self {
        Self {
            commands: counters.commands(),
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
        }
    }

    pub(super) fn is_nothing(self) -> bool {
        (self.commands, self.bytes_in, self.bytes_out) == (0, 0, 0)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            commands: self.commands + other.commands,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
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
            hit_ratio: hit_ratio(counters.hits, counters.misses),
        }
    }
}

fn hit_ratio(hits: u64, misses: u64) -> Option<f64> {
    let reads = hits + misses;
    (reads != 0).then(|| hits as f64 / reads as f64)
}

impl UnassignedPrefixes {
    /// Equal prefixes of several servers become one.
    fn new(report: &Report, query: &TenantsQuery) -> Self {
        let mut sums: BTreeMap<Cow<'_, str>, (bool, Traffic)> = BTreeMap::new();
        for at in &report.unassigned {
            let Some(server) = report.snapshot.servers.get(at.server) else {
                continue;
            };
            let Some(row) = server.prefixes.get(at.prefix) else {
                continue;
            };
            if query.server.as_ref().is_none_or(|wanted| *wanted == server.label) {
                let (special, sum) = sums.entry(row_name(row)).or_default();
                (*special, *sum) = (row.special, sum.plus(Traffic::new(&row.counters)));
            }
        }
        let mut prefixes: Vec<_> = sums
            .into_iter()
            .filter(|(_, (_, sum))| !sum.is_nothing())
            .collect();
        let count = prefixes.len();
        prefixes.sort_by_key(|(_, (_, sum))| std::cmp::Reverse(sum.bytes_in + sum.bytes_out));
        prefixes.truncate(query.prefixes);
        let named = prefixes
            .into_iter()
            .map(|(prefix, (special, traffic))| UnassignedPrefix {
                prefix: prefix.into_owned(),
                special,
                traffic,
            });
        Self {
            count,
            hashed: report.prefixes_hashed,
            prefixes: named.collect(),
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
