//! Scrapes of hand-made reports, in both formats.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use agent_common::abi::{Direction, Loss, Reason};

use super::*;
use crate::alerts::{AlertsStatus, ReceiverStatus};
use crate::config::{Refusal, WaitingKey};
use crate::incidents::ArchiveStatus;
use crate::kubernetes;
use crate::snapshot::{
    AcceptQueue, BurstHistogram, ClientSnapshot, Ends, LibrarySnapshot, MapUsage, PrefixSnapshot,
    ProgramUsage, ServerSnapshot, UserSnapshot, counters,
};
use crate::storms::{Kind as StormKind, Moment, Severity, Storm};
use crate::valkey::{DescriptorLimit, Place, ServerFacts};
use crate::workloads::{
    Kind, Owners, Restart, ServerWorkloads, SurveyStatus, Tally, WorkloadReport, WorkloadRow,
};

fn text(report: &Report, format: Format) -> String {
    let text = render(report, format).expect("can be written");
    let build = format!("version=\"{VERSION}\",commit=\"{COMMIT}\"");
    String::from_utf8(text)
        .expect("UTF-8")
        .replace(&build, "version=\"VERSION\",commit=\"COMMIT\"")
}

fn facts() -> ServerFacts {
    ServerFacts {
        process: "valkey-server".into(),
        version: Some("8.0.1".into()),
        place: Place::of_path(
            "/system.slice/docker-9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d.scope",
        ),
        uptime_seconds: 93.5,
        descriptors: Some(DescriptorLimit {
            soft: Some(10_032),
            hard: None,
        }),
        ..ServerFacts::default()
    }
}

/// Six connections that ended, three of them within a minute.
fn ends() -> Ends {
    let mut ends = Ends {
        waiting: 4,
        without_command: 2,
        rejected: 3,
        lifetime_units: 1 << 31,
        ..Ends::default()
    };
    (
        ends.lifetimes[0],
        ends.lifetimes[3],
        ends.lifetimes[16],
        ends.lifetimes[31],
    ) = (1, 2, 2, 1);
    ends
}

/// A small host: one server, two clients, two tenants.
fn alerts() -> AlertsStatus {
    AlertsStatus {
        receivers: vec![ReceiverStatus {
            sink: "webhook",
            receiver: "hooks.example.com".into(),
            sent: 3,
            failed: vec![("timeout", 2), ("status", 0)],
            dropped: vec![("refused", 1)],
            queued: 4,
        }],
        journal_errors: 0,
        announced: 1,
    }
}

fn small() -> Report {
    let mut burst = BurstHistogram {
        connections: 20_009,
        ..BurstHistogram::default()
    };
    burst.windows[0] = 3;
    burst.windows[2] = 2;
    burst.windows[15] = 1;
    let server = ServerSnapshot {
        label: "valkey-server:6379".into(),
        facts: facts(),
        connections: 12,
        opened: 20_009,
        closed: 19_997,
        accept_burst: burst,
        accept_queue: AcceptQueue {
            length: 1,
            limit: 511,
            drops: 7,
        },
        ends: ends(),
        clients: vec![
            client(None, 3),
            client(Some(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 7))), 9),
        ],
        libraries: vec![LibrarySnapshot {
            opened: Some(5),
            library: "valkey-py".into(),
            version: "6.2.0".into(),
            connections: 12,
        }],
        users: vec![UserSnapshot {
            user: "checkout-svc".into(),
            connections: 12,
        }],
        prefixes: vec![
            prefix("cart", 5),
            PrefixSnapshot {
                special: true,
                ..prefix("(keyless)", 2)
            },
        ],
        unattributed: vec![(Direction::Out, Reason::Hole, 77)],
        ..ServerSnapshot::default()
    };
    Report {
        kubernetes: kubernetes::Status {
            wanted: true,
            connected: true,
            complete: true,
            pods: 110,
            refused: 0,
            silence: Some(Duration::from_millis(2_500)),
            faults: [0, 0, 2, 1, 0, 0, 0, 0, 0],
        },
        pods: Owners::default(),
        snapshot: Snapshot {
            unheard: false,
            servers: vec![server],
            dropped: vec![("ring_full", 0)],
            maps: vec![MapUsage {
                map: "PREFIXES",
                entries: 2,
                capacity: 4096,
            }],
            programs: vec![ProgramUsage {
                program: "ingress",
                run_seconds: 0.25,
                runs: 1_000_000,
            }],
        },
        tenants: vec![busy("checkout", 5), tenant("(unassigned)", 2)],
        disagreements: vec![Disagreement {
            server: "valkey-server:6379".into(),
            tenant: "checkout".into(),
            connection_tenant: "search".into(),
            commands: 2,
            bytes_in: 60,
            bytes_out: 10,
        }],
        tenant_infos: vec![TenantInfo {
            name: "checkout".into(),
            owner: "team-checkout".into(),
            ..TenantInfo::default()
        }],
        workloads: workloads(),
        incidents: ArchiveStatus {
            kept: 2,
            bytes: 4_096,
            dropped: 0,
            errors: 1,
        },
        alerts: alerts(),
        storms: storms(),
        config: ConfigStatus {
            file: Some("/etc/stormglass/stormglass.toml".into()),
            read_at_ms: 1_795_412_735_250,
            refused: Some(Refusal {
                at_ms: 1_795_412_800_000,
                reason: "no".into(),
            }),
            waiting: vec![WaitingKey {
                key: "limits.prefixes",
                running: "4096".into(),
                wanted: "7".into(),
            }],
            applied: 2,
            refusals: 1,
        },
        link: Some(1_250_000_000),
        process: Some(ProcessUsage {
            cpu_seconds: 12.75,
            resident_bytes: 31_457_280,
            started_seconds: Some(1_795_412_735.25),
            open_fds: Some(96),
        }),
        ..Report::default()
    }
}

