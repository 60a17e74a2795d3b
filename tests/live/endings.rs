//! How connections end: given up, refused, without a command, and after how long.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use stormglass_load::slow::Stopped;
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::Scrape;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};

/// Closed, given up waiting, without a command, rejected.
fn ends(scrape: &Scrape, server: &str) -> [u64; 4] {
    [
        "stormglass_connections_closed_total",
        "stormglass_connections_closed_waiting_total",
        "stormglass_connections_closed_without_command_total",
        "stormglass_connections_rejected_total",
    ]
    .map(|name| scrape.count(name, &[("server", server)]))
}

fn closed(agent: &Agent, server: &str, count: u64) -> Result<Scrape> {
    agent.scrape_until("the end of the connections", |scrape| {
        ends(scrape, server)[0] == count
    })
}

fn open(server: &Server, count: usize) -> Result<Vec<Connection>> {
    (0..count).map(|_| server.connect()).collect()
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn clients_that_give_up_on_a_stopped_server_are_counted_and_those_that_just_leave_are_not() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let mut old = open(&server, 7)?;
    for connection in &mut old {
        connection.ask(&[b"SET", b"cart:1", b"x"])?;
    }
    let agent = Agent::start()?;
    let label = server.label();
    agent.sees(&label)?;
    // Connections from before the agent are read from their next command on.
    for connection in &mut old {
        connection.ask(&[b"GET", b"cart:1"])?;
        thread::sleep(Duration::from_millis(20));
        connection.ask(&[b"GET", b"cart:1"])?;
    }
    let (mut waiting, mut idle, mut blocked) = (open(&server, 40)?, open(&server, 25)?, open(&server, 5)?);
    for connection in waiting.iter_mut().chain(&mut idle).chain(&mut blocked) {
        connection.ask(&[b"GET", b"cart:1"])?;
    }
    for connection in &mut blocked {
        connection.send(&[b"BLPOP", b"queue:1", b"0"])?;
    }
    thread::sleep(Duration::from_millis(100));
    let stopped = Stopped::stop(server.id())?;
    for connection in waiting.iter_mut().chain(&mut old) {
        connection.send(&[b"GET", b"cart:1"])?;
    }
    // While the server cannot even notice.
    drop((waiting, old, idle, blocked));
    let scrape = closed(&agent, &label, 40 + 7 + 25 + 5)?;
    assert_eq!(ends(&scrape, &label), [77, 47, 0, 0]);
    drop(stopped);
    // Reopened and closed in order: no more of them.
    for connection in &mut open(&server, 10)? {
        connection.ask(&[b"GET", b"cart:1"])?;
    }
    let scrape = closed(&agent, &label, 87)?;
    assert_eq!(ends(&scrape, &label), [87, 47, 0, 0]);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn connections_without_a_command_that_has_a_key_are_counted() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let label = server.label();
    agent.sees(&label)?;
    drop(open(&server, 11)?);
    for connection in &mut open(&server, 6)? {
        connection.ask(&[b"HELLO", b"3"])?;
        connection.ask(&[b"CLIENT", b"SETNAME", b"health-check"])?;
        connection.ask(&[b"PING"])?;
        connection.ask(&[b"SELECT", b"1"])?;
    }
    for line in ["GET cart:1", "GET plain", "SUBSCRIBE news", "PUBLISH news x"] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        server.connect()?.ask(&words)?;
    }
    let scrape = closed(&agent, &label, 21)?;
    assert_eq!(ends(&scrape, &label), [21, 0, 17, 0]);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn connections_beyond_maxclients_are_counted_as_rejected_as_the_server_does() -> Result<()> {
    let server = Plan::valkey()?.config("maxclients 10\n").start()?;
    let agent = Agent::start()?;
    let label = server.label();
    agent.sees(&label)?;
    let mut held = open(&server, 9)?;
    for connection in &mut held {
        connection.ask(&[b"GET", b"cart:1"])?;
    }
    let mut control = server.control()?;
    let rejected = |info: &str| -> u64 {
        let mut lines = info.lines();
        let line = lines.find_map(|line| line.strip_prefix("rejected_connections:"));
        line.and_then(|number| number.trim().parse().ok())
            .expect("a number")
    };
    let before = rejected(&control.info("stats")?);
    for number in 0..30_u32 {
        let mut connection = server.connect()?;
        // Most clients introduce themselves before they hear of it.
        if number % 3 != 0 {
            let _ = connection.send(&[b"HELLO", b"3"]);
        }
        if number % 3 == 2 {
            let _ = connection.send(&[b"GET", b"cart:1"]);
        }
        let _ = connection.drain(Duration::from_millis(5));
    }
    let scrape = closed(&agent, &label, 30)?;
    let counted = rejected(&control.info("stats")?) - before;
    assert_eq!(counted, 30);
    assert_eq!(ends(&scrape, &label), [30, 0, 0, counted]);
    // What a script calls so is no refusal.
    let script = b"return redis.error_reply('ERR max number of clients reached')";
    let _ = held[0].call(&[b"EVAL", script, b"0"]);
    drop(held);
    let scrape = closed(&agent, &label, 39)?;
    assert_eq!(ends(&scrape, &label), [39, 0, 0, 30]);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn lives_of_connections_are_in_the_histogram() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let from_before = open(&server, 3)?;
    let agent = Agent::start()?;
    let label = server.label();
    agent.sees(&label)?;
    let begin = Instant::now();
    let long = open(&server, 5)?;
    let opened_within = begin.elapsed().as_secs_f64();
    thread::sleep(Duration::from_millis(1_500));
    drop((long, from_before));
    let scrape = closed(&agent, &label, 8)?;
    let of_server = [("server", label.as_str())];
    let name = "stormglass_connection_lifetime_seconds";
    assert_eq!(scrape.count(&format!("{name}_count"), &of_server), 5);
    let sum = scrape.value(&format!("{name}_sum"), &of_server).expect("a sum");
    assert!(
        (7.4..8.0 + 5.0 * opened_within).contains(&sum),
        "{sum}, opened within {opened_within}"
    );
    let up_to = |scrape: &Scrape, bound: f64| {
        let bucket = format!("{name}_bucket");
        let buckets = scrape.series(&bucket, &of_server);
        let mut bounds: Vec<(f64, f64)> = buckets
            .filter_map(|(labels, value)| {
                let bound: f64 = labels.get("le")?.parse().ok()?;
                Some((bound, value))
            })
            .collect();
        bounds.sort_by(|left, right| left.0.total_cmp(&right.0));
        let found = bounds.iter().rev().find(|(least, _)| *least <= bound);
        found.map_or(0.0, |(_, count)| *count)
    };
    assert_eq!((up_to(&scrape, 1.2), up_to(&scrape, 4.5)), (0.0, 5.0));
    drop(open(&server, 20)?);
    let scrape = closed(&agent, &label, 28)?;
    assert_eq!((up_to(&scrape, 1.2), up_to(&scrape, 4.5)), (20.0, 25.0));
    Ok(())
}
