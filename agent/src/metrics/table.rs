//! THE table of metrics. A metric that is not here cannot be exported; docs/METRICS.md is written from here.

use std::fmt::Write as _;

use agent_common::abi::{ErrorWord, Reason};

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Full name, `_total` included.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What is counted: a base unit, or the things themselves. `1` for constants that only carry labels, and for yes or no.
    pub unit: &'static str,
    /// Names of the labels, in the order in which samples give them.
    pub labels: &'static [&'static str],
    /// Most series there can be, and why.
    pub bound: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
}

/// Kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the agent restarts.
    Counter,
    /// The value now.
    Gauge,
    /// Counts by size, cumulative.
    Histogram,
}

impl Kind {
    /// As the text formats call it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Declares each metric as a static and lists them all.
macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal in $unit:literal by [$($label:literal),*], at most $bound:literal: $help:literal;)+) => {
        $(
            #[doc = $help]
            pub static $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                bound: $bound,
                help: $help,
            };
        )+

        /// Every metric, in the order of a scrape.
        pub static ALL: &[&Metric] = &[$(&$id),+];
    };
}

metrics! {
    SERVER_INFO = Gauge "stormglass_server_info" in "1" by ["server", "process", "version", "container", "runtime", "pod_uid", "namespace", "pod", "pod_owner"],
        at most "servers":
        "Always 1: what runs there and where, to be joined on the label server; a label is empty where nothing is known.";
    SERVER_UPTIME = Gauge "stormglass_server_uptime_seconds" in "seconds" by ["server"],
        at most "servers":
        "Time since the server's process started; falls when it has restarted.";
    SERVER_CLIENTS_LIMIT = Gauge "stormglass_server_clients_limit" in "clients" by ["server"],
        at most "servers":
        "Most clients that the server takes: what its file descriptors allow, and maxclients where that is known; no sample without a limit.";
    CONNECTIONS = Gauge "stormglass_connections" in "connections" by ["server"],
        at most "servers":
        "Client connections established now, those from before the agent included.";
    CONNECTIONS_OPENED = Counter "stormglass_connections_opened_total" in "connections" by ["server"],
        at most "servers":
        "Client connections established since the agent watches the server.";
    CONNECTIONS_CLOSED = Counter "stormglass_connections_closed_total" in "connections" by ["server"],
        at most "servers":
        "Client connections that ended since the agent watches the server.";
    CONNECTIONS_CLOSED_WAITING = Counter "stormglass_connections_closed_waiting_total" in "connections" by ["server"],
        at most "servers":
        "Client connections that the client closed, or that were reset, while a command waited for its reply: clients give up, or the server died. Commands that may wait for others (BLPOP) do not count.";
    CONNECTIONS_CLOSED_WITHOUT_COMMAND = Counter "stormglass_connections_closed_without_command_total" in "connections" by ["server"],
        at most "servers":
        "Client connections, read from their first byte to their last, that ended without a command that has a key or a channel.";
    CONNECTIONS_REJECTED = Counter "stormglass_connections_rejected_total" in "connections" by ["server"],
        at most "servers":
        "Client connections that the server refused because it had as many as it takes (maxclients).";
    CONNECTION_LIFETIME = Histogram "stormglass_connection_lifetime_seconds" in "seconds" by ["server"],
        at most "servers x 18 (16 buckets, sum and count)":
        "How long client connections lived that have ended, those from before the agent left out.";
    CONNECTIONS_IDLE = Gauge "stormglass_connections_idle" in "connections" by ["server"],
        at most "servers":
        "Client connections without data in either direction for clients.idle_after_seconds, by the last survey.";
    ACCEPT_BURST = Histogram "stormglass_accept_burst_connections" in "connections" by ["server"],
        at most "servers x 18 (16 buckets, sum and count)":
        "New connections per window of 100 ms, windows without any left out: shows bursts between two scrapes.";
    CLIENT_CONNECTIONS = Gauge "stormglass_client_connections" in "connections" by ["server", "client"],
        at most "limits.clients + servers":
        "Connections established now, per client address; beyond limits.clients in (other).";
    CLIENT_CONNECTIONS_OPENED = Counter "stormglass_client_connections_opened_total" in "connections" by ["server", "client"],
        at most "limits.clients + servers":
        "Connections established since the agent watches the server, per client address; beyond limits.clients in (other).";
    WORKLOAD_CONNECTIONS = Gauge "stormglass_workload_connections" in "connections" by ["server", "workload"],
        at most "servers x (limits.workloads + 2)":
        "Connections established now, per workload: all of them together are stormglass_connections.";
    WORKLOAD_INSTANCES = Gauge "stormglass_workload_instances" in "instances" by ["server", "workload"],
        at most "servers x (limits.workloads + 2)":
        "Addresses of the workload that have a connection now; in (other) those that are known.";
    WORKLOAD_CONNECTIONS_OPENED = Counter "stormglass_workload_connections_opened_total" in "connections" by ["server", "workload"],
        at most "servers x (limits.workloads + 2)":
        "Connections established since the agent watches the server, per workload.";
    WORKLOAD_CONNECTIONS_IDLE = Gauge "stormglass_workload_connections_idle" in "connections" by ["server", "workload"],
        at most "servers x (limits.workloads + 2)":
        "Connections without data in either direction for clients.idle_after_seconds, by the last survey.";
    WORKLOAD_SOCKET_MEMORY = Gauge "stormglass_workload_socket_memory_bytes" in "bytes" by ["server", "workload"],
        at most "servers x (limits.workloads + 2)":
        "Kernel memory of the server's ends of the connections, by the last survey: sockets, their files, and what their buffers hold.";
    SURVEY_AGE = Gauge "stormglass_survey_age_seconds" in "seconds" by [],
        at most "1":
        "How long ago the last survey of the connections was.";
    SURVEY_INTERVAL = Gauge "stormglass_survey_interval_seconds" in "seconds" by [],
        at most "1":
        "How long after the last survey the next one comes at the earliest: clients.survey_seconds, or what half a percent of a core allows.";
    LIBRARY_CONNECTIONS = Gauge "stormglass_library_connections" in "connections" by ["server", "library", "version"],
        at most "servers x (limits.libraries + 1), (other) included":
        "Connections established now, by client library and version as the clients name them (CLIENT SETINFO); (none): the client named none, (unknown): before the agent.";
    LIBRARY_OPENED = Counter "stormglass_library_connections_opened_total" in "connections" by ["server", "library", "version"],
        at most "servers x (limits.libraries + 1), (other) included":
        "Connections opened, by client library and version; each counts once it asked for data, lived two seconds, or ended. (none): the client named none.";
    USER_CONNECTIONS = Gauge "stormglass_user_connections" in "connections" by ["server", "user"],
        at most "servers x 1025 (1024 and (other))":
        "Connections established now, by ACL user; (unknown): the user was named before the agent.";
    ACCEPT_QUEUE_LENGTH = Gauge "stormglass_accept_queue_length" in "connections" by ["server"],
        at most "servers":
        "Connections that wait for the server to accept them, over its listening sockets.";
    ACCEPT_QUEUE_LIMIT = Gauge "stormglass_accept_queue_limit" in "connections" by ["server"],
        at most "servers":
        "Connections that may wait: min(backlog, net.core.somaxconn), over the server's listening sockets.";
    ACCEPT_QUEUE_DROPS = Counter "stormglass_accept_queue_drops_total" in "connections" by ["server"],
        at most "servers":
        "Connection attempts that the kernel turned away at the server's listening sockets: the accept queue was full, or there was no memory; an attempt that is repeated counts again.";
    LINK = Gauge "stormglass_link_bytes_per_second" in "bytes per second" by ["server"],
        at most "servers":
        "What the link carries in one direction, as bandwidth_saturation has it: storms.bandwidth_saturation.bytes_per_second, else the speed that the fastest physical link of the host states; no sample where neither is known.";
    TENANT_BYTES = Counter "stormglass_tenant_bytes_total" in "bytes" by ["server", "tenant", "direction"],
        at most "servers x (limits.tenants + 2) x 2":
        "RESP bytes of the tenant's commands (in) and of their replies (out), headers included.";
    TENANT_COMMANDS = Counter "stormglass_tenant_commands_total" in "commands" by ["server", "tenant"],
        at most "servers x (limits.tenants + 2)":
        "Commands received from the tenant.";
    TENANT_REQUEST_DURATION = Histogram "stormglass_tenant_request_duration_seconds" in "seconds" by ["server", "tenant"],
        at most "servers x (limits.tenants + 2) x 25 (23 buckets, sum and count)":
        "Time from the arrival of a command's last header at the host to the departure of its reply; commands that wait for others (BLPOP, XREAD BLOCK, WAIT) left out.";
    TENANT_REQUEST_BYTES = Histogram "stormglass_tenant_request_bytes" in "bytes" by ["server", "tenant"],
        at most "servers x (limits.tenants + 2) x 15 (13 buckets, sum and count)":
        "RESP bytes per command, headers included; the sum is all bytes in, those of a command still on its way before it is counted.";
    TENANT_REPLY_BYTES = Histogram "stormglass_tenant_reply_bytes" in "bytes" by ["server", "tenant"],
        at most "servers x (limits.tenants + 2) x 15 (13 buckets, sum and count)":
        "RESP bytes per reply or pushed message, headers included; the sum is all bytes out, those of a reply still on its way before it is counted.";
    TENANT_ERRORS = Counter "stormglass_tenant_errors_total" in "errors" by ["server", "tenant", "error"],
        at most "servers x (limits.tenants + 2) x 32 error words":
        "Error replies by their first word, those inside arrays (EXEC) included; only words that occurred.";
    TENANT_READS = Counter "stormglass_tenant_reads_total" in "values" by ["server", "tenant", "result"],
        at most "servers x (limits.tenants + 2) x 2":
        "Values that reads (GET, GETDEL, GETEX, MGET, HGET, HMGET, LINDEX, ZSCORE, ZMSCORE) found, and did not find.";
    TENANT_DISAGREEMENT_BYTES = Counter "stormglass_tenant_disagreement_bytes_total" in "bytes" by ["server", "tenant", "connection_tenant", "direction"],
        at most "servers x 1025 pairs x 2":
        "RESP bytes below a prefix of the tenant, part of its stormglass_tenant_bytes_total, on connections that are another tenant's by user, client name or address; only pairs that occurred.";
    TENANT_DISAGREEMENT_COMMANDS = Counter "stormglass_tenant_disagreement_commands_total" in "commands" by ["server", "tenant", "connection_tenant"],
        at most "servers x 1025 pairs":
        "Commands of which the same is true.";
    TENANT_INFO = Gauge "stormglass_tenant_info" in "1" by ["tenant", "owner"],
        at most "limits.tenants + 2":
        "Always 1: who answers for the tenant, to be joined on the label tenant.";
    PREFIX_BYTES = Counter "stormglass_prefix_bytes_total" in "bytes" by ["server", "prefix", "direction"],
        at most "(limits.prefixes + servers x 5 special rows) x 2":
        "RESP bytes of commands (in) and of their replies (out), by the prefix of the command's first key.";
    PREFIX_COMMANDS = Counter "stormglass_prefix_commands_total" in "commands" by ["server", "prefix"],
        at most "limits.prefixes + servers x 5 special rows":
        "Commands received, by the prefix of their first key.";
    UNATTRIBUTED_BYTES = Counter "stormglass_unattributed_bytes_total" in "bytes" by ["server", "direction", "reason"],
        at most "servers x 2 x reasons":
        "Payload bytes that could not be attributed to a prefix: with them, the prefix rows add up to all bytes.";
    STORM_ACTIVE = Gauge "stormglass_storm_active" in "1" by ["server", "kind"],
        at most "servers x 10 kinds":
        "1 while a storm of this kind goes on at the server, else 0.";
    STORMS = Counter "stormglass_storms_total" in "storms" by ["server", "kind"],
        at most "servers x 10 kinds":
        "Storms found; one with several kinds counts for each of them.";
    ALERTS_SENT = Counter "stormglass_alerts_sent_total" in "requests" by ["sink", "receiver"],
        at most "receivers":
        "Requests that a receiver of alerts has taken; Alertmanager is sent alerts that go on again and again.";
    ALERTS_FAILED = Counter "stormglass_alerts_failed_total" in "requests" by ["sink", "receiver", "reason"],
        at most "receivers x 6 reasons":
        "Attempts to tell a receiver of alerts that failed: credentials (cannot be read here), unreachable, timeout, broken, refused, status (any other answer). They are repeated, unless it was refused.";
    ALERTS_DROPPED = Counter "stormglass_alerts_dropped_total" in "alerts" by ["sink", "receiver", "reason"],
        at most "receivers x 4 reasons":
        "What a receiver will never be told: queue_full, refused, too_old (a day), receiver_removed (from the configuration).";
    ALERTS_QUEUED = Gauge "stormglass_alerts_queued" in "alerts" by ["sink", "receiver"],
        at most "receivers":
        "What a receiver is still to be told.";
    ALERTS_JOURNAL_ERRORS = Counter "stormglass_alerts_journal_errors_total" in "errors" by [],
        at most "1":
        "Times that the journal of alerts could not be written, or lines of it were damaged: alerts may be lost or told twice at a restart.";
    ANNOUNCED_RESTARTS = Gauge "stormglass_announced_restarts" in "announcements" by [],
        at most "1":
        "Restarts announced by stormglass expect-restart that are good now.";
    INCIDENTS = Gauge "stormglass_incidents" in "incidents" by [],
        at most "1":
        "Incidents in the folder.";
    INCIDENTS_BYTES = Gauge "stormglass_incidents_bytes" in "bytes" by [],
        at most "1":
        "Bytes of the incidents in the folder.";
    INCIDENTS_LOST = Counter "stormglass_incidents_lost_pieces_total" in "pieces" by ["reason"],
        at most "2 reasons":
        "Pieces of incidents that were not written: queue_full (the disk was too slow), error (the log says which).";
    PROCESS_CPU_SECONDS = Counter "process_cpu_seconds_total" in "seconds" by [],
        at most "1":
        "CPU time of the agent's process, in user and in kernel mode; what its kernel programs take is not in it.";
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" in "bytes" by [],
        at most "1":
        "Memory that the agent's process holds; that of its kernel maps is not in it.";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" in "seconds" by [],
        at most "1":
        "When the agent's process started, since 1970 began.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" in "descriptors" by [],
        at most "1":
        "File descriptors that the agent's process has open.";
    BPF_RUN_SECONDS = Counter "stormglass_bpf_program_run_seconds_total" in "seconds" by ["program"],
        at most "kernel programs":
        "Time spent in the kernel program; grows only while kernel.bpf_stats_enabled is set.";
    BPF_RUNS = Counter "stormglass_bpf_program_runs_total" in "runs" by ["program"],
        at most "kernel programs":
        "Runs of the kernel program; grows only while kernel.bpf_stats_enabled is set.";
    MAP_ENTRIES = Gauge "stormglass_map_entries" in "entries" by ["map"],
        at most "kernel maps":
        "Entries in use in the kernel map.";
    MAP_CAPACITY = Gauge "stormglass_map_capacity" in "entries" by ["map"],
        at most "kernel maps":
        "Entries that the kernel map can hold.";
    DROPPED = Counter "stormglass_dropped_total" in "events" by ["reason"],
        at most "reasons":
        "What the agent lost or could not record, by reason; zero on a healthy host.";
    CONFIG_LAST_RELOAD_SUCCESSFUL = Gauge "stormglass_config_last_reload_successful" in "1" by [],
        at most "1":
        "1 while the configuration file as it was last read is in force, 0 while a newer one is refused.";
    CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP = Gauge "stormglass_config_last_reload_success_timestamp_seconds" in "seconds" by [],
        at most "1":
        "When the configuration in force was read, since 1970 began.";
    CONFIG_RELOADS = Counter "stormglass_config_reloads_total" in "reloads" by ["result"],
        at most "2":
        "Times that the configuration file was read again, because it had changed or by SIGHUP; the start of the agent is none.";
    CONFIG_RESTART_REQUIRED = Gauge "stormglass_config_restart_required" in "1" by ["key"],
        at most "3 keys":
        "1 while the file in force has another value for the key than the agent runs with: it waits for a restart.";
    KUBERNETES_CONNECTED = Gauge "stormglass_kubernetes_connected" in "1" by [],
        at most "1":
        "1 while pods are watched, 0 while the Kubernetes API server does not let the agent; no sample where pods are not asked for.";
    KUBERNETES_PODS = Gauge "stormglass_kubernetes_pods" in "pods" by [],
        at most "1":
        "Pods that are known, whether or not the API server can be reached.";
    KUBERNETES_PODS_REFUSED = Counter "stormglass_kubernetes_pods_refused_total" in "pods" by [],
        at most "1":
        "Times that a pod of another node was told of and not remembered, because 32,768 are.";
    KUBERNETES_SILENCE = Gauge "stormglass_kubernetes_silence_seconds" in "seconds" by [],
        at most "1":
        "Since the API server last sent an answer or a change of a pod: while connected some 290 s at most, as a watch is begun anew by then.";
    KUBERNETES_WATCH_RESTARTS = Counter "stormglass_kubernetes_watch_restarts_total" in "restarts" by ["reason"],
        at most "9":
        "Times that the watch of pods had to begin again, or could not begin.";
    BUILD_INFO = Gauge "stormglass_build_info" in "1" by ["version", "commit"],
        at most "1":
        "Always 1: which build this is.";
}

