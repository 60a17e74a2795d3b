//! Workloads from outside: observations in, rows out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::config::Settings;
use crate::snapshot::{BurstHistogram, ClientSnapshot, ServerSnapshot, Snapshot};

pub(super) const SERVER: &str = "valkey-server:6379";

const TWO: &str = r#"
    [[workload]]
    name = "zoo"
    addresses = ["10.0.0.0/24"]
    [[workload]]
    name = "abc"
    addresses = ["10.0.1.0/24", "fd00::/8"]
"#;

pub(super) fn rules(text: &str) -> Rules {
    Rules::new(&Settings::parse(Path::new("test.toml"), text).expect("accepted"))
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn client(at: &str, connections: u64, opened: u64) -> ClientSnapshot {
    ClientSnapshot {
        address: Some(address(at)),
        connections,
        opened,
    }
}

pub(super) fn unknown(connections: u64, opened: u64) -> ClientSnapshot {
    ClientSnapshot {
        address: None,
        connections,
        opened,
    }
}

fn snapshot(clients: Vec<ClientSnapshot>) -> Snapshot {
    let server = ServerSnapshot {
        label: SERVER.into(),
        connections: clients.iter().map(|client| client.connections).sum(),
        opened: clients.iter().map(|client| client.opened).sum(),
        clients,
        ..ServerSnapshot::default()
    };
    Snapshot {
        servers: vec![server],
        ..Snapshot::default()
    }
}

/// A survey of connections of which some are idle and some busy.
fn survey(of: &[(&str, u64, u64, u64)]) -> ServerSurvey {
    let addresses = of.iter().map(|(at, connections, idle, busy)| {
        let tally = Tally {
            connections: *connections,
            idle: *idle,
            busy: *busy,
            memory_bytes: connections * 1000,
        };
        (address(at), tally)
    });
    ServerSurvey {
        addresses: addresses.collect(),
        ..ServerSurvey::default()
    }
}

fn observe(workloads: &mut Workloads, at: Instant, clients: &[ClientSnapshot], survey: Option<ServerSurvey>) {
    let observation = Observation {
        server: SERVER.into(),
        clients: clients.to_vec(),
        survey,
        ..Observation::default()
    };
    let (cost, interval) = (Duration::from_millis(20), Duration::from_secs(10));
    workloads.observe(at, cost, interval, vec![observation]);
}

fn report(workloads: &mut Workloads, now: Instant, clients: &[ClientSnapshot]) -> ServerWorkloads {
    let mut report = workloads.report(now, &snapshot(clients.to_vec()));
    report.servers.remove(0)
}

/// Name, instances, connections, opened.
pub(super) fn shown(rows: &[WorkloadRow]) -> Vec<(&str, u64, u64, u64)> {
    rows.iter()
        .map(|row| (&*row.workload, row.instances, row.connections, row.opened))
        .collect()
}

#[test]
fn clients_are_added_up_in_file_order_and_together_they_are_the_server() {
    let clients = [
        client("10.0.1.1", 20, 40),
        client("10.0.0.1", 3, 3),
        client("fd00::1", 10, 10),
        client("::ffff:10.0.0.2", 5, 6),
        client("192.0.2.1", 1, 2),
        client("192.0.2.2", 0, 7),
        unknown(4, 9),
    ];
    let mut workloads = Workloads::new(rules(TWO));
    let server = report(&mut workloads, Instant::now(), &clients);
    assert_eq!(
        shown(&server.workloads),
        [
            ("zoo", 2, 8, 9),
            ("abc", 2, 30, 50),
            ("(unassigned)", 1, 1, 9),
            ("(other)", 0, 4, 9)
        ]
    );
    assert_eq!(
        shown(&server.detailed),
        [
            ("zoo", 2, 8, 9),
            ("abc", 2, 30, 50),
            ("192.0.2.1", 1, 1, 2),
            ("192.0.2.2", 0, 0, 7),
            ("(other)", 0, 4, 9)
        ]
    );
    assert_eq!((server.restart.connections, server.restart.instances), (43, 5));
    assert_eq!(
        server.workloads[1].per_instance,
        Some(PerInstance {
            median: 15.0,
            max: 20
        })
    );
    assert_eq!((server.survey, server.workloads[1].survey), (None, None));
}

#[test]
fn only_the_largest_addresses_have_a_row_and_the_rest_is_in_other() {
    let clients: Vec<_> = (1..=9)
        .map(|n| client(&format!("192.0.2.{n}"), n, 2 * n))
        .chain([client("10.0.0.1", 100, 100)])
        .collect();
    let mut workloads = Workloads::new(rules(
        "[limits]\nworkloads = 3\n[[workload]]\nname = \"a\"\naddresses = [\"10.0.0.0/8\"]",
    ));
    let server = report(&mut workloads, Instant::now(), &clients);
    assert_eq!(
        shown(&server.detailed),
        [
            ("a", 1, 100, 100),
            ("192.0.2.8", 1, 8, 16),
            ("192.0.2.9", 1, 9, 18),
            ("(other)", 7, 28, 56)
        ]
    );
    assert_eq!(shown(&server.workloads)[1], ("(unassigned)", 9, 45, 90));
}

#[test]
fn workloads_beyond_the_limit_are_other() {
    let text = format!("[limits]\nworkloads = 1\n{TWO}");
    let clients = [client("10.0.0.1", 1, 1), client("10.0.1.1", 2, 2)];
    let server = report(&mut Workloads::new(rules(&text)), Instant::now(), &clients);
    assert_eq!(shown(&server.workloads), [("zoo", 1, 1, 1), ("(other)", 1, 2, 2)]);
}

#[test]
fn a_survey_says_what_is_idle_and_what_is_held() {
    let clients = [
        client("10.0.0.1", 20, 20),
        client("10.0.0.2", 10, 10),
        client("10.0.1.1", 5, 5),
    ];
    let mut workloads = Workloads::new(rules(TWO));
    let now = Instant::now();
    let found = survey(&[
        ("10.0.0.1", 20, 18, 2),
        ("10.0.0.2", 10, 10, 0),
        ("10.0.1.1", 5, 0, 5),
    ]);
    observe(&mut workloads, now, &clients, Some(found));
    let server = report(&mut workloads, now, &clients);
    let zoo = server.workloads[0].survey.expect("surveyed");
    assert_eq!(
        (zoo.connections, zoo.idle, zoo.busy, zoo.memory_bytes),
        (30, 28, 2, 30_000)
    );
    let all = server.survey.expect("surveyed");
    assert_eq!((all.connections, all.idle, all.busy), (35, 28, 7));
    let status = workloads
        .report(now + Duration::from_secs(3), &snapshot(clients.to_vec()))
        .survey
        .expect("surveyed");
    assert_eq!(
        (status.age, status.cost, status.interval),
        (
            Duration::from_secs(3),
            Duration::from_millis(20),
            Duration::from_secs(10)
        )
    );
}

#[test]
fn a_pool_that_is_never_full_gets_advice_once_enough_is_known() {
    let clients = [
        client("10.0.0.1", 20, 20),
        client("10.0.0.2", 20, 20),
        client("10.0.1.1", 4, 4),
        client("192.0.2.1", 8, 8),
    ];
    let mut workloads = Workloads::new(rules(TWO));
    let begin = Instant::now();
    for step in 0..ENOUGH_SURVEYS {
        let now = begin + Duration::from_secs(10 * step);
        let server = report(&mut workloads, now, &clients);
        assert!(server.detailed.iter().all(|row| row.advice.is_none()), "{step}");
        let found = survey(&[
            ("10.0.0.1", 20, 0, 2),
            ("10.0.0.2", 20, 0, 1),
            ("10.0.1.1", 4, 0, 3),
            ("192.0.2.1", 8, 0, 0),
        ]);
        observe(&mut workloads, now, &clients, Some(found));
    }
    let server = report(&mut workloads, begin + Duration::from_secs(600), &clients);
    let [zoo, abc, lonely] = &*server.detailed else {
        panic!("{:?}", server.detailed)
    };
    assert_eq!(
        zoo.advice.expect("a large pool").sentence(),
        "p could be 3 instead of 20: p99 of simultaneously busy connections per instance was 2"
    );
    assert_eq!(abc.busy.map(|busy| busy.p99), Some(3));
    assert_eq!(abc.advice, None, "4 connections of which 3 are busy are no waste");
    assert_eq!(
        lonely.advice.map(|advice| (advice.enough, advice.now)),
        Some((1, 8))
    );
    assert_eq!(server.workloads[1].advice, None);
}

#[test]
fn opens_per_minute_are_those_of_the_workload() {
    let before = [client("10.0.0.1", 5, 100), client("10.0.1.1", 5, 100)];
    let after = [client("10.0.0.1", 5, 130), client("10.0.1.1", 5, 100)];
    let mut workloads = Workloads::new(rules(TWO));
    let begin = Instant::now();
    assert_eq!(
        report(&mut workloads, begin, &before).workloads[0].opens_per_minute,
        None
    );
    observe(&mut workloads, begin, &before, None);
    let server = report(&mut workloads, begin + Duration::from_secs(30), &after);
    let rates: Vec<_> = server.workloads.iter().map(|row| row.opens_per_minute).collect();
    assert_eq!(rates, [Some(60.0), Some(0.0)]);
}

#[test]
fn opens_of_clients_that_the_kernel_forgets_stay_where_they_were() {
    let mut workloads = Workloads::new(rules(TWO));
    let now = Instant::now();
    let before = [
        client("10.0.0.1", 0, 30),
        client("10.0.1.1", 1, 5),
        client("192.0.2.1", 0, 7),
    ];
    let expected = [("zoo", 0, 0, 30), ("abc", 1, 1, 5), ("(unassigned)", 0, 0, 7)];
    assert_eq!(shown(&report(&mut workloads, now, &before).workloads), expected);
    // The kernel shows what it forgot as opened by unknown addresses.
    workloads.depart(SERVER, address("10.0.0.1"), 30, &[]);
    workloads.depart(SERVER, address("192.0.2.1"), 7, &[]);
    let after = [client("10.0.1.1", 1, 5), unknown(0, 37)];
    let server = report(&mut workloads, now, &after);
    assert_eq!(shown(&server.workloads), expected);
    assert_eq!(shown(&server.detailed)[2], ("(other)", 0, 0, 7));
    // It comes back, and counts from zero.
    let back = [client("10.0.0.1", 2, 2), client("10.0.1.1", 1, 5), unknown(0, 37)];
    assert_eq!(
        shown(&report(&mut workloads, now, &back).workloads)[0],
        ("zoo", 1, 2, 32)
    );
    workloads.forget(SERVER);
    assert_eq!(shown(&report(&mut workloads, now, &[]).workloads), []);
}

#[test]
fn no_counter_falls_or_jumps_when_the_rules_change() {
    let mut workloads = Workloads::new(rules(TWO));
    let now = Instant::now();
    workloads.depart(SERVER, address("10.0.0.9"), 11, &[]);
    let clients = [
        client("10.0.0.1", 1, 30),
        client("10.0.1.1", 1, 5),
        client("192.0.2.1", 1, 7),
        unknown(0, 11 + 3),
    ];
    let before = report(&mut workloads, now, &clients);
    assert_eq!(
        shown(&before.workloads),
        [
            ("zoo", 1, 1, 41),
            ("abc", 1, 1, 5),
            ("(unassigned)", 1, 1, 7),
            ("(other)", 0, 0, 3)
        ]
    );
    // `abc` takes what `zoo` had, `new` what nobody had.
    let text = "[[workload]]\nname = \"abc\"\naddresses = [\"10.0.0.0/16\"]\n\
                [[workload]]\nname = \"new\"\naddresses = [\"192.0.2.0/24\"]";
    workloads.replace_rules(rules(text), &snapshot(clients.to_vec()));
    let after = report(&mut workloads, now, &clients);
    assert_eq!(
        shown(&after.workloads),
        [
            ("abc", 2, 2, 5),
            ("new", 1, 1, 0),
            ("(unassigned)", 0, 0, 7),
            ("(other)", 0, 0, 3)
        ]
    );
    let more = [
        client("10.0.0.1", 1, 31),
        client("10.0.1.1", 1, 5),
        client("192.0.2.1", 1, 9),
        unknown(0, 11 + 3 + 4),
    ];
    let later = report(&mut workloads, now, &more);
    let opened: Vec<_> = later.workloads.iter().map(|row| row.opened).collect();
    assert_eq!(opened, [6, 2, 7, 7]);
}

#[test]
fn a_restart_takes_as_long_as_the_fullest_window_lets_it() {
    let bursts = |windows: &[(usize, u64)], connections: u64| {
        let mut bursts = BurstHistogram {
            connections,
            ..BurstHistogram::default()
        };
        for (bucket, count) in windows {
            bursts.windows[*bucket] = *count;
        }
        bursts
    };
    let range = |at_least: f64, at_most: Option<f64>| Some(Range { at_least, at_most });
    for (windows, connections, rate, seconds) in [
        (&[][..], 0, None, None),
        // One connection a window.
        (&[(0, 5)], 5, range(10.0, Some(10.0)), range(100.0, Some(100.0))),
        // 65 to 128 in one window.
        (
            &[(0, 5), (7, 1)],
            500,
            range(650.0, Some(1280.0)),
            range(1000.0 / 1280.0, Some(1000.0 / 650.0)),
        ),
        // 70 in all cannot have been 128 in one.
        (
            &[(7, 1)],
            70,
            range(650.0, Some(700.0)),
            range(1000.0 / 700.0, Some(1000.0 / 650.0)),
        ),
        (
            &[(15, 1)],
            50_000,
            range(163_850.0, None),
            range(0.0, Some(1000.0 / 163_850.0)),
        ),
    ] {
        let restart = Restart::new(1000, 50, &bursts(windows, connections));
        assert_eq!(
            (restart.accept_rate, restart.seconds),
            (rate, seconds),
            "{windows:?}"
        );
    }
}

#[test]
fn histories_are_kept_for_those_that_have_a_row_only() {
    let text = "[limits]\nworkloads = 10";
    let mut workloads = Workloads::new(rules(text));
    let now = Instant::now();
    for round in 0..20_u64 {
        let clients: Vec<_> = (0..100)
            .map(|n| client(&format!("192.0.{round}.{n}"), 1 + n, 1 + n))
            .collect();
        observe(&mut workloads, now + Duration::from_secs(round), &clients, None);
    }
    assert_eq!(workloads.followed(SERVER), 10);
}

#[test]
fn addresses_that_only_a_survey_knows_belong_to_their_workload() {
    let mut workloads = Workloads::new(rules(TWO));
    let now = Instant::now();
    let mut found = survey(&[("10.0.0.1", 6, 6, 0)]);
    found.beyond = Tally {
        connections: 2,
        idle: 1,
        ..Tally::default()
    };
    observe(&mut workloads, now, &[], Some(found));
    let server = report(&mut workloads, now, &[unknown(8, 8)]);
    let idle: HashMap<_, _> = server
        .workloads
        .iter()
        .map(|row| (&*row.workload, row.survey.map(|tally| tally.idle)))
        .collect();
    assert_eq!(idle, HashMap::from([("zoo", Some(6)), ("(other)", Some(1))]));
}
