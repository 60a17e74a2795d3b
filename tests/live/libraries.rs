//! Storms by the client libraries of which they were reported, with what those do by themselves when a server is slow or gone: pools that
//! close what timed out and open anew, and connections that come back.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use stormglass_load::slow::{Stopped, busy};
use stormglass_load::storms::{CONFIG, USUAL, now_ms};
use stormglass_tests::agent::Agent;
use stormglass_tests::found::figure;
use stormglass_tests::process::Process;
use stormglass_tests::server::{Plan, Server};
use stormglass_tests::starved::Starved;
use stormglass_tests::{found, lab, poll};

/// All are there, Java's machine included.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Longer than the agent learns before it judges.
const LEARNING: Duration = Duration::from_secs(14);

/// How long a server is slow.
const SLOW: Duration = Duration::from_secs(3);

/// From the onset to the finding, on a machine that does much else. The promise is one second, and two for commands: `cargo xtask bench storms`
/// measures it. A starved server has its moments, too.
const FOUND_WITHIN_MS: u64 = 4_000;

/// Hold and quiet time of a storm, and what clients do until they have calmed down.
const OVER_WITHIN: Duration = Duration::from_secs(60);

/// As go-redis names itself; Go's version follows.
const GO_REDIS_9: &str = "go-redis(,go1.";
const LETTUCE: &str = "Lettuce 6.8.1";

/// A server that no queue of handshakes can fill up: each connection is one, for the server as for its client.
const DEEP_QUEUE: &str = "tcp-backlog 4096\n";

/// Sizes of a fleet.
struct Size {
    instances: u16,
    /// Connections of each.
    each: u16,
    timeout: Duration,
    /// Between two questions of a connection; zero: nobody asks.
    every: Duration,
}

/// A fleet that lives.
struct Fleet {
    process: Process,
}

impl Fleet {
    /// `program` with these first words, at this server, once all connections are open.
    fn start(mut program: Command, server: &Server, size: &Size) -> Result<Self> {
        let numbers = [
            u128::from(server.port()),
            size.instances.into(),
            size.each.into(),
            size.timeout.as_millis(),
            size.every.as_millis(),
        ];
        program.args(numbers.map(|number| number.to_string()));
        let fleet = Self {
            process: Process::spawn("fleet", &mut program)?,
        };
        poll::until_true("the fleet is there", READY_WITHIN, || {
            Ok(fleet.said("ready")?.is_some())
        })?;
        Ok(fleet)
    }

    /// The first line about such an event.
    fn said(&self, event: &str) -> Result<Option<Value>> {
        line(&self.process.stdout(), event)
    }

    /// When the first of such happened, in milliseconds since 1970 began.
    fn first(&self, event: &str) -> Result<u64> {
        let line = self.said(event)?.with_context(|| format!("nothing {event}"))?;
        line["at_ms"].as_u64().context("no moment")
    }

    /// Ends it, and returns what it counted.
    fn end(self) -> Result<Value> {
        self.process.signal(Signal::SIGTERM)?;
        let finished = self.process.finish(READY_WITHIN)?;
        line(&finished.stdout, "over")?
            .with_context(|| format!("no last word: {} {}", finished.status, finished.stderr))
    }
}