/// docs/METRICS.md.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            metric.name,
            metric.kind.label(),
            metric.unit,
            labels.join(", "),
            metric.bound,
            metric.help,
        );
    }
    let words = ErrorWord::ALL
        .iter()
        .skip(1)
        .map(|word| format!("`{}`", word.label()));
    let words: Vec<_> = words.collect();
    page.push_str(&LABELS.replace("ERROR_WORDS", &words.join(", ")));
    page.push_str(HISTOGRAMS);
    page.push_str(REASONS);
    for reason in Reason::ALL {
        _ = writeln!(page, "| `{}` | {} |", reason.label(), reason.meaning().trim());
    }
    page
}

const HEAD: &str = "\
# Metrics

Written from the table in agent/src/metrics/table.rs; do not edit. After a change of the table:
`STORMGLASS_BLESS=1 cargo test -p stormglass metrics`.

Counters start at zero when the agent starts, or when it first sees the server. A reload of the configuration changes no count:
what tenants had stays with them, what comes later goes by the new rules. A sample that does not exist yet is left
out, except that every server has its connection metrics and `stormglass_unattributed_bytes_total{reason=\"mid_stream\"}`
from the first scrape; what only a survey of the connections knows comes with the first survey.

`process_*` are of the agent's own process, under the names that client libraries of Prometheus share: choose them by their job,
since other targets have them as well.

