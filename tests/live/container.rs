//! The agent as it is shipped, in an OCI container, beside servers in containers of their own.

use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use stormglass_load::crowd::Crowd;
use stormglass_load::place::{Namespace, Place};
use stormglass_load::slow::Stopped;
use stormglass_tests::agent::Agent;
use stormglass_tests::container::Container;
use stormglass_tests::found::are_over;
use stormglass_tests::ledger::{Account, Opening};
use stormglass_tests::netns::Netns;
use stormglass_tests::poll;
use stormglass_tests::receiver::Receiver;
use stormglass_tests::server::Plan;

/// Instances that come while their server is stopped: as many as its accept queue takes, nearly.
const INSTANCES: u16 = 60;

/// A storm is found within a second, and over ten seconds after it is; the rest is for a busy machine.
const OVER_WITHIN: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn in_its_container_the_agent_counts_servers_of_other_containers_to_the_byte() -> Result<()> {
    let netns = Rc::new(Netns::create()?);
    let server = Plan::valkey()?.contained(&netns)?.start()?;
    let before = server.connect()?;
    let agent = Agent::start_in(Container::of_agent()?, "[clients]\nsurvey_seconds = 1\n")?;
    let mut opening = Opening::at(&agent, &server)?;
    let mut connection = server.connect()?;
    for _ in 0..100 {
        connection.ask(&[b"SET", b"inside:1", b"value"])?;
        connection.ask(&[b"GET", b"inside:1"])?;
    }
    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    account.assert_commands_equal();
    assert_eq!(account.counted.commands("inside"), 200);
    let label = server.label();
    let connected = opening.control().clients()?;
    assert_eq!(connected, 3);
    let count = |agent: &Agent| -> Result<u64> {
        let labels = [("server", label.as_str())];
        Ok(agent.scrape()?.count("stormglass_connections", &labels))
    };
    assert_eq!(count(&agent)?, connected);
    drop(before);

    // One that comes while the agent has given up what loading took.
    let later = Plan::valkey()?.contained(&Rc::new(Netns::create()?))?.start()?;
    later.connect()?.ask(&[b"SET", b"inside:1", b"value"])?;
    Account::from_the_start(&agent, &later)?.assert_all_attributed();
    // Surveys look at connections from a thread of their own.
    agent.scrape_until("a survey", |scrape| {
        scrape
            .value("stormglass_connections_idle", &[("server", &label)])
            .is_some()
    })?;

    let (took, finished) = agent.terminate()?;
    assert!(finished.status.success(), "{finished:?}");
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    for bad in ["ERROR", "denied", "not permitted"] {
        assert!(!finished.stderr.contains(bad), "{}", finished.stderr);
    }
    Ok(())
}

/// The server of another container stops under clients of its network namespace: the agent tells of it, and what it records of it lies where
/// the host keeps it.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_storm_in_another_container_is_told_with_whoever_does_it_and_recorded_on_the_host() -> Result<()> {
    let netns = Rc::new(Netns::create()?);
    let server = Plan::valkey()?
        .config("tcp-backlog 64\n")
        .contained(&netns)?
        .start()?;
    let hook = Receiver::start()?;
    let mut container = Container::of_agent()?;
    let recorded = container.outside("/var/lib/stormglass")?.join("incidents");
    let tables = format!(
        "[clients]\nsurvey_seconds = 1\n\n[incidents]\nafter_seconds = 1\n\n[[workload]]\nname = \"batch\"\n\
         addresses = [\"127.72.0.0/16\"]\n\n[[alerts.webhook]]\nurl = \"http://{}/\"\n",
        hook.address()
    );
    let agent = Agent::start_in(container, &tables)?;
    let label = server.label();
    agent.sees(&label)?;

    let place = Place {
        namespace: Some(Namespace::open(&netns.path())?),
        ..Place::local(server.port())
    };
    let stopped = Stopped::stop(server.id_outside()?)?;
    let mut crowd = Crowd::at(&place, 72, INSTANCES);
    crowd.open(1)?;
    let told = hook.wait_for(1, OVER_WITHIN)?;
    let storm = &told[0].body["storm"];
    ensure!(
        storm["server"] == *label && storm["kind"] == "accept_queue_saturation",
        "{storm:#}"
    );
    drop(stopped);
    let answered = poll::until_true("the clients are let in", OVER_WITHIN, || {
        crowd.listen();
        Ok(crowd.waiting() == 0)
    });
    crowd.leave();
    answered?;
    let mut storms = Vec::new();
    poll::until_true("the storm is over", OVER_WITHIN, || {
        storms = agent.storms(&label)?;
        Ok(are_over(&storms))
    })?;
    ensure!(
        storms.len() == 1 && storms[0]["culprits"][0]["name"] == "batch",
        "{storms:#?}"
    );
    let id = storms[0]["id"].as_str().context("no id")?;
    let file = recorded.join(format!("{id}.incident"));
    poll::until_true("the incident is on the host", OVER_WITHIN, || Ok(file.is_file()))?;
    let (status, page) = agent.get(&format!("/api/v1/incidents/{id}"))?;
    ensure!(status == 200 && page.contains("\"queue_length\""), "{page}");
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_container_confines_the_agent_as_it_says() -> Result<()> {
    let agent = Agent::start_in(Container::of_agent()?, "")?;
    let container = agent.container().context("it is in a container")?;
    let status = fs::read_to_string(format!("/proc/{}/status", container.process_id()?))?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    assert_eq!(field("NoNewPrivs:"), Some("1"));
    assert_eq!(field("Seccomp:"), Some("2"), "no filter");
    // What listens has no capability left; none could come back.
    assert_eq!(field("CapPrm:"), Some("0000000000000000"));
    assert_eq!(field("CapBnd:"), Some("000000c000281004"));
    let root = format!("/proc/{}/root", container.process_id()?);
    let refused = fs::write(format!("{root}/usr/bin/other"), "").expect_err("the root is read-only");
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn doctor_is_content_in_the_container_and_names_whichever_capability_is_taken_away() -> Result<()> {
    let content = Container::of_agent()?;
    let finished = content.run(&["doctor"])?;
    assert!(finished.status.success(), "{finished:?}");
    let capabilities = content.capabilities();
    assert_eq!(capabilities.len(), 6);
    for capability in capabilities {
        let mut container = Container::of_agent()?;
        container.drop_capability(&capability);
        let started = Instant::now();
        for arguments in [["doctor"].as_slice(), &["run"]] {
            let finished = container.run(arguments)?;
            assert!(!finished.status.success(), "fit without {capability}");
            let words = finished.stdout + &finished.stderr;
            let line = words
                .lines()
                .find(|line| line.starts_with("missing  capabilities:"));
            let line = line.with_context(|| format!("not missed: {words}"))?;
            assert!(line.contains(&capability), "{line}");
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    Ok(())
}
