//! Storms at real servers: the right kind, server and culprit, and soon enough.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use stormglass_tests::agent::Agent;
use stormglass_tests::crowd::Crowd;
use stormglass_tests::poll;
use stormglass_tests::server::{Plan, Server};

const CONFIG: &str = "
[clients]
survey_seconds = 1

[[workload]]
name = \"cart-api\"
addresses = [\"127.71.0.0/16\"]

[[workload]]
name = \"batch\"
addresses = [\"127.72.0.0/16\"]
";

/// Longer than the agent learns before it judges.
const LEARNING: Duration = Duration::from_secs(14);

/// How long a storm may take to be found and asked for, on a busy machine; the promise for most kinds is one second.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// Hold and quiet time of a storm, and some.
const OVER_WITHIN: Duration = Duration::from_secs(40);

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Storms of a server: those that go on, or those that are over.
fn storms(agent: &Agent, server: &Server, which: &str) -> Result<Vec<Value>> {
    let (status, body) = agent.get(&format!("/api/v1/storms?server={}", server.label()))?;
    ensure!(status == 200, "{status}: {body}");
    let page: Value = serde_json::from_str(&body)?;
    page[which].as_array().cloned().context("no list of storms")
}

/// Lets the crowd live for a while: everybody asks every 200 ms.
fn live(crowds: &mut [&mut Crowd], how_long: Duration) {
    let began = Instant::now();
    while began.elapsed() < how_long {
        for crowd in &mut *crowds {
            crowd.ask();
        }
        std::thread::sleep(Duration::from_millis(200));
        for crowd in &mut *crowds {
            crowd.listen();
        }
    }
}

/// The only storm there has been, once it is over.
fn only_storm(agent: &Agent, server: &Server) -> Result<Value> {
    let over = poll::until("the storm is over", OVER_WITHIN, || {
        let over = storms(agent, server, "ended")?;
        Ok((!over.is_empty()).then_some(over))
    })?;
    let going_on = storms(agent, server, "active")?;
    ensure!(over.len() == 1 && going_on.is_empty(), "{over:#?} {going_on:#?}");
    Ok(over[0].clone())
}

fn evidence(storm: &Value, name: &str) -> Result<f64> {
    let figures = storm["evidence"].as_array().context("no evidence")?;
    let figure = figures.iter().find(|figure| figure["name"] == name);
    let figure = figure.with_context(|| format!("no {name} in {storm:#}"))?;
    figure["value"].as_f64().context("no number")
}

fn check(storm: &Value, kind: &str, culprit: &str) -> Result<()> {
    ensure!(storm["kind"] == kind, "{storm:#}");
    ensure!(storm["culprits"][0]["name"] == culprit, "{storm:#}");
    Ok(())
}

fn delay_ms(storm: &Value, onset: u64) -> u64 {
    storm["found"].as_u64().unwrap_or(u64::MAX).saturating_sub(onset)
}

/// 3 s of SIGSTOP under 2,000 connections from 200 addresses, which time out after half a second and open again.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn clients_of_a_stopped_server_that_time_out_and_reopen_are_churn_and_known_while_it_does_not_answer()
-> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    let mut crowd = Crowd::new(server.port(), 71, 200);
    crowd.open(10)?;
    live(&mut [&mut crowd], LEARNING);
    ensure!(storms(&agent, &server, "active")?.is_empty(), "{}", agent.log());

    kill(server.id(), Signal::SIGSTOP)?;
    let stopped = Instant::now();
    crowd.ask();
    let (mut first, mut found) = (None, None);
    while stopped.elapsed() < Duration::from_secs(3) {
        if crowd.give_up(Duration::from_millis(500))? > 0 && first.is_none() {
            first = Some(now_ms());
        }
        if found.is_none() {
            found = storms(&agent, &server, "active")?.first().cloned();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(server.id(), Signal::SIGCONT)?;
    let found = found.context("nothing was found while the server was stopped");
    let calm = Instant::now();
    while calm.elapsed() < Duration::from_secs(5) {
        crowd.give_up(Duration::from_secs(2))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    check(&found?, "reconnect_churn", "cart-api")?;
    live(&mut [&mut crowd], Duration::from_secs(10));
    let storm = only_storm(&agent, &server)?;
    check(&storm, "reconnect_churn", "cart-api")?;
    let onset = first.context("nobody timed out")?;
    ensure!(delay_ms(&storm, onset) <= 1_000, "{storm:#}");
    ensure!(
        evidence(&storm, "closes_while_a_command_waited")? >= 1_000.0,
        "{storm:#}"
    );
    ensure!(evidence(&storm, "amplification")? > 0.5, "{storm:#}");
    let scrape = agent.metrics()?;
    let label = server.label();
    ensure!(
        scrape.contains(&format!(
            "stormglass_storms_total{{server=\"{label}\",kind=\"reconnect_churn\"}} 1"
        )),
        "{scrape}"
    );
    Ok(())
}

/// By night nobody asks anything: 2,000 connections from 100 addresses are replaced within five seconds.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn connections_that_are_all_replaced_by_night_are_a_cold_reconnect() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    let mut crowd = Crowd::new(server.port(), 71, 100);
    crowd.open(20)?;
    std::thread::sleep(LEARNING);
    crowd.listen();
    ensure!(storms(&agent, &server, "active")?.is_empty(), "{}", agent.log());

    let onset = now_ms();
    let began = Instant::now();
    for step in 0..100_u32 {
        crowd.renew(step as usize * 20, 20)?;
        std::thread::sleep((Duration::from_millis(50) * (step + 1)).saturating_sub(began.elapsed()));
    }
    let storm = only_storm(&agent, &server)?;
    check(&storm, "cold_reconnect", "cart-api")?;
    ensure!(
        storm["kinds"] == serde_json::json!(["cold_reconnect"]),
        "{storm:#}"
    );
    ensure!(
        delay_ms(&storm, onset) <= 1_000,
        "{} ms: {storm:#}",
        delay_ms(&storm, onset)
    );
    Ok(())
}

/// Handshakes go on while a stopped server accepts nobody.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_server_that_accepts_nobody_has_a_full_accept_queue() -> Result<()> {
    let server = Plan::valkey()?.config("tcp-backlog 64\n").start()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    std::thread::sleep(LEARNING);
    kill(server.id(), Signal::SIGSTOP)?;
    let onset = now_ms();
    let mut crowd = Crowd::new(server.port(), 72, 50);
    crowd.open(1)?;
    let found = poll::until("a storm", FOUND_WITHIN, || {
        Ok(storms(&agent, &server, "active")?.first().cloned())
    });
    kill(server.id(), Signal::SIGCONT)?;
    let found = found?;
    check(&found, "accept_queue_saturation", "batch")?;
    ensure!(delay_ms(&found, onset) <= 1_000, "{found:#}");
    let storm = only_storm(&agent, &server)?;
    ensure!(evidence(&storm, "accept_queue_most")? >= 50.0, "{storm:#}");
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn clients_beyond_maxclients_are_refused_and_known() -> Result<()> {
    let server = Plan::valkey()?.config("maxclients 40\n").start()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    let mut usual = Crowd::new(server.port(), 71, 20);
    usual.open(1)?;
    std::thread::sleep(LEARNING);
    let mut more = Crowd::new(server.port(), 72, 10);
    let onset = now_ms();
    more.open(4)?;
    let found = poll::until("a storm", FOUND_WITHIN, || {
        Ok(storms(&agent, &server, "active")?.first().cloned())
    })?;
    check(&found, "maxclients_rejection", "batch")?;
    ensure!(delay_ms(&found, onset) <= 1_000, "{found:#}");
    ensure!(evidence(&found, "clients_limit")? == 40.0, "{found:#}");
    more.leave();
    let storm = only_storm(&agent, &server)?;
    ensure!(evidence(&storm, "rejections")? >= 15.0, "{storm:#}");
    Ok(())
}

/// A leak of ten connections a second at a server that takes 600.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_leak_is_known_before_the_limit() -> Result<()> {
    let server = Plan::valkey()?.config("maxclients 600\n").start()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    let mut usual = Crowd::new(server.port(), 71, 100);
    usual.open(3)?;
    std::thread::sleep(LEARNING);
    let mut leak = Crowd::new(server.port(), 72, 1);
    let began = Instant::now();
    let found = loop {
        leak.open_one(0)?;
        std::thread::sleep(Duration::from_millis(100));
        if leak.len().is_multiple_of(10)
            && let Some(storm) = storms(&agent, &server, "active")?.first()
        {
            break storm.clone();
        }
        ensure!(
            began.elapsed() < Duration::from_secs(28),
            "not found: {}",
            agent.log()
        );
    };
    check(&found, "connection_growth", "batch")?;
    let left = evidence(&found, "time_left")?;
    ensure!((1.0..60.0).contains(&left), "{found:#}");
    Ok(())
}

/// Clients ask, come and go a little, a fleet is deployed pod by pod, another one scales: nothing is found.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn normal_life_is_silent() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    let mut cart = Crowd::new(server.port(), 71, 100);
    cart.open(10)?;
    live(&mut [&mut cart], LEARNING);
    for pod in 0..30 {
        cart.renew(10 * pod, 10)?;
        live(&mut [&mut cart], Duration::from_millis(800));
    }
    let mut batch = Crowd::new(server.port(), 72, 40);
    batch.open(10)?;
    live(&mut [&mut cart, &mut batch], Duration::from_secs(10));
    batch.leave();
    live(&mut [&mut cart], Duration::from_secs(5));
    let found = [
        storms(&agent, &server, "active")?,
        storms(&agent, &server, "ended")?,
    ]
    .concat();
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}