fn line(text: &str, event: &str) -> Result<Option<Value>> {
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let value: Value = serde_json::from_str(line).with_context(|| format!("{line:?}"))?;
        if value["event"] == event {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Waits until a server's storm is over; there has to be one, of this kind, with the fleet's workload at the head.
fn one_storm(agent: &Agent, server: &Server, kind: &str, culprit: &str) -> Result<Value> {
    let mut storms = Vec::new();
    let over = poll::until_true("the storm is over", OVER_WITHIN, || {
        storms = agent.storms(&server.label())?;
        Ok(found::are_over(&storms))
    });
    over.with_context(|| format!("{storms:#?}\n{}", agent.log()))?;
    let [storm] = &*storms else {
        anyhow::bail!("not one storm: {storms:#?}");
    };
    ensure!(storm["kind"] == kind, "not {kind}: {storm:#}");
    ensure!(
        storm["culprits"][0]["name"] == culprit,
        "{culprit} does not lead: {storm:#}"
    );
    println!("{}: {}", server.label(), storm["summary"]);
    Ok(storm.clone())
}

fn assert_found_soon(storm: &Value, onset_ms: u64) -> Result<()> {
    let found = storm["found"].as_u64().context("no moment")?;
    let delay = found.saturating_sub(onset_ms);
    println!("found {delay} ms after the onset");
    ensure!(delay <= FOUND_WITHIN_MS, "found after {delay} ms: {storm:#}");
    Ok(())
}

/// The library that a storm's culprits use, if they named one.
fn library(storm: &Value) -> Option<&str> {
    let culprits = storm["culprits"].as_array()?;
    let library = culprits.iter().find(|culprit| culprit["subject"] == "library")?;
    library["name"].as_str()
}

/// Every connection that the library opened is one of its workload's, no more and no less.
fn assert_opened(agent: &Agent, server: &Server, told: &Value) -> Result<()> {
    let opened = told["opened"].as_u64().context("no count")?;
    let label = server.label();
    let labels = [("server", &*label), ("workload", USUAL)];
    let counted = agent
        .scrape()?
        .count("stormglass_workload_connections_opened_total", &labels);
    ensure!(
        counted == opened,
        "{counted} connections were counted, and the library opened {opened}"
    );
    println!(
        "{opened} connections opened, {} questions in vain",
        told["in_vain"]
    );
    Ok(())
}

fn agent() -> Result<Agent> {
    Agent::start_with(&format!("[clients]\nsurvey_seconds = 1\n{CONFIG}"))
}

/// The pools of both major versions close what timed out and open anew, several times for each question. One server is stopped, the other
/// runs a script.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn go_redis_times_out_and_its_pools_come_back() -> Result<()> {
    let agent = agent()?;
    let stopped = Plan::valkey()?.config(DEEP_QUEUE).start()?;
    let scripted = Plan::valkey()?.config(DEEP_QUEUE).start()?;
    for server in [&stopped, &scripted] {
        agent.sees(&server.label())?;
    }
    let size = Size {
        instances: 40,
        each: 8,
        timeout: Duration::from_millis(300),
        every: Duration::from_millis(500),
    };
    let fleet = |version: &str, server: &Server| {
        let mut program = Command::new(lab::go_redis_fleet()?);
        program.arg(version);
        Fleet::start(program, server, &size)
    };
    let (eight, nine) = (fleet("v8", &stopped)?, fleet("v9", &scripted)?);
    std::thread::sleep(LEARNING);
    let slow = Stopped::stop(stopped.id())?;
    let mut script = scripted.connect()?;
    script.send_bytes(&busy(SLOW))?;
    std::thread::sleep(SLOW);
    drop(slow);

    for (fleet, server, named) in [(eight, &stopped, None), (nine, &scripted, Some(GO_REDIS_9))] {
        let onset = fleet.first("closed")?;
        let storm = one_storm(&agent, server, "reconnect_churn", USUAL)?;
        assert_found_soon(&storm, onset)?;
        // Three time-outs and more fit into the time in which nobody was answered.
        ensure!(figure(&storm, "amplification") >= Some(2.0), "{storm:#}");
        let library = library(&storm);
        ensure!(
            library.is_some() == named.is_some()
                && library.unwrap_or_default().starts_with(named.unwrap_or_default()),
            "not {named:?}: {storm:#}"
        );
        assert_opened(&agent, server, &fleet.end()?)?;
    }
    Ok(())
}

/// Idle connections that the server closes come back by themselves, all at once and by night; and whoever asks again at once makes a
/// starved server's load larger, over the connections that it has.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn lettuce_comes_back_by_night_and_asks_again_by_day() -> Result<()> {
    let agent = agent()?;
    let (night, day) = (Plan::valkey()?.start()?, Plan::valkey()?.start()?);
    for server in [&night, &day] {
        agent.sees(&server.label())?;
    }
    let fleet = |server: &Server, every: u64| {
        let size = Size {
            instances: 60,
            each: 10,
            timeout: Duration::from_millis(300),
            every: Duration::from_millis(every),
        };
        Fleet::start(Command::new(lab::lettuce_fleet()?), server, &size)
    };
    let (idle, asking) = (fleet(&night, 0)?, fleet(&day, 1500)?);
    std::thread::sleep(LEARNING);

    let onset = now_ms();
    night.connect()?.ask(&[b"CLIENT", b"KILL", b"TYPE", b"normal"])?;
    let storm = one_storm(&agent, &night, "cold_reconnect", USUAL)?;
    assert_found_soon(&storm, onset)?;
    let named = library(&storm).context("no library")?;
    ensure!(named.starts_with(LETTUCE), "{storm:#}");

    let starved = Starved::starve(day.id())?;
    std::thread::sleep(SLOW);
    starved.feed()?;
    let onset = asking.first("timed_out")?;
    let storm = one_storm(&agent, &day, "retry_amplification", "login")?;
    assert_found_soon(&storm, onset)?;
    // Five time-outs fit between two questions.
    ensure!(figure(&storm, "amplification") >= Some(1.3), "{storm:#}");
    for fleet in [idle, asking] {
        println!("{}", fleet.end()?);
    }
    Ok(())
}
