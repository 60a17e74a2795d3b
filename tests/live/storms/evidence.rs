//! What a storm of each kind has to be known by.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stormglass_load::storms::Kind;
use stormglass_tests::found::{column, figure};

/// Evidence that there has to be, and its least.
fn least(kind: Kind) -> &'static [(&'static str, f64)] {
    match kind {
        Kind::ReconnectChurn => &[("closes_while_a_command_waited", 100.0), ("amplification", 0.5)],
        Kind::ColdReconnect => &[("share_of_held", 0.08)],
        Kind::MaxclientsRejection => &[("rejections", 10.0), ("clients_limit", 100.0)],
        Kind::AcceptQueueSaturation => &[("accept_queue_most", 40.0)],
        Kind::RetryAmplification => &[("amplification", 1.3)],
        Kind::BandwidthSaturation => &[("share_of_limit", 0.8)],
        Kind::OversizedValues => &[("bytes_per_value", 390_000.0)],
        Kind::HotPrefix => &[("others_slower", 2.0)],
        Kind::ConnectionGrowth => &[("time_left", 0.0)],
        Kind::ErrorBurst => &[("errors_wrongtype", 500.0)],
    }
}

/// Whether it has them all.
pub(super) fn check(kind: Kind, storm: &Value) -> Result<()> {
    for (name, least) in least(kind) {
        let value = figure(storm, name);
        ensure!(
            value.is_some_and(|value| value >= *least),
            "{name} is {value:?}, not {least} or more: {storm:#}"
        );
    }
    // Whoever comes back by night has given up nothing.
    let kinds = storm["kinds"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(
        kind != Kind::ColdReconnect || !kinds.contains(&Kind::ReconnectChurn.name().into()),
        "churn as well: {storm:#}"
    );
    Ok(())
}

/// How many times as much there has to be in a second of the storm as in one before it.
const RISE: f64 = 1.3;

/// Whether the course of its incident shows it, and what was before it.
pub(super) fn check_incident(kind: Kind, incident: &Value) -> Result<()> {
    let storm = &incident["storm"];
    let onset = storm["onset"].as_u64().context("no onset")?;
    let until = storm["ended"].as_u64().context("no end")?;
    let seconds = incident["traffic"].as_array().context("no traffic")?;
    let (before, during) = (
        || {
            seconds
                .iter()
                .filter(|second| second["at"].as_u64() <= Some(onset))
        },
        || {
            let of = move |at: u64| at > onset && at <= until;
            seconds
                .iter()
                .filter(move |second| second["at"].as_u64().is_some_and(of))
        },
    );
    ensure!(before().count() >= 5, "no traffic before it: {seconds:#?}");
    let looks = incident["clients"].as_array().context("no clients")?;
    ensure!(
        looks
            .first()
            .is_some_and(|look| look["at"].as_u64() <= Some(onset)),
        "no clients before it"
    );
    let (at, opened) = (column(incident, "at")?, column(incident, "opened")?);
    let held = column(incident, "connections")?;
    let ticks = at.iter().zip(opened).zip(held);
    let in_it: Vec<_> = ticks
        .filter(|((at, _), _)| (onset..=until).contains(at))
        .map(|((_, opened), held)| (opened, held))
        .collect();
    let (first, last) = in_it.first().zip(in_it.last()).context("no tick in it")?;
    let opened: u64 = in_it.iter().map(|(opened, _)| opened).sum();
    let rises = |counted: fn(&Value) -> u64| {
        let usual = before().map(counted).sum::<u64>() as f64 / before().count() as f64;
        let most = during().map(counted).max().unwrap_or(0) as f64;
        ensure!(
            most >= RISE * usual && most > 0.0,
            "{most} after {usual}: {seconds:#?}"
        );
        Ok(())
    };
    let bytes = |second: &Value| number(second, "bytes_in") + number(second, "bytes_out");
    match kind {
        // As many again as there are, or more: the amplification.
        Kind::ReconnectChurn => ensure!(opened >= first.1, "{opened} opened of {first:?}"),
        Kind::ColdReconnect => ensure!(opened * 2 >= first.1, "{opened} opened of {first:?}"),
        Kind::ConnectionGrowth => ensure!(last.1 > first.1, "{first:?} to {last:?}"),
        Kind::MaxclientsRejection => {
            ensure!(
                column(incident, "rejected")?.iter().sum::<u64>() >= 10,
                "nobody is refused"
            );
        }
        Kind::AcceptQueueSaturation => {
            ensure!(
                column(incident, "queue_length")?.iter().max() >= Some(&40),
                "no queue"
            );
        }
        Kind::RetryAmplification | Kind::HotPrefix => rises(|second| number(second, "commands"))?,
        Kind::BandwidthSaturation | Kind::OversizedValues => rises(bytes)?,
        Kind::ErrorBurst => rises(|second| number(second, "errors"))?,
    }
    Ok(())
}

fn number(second: &Value, name: &str) -> u64 {
    second[name].as_u64().unwrap_or(0)
}
