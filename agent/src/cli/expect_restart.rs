//! `stormglass expect-restart`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use stormglass::storms::Moment;

use super::agent::{AgentArguments, NOT_UNDERSTOOD};
use super::table::{Column, show, show_json, table};

const PAGE: &str = "/api/v1/announcements";

#[derive(Debug, Args)]
pub(super) struct ExpectRestartArguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// How long storms are expected: 90s, 10m, 2h; 24h at most.
    #[arg(long = "for", value_name = "TIME", value_parser = time, required_unless_present_any = ["list", "cancel"])]
    lasts: Option<Duration>,
    /// Only at servers with such a label, `*` standing for any text.
    #[arg(long, value_name = "PATTERN", requires = "lasts")]
    server: Option<String>,
    /// Only by workloads with such a name, `*` standing for any text.
    #[arg(long, value_name = "PATTERN", requires = "lasts")]
    workload: Option<String>,
    /// List what is announced.
    #[arg(long, conflicts_with_all = ["lasts", "cancel"])]
    list: bool,
    /// Take an announcement back.
    #[arg(long, value_name = "ID", conflicts_with = "lasts")]
    cancel: Option<String>,
    /// Print the JSON of the API.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct List {
    announcements: Vec<Announcement>,
}

#[derive(Debug, Deserialize)]
struct Announcement {
    id: String,
    until: u64,
    server: Option<String>,
    workload: Option<String>,
}

pub(super) fn run(arguments: &ExpectRestartArguments) -> Result<ExitCode> {
    let agent = arguments.agent.agent()?;
    let Moment(now) = Moment::now();
    let (answer, verb) = if let Some(id) = &arguments.cancel {
        (agent.delete(PAGE, &[("id", id)])?, "is no longer announced")
    } else if let Some(lasts) = arguments.lasts {
        let asked = json!({
            "for_seconds": lasts.as_secs(),
            "server": arguments.server,
            "workload": arguments.workload,
        });
        (agent.post(PAGE, &asked)?, "is announced")
    } else {
        return list(arguments, agent.get(PAGE, &[])?, now);
    };
    if arguments.json {
        show_json(&answer)?;
    } else {
        let announcement: Announcement = read(answer)?;
        let left = left(&announcement, now);
        show(&format!(
            "{} {verb}: {}, {left} left\n",
            announcement.id,
            what(&announcement)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(arguments: &ExpectRestartArguments, answer: Value, now: u64) -> Result<ExitCode> {
    if arguments.json {
        show_json(&answer)?;
    } else {
        let List { announcements } = read(answer)?;
        show(&listed(&announcements, now))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(announcements: &[Announcement], now: u64) -> String {
    if announcements.is_empty() {
        return "no restart is announced\n".into();
    }
    let rows: Vec<_> = announcements
        .iter()
        .map(|announcement| {
            vec![
                announcement.id.clone(),
                left(announcement, now),
                announcement.server.clone().unwrap_or_else(|| "*".into()),
                announcement.workload.clone().unwrap_or_else(|| "*".into()),
            ]
        })
        .collect();
    let columns = [
        Column::text("ID"),
        Column::number("LEFT"),
        Column::text("SERVER"),
        Column::text("WORKLOAD"),
    ];
    table(&columns, &rows)
}

fn read<T: for<'a> Deserialize<'a>>(answer: Value) -> Result<T> {
    serde_json::from_value(answer).context(NOT_UNDERSTOOD)
}

fn what(announcement: &Announcement) -> String {
    let server = announcement.server.as_deref().unwrap_or("any server");
    let workload = announcement.workload.as_deref().unwrap_or("any workload");
    format!("a restart of {workload} at {server}")
}

/// `9m 30s`.
fn left(announcement: &Announcement, now: u64) -> String {
    let seconds = announcement.until.saturating_sub(now).div_ceil(1000);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

/// A number of seconds, minutes or hours.
fn time(text: &str) -> Result<Duration> {
    let wrong = || anyhow!("write a number of seconds, minutes or hours, such as 90s, 10m or 2h");
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(unit)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200)] {
            assert_eq!(time(text).expect(text).as_secs(), seconds);
        }
        for text in [
            "",
            "10",
            "m",
            "1d",
            "-5m",
            "1.5h",
            "99999999999999999999h",
            "10 m",
            "18446744073709551615h",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn announcements_are_listed_with_what_is_left_of_them() {
        let one = |until, server: Option<&str>| Announcement {
            id: "mi3x1".into(),
            until,
            server: server.map(Into::into),
            workload: None,
        };
        let text = listed(&[one(570_500, None), one(7_260_000, Some("valkey-*"))], 1_000);
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[0], ["ID", "LEFT", "SERVER", "WORKLOAD"]);
        assert_eq!(words[1], ["mi3x1", "9m", "30s", "*", "*"]);
        assert_eq!(words[2], ["mi3x1", "2h", "0m", "valkey-*", "*"]);
        assert_eq!(listed(&[], 0), "no restart is announced\n");
    }
}
