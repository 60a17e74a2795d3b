//! `stormglass incidents`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use stormglass::incidents::{self, Incident, Sample, TrafficAt};
use stormglass::numbers::span;
use stormglass::storms::{Moment, Storm};

use super::agent::{AgentArguments, NOT_UNDERSTOOD};
use super::inventory;
use super::table::{Column, show, show_json, table};

/// Columns of a picture, on however wide a terminal.
const COLUMNS: usize = 140;

/// Columns in front of a picture.
const MARGIN: usize = 18;

/// Heights of a bar.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[derive(Debug, Args)]
pub(super) struct IncidentsArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what was recorded of storms, the latest first.
    List(ListArguments),
    /// Draw the course of an incident and say who did it.
    Show(OneArguments),
    /// Print an incident for programs.
    Export(ExportArguments),
}

#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    agent: AgentArguments,
    /// Read the files of this folder instead of asking an agent.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ListArguments {
    #[command(flatten)]
    place: Place,
    /// Print the JSON of the API.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct OneArguments {
    #[command(flatten)]
    place: Place,
    /// Which: an id of the list, or `last`.
    id: String,
}

#[derive(Debug, Args)]
struct ExportArguments {
    #[command(flatten)]
    one: OneArguments,
    /// Everything as JSON, or the course or the traffic as comma-separated values.
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Everything.
    Json,
    /// The course: a line per tick of 100 ms.
    Csv,
    /// What its commands came to: a line per second.
    TrafficCsv,
}

