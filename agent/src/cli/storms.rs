//! `stormglass storms`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use stormglass::{
    numbers::span,
    storms::{Moment, Storm},
};

use super::agent::{AgentArguments, NOT_UNDERSTOOD, of_server};
use super::table::{Column, show, show_json, table};

#[derive(Debug, Args)]
pub(super) struct StormsArguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// Print the JSON of the API.
    #[arg(long)]
    json: bool,
    /// Only those of this server, by its label (`stormglass servers` lists them).
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

pub(super) fn run(arguments: &StormsArguments) -> Result<ExitCode> {
    let parameters = of_server(arguments.server.as_deref());
    let answer = arguments
        .agent
        .agent()?
        .get("/api/v1/storms", parameters.as_slice())?;
    if arguments.json {
        show_json(&answer)?;
    } else {
        show(&text(answer, Moment::now())?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is read of the page.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) active: Vec<Storm>,
    pub(super) ended: Vec<Storm>,
}

const COLUMNS: &[Column] = &[
    Column::text("id"),
    Column::text("server"),
    Column::text("kinds"),
    Column::text("severity"),
    Column::text("began"),
    Column::text("lasted"),
    Column::text("what"),
];

/// Those that go on, then those that are over, the latest first.
fn text(answer: Value, now: Moment) -> Result<String> {
    let Page { active, ended } = Page::deserialize(answer).context(NOT_UNDERSTOOD)?;
    if active.is_empty() && ended.is_empty() {
        return Ok("no storm since the agent started\n".into());
    }
    let rows: Vec<_> = active
        .iter()
        .chain(&ended)
        .map(|storm| cells(storm, now))
        .collect();
    Ok(table(COLUMNS, &rows))
}

fn cells(storm: &Storm, now: Moment) -> Vec<String> {
    let kinds: Vec<_> = storm.kinds.iter().map(|kind| kind.label()).collect();
    let expected = if storm.expected { ", expected" } else { "" };
    vec![
        storm.id.clone(),
        storm.server.clone(),
        kinds.join(", "),
        format!("{}{expected}", storm.severity.label()),
        format!("{} ago", span(now.since(storm.onset))),
        match storm.ended {
            Some(ended) => span(ended.since(storm.onset)),
            None => "goes on".into(),
        },
        storm.summary.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn storm(id: &str, ended: Option<u64>) -> Value {
        json!({
            "id": id, "server": "s:1", "kind": "reconnect_churn", "kinds": ["reconnect_churn", "accept_queue_saturation"],
            "severity": "critical", "onset": 1_000, "found": 1_300, "ended": ended, "expected": ended.is_some(),
            "summary": "reconnect churn: 7 opens in 2 s", "evidence": [], "culprits": [],
        })
    }

    #[test]
    fn storms_that_go_on_are_first() {
        let page = json!({"active": [storm("1300-2", None)], "ended": [storm("1300-1", Some(4_500))]});
        let expected = "\
id      server  kinds                                     severity            began     lasted   what
1300-2  s:1     reconnect_churn, accept_queue_saturation  critical            60 s ago  goes on  reconnect churn: 7 opens in 2 s
1300-1  s:1     reconnect_churn, accept_queue_saturation  critical, expected  60 s ago  3.5 s    reconnect churn: 7 opens in 2 s
";
        assert_eq!(text(page, Moment(61_500)).expect("understood"), expected);
    }

    #[test]
    fn silence_is_said_and_another_answer_refused() {
        let silence = text(json!({"active": [], "ended": []}), Moment(0)).expect("understood");
        assert_eq!(silence, "no storm since the agent started\n");
        assert!(text(json!({"active": [{}], "ended": []}), Moment(0)).is_err());
    }
}