/// One storm that goes on, and one that is over.
fn storms() -> StormReport {
    let server = "valkey-server:6379";
    let kinds = vec![StormKind::ReconnectChurn, StormKind::AcceptQueueSaturation];
    let active = Storm {
        id: "1795412735250-2".into(),
        server: server.into(),
        kind: StormKind::ReconnectChurn,
        kinds,
        severity: Severity::Critical,
        onset: Moment(1_795_412_735_000),
        found: Moment(1_795_412_735_250),
        ended: None,
        expected: false,
        summary: String::new(),
        evidence: Vec::new(),
        culprits: Vec::new(),
    };
    let count = |kind| match kind {
        StormKind::ReconnectChurn => 2,
        StormKind::AcceptQueueSaturation => 1,
        _ => 0,
    };
    StormReport {
        active: vec![active],
        over: Vec::new(),
        counts: StormKind::ALL
            .map(|kind| (server.into(), kind, count(kind)))
            .into(),
    }
}

/// A workload that was surveyed, and what belongs to none.
fn workloads() -> WorkloadReport {
    let row = |workload: &str, kind, connections| WorkloadRow {
        workload: workload.into(),
        kind,
        instances: 2,
        connections,
        opened: 2 * connections,
        opens_per_minute: None,
        per_instance: None,
        survey: Some(tally(connections)),
        busy: None,
        advice: None,
    };
    let server = ServerWorkloads {
        server: "valkey-server:6379".into(),
        survey: Some(tally(12)),
        workloads: vec![
            row("checkout-api", Kind::Rule, 9),
            row("(unassigned)", Kind::Unassigned, 3),
        ],
        restart: Restart {
            connections: 12,
            ..Restart::default()
        },
        ..ServerWorkloads::default()
    };
    WorkloadReport {
        servers: vec![server],
        survey: Some(SurveyStatus {
            age: Duration::from_millis(2_500),
            cost: Duration::from_millis(1),
            interval: Duration::from_secs(10),
        }),
    }
}

fn tally(connections: u64) -> Tally {
    Tally {
        connections,
        idle: connections - 1,
        busy: 1,
        memory_bytes: connections * 4_096,
    }
}

#[test]
fn before_the_first_survey_nothing_is_said_of_what_only_it_knows() {
    let mut report = small();
    report.workloads.survey = None;
    report.workloads.servers[0].survey = None;
    for row in &mut report.workloads.servers[0].workloads {
        row.survey = None;
    }
    let scrape = text(&report, Format::Text);
    assert!(scrape.contains(
        "stormglass_workload_connections{server=\"valkey-server:6379\",workload=\"checkout-api\"} 9\n"
    ));
    for metric in [
        &table::CONNECTIONS_IDLE,
        &table::WORKLOAD_CONNECTIONS_IDLE,
        &table::WORKLOAD_SOCKET_MEMORY,
        &table::SURVEY_AGE,
        &table::SURVEY_INTERVAL,
    ] {
        assert!(!scrape.contains(metric.name), "{}", metric.name);
    }
}