pub(super) fn run(arguments: &IncidentsArguments) -> Result<ExitCode> {
    match &arguments.action {
        Action::List(list) => {
            let answer = list.place.list()?;
            if list.json {
                show_json(&answer)?;
            } else {
                show(&listed(&answer)?)?;
            }
        }
        Action::Show(one) => {
            show(&drawn(&one.read()?.1, inventory::width().min(COLUMNS)))?;
        }
        Action::Export(export) => {
            let (answer, incident) = export.one.read()?;
            match export.format {
                Format::Json => show_json(&answer)?,
                Format::Csv => show(&incident.csv())?,
                Format::TrafficCsv => show(&incident.traffic_csv())?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn list(&self) -> Result<Value> {
        let Some(dir) = &self.dir else {
            return self.agent.agent()?.get("/api/v1/incidents", &[]);
        };
        let mut found =
            incidents::read_folder(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        found.reverse();
        Ok(json!({"incidents": found}))
    }

    fn read(&self, id: &str) -> Result<Value> {
        let Some(dir) = &self.dir else {
            return self.agent.agent()?.get(&format!("/api/v1/incidents/{id}"), &[]);
        };
        let incident = incidents::read_incident(dir, id).map_err(|fault| anyhow!("{fault}"))?;
        Ok(serde_json::to_value(incident)?)
    }
}

impl OneArguments {
    /// As JSON, and as it is.
    fn read(&self) -> Result<(Value, Incident)> {
        let id = match &*self.id {
            "last" => last(&self.place.list()?)?,
            id if id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => id.to_owned(),
            id => bail!("{id:?} is no id; `stormglass incidents list` has them"),
        };
        let answer = self.place.read(&id)?;
        let incident = serde_json::from_value(answer.clone()).context(NOT_UNDERSTOOD)?;
        Ok((answer, incident))
    }
}

fn entries(answer: &Value) -> Result<&Vec<Value>> {
    answer["incidents"].as_array().context(NOT_UNDERSTOOD)
}

fn last(answer: &Value) -> Result<String> {
    let first = entries(answer)?.first().context("no storm was recorded")?;
    first["id"].as_str().map(str::to_owned).context(NOT_UNDERSTOOD)
}

fn listed(answer: &Value) -> Result<String> {
    let entries = entries(answer)?;
    if entries.is_empty() {
        return Ok("no storm was recorded\n".into());
    }
    let mut rows = Vec::new();
    for entry in entries {
        let id = entry["id"].as_str().context(NOT_UNDERSTOOD)?.to_owned();
        let storm: Option<Storm> = serde_json::from_value(entry["storm"].clone()).context(NOT_UNDERSTOOD)?;
        let state = if entry["complete"] == true { "whole" } else { "cut" };
        rows.push(match storm {
            Some(storm) => vec![
                id,
                storm.server.clone(),
                storm.kind.label().into(),
                storm.severity.label().into(),
                storm
                    .ended
                    .map_or("goes on".into(), |ended| span(ended.since(storm.onset))),
                if storm.ended.is_none() && state == "cut" {
                    "open".into()
                } else {
                    state.into()
                },
                storm.summary,
            ],
            None => {
                let fault = entry["fault"].as_str().unwrap_or("nothing is known of it");
                let dash = || "-".to_owned();
                vec![
                    id,
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    "unreadable".into(),
                    fault.into(),
                ]
            }
        });
    }
    let columns = ["id", "server", "kind", "severity", "lasted", "record", "what"].map(Column::text);
    Ok(table(&columns, &rows))
}

/// The course as bars, and what was told of the storm.
fn drawn(incident: &Incident, columns: usize) -> String {
    let storm = &incident.storm;
    let mut text = format!(
        "{} at {}, {}{}\n{}\n",
        storm.kind.label(),
        storm.server,
        storm.severity.label(),
        if storm.expected { ", expected" } else { "" },
        storm.summary
    );
    text.push_str(&picture(incident, columns.saturating_sub(MARGIN + 1).max(20)));
    if !incident.complete {
        text.push_str("(not recorded to its end: it goes on, or the agent ended before)\n");
    }
    if !storm.evidence.is_empty() {
        text.push_str("\nevidence\n");
        for figure in &storm.evidence {
            _ = writeln!(
                text,
                "  {:<32} {:>12.2} {}",
                figure.name, figure.value, figure.unit
            );
        }
    }
    if !storm.culprits.is_empty() {
        text.push_str("\nby share of the excess\n");
        for culprit in &storm.culprits {
            _ = writeln!(
                text,
                "  {:>3.0} %  {:<40} {} addresses, {} connections",
                culprit.share * 100.0,
                culprit.name,
                culprit.instances,
                culprit.connections
            );
        }
    }
    text
}

/// What is drawn of ticks: its name, the number of one, and whether it is a rate per second.
type OfTicks = (&'static str, fn(&Sample) -> u32, bool);

const TICKS: [OfTicks; 6] = [
    ("connections", |tick| tick.connections, false),
    ("opened /s", |tick| tick.opened, true),
    ("closed /s", |tick| tick.closed, true),
    ("refused /s", |tick| tick.rejected, true),
    ("accept queue", |tick| tick.queue_length, false),
    ("queue drops /s", |tick| tick.queue_drops, true),
];

/// The same of seconds of traffic. `answered` leaves out replies whose commands came before the agent.
type OfSeconds = (&'static str, fn(&TrafficAt) -> u64, bool);

const SECONDS: [OfSeconds; 6] = [
    ("commands /s", |second| second.commands, true),
    ("answered /s", |second| second.answered, true),
    ("latency us", |second| second.latency_microseconds, false),
    ("bytes in /s", |second| second.bytes_in, true),
    ("bytes out /s", |second| second.bytes_out, true),
    ("errors /s", |second| second.errors, true),
];

/// A row of a picture: from when until when it had which value.
struct Row {
    name: &'static str,
    values: Vec<(Moment, Moment, u64)>,
}

fn rows(incident: &Incident) -> Vec<Row> {
    let of_ticks = |(name, value, is_rate): OfTicks| Row {
        name,
        values: incident
            .course
            .samples()
            .map(|tick| {
                let factor = if is_rate { 10 } else { 1 };
                (tick.at, tick.at, u64::from(value(&tick)) * factor)
            })
            .collect(),
    };
    let of_seconds = |(name, value, is_rate): OfSeconds| Row {
        name,
        values: incident
            .traffic
            .iter()
            .map(|second| {
                let milliseconds = second.milliseconds.max(1);
                let (value, began) = (
                    value(second),
                    Moment(second.at.0.saturating_sub(milliseconds - 1)),
                );
                let value = if is_rate {
                    value * 1000 / milliseconds
                } else {
                    value
                };
                (began, second.at, value)
            })
            .collect(),
    };
    let ticks = TICKS.into_iter().map(of_ticks);
    ticks.chain(SECONDS.into_iter().map(of_seconds)).collect()
}

fn picture(incident: &Incident, width: usize) -> String {
    let at = &incident.course.at;
    let (Some(&first), Some(&last)) = (at.first(), at.last()) else {
        return String::new();
    };
    let milliseconds = last.since(first).max(1);
    let place =
        |at: Moment| ((at.since(first) as usize * (width - 1)) / milliseconds as usize).min(width - 1);
    let mut text = String::new();
    for Row { name, values } in rows(incident) {
        // A column shows its largest tick: a burst of 100 ms is what a storm is made of.
        let mut columns = vec![0; width];
        for (from, until, value) in values.into_iter().filter(|(_, until, _)| *until >= first) {
            for column in &mut columns[place(from)..=place(until)] {
                *column = value.max(*column);
            }
        }
        let most = columns.iter().copied().max().unwrap_or(0);
        if most == 0 {
            continue;
        }
        let bars: String = columns
            .iter()
            .map(|value| BARS[(value * 8).div_ceil(most) as usize])
            .collect();
        _ = writeln!(text, "{name:<MARGIN$}{bars} {most}");
    }
    let storm = &incident.storm;
    let mut marks = vec![' '; width];
    for (at, mark) in [
        (Some(storm.onset), 'o'),
        (Some(storm.found), 'f'),
        (storm.ended, 'e'),
    ] {
        if let Some(at) = at.filter(|at| *at >= first && *at <= last) {
            marks[place(at)] = mark;
        }
    }
    let marks: String = marks.into_iter().collect();
    _ = writeln!(
        text,
        "{:MARGIN$}{}\n{:MARGIN$}{} in all; o onset, f found, e ended",
        "",
        marks.trim_end(),
        "",
        span(milliseconds)
    );
    text
}

#[cfg(test)]
mod tests {
    use stormglass::incidents::Course;

    use super::*;

    fn incident() -> Incident {
        let ticks = 0..100_u64;
        let column = |value: fn(u64) -> u32| -> Vec<u32> { ticks.clone().map(value).collect() };
        let none = || vec![0; 100];
        let course = Course {
            at: ticks.clone().map(|tick| Moment(1_000_000 + 100 * tick)).collect(),
            connections: column(|tick| if tick < 50 { 100 } else { 200 }),
            opened: column(|tick| u32::from(tick == 50) * 80),
            closed: none(),
            closed_waiting: none(),
            rejected: none(),
            queue_length: none(),
            queue_drops: none(),
        };
        let storm = json!({
            "id": "1-1", "server": "s:1", "kind": "cold_reconnect", "kinds": ["cold_reconnect"], "severity": "warning",
            "onset": 1_005_000, "found": 1_005_400, "ended": 1_008_000, "expected": false, "summary": "80 opens",
            "evidence": [{"name": "opens", "value": 80.0, "unit": "connections"}],
            "culprits": [{"subject": "workload", "name": "cart-api", "share": 0.92, "instances": 10,
                "connections": 80, "amount": 80.0}],
        });
        serde_json::from_value(json!({
            "format": 1, "agent": "1", "complete": true, "storm": storm, "told": [], "course": course,
            "traffic": [
                {"at": 1_005_100, "milliseconds": 1_000, "commands": 40, "answered": 40, "latency_microseconds": 90, "bytes_in": 4_000,
                    "bytes_out": 0, "errors": 0, "tenants": []},
                {"at": 1_007_100, "milliseconds": 2_000, "commands": 160, "answered": 0, "latency_microseconds": 0, "bytes_in": 8_000,
                    "bytes_out": 0, "errors": 0, "tenants": []},
            ],
            "clients": [], "tenants": [],
        }))
        .expect("understood")
    }

    #[test]
    fn a_picture_has_a_bar_for_each_time_and_marks_below() {
        let text = drawn(&incident(), 40 + MARGIN + 1);
        let expected = "\
cold_reconnect at s:1, warning
80 opens
connections       ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄█████████████████████ 200
opened /s                            █                     800
commands /s                       ▄▄▄▄████████             80
answered /s                       █████                    40
latency us                        █████                    90
bytes in /s                       ████████████             4000
                                     o f         e
                  9.9 s in all; o onset, f found, e ended

evidence
  opens                                   80.00 connections

by share of the excess
   92 %  cart-api                                 10 addresses, 80 connections
";
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), expected.lines().count(), "{text}");
        for (line, expected) in lines.iter().zip(expected.lines()) {
            assert_eq!(*line, expected, "{text}");
        }
        // The burst, the onset and the first of the new connections stand above each other.
        let column = |line: usize, mark: char| lines[line].chars().position(|character| character == mark);
        let onset = column(8, 'o').expect("marked");
        assert_eq!(column(3, '█'), Some(onset));
        assert!(lines[2].chars().nth(onset) == Some('█'));
    }

    #[test]
    fn a_list_says_what_is_whole_cut_open_and_unreadable() {
        let whole = incident();
        let storm = serde_json::to_value(&whole.storm).expect("JSON");
        let mut open = storm.clone();
        open["ended"] = Value::Null;
        let page = json!({"incidents": [
            {"id": "1-4", "complete": false, "bytes": 1, "storm": open, "fault": null},
            {"id": "1-3", "complete": false, "bytes": 1, "storm": storm, "fault": null},
            {"id": "1-2", "complete": true, "bytes": 1, "storm": storm, "fault": null},
            {"id": "1-1", "complete": false, "bytes": 1, "storm": null, "fault": "this is no incident"},
        ]});
        let text = listed(&page).expect("understood");
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words[1][..7],
            ["1-4", "s:1", "cold_reconnect", "warning", "goes", "on", "open"]
        );
        assert_eq!(words[2][4..7], ["3.0", "s", "cut"]);
        assert_eq!(words[3][6], "whole");
        assert!(text.contains("unreadable  this is no incident"), "{text}");
        assert_eq!(last(&page).expect("one"), "1-4");
        assert_eq!(
            listed(&json!({"incidents": []})).expect("none"),
            "no storm was recorded\n"
        );
        assert!(listed(&json!({})).is_err());
    }
}
