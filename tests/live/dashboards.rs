//! The shipped rules and dashboards beside a real Prometheus and a real Alertmanager: storms at real servers make alerts fire and
//! resolve, and every question of every panel, variable and annotation has an answer.
//!
//! A minute of the rules is a second here, or less: every `for` and every range is a sixtieth of what is shipped, and nothing else is
//! changed (`stormglass_tests::prometheus`). One agent stands for two hosts in two clusters: it is scraped twice, under other labels.

mod hours;
mod questions;
mod scenes;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use stormglass_dashboards::rules;
use stormglass_tests::agent::Agent;
use stormglass_tests::alertmanager::Home;
use stormglass_tests::poll;
use stormglass_tests::ports;
use stormglass_tests::prometheus::{Prometheus, Target};
use stormglass_tests::receiver::{Received, Receiver};

use self::scenes::Stage;

/// Alerts that the scenes make fire, and then resolve.
const PROVOKED: [&str; 19] = [
    "StormglassAcceptQueueDrops",
    "StormglassAcceptQueueFilling",
    "StormglassAgentDown",
    "StormglassAlertsNotDelivered",
    "StormglassBlastRadius",
    "StormglassBytesUnattributed",
    "StormglassClientsGiveUp",
    "StormglassClientsNearLimit",
    "StormglassConfigRefused",
    "StormglassConfigWaitsForRestart",
    "StormglassConnectionsRefused",
    "StormglassConnectionsUnused",
    "StormglassMapFilling",
    "StormglassServerRestarts",
    "StormglassStormActive",
    "StormglassStormLasting",
    "StormglassStormsAcrossClusters",
    "StormglassStormsCorrelated",
    "StormglassTenantErrors",
];

/// Those that look at hours, or need a disk, an API server or an agent that fails.
const PROVOKED_IN_HOURS: [&str; 14] = [
    "StormglassAgentWithoutServers",
    "StormglassAlertJournalBroken",
    "StormglassAlertsLost",
    "StormglassBytesUnassigned",
    "StormglassEventsLost",
    "StormglassIncidentsLost",
    "StormglassKubernetesUnreachable",
    "StormglassPoolsIdle",
    "StormglassStormRepeating",
    "StormglassSurveyLate",
    "StormglassTenantDominates",
    "StormglassTenantOnOthersConnections",
    "StormglassTenantSlow",
    "StormglassVersionsDiffer",
];

/// How long what is provoked may take to arrive, and to be over.
const FIRING_WITHIN: Duration = Duration::from_secs(30);
const OVER_WITHIN: Duration = Duration::from_secs(75);

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn alerts_fire_and_resolve_on_their_scenes_and_every_panel_has_an_answer() -> Result<()> {
    let hook = Receiver::start()?;
    let home = Home::new(hook.address())?;
    let alertmanager = home.start()?;
    let dir = tempfile::tempdir()?;
    let config = scenes::config(dir.path(), &home.url(), ports::free_port()?);
    let agent = Agent::start_with(&config)?;
    let targets = [("host-1:9466", "eu-1"), ("host-2:9466", "us-1")].map(|(instance, cluster)| Target {
        address: agent.address(),
        labels: format!("instance: '{instance}', cluster: '{cluster}'"),
    });
    let prometheus = Prometheus::start(&targets, &rules::files(), Some(&home.url()))?;

    let stage = Stage::set(&agent)?;
    // Waits for a restart from now on.
    agent.rewrite(&config.replace(scenes::PREFIXES.0, scenes::PREFIXES.1))?;
    poll::until_true("the new file is read", FIRING_WITHIN, || {
        let waits = "stormglass_config_restart_required{key=\"limits.prefixes\"} 1\n";
        Ok(agent.metrics()?.contains(waits))
    })?;
    let server = stage.label();
    let began = Instant::now();
    let agent = stage.play(agent, |agent| {
        ensure!(prometheus.faults()?.is_empty(), "{:?}", prometheus.faults());
        questions::ask(&prometheus, &server)?;
        wait_until_fired(&hook, "StormglassConfigWaitsForRestart", FIRING_WITHIN)?;
        agent.rewrite("nonsense")?;
        wait_until_fired(&hook, "StormglassConfigRefused", FIRING_WITHIN)?;
        agent.rewrite(&config)
    })?;
    let agent = agent.start_again(Duration::from_secs(8))?;
    println!("played in {:.0} s", began.elapsed().as_secs_f64());
    check_alerts(&hook, &PROVOKED)
        .with_context(|| format!("by Prometheus there fired {:?}", prometheus.fired()))?;
    println!("over after {:.0} s", began.elapsed().as_secs_f64());
    prometheus.stop()?;
    alertmanager.stop()?;
    agent.terminate().map(|_| ())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn alerts_that_look_at_hours_fire_and_resolve_on_their_scenes() -> Result<()> {
    let hook = Receiver::start()?;
    let home = Home::new(hook.address())?;
    let alertmanager = home.start()?;
    let began = Instant::now();
    let played = hours::Stage::set(hook, home)?.play()?;
    println!("played in {:.0} s", began.elapsed().as_secs_f64());
    check_alerts(&played.hook, &PROVOKED_IN_HOURS)?;
    println!("over after {:.0} s", began.elapsed().as_secs_f64());
    played.end()?;
    alertmanager.stop()
}

#[test]
fn every_alert_of_the_rules_has_a_scene() -> Result<()> {
    let all: BTreeSet<_> = rules::rules()?
        .into_iter()
        .filter_map(|rule| rule.alert)
        .collect();
    let listed: Vec<_> = [&PROVOKED[..], &PROVOKED_IN_HOURS].concat();
    let names: BTreeSet<_> = listed.iter().map(|name| (*name).to_owned()).collect();
    ensure!(names == all && listed.len() == all.len(), "{listed:?}, {all:?}");
    Ok(())
}

/// The alerts have been told of when they fired, and are when they resolve.
fn check_alerts(hook: &Receiver, alerts: &[&str]) -> Result<()> {
    let missing = |status: &str| -> Vec<String> {
        let told = told(&hook.received(), status);
        let missing = alerts.iter().filter(|name| !told.contains(**name));
        missing.map(|name| (*name).to_owned()).collect()
    };
    let never = missing("firing");
    ensure!(never.is_empty(), "never fired: {never:?}");
    poll::until_true("alerts resolve", OVER_WITHIN, || {
        std::thread::sleep(Duration::from_millis(200));
        Ok(missing("resolved").is_empty())
    })
    .with_context(|| format!("still firing: {:?}", missing("resolved")))
}

fn wait_until_fired(hook: &Receiver, alert: &str, within: Duration) -> Result<()> {
    poll::until_true(alert, within, || {
        std::thread::sleep(Duration::from_millis(200));
        Ok(told(&hook.received(), "firing").contains(alert))
    })
}

/// Names of the alerts that Alertmanager has told of with this status.
fn told(received: &[Received], status: &str) -> BTreeSet<String> {
    let alerts = received
        .iter()
        .flat_map(|request| request.body["alerts"].as_array().into_iter().flatten());
    alerts
        .filter(|alert| alert["status"] == status)
        .filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned))
        .collect()
}
