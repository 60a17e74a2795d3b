//! `cargo xtask bench detection`: storms on simulated servers, how soon and how rightly they are found, and how seldom something is
//! found in normal life. The simulation is `agent/benches/detection.rs`; here its figures become a table and a picture.

mod prometheus;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Deserialize;

use self::prometheus::Alerts;
use super::delays::{quantile, seconds};
use super::picture::{Picture, Row, Way};
use crate::lab::Lab;
use crate::process::{Run as _, say};
use crate::text::number;

/// What `cargo xtask bench detection` can be told.
#[derive(Args)]
pub(super) struct Options {
    /// Storms of each kind, each with a seed and sizes of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seeds: u32,
    /// Node-months of normal life
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    months: u32,
}

/// What the simulation says.
#[derive(Deserialize)]
struct Figures {
    storms: Vec<OfKind>,
    life: Life,
}

/// Storms of one kind.
#[derive(Deserialize)]
struct OfKind {
    kind: String,
    runs: u32,
    onsets_ms: Vec<u64>,
    others_within_ms: u64,
    delays_ms: Vec<u32>,
    missed: u32,
    wrong_kind: u32,
    wrong_culprit: u32,
    more_than_one: u32,
    called_otherwise_at_first: u32,
    zscore_delays_ms: Vec<u32>,
    zscore_missed: u32,
}

#[derive(Deserialize)]
struct Life {
    node_months: u32,
    begins_ms: u64,
    ends_ms: u64,
    seeds: String,
    ticks: u64,
    false_alarms: u32,
    zscore_false_alarms: u32,
    engine_ns_per_tick: f64,
    seconds: f64,
}

/// Runs the simulation, prints the table, leaves JSON and picture beside each other.
pub(super) fn run(lab: &Lab, options: &Options) -> Result<()> {
    let folder = super::folder(lab)?;
    let (json, svg) = (folder.join("detection.json"), folder.join("detection.svg"));
    say("simulating storms and normal life");
    Command::new("cargo")
        .args(["bench", "--package", "stormglass", "--bench", "detection"])
        .arg("--target-dir")
        .arg(lab.target())
        .current_dir(lab.workspace())
        .arg("--")
        .arg(&json)
        .args([options.seeds.to_string(), options.months.to_string()])
        .run()?;
    let text = fs::read_to_string(&json).with_context(|| format!("cannot read {}", json.display()))?;
    let figures: Figures =
        serde_json::from_str(&text).context("the simulation's figures are not understood")?;
    let alerts = prometheus::ask(lab, &json.with_extension("openmetrics"), &figures)?;
    println!("{}", table(&figures, &alerts).join("\n"));
    draw(&figures, &alerts, &svg)?;
    say(format!("wrote {} and {}", json.display(), svg.display()));
    Ok(())
}

/// The figures as a Markdown table, and what they were measured on.
fn table(figures: &Figures, alerts: &Alerts) -> Vec<String> {
    let mut lines = vec![
        "| kind | storms | delay p50 | p99 | most | missed | wrong kind | wrong culprit | more than one | called otherwise at first | z-score: p50 | missed | Prometheus: p50 | missed |"
            .to_owned(),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    for of in &figures.storms {
        let delay = |share| seconds(quantile(&of.delays_ms, share), 1);
        lines.push(format!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            of.kind,
            of.runs,
            delay(0.5),
            delay(0.99),
            delay(1.0),
            of.missed,
            of.wrong_kind,
            of.wrong_culprit,
            of.more_than_one,
            of.called_otherwise_at_first,
            seconds(quantile(&of.zscore_delays_ms, 0.5), 1),
            of.zscore_missed,
            seconds(quantile(alerts.delays_of(of), 0.5), 1),
            alerts.missed(of),
        ));
    }
    let life = &figures.life;
    lines.push(String::new());
    lines.push(format!(
        "Normal life: {} node-months ({} ticks of 100 ms, seeds {}) in {:.0} s; false alarms: {}, of the z-score {}, of \
         Prometheus {}. The detectors of a server, \
         simulator included, take {:.2} us of CPU per tick.",
        life.node_months,
        life.ticks,
        life.seeds,
        life.seconds,
        life.false_alarms,
        life.zscore_false_alarms,
        alerts.false_alarms,
        life.engine_ns_per_tick / 1e3,
    ));
    lines.push(String::new());
    lines.push(format!("The alert of Prometheus: `{}`.", prometheus::alert("")));
    lines
}

/// The delays of all ways, and what each costs in false alarms.
fn draw(figures: &Figures, alerts: &Alerts, path: &Path) -> Result<()> {
    let months = figures.life.node_months;
    let way = |name, false_alarms: usize| Way {
        name,
        note: format!(
            "{} false alarms in {months} node-months",
            number(false_alarms as u64)
        ),
    };
    let rows = figures.storms.iter().map(|of| Row {
        kind: of.kind.clone(),
        runs: of.runs,
        delays_ms: vec![
            of.delays_ms.clone(),
            of.zscore_delays_ms.clone(),
            alerts.delays_of(of).to_vec(),
        ],
    });
    let storms = figures.storms.first().map_or(0, |of| of.runs);
    let picture = Picture {
        title: "From the onset of a storm to its finding",
        storms: &format!("{storms} storms of each kind"),
        ways: &[
            way("Stormglass", figures.life.false_alarms as usize),
            way(
                "z-score of INFO, polled every second",
                figures.life.zscore_false_alarms as usize,
            ),
            way("Prometheus, scraping every 15 s", alerts.false_alarms),
        ],
        rows: &rows.collect::<Vec<_>>(),
    };
    picture.draw(path)
}
