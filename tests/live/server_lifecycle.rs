//! Servers that start, stop and start again while the agent runs.

use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::bpf::Loaded;
use stormglass_tests::cgroup::Cgroup;
use stormglass_tests::ledger::{Account, Counted};
use stormglass_tests::poll;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server, Traffic};

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_first_command_to_a_server_that_starts_after_the_agent_is_counted() -> Result<()> {
    let agent = Agent::start()?;
    // It is a race; one that is won once proves little.
    for _ in 0..5 {
        let server = Plan::valkey()?.spawn()?;
        let mut first = connect_at_once(&server)?;
        first.ask(&[b"SET", b"first:1", b"value"])?;

        let started = Instant::now();
        agent.sees(&server.label())?;
        ensure!(
            started.elapsed() < Duration::from_secs(2),
            "seen after {:?}",
            started.elapsed()
        );
        let account = Account::from_the_start(&agent, &server)?;
        account.assert_all_attributed();
        assert_eq!(account.counted.commands("first"), 1);
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_first_command_is_counted_too_where_the_cgroup_was_watched_before() -> Result<()> {
    let agent = Agent::start()?;
    let older = Plan::valkey()?.start()?;
    agent.sees(&older.label())?;
    let server = Plan::valkey()?.cgroup(older.cgroup()).spawn()?;
    connect_at_once(&server)?.ask(&[b"SET", b"first:1", b"value"])?;
    let account = Account::from_the_start(&agent, &server)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("first"), 1);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_restarted_server_goes_on_under_its_label_with_counters_that_only_grow() -> Result<()> {
    let agent = Agent::start()?;
    let mut plan = Plan::valkey()?;
    let mut expected = Traffic::default();
    let mut opened = 0;
    for round in 1..=3 {
        if round == 3 {
            // As a container runtime does it: the same address, another cgroup.
            plan = plan.cgroup(&Rc::new(Cgroup::create("again")?));
        }
        let server = plan.spawn()?;
        let mut connection = connect_at_once(&server)?;
        for _ in 0..100 {
            connection.ask(&[b"INCR", b"again:counter"])?;
        }
        expected = expected.plus(server.control()?.traffic()?);
        opened += 2;

        let label = server.label();
        let scrape = agent.scrape_until("all commands until now", |scrape| {
            Counted::of(scrape, &label).commands("again") == 100 * round
        })?;
        let counted = Counted::of(&scrape, &label);
        let account = Account {
            server: expected,
            counted,
        };
        account.assert_all_attributed();
        let series = [("server", label.as_str())];
        assert!(scrape.count("stormglass_connections_opened_total", &series) >= opened);
        drop(connection);
        plan = server.stop()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_server_that_is_killed_with_open_connections_starts_again_with_gauges_that_are_true() -> Result<()> {
    let agent = Agent::start()?;
    let server = Plan::valkey()?.start()?;
    let label = server.label();
    agent.sees(&label)?;
    let left: Vec<_> = (0..30).map(|_| server.connect()).collect::<Result<_>>()?;
    let plan = server.plan().clone();
    drop(server);
    let server = plan.start()?;
    let new: Vec<_> = (0..7).map(|_| server.connect()).collect::<Result<_>>()?;
    let of_server = [("server", label.as_str())];
    agent.scrape_until("the gauge of the second run", |scrape| {
        let count = |name| scrape.count(name, &of_server);
        count("stormglass_connections") == 7
            && count("stormglass_connections_opened_total")
                == 7 + count("stormglass_connections_closed_total")
            && count("stormglass_connections_closed_total") >= 30
    })?;
    drop((left, new));
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_stopped_server_leaves_the_metrics_and_the_others_stay() -> Result<()> {
    let agent = Agent::start()?;
    let stays = Plan::valkey()?.start()?;
    let leaves = Plan::valkey()?.start()?;
    agent.sees(&stays.label())?;
    agent.sees(&leaves.label())?;
    let label = leaves.label();
    leaves.connect()?.ask(&[b"SET", b"gone:1", b"value"])?;
    // The plan keeps the cgroup.
    let plan = leaves.stop()?;
    let scrape = agent.forgets(&label)?;
    assert!(scrape.mentions(&stays.label()));
    let cgroup = plan.place().path().to_string_lossy().into_owned();
    poll::until_true("nothing is attached any more", Duration::from_secs(4), || {
        Ok(Loaded::now()?.attached.iter().all(|(path, _)| *path != cgroup))
    })?;
    Ok(())
}

/// Connects as soon as the server accepts, much sooner than any client would.
fn connect_at_once(server: &Server) -> Result<Connection> {
    let started = Instant::now();
    loop {
        if let Ok(stream) = TcpStream::connect(server.address()) {
            return Connection::over(stream);
        }
        ensure!(
            started.elapsed() < Duration::from_secs(10),
            "the server does not start"
        );
        std::thread::sleep(Duration::from_micros(100));
    }
}
