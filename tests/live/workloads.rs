//! Workloads by address: how many instances with how many connections, what they do with them, and what a restart would
//! bring.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stormglass_tests::agent::{Agent, command};
use stormglass_tests::exposition::Scrape;
use stormglass_tests::poll;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};

/// Surveys without which there is no advice, one a second, and some.
const SURVEYS: u64 = 30;
const SURVEYED_WITHIN: Duration = Duration::from_secs(90);
/// Half of what the configuration says makes a connection idle.
const PAUSE: Duration = Duration::from_millis(500);

const CONFIG: &str = r#"
[clients]
idle_after_seconds = 2
survey_seconds = 1

[[workload]]
name = "api"
addresses = ["127.0.61.0/24"]

[[workload]]
name = "batch"
addresses = ["127.0.62.0/24"]

[[workload]]
name = "cron"
addresses = ["127.0.63.1", "127.0.63.2", "127.0.63.3", "127.0.63.4"]
"#;

/// Instances with a pool each, of which some connections are used.
struct Fleet {
    network: u8,
    instances: u8,
    pool: usize,
    used: usize,
    connections: Vec<Connection>,
}

impl Fleet {
    fn new(network: u8, instances: u8, pool: usize, used: usize) -> Self {
        Self {
            network,
            instances,
            pool,
            used,
            connections: Vec::new(),
        }
    }