#[test]
fn nothing_is_said_of_a_link_or_a_process_that_is_not_known() {
    let mut report = small();
    report.link = None;
    let process = report.process.as_mut().expect("one");
    (process.started_seconds, process.open_fds) = (None, None);
    let scrape = text(&report, Format::Text);
    assert!(scrape.contains("process_cpu_seconds_total 12.75\n"), "{scrape}");
    for metric in [&table::LINK, &table::PROCESS_START_TIME, &table::PROCESS_OPEN_FDS] {
        assert!(!scrape.contains(metric.name), "{}", metric.name);
    }
}

#[test]
fn no_more_is_idle_than_there_is_since_the_survey_is_older_than_the_connections() {
    let mut report = small();
    let server = &mut report.workloads.servers[0];
    server.restart.connections = 5;
    server.survey = Some(tally(12));
    server.workloads[0].connections = 2;
    let scrape = text(&report, Format::Text);
    for sample in [
        "stormglass_connections_idle{server=\"valkey-server:6379\"} 5\n",
        "stormglass_workload_connections_idle{server=\"valkey-server:6379\",workload=\"checkout-api\"} 2\n",
    ] {
        assert!(scrape.contains(sample), "{sample} is not in\n{scrape}");
    }
}

fn client(address: Option<IpAddr>, connections: u64) -> ClientSnapshot {
    ClientSnapshot {
        address,
        connections,
        opened: connections * 2,
    }
}

fn prefix(prefix: &str, commands: u64) -> PrefixSnapshot {
    PrefixSnapshot {
        prefix: prefix.into(),
        special: false,
        class: None,
        tenant: None,
        counters: counters(commands, commands * 30, commands * 5),
    }
}

fn tenant(tenant: &str, commands: u64) -> TenantRow {
    TenantRow {
        server: "valkey-server:6379".into(),
        tenant: tenant.into(),
        counters: counters(commands, commands * 30, commands * 5),
    }
}

/// A tenant with something in every metric.
fn busy(name: &str, commands: u64) -> TenantRow {
    let mut row = tenant(name, commands);
    let counters = &mut row.counters;
    (counters.reply_sizes[0], counters.reply_sizes[31]) = (4, 1);
    (
        counters.durations[0],
        counters.durations[17],
        counters.durations[127],
    ) = (2, 2, 1);
    counters.duration_units = 3_906_250_000;
    (counters.hits, counters.misses) = (3, 0);
    (counters.errors[0], counters.errors[2]) = (1, 7);
    row
}

/// Compares with a file of testdata; `STORMGLASS_BLESS=1` rewrites it.
fn assert_golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/metrics/testdata")
        .join(name);
    if std::env::var_os("STORMGLASS_BLESS").is_some() {
        std::fs::write(&path, text).expect("testdata can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} differs from this scrape:\n{text}");
}

#[test]
fn a_small_scrape_is_written_as_prometheus_text() {
    assert_golden("small.prom", &text(&small(), Format::Text));
}

#[test]
fn a_small_scrape_is_written_as_openmetrics() {
    assert_golden("small.openmetrics", &text(&small(), Format::OpenMetrics));
}

#[test]
fn every_metric_of_the_table_is_filled_in_the_order_of_the_table() {
    assert!(
        families::ALL
            .iter()
            .map(|(metric, _)| *metric)
            .eq(table::ALL.iter().copied())
    );
    let scrape = text(&small(), Format::Text);
    for metric in table::ALL {
        assert!(
            scrape.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.label())),
            "{}",
            metric.name
        );
    }
}

