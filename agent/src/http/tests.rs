//! The server over a real socket, with a hand-made report behind it.

mod hashed;
mod openapi;
mod pages;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use agent_common::abi::{Direction, Reason};
use tokio::sync::oneshot;

use super::*;
use crate::alerts::{AlertsStatus, ReceiverStatus};
use crate::config::ConfigStatus;
use crate::incidents::{ArchiveStatus, Flight};
use crate::kubernetes;
use crate::metrics::StormReport;
use crate::snapshot::{
    ClientSnapshot, LibrarySnapshot, PrefixSnapshot, Rate, ServerSnapshot, Snapshot, counters,
};
use crate::storms::{Culprit, Figure, Moment, Severity, Storm, Subject};
use crate::tenants::{Disagreement, PrefixAt, TenantInfo, TenantRow};
use crate::valkey::{
    Container, DescriptorLimit, MaxClients, Place, Pod, Qos, Runtime, ServerFacts, Source as NamedBy,
};
use crate::workloads::{
    Busy, Kind, PerInstance, PoolAdvice, Range, Restart, ServerWorkloads, SurveyStatus, Tally,
    WorkloadReport, WorkloadRow,
};

/// Answers with what it was given last.
struct Fixed {
    report: Mutex<Result<Arc<Report>, String>>,
    health: Mutex<Health>,
    announcements: Arc<Announcements>,
    incidents: Arc<Archive>,
    dir: tempfile::TempDir,
}

impl Source for Fixed {
    fn collect(&self) -> Collected<'_, Report> {
        Box::pin(async { self.report.lock().expect("not poisoned").clone() })
    }

    fn storms(&self) -> Collected<'_, StormReport> {
        Box::pin(async {
            let report = self.report.lock().expect("not poisoned").clone()?;
            Ok(Arc::new(report.storms.clone()))
        })
    }

    fn connections(&self) -> Collected<'_, Vec<ConnectionSnapshot>> {
        Box::pin(async {
            self.report.lock().expect("not poisoned").clone()?;
            Ok(Arc::new(vec![ConnectionSnapshot {
                server: "valkey-server:6379".into(),
                address: [10, 1, 0, 7].into(),
                port: 40_001,
                user: "checkout-svc".into(),
                name: "checkout-api-1".into(),
                library: "valkey-py".into(),
                library_version: "6.2.0".into(),
                database: None,
                protocol: 3,
                adopted: true,
                synchronised: false,
            }]))
        })
    }

    fn announcements(&self) -> (Arc<Announcements>, Moment) {
        (Arc::clone(&self.announcements), NOW)
    }

    fn incidents(&self) -> Arc<Archive> {
        Arc::clone(&self.incidents)
    }

    fn health(&self) -> Health {
        self.health.lock().expect("not poisoned").clone()
    }
}

/// An archive with the incident `1-1`.
fn archive(dir: &std::path::Path) -> Arc<Archive> {
    let settings = crate::config::Incidents {
        dir: dir.join("incidents"),
        ..crate::config::Incidents::default()
    };
    let (archive, keeper) = Archive::start(&settings).expect("started");
    let storm = crate::alerts::testing::storm("1-1");
    let mut flight = Flight::new(settings, "1");
    let seen = crate::storms::Observation::default();
    for tick in 0..5 {
        assert_eq!(
            flight.note(&storm.server, Moment(NOW.0 + tick * 100), &seen),
            None
        );
    }
    let row = |tenant: &str, commands| crate::storms::TrafficRow {
        tenant: Some(tenant.into()),
        commands,
        bytes_in: 2_000 * commands,
        ..crate::storms::TrafficRow::default()
    };
    let traffic = |commands| crate::storms::Traffic {
        milliseconds: 1_000,
        rows: vec![row("checkout", 40), row("search", commands)],
        ..crate::storms::Traffic::default()
    };
    for (second, commands) in [(0, 7), (1, 700), (2, 700)] {
        let at = Moment(storm.onset.0 + 1_000 * second);
        assert_eq!(flight.traffic(&storm.server, at, &traffic(commands)), None);
    }
    for work in flight.storm(NOW, &storm) {
        archive.take(work);
    }
    keeper.stop();
    archive
}

/// The moment of every answer.
const NOW: Moment = Moment(1_795_412_506_100);

