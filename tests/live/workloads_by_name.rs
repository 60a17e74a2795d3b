//! Workloads by ACL user and client name, and what client libraries open: where one address is many services.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stormglass_tests::agent::{Agent, command};
use stormglass_tests::exposition::Scrape;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};

const CONFIG: &str = r#"
[clients]
idle_after_seconds = 1
survey_seconds = 1

[[workload]]
name = "reports"
client_names = ["*-report"]

[[workload]]
name = "orders"
users = ["orders-*"]

[[workload]]
name = "office"
addresses = ["127.0.64.0/24"]
"#;

/// The office has no address any more, and the orders are two.
const LATER: &str = r#"
[[workload]]
name = "orders"
users = ["orders-eu"]

[[workload]]
name = "orders of others"
users = ["orders-*"]
"#;

/// Longer than a connection may take to say who it is.
const INTRODUCED: Duration = Duration::from_millis(2_500);

const ORDERS: &[&[&[u8]]] = &[
    &[b"AUTH", b"orders-eu", b"pw"],
    // The user decides.
    &[b"CLIENT", b"SETNAME", b"a-report"],
    &[b"CLIENT", b"SETINFO", b"LIB-NAME", b"jedis"],
    &[b"CLIENT", b"SETINFO", b"LIB-VER", b"5.1"],
];
const REPORTS: &[&[&[u8]]] = &[
    &[b"HELLO", b"3", b"SETNAME", b"b-report"],
    &[b"CLIENT", b"SETINFO", b"LIB-VER", b"1.2"],
    &[b"CLIENT", b"SETINFO", b"LIB-NAME", b"go-redis"],
];
const NOBODY: &[&[&[u8]]] = &[&[b"PING"]];

/// Connections of one kind from some addresses, as many from each; some stay.
struct Clients {
    server: SocketAddrV4,
    staying: Vec<Connection>,
    opened: u64,
}

impl Clients {
    fn new(server: &Server) -> Self {
        Self {
            server: SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port()),
            staying: Vec::new(),
            opened: 0,
        }
    }

    fn open(&mut self, source: Ipv4Addr, introduction: &[&[&[u8]]]) -> Result<Connection> {
        let mut connection = Connection::open_from(source, self.server)?;
        for words in introduction {
            connection.ask(words)?;
        }
        self.opened += 1;
        Ok(connection)
    }

    /// `stay` connections from each of these hosts, and `go` that end at once.
    fn live(
        &mut self,
        hosts: std::ops::RangeInclusive<u8>,
        introduction: &[&[&[u8]]],
        stay: u64,
        go: u64,
    ) -> Result<()> {
        for host in hosts {
            let source = Ipv4Addr::new(127, 0, 64, host);
            for _ in 0..go {
                self.open(source, introduction)?;
            }
            for _ in 0..stay {
                let connection = self.open(source, introduction)?;
                self.staying.push(connection);
            }
        }
        Ok(())
    }
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn one_address_is_many_workloads_where_users_and_client_names_say_so_and_libraries_are_counted_as_they_open()
-> Result<()> {
    let server = Plan::valkey()?
        .config("user orders-eu on >pw +@all ~*\nuser orders-us on >pw +@all ~*\n")
        .start()?;
    let label = server.label();
    let mut before = server.connect()?;
    before.ask(&[b"CLIENT", b"SETNAME", b"old-report"])?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&label)?;

    let mut clients = Clients::new(&server);
    clients.live(1..=3, ORDERS, 4, 5)?;
    clients.live(2..=3, REPORTS, 2, 7)?;
    clients.live(3..=4, NOBODY, 1, 3)?;
    let scrape = settled(&agent, &label)?;
    let rows = [
        // Connections, instances, opened.
        ("orders", [12, 3, 27]),
        ("reports", [4, 2, 18]),
        ("office", [2, 2, 8]),
        // It came before the agent, and has said nothing since: nobody knows its name.
        ("(unassigned)", [1, 1, 0]),
    ];
    for (name, expected) in rows {
        assert_eq!(of_workload(&scrape, &label, name), expected, "{name}");
    }
    let libraries = [
        ("jedis", "5.1", 12, 27),
        ("go-redis", "1.2", 4, 18),
        ("(none)", "(none)", 2, 8),
    ];
    for (library, version, connections, opened) in libraries {
        assert_eq!(
            of_library(&scrape, &label, library, version),
            [connections, opened],
            "{library}"
        );
    }
    assert_eq!(
        clients.opened,
        scrape.count("stormglass_connections_opened_total", &[("server", &label)]),
        "together they are the server"
    );
    people_see_it(&agent, &label)?;

    // A client that says something else counts there from now on; what it opened stays what it was.
    let renamed = clients.staying.first_mut().context("a connection")?;
    renamed.ask(&[b"AUTH", b"orders-us", b"pw"])?;
    agent.rewrite(LATER)?;
    agent.hang_up()?;
    let scrape = agent.scrape_until("the new rules", |scrape| {
        of_workload(scrape, &label, "orders")[0] == 11
    })?;
    assert_eq!(of_workload(&scrape, &label, "orders"), [11, 3, 27]);
    assert_eq!(of_workload(&scrape, &label, "orders of others")[..2], [1, 1]);
    assert_eq!(of_workload(&scrape, &label, "(unassigned)")[..2], [7, 4]);
    clients.live(9..=9, ORDERS, 0, 2)?;
    let scrape = settled(&agent, &label)?;
    assert_eq!(of_workload(&scrape, &label, "orders"), [11, 3, 29]);

    // The server comes back: what was counted at its old socket is kept.
    drop(clients.staying);
    let server = server.stop()?.start()?;
    ensure!(server.label() == label, "another port");
    agent.sees(&label)?;
    let mut clients = Clients::new(&server);
    clients.live(9..=9, ORDERS, 1, 2)?;
    // Some seconds, until the kernel's part of the old one is free.
    let scrape = agent.scrape_until("the old slot is free", |scrape| {
        scrape.count("stormglass_map_entries", &[("map", "SG_ENDED")]) == 1
            && of_workload(scrape, &label, "orders")[2] >= 32
    })?;
    assert_eq!(of_workload(&scrape, &label, "orders"), [1, 1, 32]);
    assert_eq!(of_library(&scrape, &label, "jedis", "5.1"), [1, 32]);
    assert_eq!(of_library(&scrape, &label, "go-redis", "1.2")[1], 18);
    Ok(())
}