#[test]
fn an_idle_host_still_has_a_valid_scrape() {
    let scrape = text(&Report::default(), Format::OpenMetrics);
    assert!(
        scrape.ends_with("stormglass_build_info{version=\"VERSION\",commit=\"COMMIT\"} 1\n# EOF\n"),
        "{scrape}"
    );
    let always = scrape.lines().filter(|line| !line.starts_with('#'));
    assert!(always.clone().count() == 17, "{scrape}");
    assert!(
        always.clone().all(|line| {
            let mut known = [
                "config_",
                "build_info",
                "alerts_journal_errors_total 0",
                "incidents",
                "announced_restarts 0",
            ]
            .iter();
            known.any(|name| line.starts_with(&format!("stormglass_{name}")))
        }),
        "{scrape}"
    );
}

#[test]
fn a_tenant_without_a_sample_has_no_series() {
    let mut report = small();
    report.tenants = vec![tenant("quiet", 0)];
    let scrape = text(&report, Format::Text);
    assert!(
        scrape
            .contains("stormglass_tenant_commands_total{server=\"valkey-server:6379\",tenant=\"quiet\"} 0\n")
    );
    for metric in [
        &table::TENANT_REQUEST_DURATION,
        &table::TENANT_REQUEST_BYTES,
        &table::TENANT_REPLY_BYTES,
        &table::TENANT_ERRORS,
        &table::TENANT_READS,
    ] {
        assert!(!scrape.contains(metric.name), "{}", metric.name);
    }
}

#[test]
fn hostile_label_values_stay_inside_their_quotes() {
    let mut report = small();
    report.snapshot.servers[0].prefixes = vec![
        prefix("\"} 1\n# EOF\nfake 1", 1),
        prefix("back\\slash\\", 2),
        prefix("snow\u{2603}\r\t\u{0}", 3),
        prefix("", 4),
    ];
    for format in [Format::Text, Format::OpenMetrics] {
        let scrape = text(&report, format);
        let server = "server=\"valkey-server:6379\"";
        for (escaped, commands) in [
            (r#"\"} 1\n# EOF\nfake 1"#, 1),
            (r"back\\slash\\", 2),
            ("snow\u{2603}\r\t\u{0}", 3),
            ("", 4),
        ] {
            let line =
                format!("stormglass_prefix_commands_total{{{server},prefix=\"{escaped}\"}} {commands}\n");
            assert!(scrape.contains(&line), "{line} in {scrape}");
        }
        assert!(
            scrape
                .split('\n')
                .all(|line| line.is_empty() || line.starts_with(['#', 's', 'p'])),
            "{scrape}"
        );
    }
}

#[test]
fn no_two_samples_have_the_same_labels() {
    let mut report = small();
    let server = &mut report.snapshot.servers[0];
    let ours = PrefixSnapshot {
        special: true,
        ..prefix("(other)", 1)
    };
    server.prefixes = vec![ours, prefix("(other)", 2), prefix("a", 3), prefix("a", 4)];
    let scrape = text(&report, Format::Text);
    for line in [
        "prefix=\"(other)\"} 1\n",
        "prefix=\"\\\\x28other)\"} 2\n",
        "prefix=\"a\"} 7\n",
    ] {
        assert!(scrape.contains(line), "{line} in {scrape}");
    }
    let series: Vec<_> = scrape
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, _)| name)
        .collect();
    let unique: std::collections::HashSet<_> = series.iter().filter(|name| !name.starts_with('#')).collect();
    assert_eq!(
        unique.len(),
        series.iter().filter(|name| !name.starts_with('#')).count()
    );
}

#[test]
fn the_accept_header_decides_between_the_formats() {
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
    assert_eq!(
        Format::accepted("application/openmetrics-text"),
        Format::OpenMetrics
    );
    assert_eq!(
        Format::accepted("Application/OpenMetrics-Text; version=1.0.0"),
        Format::OpenMetrics
    );
    for text in [
        "",
        "*/*",
        "text/plain",
        "text/html, application/xhtml+xml",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.3, text/plain;q=0.5",
        "application/json",
    ] {
        assert_eq!(Format::accepted(text), Format::Text, "{text}");
    }
}

#[test]
fn whoever_reads_of_a_loss_finds_what_to_do() {
    let document = include_str!("../../../docs/TROUBLESHOOTING.md");
    for loss in Loss::ALL {
        let row = format!("\n| `{}` | ", loss.label());
        assert_eq!(document.matches(&row).count(), 1, "{}", loss.label());
    }
}
