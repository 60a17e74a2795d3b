//! `/api/v1/servers`: the inventory. Each server with its process, where it runs, what moves through it, and who hangs on
//! it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;
use crate::{
    kubernetes,
    metrics::rows,
    snapshot::{ClientSnapshot, Rate, ServerSnapshot},
    tenants::TenantRow,
    valkey::{MaxClients, ServerFacts},
    workloads::WorkloadRow,
};

/// Clients of a server that are named, those with the most connections; `/api/v1/clients` has them all.
const LARGEST_CLIENTS: usize = 10;

/// `/api/v1/servers`.
pub(super) fn json(report: &Report) -> serde_json::Result<Vec<u8>> {
    let servers = servers(report).collect();
    serde_json::to_vec(&Servers { servers })
}

/// The servers, with all that is shown of them.
pub(super) fn servers(report: &Report) -> impl Iterator<Item = Server<'_>> {
    let owners: BTreeMap<&str, &str> = report
        .tenant_infos
        .iter()
        .map(|info| (&*info.name, &*info.owner))
        .collect();
    let mut tenants: BTreeMap<&str, Vec<&TenantRow>> = BTreeMap::new();
    for row in &report.tenants {
        tenants.entry(&row.server).or_default().push(row);
    }
    report.snapshot.servers.iter().map(move |server| {
        let tenants = tenants.remove(&*server.label).unwrap_or_default();
        let workloads = report.workloads.servers.iter();
        let workloads = workloads
            .filter(|of| of.server == server.label)
            .flat_map(|of| &of.workloads);
        let radius = BlastRadius::new(server, &tenants, &owners, workloads);
        Server::new(server, radius)
    })
}

/// What is known of a server's process, as JSON.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process<'a> {
    /// Its name.
    process: &'a str,
    /// Its number, in the agent's namespace.
    pid: i32,
    /// Null: not known for certain.
    pub(super) version: Option<&'a str>,
    /// That it listens on.
    ports: Vec<u16>,
    /// Addresses with ports.
    listeners: Vec<String>,
    /// Path of its cgroup (version 2) below the mount.
    cgroup: Option<&'a str>,
    /// Null: in none that its cgroup names.
    container: Option<Container<'a>>,
    /// Null: in none that its cgroup names.
    pod: Option<Pod<'a>>,
    /// Since the process began.
    uptime_seconds: u64,
    /// `RLIMIT_NOFILE`; a null inside means unlimited.
    file_descriptors: Option<FileDescriptors>,
    /// What it was started with; null: nothing is named, or what names it could not be read.
    maxclients: Option<u64>,
    /// `command_line` or `config_file`.
    maxclients_source: Option<&'static str>,
    /// Most clients that `maxclients` and the descriptors allow.
    pub(super) clients_at_most: Option<u64>,
}

/// The container that a process runs in.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Container<'a> {
    /// As the runtime has it.
    id: &'a str,
    /// Null: the cgroup does not say.
    runtime: Option<&'static str>,
}

/// The pod that a process runs in.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Pod<'a> {
    /// Of Kubernetes.
    uid: &'a str,
    /// Its class of service; null: the cgroup does not say.
    qos: Option<&'static str>,
    #[serde(flatten)]
    known: KnownPod<'a>,
}

/// What the Kubernetes API server says of a pod; all null where it was not asked, or does not know the pod.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct KnownPod<'a> {
    /// Its namespace.
    namespace: Option<&'a str>,
    /// Its name.
    name: Option<&'a str>,
    /// What keeps it.
    owner: Option<Owner<'a>>,
    /// The node it runs on.
    node: Option<&'a str>,
    /// Its labels, of those in `kubernetes.labels`.
    labels: Option<BTreeMap<&'a str, &'a str>>,
}

/// What keeps a pod.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PodOwner"))]
struct Owner<'a> {
    /// `Deployment`, `StatefulSet`, ...; `Pod`: nothing keeps it.
    kind: &'a str,
    /// Its name.
    name: &'a str,
}

impl<'a> KnownPod<'a> {
    pub(super) fn new(pod: Option<&'a kubernetes::Pod>) -> Self {
        let Some(pod) = pod else { return Self::default() };
        let labels = pod.labels.iter().map(|(key, value)| (&**key, &**value));
        Self {
            namespace: Some(&pod.namespace),
            name: Some(&pod.name),
            owner: Some(Owner {
                kind: &pod.owner.kind,
                name: &pod.owner.name,
            }),
            node: pod.node.as_deref(),
            labels: Some(labels.collect()),
        }
    }
}

