//! Agents that end, with and without warning, while clients are at work.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use stormglass_tests::agent::Agent;
use stormglass_tests::bpf::Loaded;
use stormglass_tests::ledger::Opening;
use stormglass_tests::poll;
use stormglass_tests::process::Process;
use stormglass_tests::server::{Plan, Server};

use crate::clients::endless_benchmark;

const CONNECTIONS: u32 = 50;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn an_agent_that_is_killed_under_load_harms_no_client_leaves_nothing_and_its_successor_goes_on() -> Result<()>
{
    let server = Plan::valkey()?.start()?;
    let mut load = endless_benchmark(server.port(), CONNECTIONS)?;
    let all = u64::from(CONNECTIONS) + 1;
    let mut control = server.control()?;
    poll::until_true("all clients are connected", Duration::from_secs(10), || {
        Ok(control.clients()? == all)
    })?;

    let before = Loaded::now()?;
    let agent = Agent::start()?;
    let label = server.label();
    agent.scrape_until("traffic is counted", |scrape| endless(scrape, &label) > 1000)?;
    let loaded = Loaded::now()?.beyond(&before);
    ensure!(
        !loaded.programs.is_empty() && !loaded.attached.is_empty(),
        "an agent at work has nothing loaded or attached; the test cannot see it"
    );
    agent.kill()?;
    gone(&loaded)?;
    still_at_work(&mut load, &server)?;

    let successor = Agent::start()?;
    let scrape = successor.scrape()?;
    assert_eq!(
        scrape.count("stormglass_connections", &[("server", &label)]),
        control.clients()?
    );
    assert_eq!(
        scrape.count("stormglass_connections_opened_total", &[("server", &label)]),
        0
    );
    let counted = endless(&scrape, &label);
    successor.scrape_until("traffic is counted again", |scrape| {
        endless(scrape, &label) > counted + 1000
    })?;
    still_at_work(&mut load, &server)?;
    load.signal(Signal::SIGINT)?;
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn an_agent_that_is_told_to_end_does_so_within_a_second_and_leaves_nothing() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let mut load = endless_benchmark(server.port(), CONNECTIONS)?;
    let before = Loaded::now()?;
    let agent = Agent::start()?;
    let label = server.label();
    agent.scrape_until("traffic is counted", |scrape| endless(scrape, &label) > 1000)?;
    let loaded = Loaded::now()?.beyond(&before);

    let (took, finished) = agent.terminate()?;
    assert!(finished.status.success(), "{finished:?}");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    gone(&loaded)?;
    still_at_work(&mut load, &server)
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn two_agents_at_once_count_the_same_and_the_end_of_one_does_not_disturb_the_other() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let (one, two) = (Agent::start()?, Agent::start()?);
    let mut for_one = Opening::at(&one, &server)?;
    let mut for_two = Opening::at(&two, &server)?;
    let mut connection = server.connect()?;
    for _ in 0..100 {
        connection.ask(&[b"SET", b"both:1", b"value"])?;
    }
    for_one.account(&one)?.assert_all_attributed();
    for_two.account(&two)?.assert_all_attributed();
    one.kill()?;
    for _ in 0..100 {
        connection.ask(&[b"SET", b"both:1", b"value"])?;
    }
    let account = for_two.account(&two)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("both"), 200);
    Ok(())
}

/// The kernel frees programs and maps a moment after their last user has gone.
fn gone(loaded: &Loaded) -> Result<()> {
    let mut left = loaded.clone();
    let waited = poll::until_true("nothing is left", Duration::from_secs(5), || {
        left = Loaded::now()?.common(loaded);
        Ok(left.is_empty())
    });
    ensure!(waited.is_ok(), "left in the kernel after the agent: {left:?}");
    Ok(())
}

/// The benchmark ends at its first error.
fn still_at_work(load: &mut Process, server: &Server) -> Result<()> {
    let mut control = server.control()?;
    let before = control.calls("set")?;
    poll::until_true("clients go on", Duration::from_secs(5), || {
        Ok(control.calls("set")? > before + 1000)
    })?;
    ensure!(
        load.is_running()?,
        "the benchmark ended with an error: {}",
        load.words()
    );
    ensure!(
        !load.stderr().contains("rror"),
        "a client had an error: {}",
        load.stderr()
    );
    Ok(())
}

fn endless(scrape: &stormglass_tests::exposition::Scrape, server: &str) -> u64 {
    scrape.count(
        "stormglass_prefix_commands_total",
        &[("server", server), ("prefix", "endless")],
    )
}