    /// Opens all connections anew.
    fn connect(&mut self, server: &Server) -> Result<()> {
        self.connections.clear();
        for instance in 1..=self.instances {
            let source = Ipv4Addr::new(127, 0, self.network, instance);
            for _ in 0..self.pool {
                let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port());
                self.connections.push(Connection::open_from(source, server)?);
            }
        }
        Ok(())
    }

    /// One command on each connection that is used.
    fn work(&mut self) -> Result<()> {
        for pool in self.connections.chunks_mut(self.pool) {
            for connection in &mut pool[..self.used] {
                connection.ask(&[b"GET", b"cart:1"])?;
            }
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        self.connections.len() as u64
    }
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn three_workloads_are_known_by_their_instances_pools_idle_share_memory_and_what_their_return_would_bring()
-> Result<()> {
    let server = Plan::valkey()?.start()?;
    let label = server.label();
    let mut fleets = [
        ("api", Fleet::new(61, 5, 8, 2)),
        ("batch", Fleet::new(62, 3, 20, 0)),
        ("cron", Fleet::new(63, 4, 1, 1)),
    ];
    for (_, fleet) in &mut fleets {
        fleet.connect(&server)?;
    }
    // Beside them one that no rule has.
    let mut stranger = server.connect()?;
    // Until nothing looks used because it has just been opened.
    sleep(Duration::from_secs(3));

    let agent = Agent::start_with(CONFIG)?;
    let page = poll::until("so many surveys", SURVEYED_WITHIN, || {
        let began = Instant::now();
        for (_, fleet) in &mut fleets {
            fleet.work()?;
        }
        stranger.ask(&[b"PING"])?;
        sleep(PAUSE.saturating_sub(began.elapsed()));
        let page = workloads(&agent)?;
        let surveys = row(&page, "api").map_or(0, |row| number(&row["busy_per_instance"]["surveys"]));
        Ok((surveys > SURVEYS).then_some(page))
    })?;

    let scrape = agent.scrape()?;
    for (name, fleet) in &fleets {
        let (instances, pool, used) = (u64::from(fleet.instances), fleet.pool as u64, fleet.used as u64);
        let idle = instances * (pool - used);
        let of = |metric: &str| metric_of(&scrape, metric, &label, name);
        assert_eq!(of("connections"), fleet.total(), "{name}");
        assert_eq!(of("instances"), instances, "{name}");
        assert_eq!(of("connections_idle"), idle, "{name}");
        assert_eq!(
            of("connections_opened_total"),
            0,
            "{name}: all are from before the agent"
        );
        assert!(of("socket_memory_bytes") > fleet.total() * 2_000, "{name}");
        assert!(of("socket_memory_bytes") < fleet.total() * 100_000, "{name}");

        let row = row(&page, name)?;
        assert_eq!(row["kind"], "rule");
        assert_eq!(row["connections_per_instance"]["max"], pool, "{row}");
        assert_eq!(row["connections_per_instance"]["median"], pool as f64, "{row}");
        assert_eq!(row["idle_share"], idle as f64 / fleet.total() as f64, "{row}");
        assert_eq!(row["busy_per_instance"]["p99"], used, "{row}");
    }
    assert_eq!(
        row(&page, "api")?["pool_advice"]["text"],
        "p could be 3 instead of 8: p99 of simultaneously busy connections per instance was 2"
    );
    assert_eq!(row(&page, "batch")?["pool_advice"]["connections_per_instance"], 1);
    assert_eq!(row(&page, "cron")?["pool_advice"], Value::Null);
    assert_eq!(row(&page, "127.0.0.1")?["kind"], "address");
    assert_eq!(metric_of(&scrape, "connections", &label, "(unassigned)"), 1);
    assert_eq!(
        scrape.count("stormglass_connections_idle", &[("server", &label)]),
        5 * 6 + 3 * 20
    );
    let restart = &page["servers"][0]["restart"];
    assert_eq!(
        (&restart["connections"], &restart["instances"]),
        (&105.into(), &13.into())
    );
    assert_eq!(
        restart["seconds"],
        Value::Null,
        "no connection has been accepted yet"
    );

    the_command_says_it_to_people(&agent, &label)?;
    a_workload_returns(&agent, &server, &mut fleets[0].1)
}

fn the_command_says_it_to_people(agent: &Agent, label: &str) -> Result<()> {
    let finished = command(&["workloads", "--server", label], Some(agent.config()))?;
    ensure!(finished.status.success(), "{finished:?}");
    let text = &finished.stdout;
    let line = text.lines().find(|line| line.contains(" batch "));
    let cells: Vec<_> = line.context("no batch")?.split_whitespace().collect();
    assert_eq!(
        cells[..9],
        [label, "batch", "3", "60", "20", "20", "0", "100", "%"],
        "{text}"
    );
    assert!(
        text.contains("api at ") && text.contains("p could be 3 instead of 8"),
        "{text}"
    );
    assert!(
        text.contains("brings 105 connections from 13 instances"),
        "{text}"
    );
    let finished = command(&["workloads", "--json"], Some(agent.config()))?;
    let page: Value = serde_json::from_str(&finished.stdout)?;
    assert_eq!(row(&page, "batch")?["connections"], 60);
    Ok(())
}

/// The first workload reconnects: its opens rise, and nobody else's.
fn a_workload_returns(agent: &Agent, server: &Server, fleet: &mut Fleet) -> Result<()> {
    let label = server.label();
    fleet.connect(server)?;
    let burst = [("server", label.as_str())];
    agent.scrape_until("the burst", |scrape| {
        scrape.count("stormglass_accept_burst_connections_sum", &burst) == fleet.total()
    })?;
    let scrape = agent.scrape_until("as many connections as before", |scrape| {
        metric_of(scrape, "connections", &label, "api") == fleet.total()
    })?;
    for (name, opened) in [
        ("api", fleet.total()),
        ("batch", 0),
        ("cron", 0),
        ("(unassigned)", 0),
    ] {
        let found = metric_of(&scrape, "connections_opened_total", &label, name);
        assert_eq!(found, opened, "{name}");
    }
    let page = workloads(agent)?;
    ensure!(
        row(&page, "api")?["opens_per_minute"].as_f64() > Some(0.0),
        "{page}"
    );
    assert_eq!(row(&page, "batch")?["opens_per_minute"], 0.0);

    // 40 within some milliseconds: one window of 100 ms, or two at its end.
    let restart = &page["servers"][0]["restart"];
    let part = |name: &str, bound: &str| {
        let value = restart[name][bound].as_f64();
        value.with_context(|| format!("no {bound} of {name} in {restart}"))
    };
    assert_eq!(restart["connections"], 105);
    let (least, most) = (part("accept_rate", "at_least")?, part("accept_rate", "at_most")?);
    assert!(least >= 170.0 && most <= 400.0 && least < most, "{restart}");
    let (shortest, longest) = (part("seconds", "at_least")?, part("seconds", "at_most")?);
    assert!((shortest - 105.0 / most).abs() < 1e-9, "{restart}");
    assert!((longest - 105.0 / least).abs() < 1e-9, "{restart}");
    Ok(())
}

fn workloads(agent: &Agent) -> Result<Value> {
    let (status, body) = agent.get("/api/v1/workloads")?;
    ensure!(status == 200, "/api/v1/workloads answers {status}: {body}");
    Ok(serde_json::from_str(&body)?)
}

fn row<'a>(page: &'a Value, name: &str) -> Result<&'a Value> {
    let rows = page["workloads"].as_array().context("no list of workloads")?;
    rows.iter()
        .find(|row| row["workload"] == name)
        .with_context(|| format!("no workload {name} in {page}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn metric_of(scrape: &Scrape, metric: &str, server: &str, workload: &str) -> u64 {
    let labels = [("server", server), ("workload", workload)];
    scrape.count(&format!("stormglass_workload_{metric}"), &labels)
}
