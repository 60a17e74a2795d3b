//! A network that loses and doubles packets, between a client's host and the server's.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::Scrape;
use stormglass_tests::ledger::{Account, Opening, Row};
use stormglass_tests::resp::{Connection, Reply, frame};
use stormglass_tests::server::Plan;
use stormglass_tests::wire::{self, Router, Toll, Wire};

use crate::clients::{Sent, Told, redis_rs};

/// How long the load lasts; a connection that is at work then finishes what it is at.
const LOAD: Duration = Duration::from_secs(12);

/// Of a thousand packets in each direction.
const LOST: u32 = 10;
const DOUBLED: u32 = 10;

/// The least that the wire has to do in each direction, so that the test says something.
const LEAST_LOST: u64 = 200;

/// Bytes of values.
const SIZES: [usize; 5] = [16, 200, 3_000, 40_000, 256 << 10];

/// Commands that are sent at once.
const PIPELINES: [usize; 3] = [1, 16, 100];

/// Of a thousand bytes, fewer than this may be unattributed. None is as a rule; a segment that is lost four times in a row makes a
/// gap of more than 2 s.
const UNATTRIBUTED_PER_MILLE: u64 = 1;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn bytes_are_equal_while_one_packet_in_a_hundred_is_lost_and_one_doubled() -> Result<()> {
    let wire = Wire::create()?;
    let server = Plan::valkey()?
        .netns(&wire.server)
        .bind(&["127.0.0.1", &wire::SERVER.to_string()])
        .start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    let address = (wire::SERVER, server.port()).into();
    let told = wire.client.inside(|| load(address, &wire.router))?;

    let account = opening.account(&agent)?;
    let tolls = wire.router.tolls()?;
    report(&account, &told, &tolls, &agent.scrape()?);
    account.assert_bytes_equal();
    told.assert_not_exceeded(&account);
    for toll in tolls {
        let least = (toll.passed + toll.lost) / 1000 * u64::from(LOST.min(DOUBLED)) / 2;
        ensure!(
            toll.lost > LEAST_LOST.max(least) && toll.doubled > least,
            "the wire was too good: {toll:?}"
        );
    }
    assert_attributed(&account);
    // The kernel counts packets as dropped that the wire has doubled: nobody has waited.
    let labels = [("server", &*server.label()), ("kind", "accept_queue_saturation")];
    let storms = agent.scrape()?.count("stormglass_storms_total", &labels);
    ensure!(storms == 0, "a bad link was taken for a full queue");
    Ok(())
}

fn assert_attributed(account: &Account) {
    for (direction, all) in [("in", account.server.bytes_in), ("out", account.server.bytes_out)] {
        let unattributed = account.counted.unattributed(direction);
        assert!(
            unattributed * 1000 < all * UNATTRIBUTED_PER_MILLE,
            "{unattributed} of {all} bytes {direction} are unattributed: {:?}",
            account.counted.unattributed
        );
    }
}

/// Pools, whose connections are there before the wire is disturbed and stay; a client that connects again and again; and
/// a client library with all it can do.
fn load(server: SocketAddr, router: &Router) -> Result<Told> {
    let pools: Vec<_> = SIZES
        .into_iter()
        .flat_map(|size| {
            PIPELINES.map(|pipeline| Worker {
                server,
                size,
                pipeline,
            })
        })
        .collect();
    let ready = Barrier::new(pools.len() + 1);
    let mut told = thread::scope(|scope| {
        let workers: Vec<_> = pools
            .iter()
            .map(|pool| scope.spawn(|| pool.stay(&ready)))
            .collect();
        ready.wait();
        router.disturb(LOST, DOUBLED)?;
        let restless = scope.spawn(move || {
            Worker {
                server,
                size: 64,
                pipeline: 4,
            }
            .come_and_go()
        });
        let mut told = redis_rs(server)?;
        for worker in workers.into_iter().chain([restless]) {
            told.rows.extend([joined(worker)?]);
        }
        Ok::<_, anyhow::Error>(told)
    })?;
    // The library's own rows have replies that nobody has counted.
    told.pushed = 0;
    Ok(told)
}