/// A server on a free port, with a thread and runtime of its own.
struct Running {
    address: SocketAddr,
    source: Arc<Fixed>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(report: Report) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let source = Arc::new(Fixed {
            announcements: Arc::new(Announcements::open(dir.path(), NOW)),
            incidents: archive(dir.path()),
            dir,
            report: Mutex::new(Ok(Arc::new(report))),
            health: Mutex::new(Health {
                since_last_tick: Some(Duration::ZERO),
                not_ready: None,
            }),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let served: Arc<dyn Source> = source.clone();
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                let listener = bind("127.0.0.1:0".parse().expect("an address"))
                    .await
                    .expect("bound");
                tell.send(listener.local_addr().expect("an address"))
                    .expect("the test waits");
                serve(listener, served, None, async { _ = stopped.await }).await;
            });
        });
        let address = told.recv().expect("the server starts");
        Self {
            address,
            source,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn get(&self, path: &str) -> String {
        self.request(&format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
    }

    fn request(&self, text: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).expect("sent");
        let mut reply = Vec::new();
        // A refused request may be answered by a reset after the reply.
        _ = stream.read_to_end(&mut reply);
        String::from_utf8(reply).expect("UTF-8")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("set");
        stream
    }

    fn stop(mut self) -> Duration {
        let begin = Instant::now();
        self.finish();
        begin.elapsed()
    }

    fn finish(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server did not panic");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.finish();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn status(reply: &str) -> u16 {
    reply
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no status in {reply:?}"))
}

fn body(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").expect("a head").1
}

fn header<'a>(reply: &'a str, name: &str) -> Option<&'a str> {
    let head = reply.split_once("\r\n\r\n").expect("a head").0;
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn json(reply: &str) -> serde_json::Value {
    assert_eq!(
        (status(reply), header(reply, "content-type")),
        (200, Some("application/json"))
    );
    serde_json::from_str(body(reply)).expect("JSON")
}

fn kubernetes_pod() -> kubernetes::Pod {
    kubernetes::Pod {
        namespace: "shop".into(),
        name: "cache-0".into(),
        owner: kubernetes::Owner {
            kind: "StatefulSet".into(),
            name: "cache".into(),
        },
        node: Some("node-1".into()),
        labels: BTreeMap::from([("app".into(), "cache".into())]),
        ..kubernetes::Pod::default()
    }
}

fn facts() -> ServerFacts {
    ServerFacts {
        pid: 4711,
        process: "valkey-server".into(),
        listeners: ["127.0.0.1:6379", "[::1]:6379", "127.0.0.1:6380"]
            .map(|address| address.parse().expect("an address"))
            .into(),
        cgroup: Some("/kubepods/pod1/c1".into()),
        place: Place {
            container: Some(Container {
                id: "c0ffee".into(),
                runtime: Some(Runtime::Containerd),
            }),
            pod: Some(Pod {
                uid: "dd1bf9d1-241d-47f5-8e25-12de83135812".into(),
                qos: Some(Qos::Guaranteed),
            }),
        },
        pod: Some(kubernetes_pod().into()),
        uptime_seconds: 90.9,
        descriptors: Some(DescriptorLimit {
            soft: Some(1024),
            hard: None,
        }),
        version: Some("8.0.1".into()),
        maxclients: Some(MaxClients {
            clients: 500,
            source: NamedBy::ConfigFile,
        }),
    }
}

