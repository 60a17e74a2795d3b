//! What is recorded of real storms, over a crash of the agent.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stormglass_tests::agent::{self, Agent};
use stormglass_tests::found::column;
use stormglass_tests::poll;

use crate::alerts::Crowded;

/// A storm is over some ten seconds after its last sign; the rest is for a busy machine.
const OVER_WITHIN: Duration = Duration::from_secs(60);

/// What a client asks before the storm, in three seconds or so.
const COMMANDS: u64 = 300;

fn incidents(agent: &Agent) -> Result<Vec<Value>> {
    let (status, body) = agent.get("/api/v1/incidents")?;
    ensure!(status == 200, "{status}: {body}");
    let page: Value = serde_json::from_str(&body)?;
    page["incidents"].as_array().cloned().context("no list")
}

/// The agent is killed in the middle of a storm: what it had recorded is read by the next one, which records the rest.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_storm_is_recorded_before_during_and_after_and_a_crash_cuts_it_at_a_record() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = format!(
        "[incidents]\ndir = {:?}\nafter_seconds = 3\n\n[clients]\nsurvey_seconds = 1\n\n\
         [[workload]]\nname = \"batch\"\naddresses = [\"127.72.0.0/16\"]\n",
        dir.path()
    );
    let server = Crowded::server()?;
    let agent = Agent::start_with(&settings)?;
    agent.sees(&server.label())?;
    let mut web = server.connect()?;
    for _ in 0..COMMANDS {
        web.ask(&[b"GET", b"cart:1"])?;
        std::thread::sleep(Duration::from_millis(10));
    }
    let stopped = Crowded::begin(server)?;
    poll::until_true("an incident", OVER_WITHIN, || Ok(incidents(&agent)?.len() == 1))?;
    std::thread::sleep(Duration::from_secs(2));
    agent.kill()?;

    let agent = Agent::start_with(&settings)?;
    agent.sees(&stopped.server.label())?;
    poll::until_true("another incident", OVER_WITHIN, || {
        Ok(incidents(&agent)?.len() == 2)
    })?;
    let server = stopped.end()?;
    let list = poll::until("the incident is whole", OVER_WITHIN, || {
        let list = incidents(&agent)?;
        Ok((list[0]["complete"] == true).then_some(list))
    })?;
    ensure!(
        list[1]["complete"] == false && list[1]["fault"].is_null(),
        "{list:#?}"
    );

    // The one that was cut has the time before the storm, and the opens of its clients.
    let cut = list[1]["id"].as_str().context("no id")?;
    let (_, page) = agent.get(&format!("/api/v1/incidents/{cut}"))?;
    let cut: Value = serde_json::from_str(&page)?;
    let (at, opened) = (column(&cut, "at")?, column(&cut, "opened")?);
    let onset = cut["storm"]["onset"].as_u64().context("no onset")?;
    ensure!(
        at[0] + 2_000 < onset && onset + 1_000 < at[at.len() - 1],
        "{at:?} {onset}"
    );
    // Those of the crowd, and the one that asked before.
    ensure!(at.is_sorted() && opened.iter().sum::<u64>() == 61, "{opened:?}");
    // What was asked before it, and by whom.
    let before = |list: &str| {
        let all = cut[list].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter()
            .filter(|one| one["at"].as_u64() <= Some(onset))
            .collect::<Vec<_>>()
    };
    let (traffic, clients) = (before("traffic"), before("clients"));
    let asked: u64 = traffic
        .iter()
        .filter_map(|second| second["commands"].as_u64())
        .sum();
    // The last of them may be in the second in which it began.
    ensure!(
        traffic.len() >= 2 && asked > COMMANDS / 2 && asked <= COMMANDS,
        "{traffic:#?}"
    );
    let tenant = &traffic[traffic.len() - 1]["tenants"][0]["tenant"];
    ensure!(tenant == "(unassigned)", "{traffic:#?}");
    ensure!(
        clients
            .iter()
            .any(|look| look["clients"][0]["address"] == "127.0.0.1"),
        "{clients:#?}"
    );
    let queue = column(&cut, "queue_length")?;
    ensure!(queue.iter().max() == Some(&60), "{queue:?}");
    // The whole one goes on until after the end.
    let id = list[0]["id"].as_str().context("no id")?;
    let (_, page) = agent.get(&format!("/api/v1/incidents/{id}"))?;
    let whole: Value = serde_json::from_str(&page)?;
    let ended = whole["storm"]["ended"].as_u64().context("it goes on")?;
    let at = column(&whole, "at")?;
    ensure!(at[at.len() - 1] >= ended + 2_000, "{at:?} {ended}");
    ensure!(
        whole["told"].as_array().is_some_and(|told| told.len() >= 2),
        "{whole:#}"
    );

    for (arguments, expected) in [
        (vec!["list"], id),
        (vec!["show", "last"], "accept queue"),
        (vec!["export", "last", "--format", "csv"], "at_ms,connections"),
        (
            vec!["export", "last", "--format", "traffic-csv"],
            "at_ms,milliseconds",
        ),
        (vec!["export", "last"], "\"queue_length\""),
    ] {
        let arguments = [vec!["incidents"], arguments].concat();
        let said = agent::command(&arguments, Some(agent.config()))?;
        ensure!(
            said.status.success() && said.stdout.contains(expected),
            "{}",
            said.stderr
        );
        if arguments[1] == "show" {
            println!("{}", said.stdout);
        }
    }
    // The files tell the same without an agent.
    let folder = dir.path().display().to_string();
    let said = agent::command(&["incidents", "export", id, "--dir", &folder], None)?;
    ensure!(
        serde_json::from_str::<Value>(&said.stdout)? == whole,
        "{}",
        said.stdout
    );
    drop(server);
    Ok(())
}