| metric | kind | unit | labels | series at most | what it says |
|---|---|---|---|---|---|
";

const LABELS: &str = "
## Labels

| label | values |
|---|---|
| `server` | one Valkey or Redis server of this host, `namespace/pod:port` where the pod was known when the server was found, else `process:port`; unique, and the same after a restart of the server |
| `client` | the client's address; `(other)` beyond `limits.clients` |
| `workload` | a workload of the configuration; `(unassigned)`: no rule has the client's address; `(other)`: beyond `limits.workloads`, or of an address that the kernel did not keep (`limits.clients`) |
| `prefix` | the key's bytes before the delimiter, inside a hash tag the key begins with (`keys.hash_tags`); of a key without delimiter the longest declared prefix (from a rule such as `cart-*`: `cart-`). Bytes that are not UTF-8, control characters and backslashes as `\\xNN`. `(none)`: a key without delimiter and declared prefix, or with a prefix that is empty or longer than `keys.max_prefix_bytes`; `(keyless)`: a command without key; `(pubsub)`: channel traffic; `(replication)`: replica links; `(other)`: beyond `limits.prefixes`. An ordinary prefix in parentheses begins with `\\x28`. With `keys.hash_prefixes` all but the rows in parentheses are `#` and 16 hexadecimal digits: `stormglass hash-prefix` |
| `tenant` | by prefix, else by user, client name or address of the connection: a tenant of the configuration, or one that a reload took out of it, which keeps its row while `limits.tenants` leaves room; `(unassigned)`: no rule matched; `(other)`: beyond `limits.tenants`, and what tenants had whose row went |
| `connection_tenant` | whose the connection is by its user, client name or address, where the prefix is another tenant's; both are `(other)` beyond 1024 pairs at a server |
| `process`, `version` | the name that the process goes by, and the version in its executable; empty if it cannot be told for certain |
| `container`, `runtime`, `pod_uid` | of the container and pod that the process runs in, by its cgroup; empty on a plain host |
| `namespace`, `pod`, `pod_owner` | the pod that the server runs in and what keeps it (`StatefulSet/cache`), by the Kubernetes API server; empty where it is not asked or does not know |
| `owner` | the tenant's owner; empty if none is named |
| `direction` | `in`: from clients to the server; `out`: the replies |
| `error` | the first word of an error reply, if it is one that Valkey 9.1 itself sends (ERROR_WORDS); `other`: any other, as scripts and modules send |
| `result` | `hit`: a read found a value; `miss`: it was answered nil. Of a reload `applied`: the file is in force; `refused`: it is not |
| `reason` | of a watch of pods `configuration`: where the API server is, or the agent's token, could not be read; `unreachable`: no connection; `disconnected`: it broke; `expired`: 410, all pods are listed anew; `unauthorized`, `forbidden`, `too_many_requests`: 401, 403, 429; `refused`: another error; `unreadable`: no sense in the answer. Of lost events and bytes: see below, and what `stormglass doctor` says |
| `key` | a key of the configuration that only a restart can change: `http.listen`, `limits.prefixes`, `limits.clients` |
| `program`, `map` | names as `bpftool` shows them |
";