fn report() -> Report {
    let server = ServerSnapshot {
        label: "valkey-server:6379".into(),
        facts: facts(),
        rate: Some(Rate {
            in_per_second: 10.9,
            out_per_second: 22.1,
            seconds: 7.51,
        }),
        connections: 3,
        opened: 5,
        closed: 2,
        clients: vec![
            ClientSnapshot {
                address: None,
                connections: 1,
                opened: 1,
            },
            ClientSnapshot {
                address: "10.1.0.7".parse().ok(),
                connections: 2,
                opened: 4,
            },
        ],
        prefixes: vec![PrefixSnapshot {
            prefix: "<b>\"cart\"\n\\".into(),
            special: false,
            class: None,
            tenant: None,
            counters: counters(7, 70, 700),
        }],
        unattributed: vec![(Direction::In, Reason::Hole, 9)],
        ..ServerSnapshot::default()
    };
    let row = |server: &str, errors: u64| {
        let mut counters = counters(7, 70, 700);
        (counters.errors[2], counters.hits, counters.misses) = (errors, 3, 1);
        (counters.reply_sizes[10], counters.durations[40]) = (7, 7);
        TenantRow {
            server: server.into(),
            tenant: "checkout".into(),
            counters,
        }
    };
    let labels = [("tier".to_owned(), "1".to_owned())].into();
    Report {
        alerts: alerts(),
        kubernetes: kubernetes::Status::default(),
        pods: [([10, 1, 0, 7].into(), Arc::new(kubernetes_pod()))].into(),
        incidents: ArchiveStatus::default(),
        link: None,
        process: None,
        disagreements: vec![Disagreement {
            server: "b:2".into(),
            tenant: "checkout".into(),
            connection_tenant: "search".into(),
            commands: 2,
            bytes_in: 20,
            bytes_out: 200,
        }],
        snapshot: Snapshot {
            servers: vec![server],
            ..Snapshot::default()
        },
        tenants: vec![
            TenantRow {
                server: "valkey-server:6379".into(),
                tenant: "(unassigned)".into(),
                counters: counters(1, 5, 20),
            },
            row("valkey-server:6379", 0),
            row("b:2", 5),
        ],
        tenant_infos: vec![
            TenantInfo {
                name: "checkout".into(),
                owner: "team".into(),
                labels,
            },
            TenantInfo {
                name: "(unassigned)".into(),
                ..TenantInfo::default()
            },
            TenantInfo {
                name: "idle".into(),
                ..TenantInfo::default()
            },
        ],
        workloads: workloads(),
        storms: storms(),
        config: ConfigStatus::started(Some("a.toml".into()), 86_400_000),
        unassigned: vec![PrefixAt { server: 0, prefix: 0 }],
        prefixes_hashed: false,
    }
}

/// One that goes on and one that is over.
fn storms() -> StormReport {
    let active = Storm {
        id: "86400000-1".into(),
        server: "valkey-server:6379".into(),
        kind: crate::storms::Kind::ReconnectChurn,
        kinds: vec![crate::storms::Kind::ReconnectChurn],
        severity: Severity::Critical,
        onset: Moment(86_400_000),
        found: Moment(86_400_300),
        ended: None,
        expected: false,
        summary: "reconnect churn: <b>".into(),
        evidence: vec![Figure {
            name: "opens".into(),
            value: 4_100.0,
            unit: "connections".into(),
        }],
        culprits: vec![Culprit {
            subject: Subject::Workload,
            name: "cart-api".into(),
            share: 0.92,
            instances: 312,
            connections: 4_056,
            amount: 3_772.0,
        }],
    };
    let over = Storm {
        id: "86300000-0".into(),
        server: "b:2".into(),
        ended: Some(Moment(86_402_000)),
        ..active.clone()
    };
    StormReport {
        active: vec![active],
        over: vec![over],
        counts: Vec::new(),
    }
}

fn alerts() -> AlertsStatus {
    AlertsStatus {
        receivers: vec![ReceiverStatus {
            sink: "webhook",
            receiver: "hook".into(),
            sent: 3,
            failed: vec![("timeout", 2)],
            dropped: vec![("refused", 1)],
            queued: 4,
        }],
        journal_errors: 5,
        announced: 6,
    }
}

fn workloads() -> WorkloadReport {
    let row = WorkloadRow {
        workload: "checkout-api".into(),
        kind: Kind::Rule,
        instances: 2,
        connections: 40,
        opened: 60,
        opens_per_minute: Some(1.5),
        per_instance: Some(PerInstance {
            median: 20.0,
            max: 20,
        }),
        survey: Some(Tally {
            connections: 40,
            idle: 30,
            busy: 2,
            memory_bytes: 160_000,
        }),
        busy: Some(Busy {
            p99: 2,
            max: 3,
            surveys: 360,
            span: Duration::from_secs(3600),
        }),
        advice: Some(PoolAdvice {
            enough: 3,
            now: 20,
            busy_p99: 2,
        }),
    };
    let lonely = WorkloadRow {
        workload: "192.0.2.1".into(),
        kind: Kind::Address,
        opens_per_minute: None,
        per_instance: None,
        survey: None,
        busy: None,
        advice: None,
        ..row.clone()
    };
    let rest = WorkloadRow {
        workload: "(unassigned)".into(),
        kind: Kind::Unassigned,
        instances: 1,
        connections: 1,
        ..lonely.clone()
    };
    let rule = WorkloadRow {
        connections: 2,
        ..row.clone()
    };
    let server = ServerWorkloads {
        server: "valkey-server:6379".into(),
        workloads: vec![rest, rule],
        detailed: vec![row, lonely],
        restart: Restart {
            connections: 43,
            instances: 5,
            accept_rate: Some(Range {
                at_least: 163_850.0,
                at_most: None,
            }),
            seconds: None,
        },
        ..ServerWorkloads::default()
    };
    WorkloadReport {
        servers: vec![server],
        survey: Some(SurveyStatus {
            age: Duration::from_secs(2),
            cost: Duration::from_millis(125),
            interval: Duration::from_millis(12_500),
        }),
    }
}

