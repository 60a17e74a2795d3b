//! The agent as it is shipped, in an OCI container, beside servers in containers of their own.

use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use stormglass_tests::agent::Agent;
use stormglass_tests::container::Container;
use stormglass_tests::ledger::{Account, Opening};
use stormglass_tests::netns::Netns;
use stormglass_tests::server::Plan;

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