/// How many descriptors a process may have.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FileDescriptors {
    /// In force; null: unlimited.
    soft: Option<u64>,
    /// What it may raise it to; null: unlimited.
    hard: Option<u64>,
}

/// The servers of this host.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Servers<'a> {
    /// In the order of their labels.
    servers: Vec<Server<'a>>,
}

/// A server: all its listening sockets added up. Counters begin when the agent first sees it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Server<'a> {
    /// Its label: unique on this host, and the same after a restart.
    pub(super) server: &'a str,
    #[serde(flatten)]
    pub(super) process: Process<'a>,
    /// Connections open now.
    pub(super) connections: u64,
    /// Connections that began.
    pub(super) opened: u64,
    /// Connections that ended.
    closed: u64,
    /// Connections that wait to be accepted.
    pub(super) accept_queue: AcceptQueue,
    /// Addresses.
    clients: usize,
    /// Rows of prefixes, special ones such as (keyless) included.
    prefixes: usize,
    /// Commands that arrived whole.
    pub(super) commands: u64,
    /// Bytes of commands, attributed to prefixes.
    pub(super) bytes_in: u64,
    /// Bytes of replies and pushed messages, attributed to prefixes.
    pub(super) bytes_out: u64,
    /// Payload that could not be attributed; reasons that did not occur are left out.
    pub(super) unattributed: Vec<Unattributed>,
    /// All bytes; null during the first second.
    pub(super) bytes_per_second: Option<BytesPerSecond>,
    /// Who would notice a restart.
    blast_radius: BlastRadius<'a>,
}

/// Accept queues of a server's listening sockets, added up.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct AcceptQueue {
    /// Connections that wait.
    pub(super) length: u64,
    /// Connections that may wait: backlog or net.core.somaxconn, whichever is less.
    pub(super) limit: u64,
}

/// Payload that could not be attributed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Unattributed {
    /// `in` or `out`, as the server sees it.
    direction: &'static str,
    /// Why; METRICS.md explains each.
    reason: &'static str,
    /// How much.
    pub(super) bytes: u64,
}

/// Bytes per second.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BytesPerSecond {
    /// From clients.
    #[serde(rename = "in")]
    pub(super) bytes_in: f64,
    /// To clients.
    #[serde(rename = "out")]
    pub(super) bytes_out: f64,
    /// What they are the average of.
    over_seconds: f64,
}

/// Who would notice if this server restarted.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BlastRadius<'a> {
    /// That would come back.
    connections: u64,
    /// That they would come from.
    addresses: usize,
    /// Those with traffic since the agent watches, the largest first.
    tenants: Vec<Tenant<'a>>,
    /// Those with a connection, the largest first: of the configuration, and `(unassigned)`.
    workloads: Vec<Workload<'a>>,
    /// Clients with the most connections, the most first; at most 10.
    largest_clients: Vec<Client>,
}

/// A workload that uses a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "WorkloadOfServer"))]
struct Workload<'a> {
    /// Its name.
    workload: &'a str,
    /// Different client addresses that hold connections now.
    instances: u64,
    /// Connections open now.
    connections: u64,
    /// From 0 to 1.
    share_of_connections: f64,
}

/// A tenant that has used a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TenantOfServer"))]
struct Tenant<'a> {
    /// Its name.
    tenant: &'a str,
    /// Who answers for it; empty if nobody is named.
    owner: &'a str,
    /// Commands at this server.
    commands: u64,
    /// In and out.
    bytes: u64,
    /// Of all attributed bytes of this server; from 0 to 1.
    share_of_bytes: f64,
}

/// A client of a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ClientOfServer"))]
struct Client {
    /// IP address.
    client: String,
    /// Connections open now.
    connections: u64,
    /// From 0 to 1.
    share_of_connections: f64,
}

