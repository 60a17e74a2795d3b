//! Workloads by users and client names from outside.

use std::time::{Duration, Instant};

use super::tests::{SERVER, address, client, rules, shown, unknown};
use super::*;
use crate::snapshot::{ClientSnapshot, Introduction, ServerSnapshot, Snapshot};

const THREE: &str = r#"
    [[workload]]
    name = "reports"
    client_names = ["*-report"]
    [[workload]]
    name = "orders"
    users = ["orders-*"]
    [[workload]]
    name = "office"
    addresses = ["10.0.0.0/24"]
"#;

/// Who says what, with connections, and opens of which so many introduce themselves.
fn said(
    at: &str,
    (user, name): (&str, &str),
    connections: u64,
    opened: u64,
    introducing: u64,
) -> Introduction {
    Introduction {
        address: address(at),
        user: user.into(),
        name: name.into(),
        library: "(none)".into(),
        version: "(none)".into(),
        connections,
        opened,
        claimed: opened + introducing,
        introducing,
    }
}

const ORDERS: (&str, &str) = ("orders-eu", "a-report");
const REPORTS: (&str, &str) = ("default", "b-report");
const OTHERS: (&str, &str) = ("default", "c");
const NOBODY: (&str, &str) = ("default", "(none)");

fn snapshot(clients: &[ClientSnapshot], introductions: &[Introduction]) -> Snapshot {
    let server = ServerSnapshot {
        label: SERVER.into(),
        clients: clients.to_vec(),
        introductions: introductions.to_vec(),
        ..ServerSnapshot::default()
    };
    Snapshot {
        servers: vec![server],
        ..Snapshot::default()
    }
}

fn rows(
    workloads: &mut Workloads,
    clients: &[ClientSnapshot],
    introductions: &[Introduction],
) -> Vec<(String, u64, u64, u64)> {
    let report = workloads.report(Instant::now(), &snapshot(clients, introductions));
    let rows = shown(&report.servers[0].workloads).into_iter();
    rows.map(|(name, instances, connections, opened)| (name.to_owned(), instances, connections, opened))
        .collect()
}

fn row(name: &str, instances: u64, connections: u64, opened: u64) -> (String, u64, u64, u64) {
    (name.to_owned(), instances, connections, opened)
}

fn ended(said: (&str, &str), connections: u64) -> Ended {
    Ended {
        user: said.0.into(),
        name: said.1.into(),
        connections,
    }
}

#[test]
fn who_says_who_it_is_is_taken_from_its_address_and_rows_together_are_the_server() {
    let mut workloads = Workloads::new(rules(THREE));
    assert!(workloads.have_names());
    let clients = [
        client("10.0.0.1", 10, 100),
        client("192.0.2.1", 5, 50),
        unknown(3, 30),
    ];
    let introductions = [
        said("10.0.0.1", ORDERS, 4, 40, 0),
        said("10.0.0.1", REPORTS, 1, 10, 0),
        said("10.0.0.1", OTHERS, 1, 10, 0),
        said("192.0.2.1", ORDERS, 2, 20, 0),
        // Somebody whom the kernel has no room for.
        said("198.51.100.1", REPORTS, 1, 5, 0),
    ];
    assert_eq!(
        rows(&mut workloads, &clients, &introductions),
        [
            row("reports", 2, 2, 15),
            row("orders", 2, 6, 60),
            row("office", 1, 5, 50),
            row("(unassigned)", 1, 3, 30),
            row("(other)", 0, 2, 25),
        ]
    );
}

#[test]
fn one_instance_that_belongs_by_name_and_by_address_is_one() {
    let text = "[[workload]]\nname = \"all\"\nusers = [\"svc\"]\naddresses = [\"10.0.0.0/24\"]";
    let mut workloads = Workloads::new(rules(text));
    let rows = rows(
        &mut workloads,
        &[client("10.0.0.1", 10, 100)],
        &[said("10.0.0.1", ("svc", "(none)"), 4, 40, 0)],
    );
    assert_eq!(rows, [row("all", 1, 10, 100)]);
}

#[test]
fn a_connection_that_introduces_itself_counts_as_opened_by_nobody_yet() {
    let mut workloads = Workloads::new(rules(THREE));
    let clients = [client("10.0.0.1", 10, 100)];
    let before = [
        said("10.0.0.1", ORDERS, 4, 38, 2),
        said("10.0.0.1", NOBODY, 3, 0, 3),
    ];
    assert_eq!(
        rows(&mut workloads, &clients, &before),
        [row("orders", 1, 4, 38), row("office", 1, 6, 57)]
    );
    // One of them had nothing to say.
    let after = [said("10.0.0.1", ORDERS, 6, 42, 0)];
    assert_eq!(
        rows(&mut workloads, &clients, &after),
        [row("orders", 1, 6, 42), row("office", 1, 4, 58)]
    );
}

#[test]
fn what_ends_while_it_is_read_makes_no_counter_go_back_and_counts_for_nobody_else() {
    let mut workloads = Workloads::new(rules(THREE));
    let clients = [client("10.0.0.1", 10, 100)];
    assert_eq!(
        rows(&mut workloads, &clients, &[said("10.0.0.1", ORDERS, 4, 40, 0)]),
        [row("orders", 1, 4, 40), row("office", 1, 6, 60)]
    );
    // Two ended after the first reading of what ended, and before the list.
    let between = Introduction {
        claimed: 40,
        ..said("10.0.0.1", ORDERS, 2, 38, 0)
    };
    assert_eq!(
        rows(&mut workloads, &clients, &[between]),
        [row("orders", 1, 2, 40), row("office", 1, 8, 60)]
    );
}

