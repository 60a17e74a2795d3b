//! The oracle: attributed bytes are the server's own bytes, and commands per prefix are what the clients sent.

use anyhow::{Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::Opening;
use stormglass_tests::resp::frame;
use stormglass_tests::server::{Plan, Server};

use crate::clients::{Benchmark, Sent, redis_rs, valkey_py};

/// The least that the run on Valkey has to send.
const COMMANDS: u64 = 200_000;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_byte_of_two_client_libraries_and_a_benchmark_is_attributed_to_the_prefix_it_was_sent_to()
-> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut sent = valkey_py(server.port())?;
    sent.extend(redis_rs(server.port())?);
    for pipeline in [1, 16, 100] {
        for value in [1, 1_000, 16_384] {
            sent.extend(benchmark(&server, pipeline, value, 9_600, 50)?);
        }
        // Few enough connections that the last round of pipelines is full.
        sent.extend(benchmark(&server, pipeline, 1 << 20, 400, 2)?);
    }

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    for (prefix, commands) in &sent {
        assert_eq!(
            account.counted.commands(prefix),
            *commands,
            "commands of {prefix}"
        );
    }
    ensure!(
        account.server.commands >= COMMANDS,
        "only {} commands",
        account.server.commands
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn redis_is_counted_to_the_byte_as_well() -> Result<()> {
    let server = Plan::redis()?.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut sent = valkey_py(server.port())?;
    sent.extend(redis_rs(server.port())?);
    sent.extend(benchmark(&server, 16, 1_000, 9_600, 50)?);

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    for (prefix, commands) in &sent {
        assert_eq!(
            account.counted.commands(prefix),
            *commands,
            "commands of {prefix}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_command_that_arrives_byte_by_byte_costs_what_it_costs_in_one_piece() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let command = frame(&[b"SET", b"slow:key", b"*3\r\n$-1\r\n"]);
    let mut connection = server.connect()?;
    for byte in &command {
        connection.send_bytes(&[*byte])?;
    }
    connection.receive()?;

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let row = account.counted.prefixes["slow"];
    assert_eq!(
        (row.commands, row.bytes_in, row.bytes_out),
        (1, command.len() as u64, 5)
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn keys_without_prefix_and_commands_without_key_have_rows_of_their_own() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut connection = server.connect()?;
    connection.ask(&[b"SET", b"plain", b"1"])?;
    connection.ask(&[b"PING"])?;
    connection.send_bytes(b"SET inline:key 1\r\n")?;
    connection.receive()?;
    connection.ask(&[b"SET", &[b'k'; 64], b"1"])?;

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("(none)"), 2);
    assert_eq!(account.counted.commands("inline"), 1);
    // The INFO at each end of the interval belongs here too; the first one was counted before it.
    assert_eq!(account.counted.commands("(keyless)"), 2);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn subscribers_are_counted_as_channel_traffic() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut subscriber = server.connect()?;
    let mut publisher = server.connect()?;
    subscriber.ask(&[b"SUBSCRIBE", b"news"])?;
    let mut pushed = 0;
    for _ in 0..100 {
        publisher.ask(&[b"PUBLISH", b"news", &[b'n'; 300]])?;
        let before = subscriber.received();
        subscriber.receive()?;
        pushed += subscriber.received() - before;
    }

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let row = account.counted.prefixes["(pubsub)"];
    assert!(
        row.bytes_out >= pushed,
        "{pushed} bytes were pushed, (pubsub) has {row:?}"
    );
    Ok(())
}

/// Writes, then reads, under a prefix that names the case.
fn benchmark(server: &Server, pipeline: u32, value: usize, requests: u32, connections: u32) -> Result<Sent> {
    let prefix = format!("bench-{pipeline}-{value}");
    let run = |command, value| {
        Benchmark {
            port: server.port(),
            command,
            prefix: &prefix,
            requests,
            connections,
            pipeline,
            value,
        }
        .run()
    };
    run("SET", Some(value))?;
    run("GET", None)?;
    Ok(Sent::from([(prefix.clone(), 2 * u64::from(requests))]))
}