impl<'a> Process<'a> {
    /// Of these facts.
    #[must_use]
    pub fn new(facts: &'a ServerFacts) -> Self {
        let mut ports: Vec<u16> = facts.listeners.iter().map(std::net::SocketAddr::port).collect();
        ports.dedup();
        Self {
            process: &facts.process,
            pid: facts.pid,
            version: facts.version.as_deref(),
            ports,
            listeners: facts.listeners.iter().map(ToString::to_string).collect(),
            cgroup: facts.cgroup.as_deref(),
            container: facts.place.container.as_ref().map(|container| Container {
                id: &container.id,
                runtime: container.runtime.map(crate::valkey::Runtime::label),
            }),
            pod: facts.pod_uid().map(|uid| Pod {
                uid,
                qos: facts
                    .place
                    .pod
                    .as_ref()
                    .and_then(|pod| pod.qos)
                    .map(crate::valkey::Qos::label),
                known: KnownPod::new(facts.pod.as_deref()),
            }),
            uptime_seconds: facts.uptime_seconds as u64,
            file_descriptors: facts.descriptors.map(|limit| FileDescriptors {
                soft: limit.soft,
                hard: limit.hard,
            }),
            maxclients: facts.maxclients.map(|MaxClients { clients, .. }| clients),
            maxclients_source: facts.maxclients.map(|MaxClients { source, .. }| source.label()),
            clients_at_most: facts.clients_at_most(),
        }
    }
}

impl<'a> Server<'a> {
    fn new(server: &'a ServerSnapshot, blast_radius: BlastRadius<'a>) -> Self {
        let prefixes = rows::prefixes(server);
        let sum = |of: fn(&rows::PrefixSum) -> u64| prefixes.values().map(of).sum();
        let unattributed = server
            .unattributed
            .iter()
            .map(|(direction, reason, bytes)| Unattributed {
                direction: direction.label(),
                reason: reason.label(),
                bytes: *bytes,
            });
        Self {
            server: &server.label,
            process: Process::new(&server.facts),
            connections: server.connections,
            opened: server.opened,
            closed: server.closed,
            accept_queue: AcceptQueue {
                length: server.accept_queue.length,
                limit: server.accept_queue.limit,
            },
            clients: server.clients.len(),
            prefixes: prefixes.len(),
            commands: sum(|row| row.commands),
            bytes_in: sum(|row| row.bytes_in),
            bytes_out: sum(|row| row.bytes_out),
            unattributed: unattributed.collect(),
            bytes_per_second: server.rate.map(BytesPerSecond::new),
            blast_radius,
        }
    }
}

impl BytesPerSecond {
    /// To a byte and a tenth of a second: nothing below it means anything.
    fn new(rate: Rate) -> Self {
        Self {
            bytes_in: rate.in_per_second.round(),
            bytes_out: rate.out_per_second.round(),
            over_seconds: (rate.seconds * 10.0).round() / 10.0,
        }
    }
}

impl<'a> BlastRadius<'a> {
    fn new(
        server: &ServerSnapshot,
        tenants: &[&'a TenantRow],
        owners: &BTreeMap<&str, &'a str>,
        workloads: impl Iterator<Item = &'a WorkloadRow>,
    ) -> Self {
        let bytes = |row: &TenantRow| row.counters.bytes_in + row.counters.bytes_out;
        let all_bytes: u64 = tenants.iter().map(|row| bytes(row)).sum();
        let mut tenants: Vec<Tenant<'a>> = tenants
            .iter()
            .filter(|row| bytes(row) != 0)
            .map(|row| Tenant {
                tenant: &row.tenant,
                owner: owners.get(&*row.tenant).copied().unwrap_or_default(),
                commands: row.counters.commands(),
                bytes: bytes(row),
                share_of_bytes: share(bytes(row), all_bytes),
            })
            .collect();
        tenants.sort_by_key(|tenant| std::cmp::Reverse(tenant.bytes));

        let mut workloads: Vec<Workload<'a>> = workloads
            .filter(|row| row.connections != 0)
            .map(|row| Workload {
                workload: &row.workload,
                instances: row.instances,
                connections: row.connections,
                share_of_connections: share(row.connections, server.connections),
            })
            .collect();
        workloads.sort_by_key(|workload| std::cmp::Reverse(workload.connections));

        let known = server.clients.iter();
        let mut clients: Vec<&ClientSnapshot> = known
            .filter(|client| client.address.is_some() && client.connections != 0)
            .collect();
        let addresses = clients.len();
        clients.sort_by_key(|client| std::cmp::Reverse(client.connections));
        let largest_clients = clients
            .into_iter()
            .take(LARGEST_CLIENTS)
            .map(|client| Client {
                client: rows::client_name(client.address),
                connections: client.connections,
                share_of_connections: share(client.connections, server.connections),
            })
            .collect();
        Self {
            connections: server.connections,
            addresses,
            tenants,
            workloads,
            largest_clients,
        }
    }
}

/// To four decimals.
fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        return 0.0;
    }
    (part as f64 / of as f64 * 1e4).round() / 1e4
}
