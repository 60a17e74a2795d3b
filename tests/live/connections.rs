//! Connections opened, closed and open, per server and per client, and bursts of them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::Scrape;
use stormglass_tests::lab;
use stormglass_tests::ledger::Opening;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};

use crate::clients::Benchmark;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn connections_are_counted_per_server_and_per_client_address() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let label = server.label();
    let before = totals(&agent.sees(&label)?, &label);
    assert_eq!(before, (0, 0, 0));

    let mut clients: Vec<(Ipv4Addr, Vec<Connection>)> = Vec::new();
    for (host, count) in [(11, 3_u64), (12, 5), (13, 7)] {
        let source = Ipv4Addr::new(127, 0, 3, host);
        let connections = (0..count).map(|_| open_from(source, &server));
        clients.push((source, connections.collect::<Result<_>>()?));
    }
    let scrape = agent.scrape()?;
    assert_eq!(totals(&scrape, &label), (15, 15, 0));
    for (source, connections) in &clients {
        let client = [("server", label.as_str()), ("client", &source.to_string())];
        let count = connections.len() as u64;
        assert_eq!(scrape.count("stormglass_client_connections", &client), count);
        assert_eq!(
            scrape.count("stormglass_client_connections_opened_total", &client),
            count
        );
    }

    clients.remove(1);
    let scrape = agent.scrape_until("the end of five connections", |scrape| {
        totals(scrape, &label).0 == 10
    })?;
    assert_eq!(totals(&scrape, &label), (10, 15, 5));
    let client = [("server", label.as_str()), ("client", "127.0.3.12")];
    assert_eq!(scrape.count("stormglass_client_connections", &client), 0);
    let control = server.control()?.clients()?;
    assert_eq!(
        control, 11,
        "the server's own count, the connection that asks included"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn two_hundred_connections_at_once_are_a_burst_in_the_histogram() -> Result<()> {
    const BURST: u64 = 200;
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let label = server.label();
    agent.sees(&label)?;

    let burst: Vec<_> = (0..BURST).map(|_| server.connect()).collect::<Result<_>>()?;
    let of_server = [("server", label.as_str())];
    let scrape = agent.scrape_until("the burst in the histogram", |scrape| {
        scrape.count("stormglass_accept_burst_connections_sum", &of_server) == BURST
    })?;
    let windows = scrape.count("stormglass_accept_burst_connections_count", &of_server);
    let up_to = |bound: &str| {
        let bucket = [("server", label.as_str()), ("le", bound)];
        scrape.count("stormglass_accept_burst_connections_bucket", &bucket)
    };
    assert_eq!(up_to("+Inf"), windows);
    // 200 connections take some milliseconds: one window, or two if they fall onto its end.
    assert!(
        (1..=4).contains(&windows),
        "{windows} windows for connections made at once"
    );
    assert!(
        windows > up_to("32"),
        "no window has more than 32 of {BURST} connections"
    );
    assert_eq!(totals(&scrape, &label), (BURST, BURST, 0));
    drop(burst);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn connections_that_never_send_anything_come_and_go_without_a_trace_in_the_gauges() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let label = server.label();
    agent.sees(&label)?;
    for _ in 0..1000 {
        drop(server.connect()?);
    }
    let scrape = agent.scrape_until("the end of all connections", |scrape| {
        totals(scrape, &label).2 == 1000
    })?;
    assert_eq!(totals(&scrape, &label), (0, 1000, 1000));
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn clients_that_reconnect_for_each_command_are_counted_as_often_as_the_server_counts_them() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let label = server.label();
    let mut opening = Opening::at(&agent, &server)?;
    let before = opening.control().connections_received()?;
    let mut command = Command::new(lab::valkey_benchmark()?);
    command.args(["-k", "0"]);
    let benchmark = Benchmark {
        port: server.port(),
        command: "SET",
        prefix: "churn",
        requests: 5_000,
        connections: 20,
        pipeline: 1,
        value: Some(30),
    };
    let finished = benchmark.spawn(&mut command)?.finish(Duration::from_secs(60))?;
    assert!(finished.status.success(), "{finished:?}");

    let received = opening.control().connections_received()? - before;
    assert!(received >= 5_000, "only {received} connections");
    let scrape = agent.scrape_until("the end of all clients", |scrape| totals(scrape, &label).0 == 1)?;
    // One is the connection for the server's counters.
    assert_eq!(totals(&scrape, &label), (1, received + 1, received));
    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("churn"), 5_000);
    Ok(())
}

fn open_from(source: Ipv4Addr, server: &Server) -> Result<Connection> {
    Connection::open_from(source, SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port()))
}

/// Open, opened, closed.
fn totals(scrape: &Scrape, server: &str) -> (u64, u64, u64) {
    let of_server = [("server", server)];
    (
        scrape.count("stormglass_connections", &of_server),
        scrape.count("stormglass_connections_opened_total", &of_server),
        scrape.count("stormglass_connections_closed_total", &of_server),
    )
}