const HISTOGRAMS: &str = "
## Histograms and ratios

Every bound is the end of a bucket of the kernel's, so nothing is interpolated or moved.

`stormglass_tenant_request_duration_seconds`: bounds are the powers of two from 16.384 us to 34 s. The kernel counts units of
256 ns and holds a duration shorter than the bound; one of exactly the bound is in the next bucket. A command that arrived
whole in several segments is measured from its last header, a pipeline's commands each from their own segment; where
`stormglass_dropped_total{reason=\"coarse_reply\"}` grows, some were measured from an earlier one.

`stormglass_tenant_request_bytes`, `stormglass_tenant_reply_bytes`: bounds are the powers of four from 16 B to 64 MiB, bound
included. The sum is `stormglass_tenant_bytes_total` of that direction: it has the bytes of a command or reply that is not
complete yet, or never will be, before (or without) the count having it; so the average size is exact over intervals that
are long against a transfer, and never too small. Replication counts bytes, but no commands or replies.

`stormglass_tenant_reads_total` counts values, not commands: MGET of three keys is three. A read that is refused because the
value has another type has found it, as in Valkey's own `keyspace_hits`. Reads inside MULTI do not count: the reply to EXEC
does not say which of its values answers which.

`/api/v1/tenants` has quantiles of finer buckets: durations by the middle of theirs, off by at most 12.5 % (or 256 ns); sizes
by the upper bound, a power of two.

