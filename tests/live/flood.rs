//! A million made-up prefixes and two hundred thousand addresses: what the tenants in the rules have stays exact, and the agent
//! small. How long a scrape takes then is measured by `cargo xtask bench scrape`, not here: docs/BENCHMARKS.md.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::bpf;
use stormglass_tests::exposition::{Scrape, whole};
use stormglass_tests::ledger::Account;
use stormglass_tests::resp::{Connection, frame};
use stormglass_tests::server::{Plan, Server, Traffic};

const PREFIXES: u32 = 1_000_000;
const ADDRESSES: u32 = 200_000;

/// Prefixes of a tenant: more than there are rows for tenants.
const OF_TENANT: u32 = 5_000;

/// Commands at once of whoever floods.
const PIPELINE: u32 = 1_000;

/// The same of a tenant: each waits as one of its own, and a connection has room for 256 of them (`Spill`).
const OWN_PIPELINE: u32 = 200;

/// Connections that one thread holds at once: well below what a process may open.
const HELD: usize = 2_000;

/// Before the agent's memory is looked at.
const SCRAPES: u32 = 5;

/// Docs/ARCHITECTURE.md, Memory.
const DAEMON_BYTES: u64 = 160 << 20;
const MAP_BYTES: u64 = 64 << 20;

const CONFIG: &str = r#"
[[tenant]]
name = "steady"
prefixes = ["steady", "stead-*"]

[[tenant]]
name = "late"
prefixes = ["late-*"]

[[tenant]]
name = "svc"
users = ["svc"]
"#;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn tenants_stay_exact_and_the_agent_small_under_a_flood_of_prefixes_and_addresses() -> Result<()> {
    let server = Plan::valkey()?
        .config("maxclients 12000\nuser svc on >pw ~* &* +@all\n")
        .start()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    let address = server.address();
    let [steady, svc] = thread::scope(|scope| -> Result<_> {
        let floods = [
            scope.spawn(move || prefixes(address, "flood", 0..PREFIXES / 2, PIPELINE)),
            scope.spawn(move || prefixes(address, "flood", PREFIXES / 2..PREFIXES, PIPELINE)),
            scope.spawn(move || addresses(address, 0..ADDRESSES / 2)),
            scope.spawn(move || addresses(address, ADDRESSES / 2..ADDRESSES)),
        ];
        let mut steady = Work::new(&server)?;
        let mut svc = Work::new(&server)?;
        svc.connection.ask(&[b"AUTH", b"svc", b"pw"])?;
        svc.begin();
        while floods.iter().any(|flood| !flood.is_finished()) {
            steady.some("steady")?;
            svc.some("anything")?;
        }
        for flood in floods {
            flood.join().map_err(|_| anyhow!("a flood panicked"))??;
        }
        Ok([steady.traffic(), svc.traffic()])
    })?;
    // A tenant that comes when every row is taken, and one that has more prefixes than there are rows for tenants.
    let late = prefixes(address, "late-", 0..OF_TENANT, OWN_PIPELINE)?;
    let more = prefixes(address, "stead-", 0..10, OWN_PIPELINE)?;

    let account = Account::from_the_start(&agent, &server)?;
    account.assert_all_attributed();
    let scrape = agent.scrape()?;
    let label = server.label();
    for (name, expected) in [("steady", steady.plus(more)), ("late", late), ("svc", svc)] {
        assert_eq!(scrape.tenant(&label, name), expected, "{name}");
    }
    let of_server = [("server", &*label)];
    let all = scrape
        .series("stormglass_tenant_bytes_total", &of_server)
        .map(|(_, bytes)| whole(bytes));
    assert_eq!(
        all.sum::<u64>(),
        account.server.bytes_in + account.server.bytes_out
    );
    let other = account.counted.commands("(other)");
    ensure!(
        other >= u64::from(PREFIXES - 4_096),
        "only {other} commands are in (other)"
    );
    let retired = scrape.count("stormglass_dropped_total", &[("reason", "prefix_retired")]);
    ensure!(retired > 0, "no prefix gave up its row");
    assert_clients(&scrape, &label)?;
    assert_small(&agent)
}

