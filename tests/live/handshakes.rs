//! Connections whose handshake ends with the client's first commands: its acknowledgement was lost, the server's queue of
//! accepted connections was full when it came, or the client sends data with its first packet.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use agent_common::limits::PARKED_BYTES;
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::TcpFastOpenConnect};
use serde_json::Value;
use stormglass_load::slow::Stopped;
use stormglass_tests::agent::Agent;
use stormglass_tests::bpf;
use stormglass_tests::ledger::{Account, Opening};
use stormglass_tests::poll;
use stormglass_tests::resp::{Connection, Reply, frame};
use stormglass_tests::server::{Plan, Server};
use stormglass_tests::wire::{self, Wire};

/// Lengths of packets that hold an acknowledgement and nothing else, with its headers.
const ACKNOWLEDGEMENTS: RangeInclusive<u16> = 52..=52;

/// Both ends use TCP Fast Open, without a cookie and without being asked by the application
/// (Documentation/networking/ip-sysctl.rst, `tcp_fastopen`).
const FAST_OPEN: &str = "1543";

/// Bytes of a value that needs many segments.
const LONG: usize = 40_000;

/// Connections that the stopped server has room for, roughly.
const BACKLOG: usize = 2;

/// Connections that are opened at the stopped server.
const CROWD: usize = 12;

struct Scene {
    wire: Wire,
    server: Server,
    agent: Agent,
    opening: Opening,
}

impl Scene {
    fn create() -> Result<Self> {
        Self::over(Wire::create()?)
    }

    fn over(wire: Wire) -> Result<Self> {
        let server = Plan::valkey()?
            .netns(&wire.server)
            .bind(&["127.0.0.1", &wire::SERVER.to_string()])
            .config(&format!("tcp-backlog {BACKLOG}\n"))
            .start()?;
        let agent = Agent::start()?;
        let opening = Opening::at(&agent, &server)?;
        Ok(Self {
            wire,
            server,
            agent,
            opening,
        })
    }

    fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(wire::SERVER, self.server.port())
    }

    /// Connects from the client's host.
    fn open(&self) -> Result<Connection> {
        let address = self.address();
        self.wire
            .client
            .inside(move || Connection::open(SocketAddr::V4(address)))
    }

    /// Both counts, which must be equal, and nothing left over.
    fn account(&mut self) -> Result<Account> {
        let account = self.opening.account(&self.agent)?;
        account.assert_all_attributed();
        account.assert_commands_equal();
        Ok(account)
    }
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn commands_that_end_the_handshake_are_read() -> Result<()> {
    let mut scene = Scene::create()?;
    scene.wire.router.lose(&ACKNOWLEDGEMENTS)?;
    let value = vec![b'v'; LONG];
    let mut connections = Vec::new();

    let mut one = scene.open()?;
    one.ask(&[b"SET", b"one:1", b"value"])?;
    connections.push(one);

    let mut pipeline = scene.open()?;
    pipeline.send_bytes(&frame(&[b"SET", b"pipeline:1", &value[..200]]).repeat(100))?;
    for _ in 0..100 {
        ensure!(pipeline.receive()? == Reply::Simple("OK".into()));
    }
    connections.push(pipeline);

    let mut long = scene.open()?;
    long.ask(&[b"SET", b"long:1", &value])?;
    connections.push(long);

    // The first answer leaves when another client makes it.
    let mut blocked = scene.open()?;
    blocked.send(&[b"BLPOP", b"blocked:1", b"0"])?;
    thread::sleep(Duration::from_millis(300));
    let mut waker = scene.open()?;
    waker.ask(&[b"RPUSH", b"blocked:1", b"element"])?;
    blocked.receive()?;
    connections.extend([blocked, waker]);

    scene.wire.router.lose_no_more()?;
    for connection in &mut connections {
        connection.ask(&[b"GET", b"after:1"])?;
    }
    let account = scene.account()?;
    for (prefix, commands) in [
        ("one", 1),
        ("pipeline", 100),
        ("long", 1),
        ("blocked", 2),
        ("after", 5),
    ] {
        assert_eq!(
            account.counted.commands(prefix),
            commands,
            "{prefix}: {account:#?}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn commands_that_a_full_queue_turns_away_count_once_when_they_are_let_in() -> Result<()> {
    let mut scene = Scene::create()?;
    let (server, address) = (scene.server.id(), SocketAddr::V4(scene.address()));
    let stopped = Stopped::stop(server)?;
    // Without the acknowledgements all of them have begun their handshakes before the queue is full.
    scene.wire.router.lose(&ACKNOWLEDGEMENTS)?;
    let crowd = scene.wire.client.inside(|| {
        let mut crowd = (0..CROWD)
            .map(|_| Connection::open(address))
            .collect::<Result<Vec<_>>>()?;
        scene.wire.router.lose_no_more()?;
        for connection in &mut crowd {
            connection.send(&[b"INCR", b"crowd:1"])?;
        }
        Ok(crowd)
    });
    // Most of what is sent is turned away, and sent again, and turned away.
    thread::sleep(Duration::from_millis(700));
    let kept = bpf::entries("SG_PARKED")?;
    drop(stopped);
    ensure!(!kept.is_empty(), "nothing is kept");
    for (cpu, cells) in cells_by_cpu(&kept)? {
        ensure!(
            cpu != 0,
            "what a connection was let in with is not read: {kept:?}"
        );
        ensure!(
            is_a_segment(&cells),
            "CPU {} keeps more than the last: {kept:?}",
            cpu - 1
        );
    }
    for mut connection in crowd? {
        connection.receive()?;
    }
    let account = scene.account()?;
    assert_eq!(account.counted.commands("crowd"), CROWD as u64, "{account:#?}");
    let turned_away = scene.wire.server.inside(|| netstat("ListenOverflows"))?;
    ensure!(turned_away > 0, "the queue was never full");
    // Nor is that kept for ever.
    poll::until_true("the end of the parking", Duration::from_secs(10), || {
        Ok(scene.agent.parked()? == 0)
    })
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn commands_in_the_very_first_packet_are_read() -> Result<()> {
    let wire = Wire::create()?;
    for host in [&wire.server, &wire.client] {
        host.inside(|| {
            fs::write("/proc/sys/net/ipv4/tcp_fastopen", FAST_OPEN).context("TCP Fast Open cannot be allowed")
        })?;
    }
    let mut scene = Scene::over(wire)?;
    let address = scene.address();
    let mut connection = scene.wire.client.inside(move || {
        Connection::open_prepared(address, |socket| {
            Ok(setsockopt(socket, TcpFastOpenConnect, &true)?)
        })
    })?;
    for command in [&[&b"SET"[..], b"early:1", b"value"][..], &[b"GET", b"early:1"]] {
        connection.ask(command)?;
    }
    let account = scene.account()?;
    assert_eq!(account.counted.commands("early"), 2, "{account:#?}");
    let early = scene.wire.server.inside(|| netstat("TCPFastOpenPassive"))?;
    ensure!(early > 0, "the first packet held no data");
    Ok(())
}

/// Parked cells by the number of the CPU at work on their handshake, and one: the number of each one's first byte.
fn cells_by_cpu(entries: &[Value]) -> Result<BTreeMap<u64, Vec<u32>>> {
    let mut cells = BTreeMap::<_, Vec<_>>::new();
    for entry in entries {
        let number = |name: &str| {
            entry["key"][name]
                .as_u64()
                .with_context(|| format!("no {name} in {entry}"))
        };
        let sequence = u32::try_from(number("sequence")?)?;
        cells.entry(number("handshake")?).or_default().push(sequence);
    }
    Ok(cells)
}

/// Whether a short segment can lie in these cells, in any order: it may begin in one and end in the next.
fn is_a_segment(cells: &[u32]) -> bool {
    match *cells {
        [_] => true,
        [one, other] => one.wrapping_sub(other).min(other.wrapping_sub(one)) == PARKED_BYTES as u32,
        _ => false,
    }
}

/// A counter of TCP in this thread's network namespace.
fn netstat(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").context("cannot read TCP's counters")?;
    let lines: Vec<&str> = text.lines().collect();
    let value = lines.chunks(2).find_map(|pair| {
        let [names, values] = pair else { return None };
        let index = names.split_whitespace().position(|other| other == name)?;
        values.split_whitespace().nth(index)
    });
    let value = value.with_context(|| format!("TCP does not count {name}"))?;
    Ok(value.parse()?)
}