#[test]
fn counters_stand_still_while_the_kernel_does_not_say_who_is_there() {
    let mut workloads = Workloads::new(rules(THREE));
    let clients = [client("10.0.0.1", 10, 100)];
    let introductions = [said("10.0.0.1", ORDERS, 4, 40, 0)];
    let expected = [row("orders", 1, 4, 40), row("office", 1, 6, 60)];
    assert_eq!(rows(&mut workloads, &clients, &introductions), expected);
    let deaf = Snapshot {
        unheard: true,
        ..snapshot(&[client("10.0.0.1", 10, 105)], &[])
    };
    let report = workloads.report(Instant::now(), &deaf);
    let opened: Vec<_> = report.servers[0].workloads.iter().map(|row| row.opened).collect();
    assert_eq!(opened, [40, 60]);
    let clients = [client("10.0.0.1", 10, 105)];
    let introductions = [said("10.0.0.1", ORDERS, 4, 45, 0)];
    assert_eq!(
        rows(&mut workloads, &clients, &introductions),
        [row("orders", 1, 4, 45), row("office", 1, 6, 60)]
    );
}

#[test]
fn what_the_kernel_forgets_stays_where_it_was() {
    let mut workloads = Workloads::new(rules(THREE));
    let clients = [client("10.0.0.1", 0, 100), client("192.0.2.1", 0, 50)];
    let introductions = [
        said("10.0.0.1", ORDERS, 0, 40, 0),
        said("192.0.2.1", REPORTS, 0, 20, 0),
    ];
    let expected = [
        row("reports", 0, 0, 20),
        row("orders", 0, 0, 40),
        row("office", 0, 0, 60),
        row("(unassigned)", 0, 0, 30),
    ];
    assert_eq!(rows(&mut workloads, &clients, &introductions), expected);
    // First the name of one goes, then the client; of the other both at once.
    workloads.settle(
        SERVER,
        address("10.0.0.1"),
        &[ended(ORDERS, 40), ended(OTHERS, 5)],
    );
    assert_eq!(rows(&mut workloads, &clients, &introductions[1..]), expected);
    workloads.depart(SERVER, address("10.0.0.1"), 100, &[]);
    workloads.depart(SERVER, address("192.0.2.1"), 50, &[ended(REPORTS, 20)]);
    assert_eq!(rows(&mut workloads, &[unknown(0, 150)], &[]), expected);
}

#[test]
fn rules_by_names_come_and_go_without_a_jump() {
    let mut workloads = Workloads::new(rules(
        "[[workload]]\nname = \"office\"\naddresses = [\"10.0.0.0/24\"]",
    ));
    let clients = [client("10.0.0.1", 10, 100)];
    let introductions = [said("10.0.0.1", ORDERS, 4, 40, 0)];
    assert_eq!(
        rows(&mut workloads, &clients, &introductions),
        [row("office", 1, 10, 100)]
    );
    workloads.replace_rules(rules(THREE), &snapshot(&clients, &introductions));
    assert_eq!(
        rows(&mut workloads, &clients, &introductions),
        [row("orders", 1, 4, 0), row("office", 1, 6, 100)]
    );
    let (clients, introductions) = (
        [client("10.0.0.1", 13, 103)],
        [said("10.0.0.1", ORDERS, 6, 42, 0)],
    );
    assert_eq!(
        rows(&mut workloads, &clients, &introductions),
        [row("orders", 1, 6, 2), row("office", 1, 7, 101)]
    );
}

#[test]
fn a_survey_tells_workloads_at_one_address_apart_until_the_rules_change() {
    let mut workloads = Workloads::new(rules(THREE));
    let tally = |connections, idle| Tally {
        connections,
        idle,
        ..Tally::default()
    };
    let survey = ServerSurvey {
        addresses: [(address("10.0.0.1"), tally(6, 0))].into(),
        named: [((1, address("10.0.0.1")), tally(4, 3))].into(),
        beyond: Tally::default(),
    };
    let clients = [client("10.0.0.1", 10, 100)];
    let introductions = [said("10.0.0.1", ORDERS, 4, 40, 0)];
    let observation = Observation {
        server: SERVER.into(),
        clients: clients.to_vec(),
        introductions: introductions.to_vec(),
        survey: Some(survey),
    };
    let interval = Duration::from_secs(10);
    workloads.observe(Instant::now(), Duration::ZERO, interval, vec![observation]);
    let idle = |workloads: &mut Workloads| -> Vec<Option<(u64, u64)>> {
        let report = workloads.report(Instant::now(), &snapshot(&clients, &introductions));
        let rows = report.servers[0].workloads.iter();
        rows.map(|row| row.survey.map(|tally| (tally.idle, tally.connections)))
            .collect()
    };
    assert_eq!(idle(&mut workloads), [Some((3, 4)), Some((0, 6))]);
    // `orders` is the first of the file now.
    let text = "[[workload]]\nname = \"orders\"\nusers = [\"orders-*\"]\n\
                [[workload]]\nname = \"office\"\naddresses = [\"10.0.0.0/24\"]";
    workloads.replace_rules(rules(text), &snapshot(&clients, &introductions));
    assert_eq!(idle(&mut workloads), [Some((0, 0)), Some((3, 10))]);
}