/// Once every connection has had the time to say who it is, and a survey has seen it.
fn settled(agent: &Agent, label: &str) -> Result<Scrape> {
    std::thread::sleep(INTRODUCED);
    agent.scrape_until("a survey of all", |scrape| {
        let of = |metric: &str| scrape.count(metric, &[("server", label)]);
        of("stormglass_connections_idle") == of("stormglass_connections")
    })
}

fn of_workload(scrape: &Scrape, server: &str, workload: &str) -> [u64; 3] {
    let labels = [("server", server), ("workload", workload)];
    ["connections", "instances", "connections_opened_total"]
        .map(|metric| scrape.count(&format!("stormglass_workload_{metric}"), &labels))
}

fn of_library(scrape: &Scrape, server: &str, library: &str, version: &str) -> [u64; 2] {
    let labels = [("server", server), ("library", library), ("version", version)];
    ["connections", "connections_opened_total"]
        .map(|metric| scrape.count(&format!("stormglass_library_{metric}"), &labels))
}

fn people_see_it(agent: &Agent, label: &str) -> Result<()> {
    let finished = command(&["workloads", "--json"], Some(agent.config()))?;
    let page: Value = serde_json::from_str(&finished.stdout)?;
    let rows = page["workloads"].as_array().context("no workloads")?;
    let orders = rows.iter().find(|row| row["workload"] == "orders");
    let orders = orders.context("no orders")?;
    assert_eq!(orders["kind"], "rule");
    assert_eq!(orders["connections_per_instance"]["max"], 4, "{orders}");
    assert_eq!(orders["idle_share"], 1.0, "{orders}");
    let finished = command(&["libraries", "--server", label], Some(agent.config()))?;
    let lines: Vec<Vec<&str>> = finished
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(
        lines.contains(&vec![label, "jedis", "5.1", "12", "27"]),
        "{}",
        finished.stdout
    );
    Ok(())
}