fn joined<T>(worker: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    worker.join().map_err(|_| anyhow!("a client panicked"))?
}

/// A client of one kind.
struct Worker {
    server: SocketAddr,
    /// Bytes of values.
    size: usize,
    /// Commands that are sent at once.
    pipeline: usize,
}

impl Worker {
    /// Uses one connection, which is open before the others go on.
    fn stay(&self, ready: &Barrier) -> Result<(String, Sent)> {
        let connection = Connection::open(self.server);
        // Also after a failure: the others wait for everybody.
        ready.wait();
        let mut connection = connection?;
        let until = Instant::now() + LOAD;
        let mut sent = Row::default();
        while Instant::now() < until {
            sent.commands += self.round(&mut connection)?;
        }
        Ok(self.told(sent.plus(traffic(&connection))))
    }

    /// Uses a new connection for every few rounds.
    fn come_and_go(&self) -> Result<(String, Sent)> {
        let until = Instant::now() + LOAD;
        let mut sent = Row::default();
        while Instant::now() < until {
            let mut connection = Connection::open(self.server)?;
            for _ in 0..5 {
                sent.commands += self.round(&mut connection)?;
            }
            sent = sent.plus(traffic(&connection));
        }
        Ok(self.told(sent))
    }

    /// Writes, then reads, each time so many times at once. Returns the commands.
    fn round(&self, connection: &mut Connection) -> Result<u64> {
        let (key, value) = (format!("{}:key", self.prefix()), vec![b'v'; self.size]);
        let commands = [
            frame(&[b"SET", key.as_bytes(), &value]),
            frame(&[b"GET", key.as_bytes()]),
        ];
        let replies = [Reply::Simple("OK".into()), Reply::Bulk(Some(value))];
        for (command, expected) in commands.iter().zip(&replies) {
            connection.send_bytes(&command.repeat(self.pipeline))?;
            for _ in 0..self.pipeline {
                let reply = connection.receive()?;
                ensure!(reply == *expected, "{key} is answered {reply:.100?}");
            }
        }
        Ok(2 * self.pipeline as u64)
    }

    fn prefix(&self) -> String {
        format!("v{}-p{}", self.size, self.pipeline)
    }

    fn told(&self, sent: Row) -> (String, Sent) {
        let sent = Sent {
            commands: Some(sent.commands),
            bytes_in: Some(sent.bytes_in),
            bytes_out: Some(sent.bytes_out),
        };
        (self.prefix(), sent)
    }
}

fn traffic(connection: &Connection) -> Row {
    Row {
        bytes_in: connection.sent(),
        bytes_out: connection.received(),
        commands: 0,
    }
}

/// What became of the load, for whoever reads the test's output.
fn report(account: &Account, told: &Told, tolls: &[Toll; 2], scrape: &Scrape) {
    let [inward, outward] = tolls;
    eprintln!("the wire: in {inward:?}\n          out {outward:?}");
    eprintln!("the server: {:?}", account.server);
    eprintln!("unattributed: {:?}", account.counted.unattributed);
    for (labels, count) in scrape.series("stormglass_dropped_total", &[]) {
        if count > 0.0 {
            eprintln!("dropped: {labels:?} {count}");
        }
    }
    eprintln!(
        "{:>12}  {:>26}  {:>26}",
        "prefix", "bytes in: sent, missing", "bytes out"
    );
    for (prefix, sent) in &told.rows {
        let row = account.counted.prefixes.get(prefix).copied().unwrap_or_default();
        let missing = |sent: Option<u64>, counted| {
            sent.map_or_else(String::new, |sent| format!("{sent} {}", sent - counted))
        };
        let (bytes_in, bytes_out) = (
            missing(sent.bytes_in, row.bytes_in),
            missing(sent.bytes_out, row.bytes_out),
        );
        eprintln!("{prefix:>12}  {bytes_in:>26}  {bytes_out:>26}");
    }
}