What to record, per server and tenant:

```
# hit ratio
sum by (server, tenant) (rate(stormglass_tenant_reads_total{result=\"hit\"}[5m]))
  / sum by (server, tenant) (rate(stormglass_tenant_reads_total[5m]))

# duration at the 99th percentile
histogram_quantile(0.99, sum by (server, tenant, le) (rate(stormglass_tenant_request_duration_seconds_bucket[5m])))

# errors per command
sum by (server, tenant) (rate(stormglass_tenant_errors_total[5m]))
  / sum by (server, tenant) (rate(stormglass_tenant_commands_total[5m]))
```
";

const REASONS: &str = "
## Reasons of `stormglass_unattributed_bytes_total`

| reason | meaning |
|---|---|
";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;

    /// Names that client libraries of Prometheus agree on: the only ones that do not begin with `stormglass_`.
    const OF_EVERY_PROCESS: [&str; 4] = [
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    ];

    #[test]
    fn every_name_follows_the_grammar() {
        let mut names = HashSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(names.insert(name), "{name} twice");
            assert!(
                name.starts_with("stormglass_") || OF_EVERY_PROCESS.contains(&name),
                "{name}"
            );
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            for suffix in ["_bucket", "_sum", "_count", "_created"] {
                assert!(!name.ends_with(suffix), "{name}");
            }
            let base = name.trim_end_matches("_total");
            for unit in ["bytes", "seconds"] {
                assert_eq!(
                    metric.unit == unit,
                    base.ends_with(unit),
                    "{name} names its base unit"
                );
            }
        }
    }

    #[test]
    fn every_help_text_is_one_sentence_and_every_bound_is_stated() {
        for metric in ALL {
            assert!(
                metric.help.ends_with('.') && !metric.help.contains('\n'),
                "{}",
                metric.name
            );
            assert!(!metric.bound.is_empty(), "{}", metric.name);
            assert!(
                !metric.help.contains('|') && !metric.bound.contains('|'),
                "{} breaks the page",
                metric.name
            );
        }
    }

    #[test]
    fn no_label_is_reserved_or_given_twice() {
        for metric in ALL {
            let unique: HashSet<_> = metric.labels.iter().collect();
            assert_eq!(unique.len(), metric.labels.len(), "{}", metric.name);
            // Prometheus sets these on every series it scrapes; `le` belongs to the buckets.
            assert!(
                !metric
                    .labels
                    .iter()
                    .any(|label| ["job", "instance", "le"].contains(label)),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn the_checked_in_page_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
        if std::env::var_os("STORMGLASS_BLESS").is_some() {
            std::fs::write(&path, markdown()).expect("docs/METRICS.md can be written");
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            page == markdown(),
            "docs/METRICS.md is not what the table says: STORMGLASS_BLESS=1 cargo test -p stormglass metrics"
        );
    }
}
