//! The oracle: attributed bytes are the server's own bytes, and commands per prefix are what the clients sent.

use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::Opening;
use stormglass_tests::resp::{Connection, Reply, frame};
use stormglass_tests::server::{Plan, Server};

use crate::clients::{Benchmark, Sent, Told, ioredis, redis_rs, valkey_glide, valkey_py};

/// The least that the run on Valkey 9.1 has to send.
const COMMANDS: u64 = 200_000;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_byte_of_four_client_libraries_and_a_benchmark_is_attributed_to_the_prefix_it_was_sent_to()
-> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut told = four_clients(&server, "valkey_version:9.1.")?;
    for pipeline in [1, 16, 100] {
        for value in [1, 1_000, 16_384] {
            told.extend(benchmark(&server, pipeline, value, 9_600, 50)?);
        }
        // Few enough connections that the last round of pipelines is full.
        told.extend(benchmark(&server, pipeline, 1 << 20, 400, 2)?);
    }

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    told.assert_counted(&account);
    ensure!(
        account.server.commands >= COMMANDS,
        "only {} commands",
        account.server.commands
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn valkey_8_1_is_counted_to_the_byte_as_well() -> Result<()> {
    is_counted_to_the_byte(&Plan::valkey_8_1()?, "valkey_version:8.1.")
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn valkey_8_0_is_counted_to_the_byte_as_well() -> Result<()> {
    is_counted_to_the_byte(&Plan::valkey_8_0()?, "valkey_version:8.0.")
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn redis_is_counted_to_the_byte_as_well() -> Result<()> {
    is_counted_to_the_byte(&Plan::redis()?, "redis_version:7.0.")
}

fn is_counted_to_the_byte(plan: &Plan, version: &str) -> Result<()> {
    let server = plan.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut told = four_clients(&server, version)?;
    told.extend(benchmark(&server, 16, 1_000, 9_600, 50)?);
    told.extend(benchmark(&server, 100, 16_384, 4_800, 4)?);

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    told.assert_counted(&account);
    Ok(())
}

/// Four client libraries at once, on a server that says it is of this version.
fn four_clients(server: &Server, version: &str) -> Result<Told> {
    let info = server.control()?.info("server")?;
    ensure!(info.contains(version), "this is not {version}: {info}");
    let (address, port) = (server.address(), server.port());
    let results = thread::scope(|scope| {
        let clients = [
            scope.spawn(move || redis_rs(address).context("redis-rs")),
            scope.spawn(move || valkey_py(port)),
            scope.spawn(move || valkey_glide(port)),
            scope.spawn(move || ioredis(port)),
        ];
        clients.map(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
    });
    let mut told = Told::default();
    for result in results {
        told.extend(result?);
    }
    Ok(told)
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
fn messages_and_invalidations_are_channel_traffic_to_the_byte() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut channels = Channels::default();
    let mut publisher = server.connect()?;
    for protocol in [b"2", b"3"] {
        let mut subscriber = hello(&server, protocol)?;
        channels.count(&mut subscriber, |it| {
            subscribe(it, &[b"SUBSCRIBE", b"news", b"more"])
        })?;
        channels.count(&mut subscriber, |it| subscribe(it, &[b"PSUBSCRIBE", b"n*"]))?;
        channels.count(&mut subscriber, |it| subscribe(it, &[b"SSUBSCRIBE", b"shard"]))?;
        for _ in 0..100 {
            channels.count(&mut publisher, |it| {
                it.ask(&[b"PUBLISH", b"news", &[b'n'; 300]]).map(|_| ())
            })?;
            channels.count(&mut publisher, |it| {
                it.ask(&[b"SPUBLISH", b"shard", b""]).map(|_| ())
            })?;
            channels.count(&mut subscriber, |it| {
                (0..3).try_for_each(|_| it.receive().map(|_| ()))
            })?;
        }
        channels.count(&mut subscriber, |it| {
            subscribe(it, &[b"UNSUBSCRIBE", b"more", b"news"])
        })?;
    }

    // RESP3 hears on the connection itself; RESP2 on another one, which has subscribed to it.
    let mut writer = server.connect()?;
    let mut tracked = hello(&server, b"3")?;
    tracked.ask(&[b"CLIENT", b"TRACKING", b"ON"])?;
    let mut listener = server.connect()?;
    let Reply::Integer(id) = listener.ask(&[b"CLIENT", b"ID"])? else {
        anyhow::bail!("CLIENT ID answers no number")
    };
    channels.count(&mut listener, |it| {
        subscribe(it, &[b"SUBSCRIBE", b"__redis__:invalidate"])
    })?;
    let mut redirected = server.connect()?;
    redirected.ask(&[
        b"CLIENT",
        b"TRACKING",
        b"ON",
        b"REDIRECT",
        id.to_string().as_bytes(),
    ])?;
    for change in [&[b"INCR".as_slice(), b"tracked:1"][..], &[b"FLUSHALL"]] {
        tracked.ask(&[b"GET", b"tracked:1"])?;
        redirected.ask(&[b"GET", b"tracked:1"])?;
        writer.ask(change)?;
        for heard in [&mut tracked, &mut listener] {
            channels.count(heard, |it| it.receive().map(|_| ()))?;
        }
    }

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let row = account.counted.prefixes["(pubsub)"];
    assert_eq!((row.bytes_in, row.bytes_out), (channels.sent, channels.received));
    assert_eq!(account.counted.commands("tracked"), 5);
    Ok(())
}

/// Bytes of channel traffic, as the clients count them.
#[derive(Default)]
struct Channels {
    sent: u64,
    received: u64,
}

impl Channels {
    /// Counts what `work` sends and receives.
    fn count(
        &mut self,
        connection: &mut Connection,
        work: impl FnOnce(&mut Connection) -> Result<()>,
    ) -> Result<()> {
        let before = (connection.sent(), connection.received());
        work(connection)?;
        self.sent += connection.sent() - before.0;
        self.received += connection.received() - before.1;
        Ok(())
    }
}

/// A command of the SUBSCRIBE family, with a confirmation for each channel.
fn subscribe(connection: &mut Connection, words: &[&[u8]]) -> Result<()> {
    connection.send(words)?;
    words
        .iter()
        .skip(1)
        .try_for_each(|_| connection.receive().map(|_| ()))
}

fn hello(server: &Server, protocol: &[u8]) -> Result<Connection> {
    let mut connection = server.connect()?;
    connection.ask(&[b"HELLO", protocol])?;
    Ok(connection)
}

/// Writes, then reads, under a prefix that names the case.
fn benchmark(server: &Server, pipeline: u32, value: usize, requests: u32, connections: u32) -> Result<Told> {
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
    let commands = Some(2 * u64::from(requests));
    let sent = Sent {
        commands,
        ..Sent::default()
    };
    Ok(Told {
        rows: [(prefix.clone(), sent)].into(),
        ..Told::default()
    })
}
