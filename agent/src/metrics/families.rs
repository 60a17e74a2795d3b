//! Where each metric's samples come from: one function per metric, from the report to the builder.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_common::abi::{Direction, PrefixCounters, Reason};
use agent_common::limits;

use super::builder::Family;
use super::distributions::{
    DURATION_BOUNDS, Exposed, LIFETIME_BOUNDS, SIZE_BOUNDS, duration_sum, lifetime_seconds,
};
use super::rows;
use super::table::{self, Metric};
use super::{COMMIT, ProcessUsage, Report, VERSION};
use crate::alerts::ReceiverStatus;
use crate::config::FIXED_KEYS;
use crate::kubernetes::Status;
use crate::snapshot::{ClientSnapshot, LibrarySnapshot, ServerSnapshot};
use crate::storms::Kind;
use crate::valkey::Runtime;
use crate::workloads::{SurveyStatus, WorkloadRow};

type Fill = fn(&Report, &mut Family<'_>);

/// Every metric of the table, in its order, with what fills it.
pub(super) static ALL: &[(&Metric, Fill)] = &[
    (&table::SERVER_INFO, server_info),
    (&table::SERVER_UPTIME, |report, family| {
        for server in &report.snapshot.servers {
            family.value(&[("server", &server.label)], server.facts.uptime_seconds);
        }
    }),
    (&table::SERVER_CLIENTS_LIMIT, |report, family| {
        for server in &report.snapshot.servers {
            if let Some(limit) = server.facts.clients_at_most() {
                family.count(&[("server", &server.label)], limit);
            }
        }
    }),
    (&table::CONNECTIONS, |report, family| {
        per_server(report, family, |server| server.connections);
    }),
    (&table::CONNECTIONS_OPENED, |report, family| {
        per_server(report, family, |server| server.opened);
    }),
    (&table::CONNECTIONS_CLOSED, |report, family| {
        per_server(report, family, |server| server.closed);
    }),
    (&table::CONNECTIONS_CLOSED_WAITING, |report, family| {
        per_server(report, family, |server| server.ends.waiting);
    }),
    (&table::CONNECTIONS_CLOSED_WITHOUT_COMMAND, |report, family| {
        per_server(report, family, |server| server.ends.without_command);
    }),
    (&table::CONNECTIONS_REJECTED, |report, family| {
        per_server(report, family, |server| server.ends.rejected);
    }),
    (&table::CONNECTION_LIFETIME, connection_lifetime),
    (&table::CONNECTIONS_IDLE, connections_idle),
    (&table::ACCEPT_BURST, accept_burst),
    (&table::CLIENT_CONNECTIONS, |report, family| {
        per_client(report, family, |client| client.connections);
    }),
    (&table::CLIENT_CONNECTIONS_OPENED, |report, family| {
        per_client(report, family, |client| client.opened);
    }),
    (&table::WORKLOAD_CONNECTIONS, |report, family| {
        per_workload(report, family, |row| Some(row.connections));
    }),
    (&table::WORKLOAD_INSTANCES, |report, family| {
        per_workload(report, family, |row| Some(row.instances));
    }),
    (&table::WORKLOAD_CONNECTIONS_OPENED, |report, family| {
        per_workload(report, family, |row| Some(row.opened));
    }),
    (&table::WORKLOAD_CONNECTIONS_IDLE, |report, family| {
        per_workload(report, family, |row| {
            row.survey.map(|tally| tally.idle.min(row.connections))
        });
    }),
    (&table::WORKLOAD_SOCKET_MEMORY, |report, family| {
        per_workload(report, family, |row| row.survey.map(|tally| tally.memory_bytes));
    }),
    (&table::SURVEY_AGE, |report, family| {
        survey(report, family, |survey| survey.age);
    }),
    (&table::SURVEY_INTERVAL, |report, family| {
        survey(report, family, |survey| survey.interval);
    }),
    (&table::LIBRARY_CONNECTIONS, library_connections),
    (&table::LIBRARY_OPENED, library_opened),
    (&table::USER_CONNECTIONS, user_connections),
    (&table::ACCEPT_QUEUE_LENGTH, |report, family| {
        per_server(report, family, |server| server.accept_queue.length);
    }),
    (&table::ACCEPT_QUEUE_LIMIT, |report, family| {
        per_server(report, family, |server| server.accept_queue.limit);
    }),
    (&table::ACCEPT_QUEUE_DROPS, |report, family| {
        per_server(report, family, |server| server.accept_queue.drops);
    }),
    (&table::LINK, link),
    (&table::TENANT_BYTES, tenant_bytes),
    (&table::TENANT_COMMANDS, tenant_commands),
    (&table::TENANT_REQUEST_DURATION, |report, family| {
        per_tenant(report, family, |row| {
            (Exposed::durations(&row.durations), duration_sum(row))
        });
    }),
    (&table::TENANT_REQUEST_BYTES, |report, family| {
        per_tenant(report, family, |row| {
            (Exposed::sizes(&row.request_sizes), row.bytes_in as f64)
        });
    }),
    (&table::TENANT_REPLY_BYTES, |report, family| {
        per_tenant(report, family, |row| {
            (Exposed::sizes(&row.reply_sizes), row.bytes_out as f64)
        });
    }),
    (&table::TENANT_ERRORS, tenant_errors),
    (&table::TENANT_READS, tenant_reads),
    (&table::TENANT_DISAGREEMENT_BYTES, disagreement_bytes),
    (&table::TENANT_DISAGREEMENT_COMMANDS, disagreement_commands),
    (&table::TENANT_INFO, tenant_info),
    (&table::PREFIX_BYTES, prefix_bytes),
    (&table::PREFIX_COMMANDS, prefix_commands),
    (&table::UNATTRIBUTED_BYTES, unattributed_bytes),
    (&table::STORM_ACTIVE, |report, family| {
        per_kind(report, family, |server, kind, _| {
            u64::from(report.storms.is_active(server, kind))
        });
    }),
    (&table::STORMS, |report, family| {
        per_kind(report, family, |_, _, count| count);
    }),
    (&table::ALERTS_SENT, |report, family| {
        per_receiver(report, family, |receiver| receiver.sent);
    }),
    (&table::ALERTS_FAILED, |report, family| {
        per_reason(report, family, |receiver| &receiver.failed);
    }),
    (&table::ALERTS_DROPPED, |report, family| {
        per_reason(report, family, |receiver| &receiver.dropped);
    }),
    (&table::ALERTS_QUEUED, |report, family| {
        per_receiver(report, family, |receiver| receiver.queued);
    }),
    (&table::ALERTS_JOURNAL_ERRORS, |report, family| {
        family.count(&[], report.alerts.journal_errors);
    }),
    (&table::ANNOUNCED_RESTARTS, |report, family| {
        family.count(&[], report.alerts.announced);
    }),
    (&table::INCIDENTS, |report, family| {
        family.count(&[], report.incidents.kept);
    }),
    (&table::INCIDENTS_BYTES, |report, family| {
        family.count(&[], report.incidents.bytes);
    }),
    (&table::INCIDENTS_LOST, |report, family| {
        family.count(&[("reason", "queue_full")], report.incidents.dropped);
        family.count(&[("reason", "error")], report.incidents.errors);
    }),
    (&table::PROCESS_CPU_SECONDS, |report, family| {
        of_process(report, family, |process| Some(process.cpu_seconds));
    }),
    (&table::PROCESS_RESIDENT_MEMORY, |report, family| {
        of_process(report, family, |process| Some(process.resident_bytes as f64));
    }),
    (&table::PROCESS_START_TIME, |report, family| {
        of_process(report, family, |process| process.started_seconds);
    }),
    (&table::PROCESS_OPEN_FDS, |report, family| {
        of_process(report, family, |process| {
            process.open_fds.map(|count| count as f64)
        });
    }),
    (&table::BPF_RUN_SECONDS, bpf_run_seconds),
    (&table::BPF_RUNS, bpf_runs),
    (&table::MAP_ENTRIES, map_entries),
    (&table::MAP_CAPACITY, map_capacity),
    (&table::DROPPED, dropped),
    (&table::CONFIG_LAST_RELOAD_SUCCESSFUL, |report, family| {
        family.count(&[], u64::from(report.config.refused.is_none()));
    }),
    (&table::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP, |report, family| {
        family.value(&[], report.config.read_at_ms as f64 / 1e3);
    }),
    (&table::CONFIG_RELOADS, |report, family| {
        family.count(&[("result", "applied")], report.config.applied);
        family.count(&[("result", "refused")], report.config.refusals);
    }),
    (&table::CONFIG_RESTART_REQUIRED, config_restart_required),
    (&table::KUBERNETES_CONNECTED, |report, family| {
        per_watch(report, family, |status| u64::from(status.connected));
    }),
    (&table::KUBERNETES_PODS, |report, family| {
        per_watch(report, family, |status| status.pods);
    }),
    (&table::KUBERNETES_PODS_REFUSED, |report, family| {
        per_watch(report, family, |status| status.refused);
    }),
    (&table::KUBERNETES_SILENCE, |report, family| {
        let silence = report.kubernetes.silence;
        if let Some(silence) = silence.filter(|_| report.kubernetes.wanted) {
            family.value(&[], silence.as_secs_f64());
        }
    }),
    (&table::KUBERNETES_WATCH_RESTARTS, |report, family| {
        for (fault, count) in report.kubernetes.restarts() {
            if report.kubernetes.wanted {
                family.count(&[("reason", fault.label())], count);
            }
        }
    }),
    (&table::BUILD_INFO, |_, family| {
        family.count(&[("version", VERSION), ("commit", COMMIT)], 1);
    }),
];

fn per_kind(report: &Report, family: &mut Family<'_>, value: impl Fn(&str, Kind, u64) -> u64) {
    for (server, kind, count) in &report.storms.counts {
        family.count(
            &[("server", server), ("kind", kind.label())],
            value(server, *kind, *count),
        );
    }
}

fn per_receiver(report: &Report, family: &mut Family<'_>, value: fn(&ReceiverStatus) -> u64) {
    for receiver in &report.alerts.receivers {
        family.count(
            &[("sink", receiver.sink), ("receiver", &receiver.receiver)],
            value(receiver),
        );
    }
}

fn per_reason(
    report: &Report,
    family: &mut Family<'_>,
    counts: fn(&ReceiverStatus) -> &[(&'static str, u64)],
) {
    for receiver in &report.alerts.receivers {
        for (reason, count) in counts(receiver) {
            let labels = [
                ("sink", receiver.sink),
                ("receiver", &*receiver.receiver),
                ("reason", reason),
            ];
            family.count(&labels, *count);
        }
    }
}

fn per_server(report: &Report, family: &mut Family<'_>, value: fn(&ServerSnapshot) -> u64) {
    for server in &report.snapshot.servers {
        family.count(&[("server", &server.label)], value(server));
    }
}

/// Nothing where pods are not asked for.
fn per_watch(report: &Report, family: &mut Family<'_>, value: fn(&Status) -> u64) {
    if report.kubernetes.wanted {
        family.count(&[], value(&report.kubernetes));
    }
}

fn server_info(report: &Report, family: &mut Family<'_>) {
    for server in &report.snapshot.servers {
        let (facts, place) = (&server.facts, &server.facts.place);
        let container = place.container.as_ref();
        let pod = facts.pod.as_deref();
        let owner = pod.map(|pod| pod.owner.to_string()).unwrap_or_default();
        let labels = [
            ("server", &*server.label),
            ("process", &*facts.process),
            ("version", facts.version.as_deref().unwrap_or_default()),
            ("container", container.map_or("", |container| &container.id)),
            (
                "runtime",
                container
                    .and_then(|container| container.runtime)
                    .map_or("", Runtime::label),
            ),
            ("pod_uid", place.pod.as_ref().map_or("", |pod| &pod.uid)),
            ("namespace", pod.map_or("", |pod| &pod.namespace)),
            ("pod", pod.map_or("", |pod| &pod.name)),
            ("pod_owner", &owner),
        ];
        family.count(&labels, 1);
    }
}

fn connections_idle(report: &Report, family: &mut Family<'_>) {
    for server in &report.workloads.servers {
        if let Some(tally) = server.survey {
            // The survey is older than the connections of now: no share may pass 100 %.
            let idle = tally.idle.min(server.restart.connections);
            family.count(&[("server", &server.server)], idle);
        }
    }
}

/// What is not known yet has no sample.
fn per_workload(report: &Report, family: &mut Family<'_>, value: fn(&WorkloadRow) -> Option<u64>) {
    for server in &report.workloads.servers {
        for row in &server.workloads {
            if let Some(value) = value(row) {
                let labels = [("server", &*server.server), ("workload", &*row.workload)];
                family.count(&labels, value);
            }
        }
    }
}

fn survey(report: &Report, family: &mut Family<'_>, value: fn(&SurveyStatus) -> Duration) {
    if let Some(survey) = &report.workloads.survey {
        family.value(&[], value(survey).as_secs_f64());
    }
}

fn connection_lifetime(report: &Report, family: &mut Family<'_>) {
    for server in &report.snapshot.servers {
        let exposed = Exposed::lifetimes(&server.ends.lifetimes);
        family.histogram(
            &[("server", &server.label)],
            exposed.buckets.into_iter(),
            exposed.beyond,
            lifetime_seconds(server.ends.lifetime_units),
        );
    }
}

fn accept_burst(report: &Report, family: &mut Family<'_>) {
    for server in &report.snapshot.servers {
        let (last, bounded) = match server.accept_burst.windows.split_last() {
            Some((last, bounded)) => (*last, bounded),
            None => (0, &[][..]),
        };
        let buckets = bounded
            .iter()
            .zip(0_u32..)
            .map(|(count, power)| (f64::from(power).exp2(), *count));
        family.histogram(
            &[("server", &server.label)],
            buckets,
            last,
            server.accept_burst.connections as f64,
        );
    }
}

fn per_client(report: &Report, family: &mut Family<'_>, value: fn(&ClientSnapshot) -> u64) {
    let mut name = String::new();
    for server in &report.snapshot.servers {
        for client in &server.clients {
            rows::write_client_name(client.address, &mut name);
            family.count(&[("server", &server.label), ("client", &name)], value(client));
        }
    }
}

fn library_connections(report: &Report, family: &mut Family<'_>) {
    by_library(report, family, |row| {
        // Those that have none have a row for what they opened.
        (row.connections > 0 || row.opened.is_none()).then_some(row.connections)
    });
}

fn library_opened(report: &Report, family: &mut Family<'_>) {
    by_library(report, family, |row| row.opened);
}

fn by_library(report: &Report, family: &mut Family<'_>, value: fn(&LibrarySnapshot) -> Option<u64>) {
    for server in &report.snapshot.servers {
        for row in &server.libraries {
            let labels = [
                ("server", &*server.label),
                ("library", &*row.library),
                ("version", &*row.version),
            ];
            if let Some(value) = value(row) {
                family.count(&labels, value);
            }
        }
    }
}

fn user_connections(report: &Report, family: &mut Family<'_>) {
    for server in &report.snapshot.servers {
        for row in &server.users {
            family.count(&[("server", &server.label), ("user", &row.user)], row.connections);
        }
    }
}

/// The same for every server: none says which of the host's links it uses.
fn link(report: &Report, family: &mut Family<'_>) {
    for server in &report.snapshot.servers {
        if let Some(link) = report.link {
            family.count(&[("server", &server.label)], link);
        }
    }
}

fn tenant_bytes(report: &Report, family: &mut Family<'_>) {
    for row in &report.tenants {
        let counters = &row.counters;
        for (direction, bytes) in [
            (Direction::In, counters.bytes_in),
            (Direction::Out, counters.bytes_out),
        ] {
            let labels = [
                ("server", &*row.server),
                ("tenant", &*row.tenant),
                ("direction", direction.label()),
            ];
            family.count(&labels, bytes);
        }
    }
}

fn tenant_commands(report: &Report, family: &mut Family<'_>) {
    for row in &report.tenants {
        let labels = [("server", &*row.server), ("tenant", &*row.tenant)];
        family.count(&labels, row.counters.commands());
    }
}

/// A histogram, with its sum, of each tenant that has anything in it.
fn per_tenant(report: &Report, family: &mut Family<'_>, histogram: fn(&PrefixCounters) -> (Exposed, f64)) {
    for row in &report.tenants {
        let (exposed, sum) = histogram(&row.counters);
        if !exposed.is_empty() {
            let labels = [("server", &*row.server), ("tenant", &*row.tenant)];
            family.histogram(&labels, exposed.buckets.into_iter(), exposed.beyond, sum);
        }
    }
}

/// The words that occurred.
fn tenant_errors(report: &Report, family: &mut Family<'_>) {
    for row in &report.tenants {
        for (word, count) in rows::errors(&row.counters) {
            let labels = [
                ("server", &*row.server),
                ("tenant", &*row.tenant),
                ("error", word.label()),
            ];
            family.count(&labels, count);
        }
    }
}

/// Both results as soon as there is one: a ratio of rates needs both series from the start.
fn tenant_reads(report: &Report, family: &mut Family<'_>) {
    for row in &report.tenants {
        let (hits, misses) = (row.counters.hits, row.counters.misses);
        if (hits, misses) == (0, 0) {
            continue;
        }
        for (result, count) in [("hit", hits), ("miss", misses)] {
            let labels = [
                ("server", &*row.server),
                ("tenant", &*row.tenant),
                ("result", result),
            ];
            family.count(&labels, count);
        }
    }
}

fn tenant_info(report: &Report, family: &mut Family<'_>) {
    for info in &report.tenant_infos {
        family.count(&[("tenant", &info.name), ("owner", &info.owner)], 1);
    }
}

fn disagreement_bytes(report: &Report, family: &mut Family<'_>) {
    for row in &report.disagreements {
        for (direction, bytes) in [(Direction::In, row.bytes_in), (Direction::Out, row.bytes_out)] {
            let labels = [
                ("server", &*row.server),
                ("tenant", &*row.tenant),
                ("connection_tenant", &*row.connection_tenant),
                ("direction", direction.label()),
            ];
            family.count(&labels, bytes);
        }
    }
}

fn disagreement_commands(report: &Report, family: &mut Family<'_>) {
    for row in &report.disagreements {
        let labels = [
            ("server", &*row.server),
            ("tenant", &*row.tenant),
            ("connection_tenant", &*row.connection_tenant),
        ];
        family.count(&labels, row.commands);
    }
}

fn prefix_bytes(report: &Report, family: &mut Family<'_>) {
    for server in &report.snapshot.servers {
        for (prefix, sum) in rows::prefixes(server) {
            for (direction, bytes) in [(Direction::In, sum.bytes_in), (Direction::Out, sum.bytes_out)] {
                let labels = [
                    ("server", &*server.label),
                    ("prefix", &*prefix),
                    ("direction", direction.label()),
                ];
                family.count(&labels, bytes);
            }
        }
    }
}

fn prefix_commands(report: &Report, family: &mut Family<'_>) {
    for server in &report.snapshot.servers {
        for (prefix, sum) in rows::prefixes(server) {
            family.count(&[("server", &server.label), ("prefix", &prefix)], sum.commands);
        }
    }
}

/// The reasons that occurred, and always `mid_stream`, so that an alert on it has a series to look at.
fn unattributed_bytes(report: &Report, family: &mut Family<'_>) {
    for server in &report.snapshot.servers {
        let mut sums: BTreeMap<(Direction, Reason), u64> = Direction::ALL
            .map(|direction| ((direction, Reason::MidStream), 0))
            .into();
        for (direction, reason, bytes) in &server.unattributed {
            *sums.entry((*direction, *reason)).or_default() += bytes;
        }
        for ((direction, reason), bytes) in sums {
            let labels = [
                ("server", &*server.label),
                ("direction", direction.label()),
                ("reason", reason.label()),
            ];
            family.count(&labels, bytes);
        }
    }
}

/// What is not known has no sample.
fn of_process(report: &Report, family: &mut Family<'_>, value: fn(&ProcessUsage) -> Option<f64>) {
    if let Some(value) = report.process.as_ref().and_then(value) {
        family.value(&[], value);
    }
}

fn bpf_run_seconds(report: &Report, family: &mut Family<'_>) {
    for usage in &report.snapshot.programs {
        family.value(&[("program", usage.program)], usage.run_seconds);
    }
}

fn bpf_runs(report: &Report, family: &mut Family<'_>) {
    for usage in &report.snapshot.programs {
        family.count(&[("program", usage.program)], usage.runs);
    }
}

fn map_entries(report: &Report, family: &mut Family<'_>) {
    for usage in &report.snapshot.maps {
        family.count(&[("map", usage.map)], usage.entries);
    }
}

fn map_capacity(report: &Report, family: &mut Family<'_>) {
    for usage in &report.snapshot.maps {
        family.count(&[("map", usage.map)], usage.capacity);
    }
}

fn dropped(report: &Report, family: &mut Family<'_>) {
    for (reason, count) in &report.snapshot.dropped {
        family.count(&[("reason", reason)], *count);
    }
}

/// Every key that a restart can be needed for, so that an alert on it has a series to look at.
fn config_restart_required(report: &Report, family: &mut Family<'_>) {
    for (key, _) in FIXED_KEYS {
        let waits = report.config.waiting.iter().any(|waiting| waiting.key == key);
        family.count(&[("key", key)], u64::from(waits));
    }
}

/// The table counts the buckets of its histograms.
const _: () = {
    assert!(limits::BURST_BUCKETS == 16, "table::ACCEPT_BURST says 16 buckets");
    assert!(
        DURATION_BOUNDS + 1 == 23,
        "table::TENANT_REQUEST_DURATION says 23 buckets"
    );
    assert!(
        SIZE_BOUNDS + 1 == 13,
        "table::TENANT_REQUEST_BYTES says 13 buckets"
    );
    assert!(
        LIFETIME_BOUNDS + 1 == 16,
        "table::CONNECTION_LIFETIME says 16 buckets"
    );
};
