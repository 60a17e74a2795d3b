//! Connections that were there before the agent.

use std::{thread, time::Duration};

use anyhow::Result;
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::Opening;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};

const CONNECTIONS: u64 = 500;
const ROUNDS: u64 = 5;
/// Longer than the silence that makes a restart point.
const QUIET: Duration = Duration::from_millis(5);

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn connections_from_before_the_agent_are_in_the_gauges_at_once_and_their_traffic_after_one_exchange()
-> Result<()> {
    let server = Plan::valkey()?.start()?;
    let mut connections = connect(&server)?;
    // Some are idle since they were accepted, some have talked.
    for connection in connections.iter_mut().step_by(2) {
        connection.ask(&[b"SET", b"before:1", b"value"])?;
    }
    let agent = Agent::start()?;

    let label = server.label();
    let first = agent.scrape()?;
    let of_server = [("server", label.as_str())];
    assert_eq!(first.count("stormglass_connections", &of_server), CONNECTIONS);
    assert_eq!(first.count("stormglass_connections_opened_total", &of_server), 0);
    assert_eq!(first.count("stormglass_connections_closed_total", &of_server), 0);
    let of_client = [("server", label.as_str()), ("client", "127.0.0.1")];
    assert_eq!(
        first.count("stormglass_client_connections", &of_client),
        CONNECTIONS
    );

    let mut opening = Opening::at(&agent, &server)?;
    let (sent, received) = everyone_sends(&mut connections)?;
    let account = opening.account(&agent)?;
    account.assert_bytes_equal();
    assert!(account.counted.unattributed("in") <= sent);
    assert!(account.counted.unattributed("out") <= received);
    for (_, reason) in account.counted.unattributed.keys() {
        assert_eq!(reason, "mid_stream");
    }

    // The first exchange was on trial; it is answered, the servers are quiet: from here on everything counts.
    let mut later = Opening::at(&agent, &server)?;
    for _ in 1..ROUNDS {
        thread::sleep(QUIET);
        everyone_sends(&mut connections)?;
    }
    let account = later.account(&agent)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("mid"), CONNECTIONS * (ROUNDS - 1));

    // The connections for the server's counters came after the agent.
    let scrape = agent.scrape()?;
    assert_eq!(scrape.count("stormglass_connections_opened_total", &of_server), 2);
    assert_eq!(
        scrape.count("stormglass_connections", &of_server),
        CONNECTIONS + 2
    );
    drop(connections);
    let counted = agent.scrape_until("the end of the connections", |scrape| {
        scrape.count("stormglass_connections", &of_server) == 2
    })?;
    assert_eq!(
        counted.count("stormglass_connections_closed_total", &of_server),
        CONNECTIONS
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn an_agent_that_starts_in_the_middle_of_a_value_or_a_reply_counts_every_byte_of_it_as_unattributed()
-> Result<()> {
    let server = Plan::valkey()?.start()?;
    let mut value = server.connect()?;
    value.send_bytes(b"*3\r\n$3\r\nSET\r\n$5\r\nmid:1\r\n$20\r\n*1\r\n$4\r\n")?;
    let mut blocked = server.connect()?;
    blocked.send(&[b"BLPOP", b"mid:list", b"0"])?;
    // The server has read both once it has answered a later question.
    server.control()?.traffic()?;

    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;
    // What looks like commands here is the rest of the value.
    value.send_bytes(b"PING\r\n$5\r\n+\n")?;
    value.send_bytes(b"\r\n")?;
    value.receive()?;
    server.connect()?.ask(&[b"LPUSH", b"push:list", b"x"])?;
    server.connect()?.ask(&[b"LPUSH", b"mid:list", b"x"])?;
    blocked.receive()?;
    opening.account(&agent)?.assert_bytes_equal();

    // From here on, both are in step again.
    let mut later = Opening::at(&agent, &server)?;
    for connection in [&mut value, &mut blocked] {
        for _ in 0..3 {
            thread::sleep(QUIET);
            connection.ask(&[b"GET", b"mid:2"])?;
        }
    }
    let account = later.account(&agent)?;
    account.assert_bytes_equal();
    assert!(
        account.counted.commands("mid") >= 4,
        "not in step after an answer: {:?}",
        account.counted
    );
    Ok(())
}

fn connect(server: &Server) -> Result<Vec<Connection>> {
    (0..CONNECTIONS).map(|_| server.connect()).collect()
}

/// One command on each connection, all of them sent before the first answer is read. Returns bytes sent and received.
fn everyone_sends(connections: &mut [Connection]) -> Result<(u64, u64)> {
    let before = totals(connections);
    for connection in connections.iter_mut() {
        connection.send(&[b"SET", b"mid:1", b"value"])?;
    }
    for connection in connections.iter_mut() {
        connection.receive()?;
    }
    let after = totals(connections);
    Ok((after.0 - before.0, after.1 - before.1))
}

fn totals(connections: &[Connection]) -> (u64, u64) {
    connections.iter().fold((0, 0), |(sent, received), connection| {
        (sent + connection.sent(), received + connection.received())
    })
}