#[test]
fn the_api_shows_how_workloads_use_their_connections() {
    let server = Running::start(report());
    let page = json(&server.get("/api/v1/workloads"));
    let null = serde_json::Value::Null;
    assert_eq!(
        page,
        serde_json::json!({
            "workloads": [
                {"server": "valkey-server:6379", "workload": "checkout-api", "kind": "rule",
                    "instances": 2, "connections": 40, "opened": 60, "opens_per_minute": 1.5,
                    "connections_per_instance": {"median": 20.0, "max": 20},
                    "idle": 30, "idle_share": 0.75, "busy": 2, "socket_memory_bytes": 160_000,
                    "busy_per_instance": {"p99": 2, "max": 3, "surveys": 360, "over_seconds": 3600},
                    "pool_advice": {"connections_per_instance": 3, "instead_of": 20, "text":
                        "p could be 3 instead of 20: p99 of simultaneously busy connections per instance was 2"}},
                {"server": "valkey-server:6379", "workload": "192.0.2.1", "kind": "address",
                    "instances": 2, "connections": 40, "opened": 60, "opens_per_minute": null,
                    "connections_per_instance": null, "idle": null, "idle_share": null, "busy": null,
                    "socket_memory_bytes": null, "busy_per_instance": null, "pool_advice": null},
            ],
            "servers": [{"server": "valkey-server:6379", "restart": {
                "connections": 43, "instances": 5,
                "accept_rate": {"at_least": 163_850.0, "at_most": null}, "seconds": null}}],
            "survey": {"age_seconds": 2.0, "cpu_seconds": 0.125, "interval_seconds": 12.5},
        })
    );
    let one = json(&server.get("/api/v1/workloads?server=valkey-server:6379"));
    assert_eq!(one["workloads"].as_array().map(Vec::len), Some(2));
    let mut second = report();
    second.workloads.servers[0].server = "b:2".into();
    let elsewhere = Running::start(second);
    let page = json(&elsewhere.get("/api/v1/workloads?server=valkey-server:6379"));
    assert_eq!(
        (&page["workloads"], &page["servers"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    let nothing = Running::start(Report::default());
    assert_eq!(json(&nothing.get("/api/v1/workloads"))["survey"], null);
}

#[test]
fn metrics_come_as_prometheus_text_or_as_openmetrics_where_accepted() {
    let server = Running::start(report());
    let text = server.get("/metrics");
    assert_eq!(status(&text), 200);
    assert_eq!(
        header(&text, "content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(body(&text).contains("stormglass_connections{server=\"valkey-server:6379\"} 3\n"));
    assert!(body(&text).contains(r#"prefix="<b>\"cart\"\n\\"} 7"#), "{text}");

    let open = server.request(
        "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    );
    assert_eq!(
        header(&open, "content-type"),
        Some(crate::metrics::Format::OpenMetrics.content_type())
    );
    assert!(body(&open).ends_with("# EOF\n"));
}

#[test]
fn each_scrape_collects_anew() {
    let server = Running::start(report());
    let mut next = report();
    next.snapshot.servers[0].connections = 99;
    *server.source.report.lock().expect("not poisoned") = Ok(Arc::new(next));
    assert!(
        server
            .get("/metrics")
            .contains("stormglass_connections{server=\"valkey-server:6379\"} 99\n")
    );
}

#[test]
fn storms_go_on_or_are_over() {
    let server = Running::start(report());
    let page = json(&server.get("/api/v1/storms"));
    assert_eq!(page["active"][0]["culprits"][0]["name"], "cart-api");
    assert_eq!(
        (&page["active"][0]["kind"], &page["active"][0]["ended"]),
        (&"reconnect_churn".into(), &serde_json::Value::Null)
    );
    assert_eq!(page["ended"][0]["ended"], 86_402_000);
    let one = json(&server.get("/api/v1/storms?server=valkey-server:6379"));
    assert_eq!(
        (
            one["active"].as_array().map(Vec::len),
            one["ended"].as_array().map(Vec::len)
        ),
        (Some(1), Some(0))
    );
}

#[test]
fn a_report_that_cannot_be_had_is_an_unavailable_page_with_the_reason() {
    let server = Running::start(report());
    *server.source.report.lock().expect("not poisoned") = Err("the maps cannot be read".into());
    for path in [
        "/metrics",
        "/api/v1/servers",
        "/api/v1/tenants",
        "/api/v1/clients",
        "/api/v1/workloads",
        "/api/v1/config",
    ] {
        let reply = server.get(path);
        assert_eq!(
            (status(&reply), body(&reply)),
            (503, "the maps cannot be read\n"),
            "{path}"
        );
    }
}

#[test]
fn healthz_tells_a_turning_loop_from_a_stuck_one() {
    let server = Running::start(report());
    for (since_last_tick, expected, reason) in [
        (Some(Duration::from_millis(4900)), 200, "ok\n"),
        (
            Some(Duration::from_millis(5100)),
            503,
            "the agent's loop last turned 5.1 s ago\n",
        ),
        (None, 503, "the agent's loop has not turned yet\n"),
    ] {
        server.source.health.lock().expect("not poisoned").since_last_tick = since_last_tick;
        let reply = server.get("/healthz");
        assert_eq!((status(&reply), body(&reply)), (expected, reason));
    }
}

#[test]
fn readyz_gives_the_reason_until_the_agent_is_ready() {
    let server = Running::start(report());
    assert_eq!(status(&server.get("/readyz")), 200);
    server.source.health.lock().expect("not poisoned").not_ready = Some("programs are not attached".into());
    let reply = server.get("/readyz");
    assert_eq!(
        (status(&reply), body(&reply)),
        (503, "programs are not attached\n")
    );
}

#[test]
fn the_api_shows_servers_tenants_and_clients() {
    let server = Running::start(report());
    let servers = json(&server.get("/api/v1/servers"));
    assert_eq!(
        servers,
        serde_json::json!({"servers": [{
            "server": "valkey-server:6379", "process": "valkey-server", "pid": 4711, "version": "8.0.1",
            "ports": [6379, 6380], "listeners": ["127.0.0.1:6379", "[::1]:6379", "127.0.0.1:6380"],
            "cgroup": "/kubepods/pod1/c1", "container": {"id": "c0ffee", "runtime": "containerd"},
            "pod": {
                "uid": "dd1bf9d1-241d-47f5-8e25-12de83135812", "qos": "Guaranteed", "namespace": "shop", "name": "cache-0",
                "owner": {"kind": "StatefulSet", "name": "cache"}, "node": "node-1", "labels": {"app": "cache"},
            }, "uptime_seconds": 90,
            "file_descriptors": {"soft": 1024, "hard": null}, "maxclients": 500,
            "maxclients_source": "config_file", "clients_at_most": 500,
            "connections": 3, "opened": 5, "closed": 2,
            "accept_queue": {"length": 0, "limit": 0}, "clients": 2, "prefixes": 1,
            "commands": 7, "bytes_in": 70, "bytes_out": 700,
            "unattributed": [{"direction": "in", "reason": "hole", "bytes": 9}],
            "bytes_per_second": {"in": 11.0, "out": 22.0, "over_seconds": 7.5},
            "blast_radius": {
                "connections": 3, "addresses": 1,
                "tenants": [
                    {"tenant": "checkout", "owner": "team", "commands": 7, "bytes": 770, "share_of_bytes": 0.9686},
                    {"tenant": "(unassigned)", "owner": "", "commands": 1, "bytes": 25, "share_of_bytes": 0.0314},
                ],
                "workloads": [
                    {"workload": "checkout-api", "instances": 2, "connections": 2, "share_of_connections": 0.6667},
                    {"workload": "(unassigned)", "instances": 1, "connections": 1, "share_of_connections": 0.3333},
                ],
                "largest_clients": [{"client": "10.1.0.7", "connections": 2, "share_of_connections": 0.6667}],
            },
        }]})
    );
    let tenants = json(&server.get("/api/v1/tenants"));
    let sizes = |count: u64, bytes: u64| serde_json::json!({"count": count, "p50": bytes, "p90": bytes, "p99": bytes, "p999": bytes});
    // The middle of bucket 40, from 524.288 to 655.36 us.
    let middle = 0.000_589_824;
    let durations = |count: u64| serde_json::json!({"count": count, "p50": middle, "p90": middle, "p99": middle, "p999": middle});
    assert_eq!(
        tenants["tenants"][0],
        serde_json::json!({
            "tenant": "checkout", "owner": "team", "labels": {"tier": "1"},
            "commands": 14, "bytes_in": 140, "bytes_out": 1400,
            "duration_seconds": durations(14), "request_bytes": sizes(14, 32), "reply_bytes": sizes(14, 1024),
            "errors": {"WRONGTYPE": 5}, "hits": 6, "misses": 2, "hit_ratio": 0.75,
            "disagreements": [{"connection_tenant": "search", "commands": 2, "bytes_in": 20, "bytes_out": 200}],
            "servers": [
                {"server": "valkey-server:6379", "commands": 7, "bytes_in": 70, "bytes_out": 700,
                    "duration_seconds": durations(7), "request_bytes": sizes(7, 32), "reply_bytes": sizes(7, 1024),
                    "errors": {}, "hits": 3, "misses": 1, "hit_ratio": 0.75},
                {"server": "b:2", "commands": 7, "bytes_in": 70, "bytes_out": 700,
                    "duration_seconds": durations(7), "request_bytes": sizes(7, 32), "reply_bytes": sizes(7, 1024),
                    "errors": {"WRONGTYPE": 5}, "hits": 3, "misses": 1, "hit_ratio": 0.75},
            ],
        })
    );
    assert_eq!(tenants["tenants"][2]["servers"], serde_json::json!([]));
    assert_eq!(tenants["tenants"][2]["duration_seconds"], serde_json::Value::Null);
    assert_eq!(tenants["tenants"][2]["hit_ratio"], serde_json::Value::Null);
    let clients = json(&server.get("/api/v1/clients"));
    assert_eq!(
        clients,
        serde_json::json!({"clients": [
            {"server": "valkey-server:6379", "client": "(other)", "pod": null, "connections": 1, "opened": 1},
            {"server": "valkey-server:6379", "client": "10.1.0.7", "connections": 2, "opened": 4, "pod": {
                "namespace": "shop", "name": "cache-0", "owner": {"kind": "StatefulSet", "name": "cache"},
                "node": "node-1", "labels": {"app": "cache"},
            }},
        ]})
    );
}

/// Two servers with prefixes that no rule matches.
fn unassigned() -> Report {
    let server = |label: &str, prefixes: &[(&str, u64)]| ServerSnapshot {
        label: label.into(),
        prefixes: prefixes
            .iter()
            .map(|(prefix, bytes)| PrefixSnapshot {
                prefix: (*prefix).into(),
                special: *prefix == "(none)",
                class: None,
                tenant: None,
                counters: counters(u64::from(*bytes != 0), *bytes, 0),
            })
            .collect(),
        ..ServerSnapshot::default()
    };
    let mut report = report();
    report.snapshot.servers = vec![
        server(
            "a:1",
            &[("small", 10), ("mine", 1000), ("(none)", 50), ("still", 0)],
        ),
        server("b:2", &[("small", 5), ("large", 100)]),
    ];
    report.unassigned = [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1)]
        .map(|(server, prefix)| PrefixAt { server, prefix })
        .to_vec();
    report
}

#[test]
fn the_biggest_prefixes_without_a_rule_are_named_over_all_servers_or_at_one() {
    let server = Running::start(unassigned());
    let prefixes = |query: &str| {
        let tenants = json(&server.get(&format!("/api/v1/tenants{query}")));
        assert!(
            tenants["tenants"][0].get("unassigned").is_none(),
            "the others have no such field"
        );
        let unassigned = &tenants["tenants"][1]["unassigned"];
        let named = unassigned["prefixes"].as_array().expect("a list").iter();
        let named: Vec<_> = named
            .map(|row| {
                (
                    row["prefix"].clone(),
                    row["special"].clone(),
                    row["bytes_in"].clone(),
                )
            })
            .collect();
        serde_json::json!([unassigned["count"], named])
    };
    assert_eq!(
        prefixes(""),
        serde_json::json!([
            3,
            [["large", false, 100], ["(none)", true, 50], ["small", false, 15]]
        ])
    );
    assert_eq!(
        prefixes("?prefixes=1"),
        serde_json::json!([3, [["large", false, 100]]])
    );
    assert_eq!(
        prefixes("?server=a%3A1"),
        serde_json::json!([2, [["(none)", true, 50], ["small", false, 10]]])
    );
}

#[test]
fn tenants_and_clients_can_be_those_of_one_server() {
    let server = Running::start(unassigned());
    let tenants = json(&server.get("/api/v1/tenants?server=b:2"));
    assert_eq!(tenants["tenants"][0]["commands"], 7);
    assert_eq!(tenants["tenants"][0]["servers"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        json(&server.get("/api/v1/clients?server=b:2"))["clients"],
        serde_json::json!([])
    );
    drop(server);
    let server = Running::start(report());
    let clients = json(&server.get("/api/v1/clients?server=valkey-server:6379"));
    assert_eq!(clients["clients"].as_array().map(Vec::len), Some(2));
}

#[test]
fn connections_and_libraries_can_be_those_of_one_server() {
    let mut report = report();
    let mut elsewhere = report.snapshot.servers[0].clone();
    elsewhere.label = "b:2".into();
    elsewhere.libraries.clear();
    report.snapshot.servers[0].libraries = vec![LibrarySnapshot {
        opened: Some(9),
        library: "valkey-py".into(),
        version: "6.2.0".into(),
        connections: 1,
    }];
    report.snapshot.servers.push(elsewhere);
    let server = Running::start(report);
    for (page, list) in [("connections", "connections"), ("libraries", "libraries")] {
        for (label, rows) in [("valkey-server:6379", 1), ("b:2", 0)] {
            let shown = json(&server.get(&format!("/api/v1/{page}?server={label}")));
            assert_eq!(shown[list].as_array().map(Vec::len), Some(rows), "{shown}");
        }
    }
}

#[test]
fn a_server_that_is_not_here_and_a_parameter_that_is_none_are_refused() {
    let server = Running::start(report());
    for path in [
        "/api/v1/tenants",
        "/api/v1/clients",
        "/api/v1/workloads",
        "/api/v1/storms",
        "/api/v1/connections",
        "/api/v1/libraries",
    ] {
        let reply = server.get(&format!("{path}?server=nobody%0A:1"));
        assert_eq!(
            (status(&reply), body(&reply)),
            (
                400,
                "no server \"nobody\\n:1\" here; /api/v1/servers lists them\n"
            )
        );
        let reply = server.get(&format!("{path}?servr=a:1"));
        assert_eq!(status(&reply), 400);
        assert!(body(&reply).contains("expected"), "{reply}");
    }
    assert_eq!(status(&server.get("/api/v1/tenants?prefixes=-1")), 400);
}

#[test]
fn an_incident_is_listed_and_read() {
    let server = Running::start(report());
    let list = json(&server.get("/api/v1/incidents"));
    let entry = &list["incidents"][0];
    assert_eq!((&entry["id"], &entry["complete"]), (&"1-1".into(), &false.into()));
    assert_eq!(entry["storm"]["kind"], "reconnect_churn");
    let incident = json(&server.get("/api/v1/incidents/1-1"));
    assert_eq!(incident["course"]["at"].as_array().map(Vec::len), Some(4));
    let reply = server.get("/api/v1/incidents/2-2");
    assert_eq!(status(&reply), 404);
    assert!(body(&reply).starts_with("no incident \"2-2\" here"), "{reply}");
}

fn post(server: &Running, body: &str) -> String {
    server.request(&format!(
        "POST /api/v1/announcements HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn a_restart_is_announced_listed_and_cancelled() {
    let server = Running::start(report());
    let made = json(&post(&server, r#"{"for_seconds":600,"workload":"cart-*"}"#));
    assert_eq!(made["until"], NOW.0 + 600_000);
    let list = json(&server.get("/api/v1/announcements"));
    assert_eq!(list["announcements"], serde_json::json!([made]));
    let id = made["id"].as_str().expect("an id");
    let cancel = |id: &str| {
        server.request(&format!(
            "DELETE /api/v1/announcements?id={id} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
    };
    assert_eq!(json(&cancel(id))["id"], id);
    assert_eq!(status(&cancel(id)), 404);
    let list = json(&server.get("/api/v1/announcements"));
    assert_eq!(list["announcements"], serde_json::json!([]));
}

#[test]
fn an_announcement_that_cannot_be_meant_is_refused_with_a_reason() {
    let server = Running::start(report());
    for (asked, code, reason) in [
        (r#"{"for_seconds":0}"#, 400, "24 hours"),
        (r#"{"for_seconds":60,"worklaod":"a"}"#, 422, "worklaod"),
        (r#"{"for_seconds":"long"}"#, 422, "for_seconds"),
        ("{", 400, "EOF"),
    ] {
        let reply = post(&server, asked);
        assert_eq!(status(&reply), code, "{asked}");
        assert!(body(&reply).contains(reason), "{asked}: {reply}");
    }
    let long = format!(r#"{{"for_seconds":60,"server":"{}"}}"#, "a".repeat(10_000));
    assert_eq!(status(&post(&server, &long)), 413);
    let form =
        "POST /api/v1/announcements HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(status(&server.request(form)), 415, "what a web page could send");
}

#[test]
fn every_kind_has_its_runbook() {
    let server = Running::start(report());
    for kind in crate::storms::Kind::ALL {
        let reply = server.get(&format!("/runbooks/{kind}"));
        assert_eq!(status(&reply), 200);
        assert!(body(&reply).starts_with(&format!("## {kind}\n")), "{reply}");
    }
    let reply = server.get("/runbooks/tsunami");
    assert_eq!(status(&reply), 404);
    assert!(
        body(&reply).contains("reconnect_churn, cold_reconnect"),
        "{reply}"
    );
}

#[test]
fn unknown_pages_and_methods_are_refused_and_head_is_answered() {
    let server = Running::start(report());
    assert_eq!(status(&server.get("/nope")), 404);
    assert_eq!(status(&server.get("/metrics/")), 404);
    let post =
        server.request("POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((status(&post), header(&post, "allow")), (405, Some("GET,HEAD")));
    let head = server.request("HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!((status(&head), body(&head)), (200, ""));
}

#[test]
fn a_head_that_is_too_large_or_not_http_is_refused() {
    let server = Running::start(report());
    let large = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(HEAD_BYTES * 4)
    );
    let reply = server.request(&large);
    // The reset that follows an unread request may overtake the reply.
    assert!(reply.is_empty() || status(&reply) == 431, "{reply}");
    assert_eq!(status(&server.request("*1\r\n$4\r\nPING\r\n\r\n")), 400);
    assert_eq!(status(&server.get("/healthz")), 200, "and it goes on");
}

#[test]
fn more_connections_than_the_bound_wait_for_their_turn() {
    let server = Running::start(report());
    let idle: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    let mut waiting = server.connect();
    waiting
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("sent");
    waiting
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("set");
    assert!(waiting.read(&mut [0; 16]).is_err(), "no room yet");
    idle[0].shutdown(Shutdown::Both).expect("closed");
    waiting
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    let mut reply = String::new();
    waiting.read_to_string(&mut reply).expect("answered");
    assert_eq!(status(&reply), 200);
}

/// Bytes that trickle do not begin the patience anew: whoever sends a head slowly is cut off, and others are served meanwhile.
#[test]
fn a_head_that_trickles_in_is_cut_off_in_time_and_holds_nobody() {
    const PATIENCE: Duration = Duration::from_millis(400);
    let (mut client, stream) = pair();
    let (_stop, stopped) = watch::channel(());
    let served = thread::spawn(move || {
        runtime().block_on(async {
            stream.set_nonblocking(true).expect("set");
            let stream = tokio::net::TcpStream::from_std(stream).expect("a stream");
            let service = TowerToHyperService::new(axum::Router::new());
            connection(stream, service, PATIENCE, stopped).await;
        });
    });
    let began = Instant::now();
    let head = "GET / HTTP/1.1\r\nX: ".bytes().chain(std::iter::repeat(b'x'));
    for byte in head {
        if client.write_all(&[byte]).is_err() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "it may go on for ever");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
    served.join().expect("it ended");

    let server = Running::start(report());
    let slow: Vec<_> = (0..CONNECTIONS - 1)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET / HT").expect("sent");
            stream
        })
        .collect();
    assert_eq!(
        status(&server.get("/healthz")),
        200,
        "beside {} of them",
        slow.len()
    );
}

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("connected");
    (client, listener.accept().expect("accepted").0)
}

#[test]
fn a_shutdown_is_quick_even_with_idle_and_half_sent_requests() {
    let server = Running::start(report());
    let idle = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET /metr").expect("sent");
    assert_eq!(status(&server.get("/healthz")), 200, "all three are accepted");
    let took = server.stop();
    assert!(took < Duration::from_millis(800), "{took:?}");
    drop((idle, half));
}

#[test]
fn an_address_in_use_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address");
    let error = runtime().block_on(bind(address)).expect_err("taken").to_string();
    assert!(
        error.starts_with(&format!("cannot listen on {address}: ")),
        "{error}"
    );
    assert!(
        error.ends_with("is another agent running? Stop it, or change `listen` in [http]"),
        "{error}"
    );
    let foreign = "192.0.2.1:0".parse().expect("an address");
    let error = runtime()
        .block_on(bind(foreign))
        .expect_err("not ours")
        .to_string();
    assert!(error.contains("no interface of this host has it"), "{error}");
}