/// Every connection is some client's, and those beyond the table are in `(other)`.
fn assert_clients(scrape: &Scrape, server: &str) -> Result<()> {
    let of_server = [("server", server)];
    let opened = scrape.count("stormglass_connections_opened_total", &of_server);
    ensure!(opened > u64::from(ADDRESSES), "only {opened} connections");
    let clients = scrape.series("stormglass_client_connections_opened_total", &of_server);
    let (rows, sum) = clients.fold((0, 0), |(rows, sum), (_, value)| (rows + 1, sum + whole(value)));
    assert_eq!(sum, opened);
    ensure!((65_000..=65_537).contains(&rows), "{rows} clients");
    Ok(())
}

fn assert_small(agent: &Agent) -> Result<()> {
    // What scrapes need is resident by now.
    for _ in 0..SCRAPES {
        agent.metrics()?;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
    let resident = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let resident = resident.context("no VmRSS")? << 10;
    let maps = bpf::map_memory()?;
    println!("resident {resident}, maps {maps}");
    ensure!(resident <= DAEMON_BYTES, "the daemon has {resident} bytes");
    ensure!(maps <= MAP_BYTES, "the maps have {maps} bytes");
    Ok(())
}

/// A client that works while others flood.
struct Work {
    connection: Connection,
    commands: u64,
    before: (u64, u64),
}

impl Work {
    fn new(server: &Server) -> Result<Self> {
        Ok(Self {
            connection: server.connect()?,
            commands: 0,
            before: (0, 0),
        })
    }

    /// What was sent until now does not count.
    fn begin(&mut self) {
        self.before = (self.connection.sent(), self.connection.received());
    }

    fn some(&mut self, prefix: &str) -> Result<()> {
        let key = format!("{prefix}:{}", self.commands % 100);
        self.connection.ask(&[b"SET", key.as_bytes(), b"some value"])?;
        self.connection.ask(&[b"GET", key.as_bytes()])?;
        self.commands += 2;
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            bytes_in: self.connection.sent() - self.before.0,
            bytes_out: self.connection.received() - self.before.1,
            commands: self.commands,
        }
    }
}

/// Reads keys below as many prefixes, each of its own, in pipelines. Returns what that cost.
fn prefixes(server: SocketAddr, name: &str, numbers: std::ops::Range<u32>, pipeline: u32) -> Result<Traffic> {
    const MISSED: &[u8] = b"$-1\r\n";
    let mut connection = Connection::open(server)?;
    let mut commands = 0;
    let mut batch = Vec::new();
    for start in numbers.clone().step_by(pipeline as usize) {
        let end = numbers.end.min(start + pipeline);
        batch.clear();
        for number in start..end {
            batch.extend_from_slice(&frame(&[b"GET", format!("{name}{number:x}:1").as_bytes()]));
        }
        connection.send_bytes(&batch)?;
        connection.skip(u64::from(end - start) * MISSED.len() as u64)?;
        commands += u64::from(end - start);
    }
    Ok(Traffic {
        bytes_in: connection.sent(),
        bytes_out: connection.received(),
        commands,
    })
}

/// Connects from as many addresses, holds each connection for a while, and says nothing.
fn addresses(server: SocketAddr, numbers: std::ops::Range<u32>) -> Result<Traffic> {
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port());
    let mut held = Vec::with_capacity(HELD);
    for number in numbers {
        // 127.1.0.0 and on: nobody else's.
        let source = Ipv4Addr::from_bits(0x7f01_0000 + number);
        held.push(Connection::open_from(source, server)?);
        if held.len() == HELD {
            held.clear();
        }
    }
    Ok(Traffic::default())
}
