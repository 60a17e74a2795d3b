//! `stormglass workloads`.

use std::cmp::Reverse;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::agent::{AgentArguments, NOT_UNDERSTOOD, of_server};
use super::list::and_more;
use super::table::{Column, show, show_json, table};
use stormglass::numbers;

/// Rows of the table, unless `--limit` says otherwise: what a person reads.
const ROWS: usize = 50;

#[derive(Debug, Args)]
pub(super) struct WorkloadsArguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// Print the JSON of the API.
    #[arg(long)]
    json: bool,
    /// Only what this server has, by its label (`stormglass servers` lists them).
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Rows to print at most, those with the most connections first; 0: all
    #[arg(long, value_name = "N", default_value_t = ROWS, conflicts_with = "json")]
    limit: usize,
}

pub(super) fn run(arguments: &WorkloadsArguments) -> Result<ExitCode> {
    let parameters = of_server(arguments.server.as_deref());
    let answer = arguments
        .agent
        .agent()?
        .get("/api/v1/workloads", parameters.as_slice())?;
    if arguments.json {
        show_json(&answer)?;
    } else {
        show(&text(answer, arguments.limit)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is read of the page.
#[derive(Deserialize)]
struct Page {
    workloads: Vec<Workload>,
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Workload {
    server: String,
    workload: String,
    instances: u64,
    connections: u64,
    opens_per_minute: Option<f64>,
    connections_per_instance: Option<PerInstance>,
    idle_share: Option<f64>,
    socket_memory_bytes: Option<u64>,
    busy_per_instance: Option<Busy>,
    pool_advice: Option<Advice>,
}

#[derive(Deserialize)]
struct PerInstance {
    median: f64,
    max: u64,
}

#[derive(Deserialize)]
struct Busy {
    p99: u64,
}

#[derive(Deserialize)]
struct Advice {
    text: String,
}

#[derive(Deserialize)]
struct Server {
    server: String,
    restart: Restart,
}

#[derive(Deserialize)]
struct Restart {
    connections: u64,
    instances: u64,
    seconds: Option<Bounds>,
}

#[derive(Deserialize)]
struct Bounds {
    at_least: f64,
    at_most: Option<f64>,
}

const COLUMNS: &[Column] = &[
    Column::text("server"),
    Column::text("workload"),
    Column::number("instances"),
    Column::number("connections"),
    Column::number("per instance"),
    Column::number("max"),
    Column::number("busy p99"),
    Column::number("idle"),
    Column::number("opens/min"),
    Column::number("memory"),
];

/// The table, then the advice, then what a restart of each server would bring.
fn text(answer: Value, limit: usize) -> Result<String> {
    let Page {
        mut workloads,
        servers,
    } = Page::deserialize(answer).context(NOT_UNDERSTOOD)?;
    if workloads.is_empty() {
        return Ok("no connections\n".into());
    }
    workloads.sort_by_key(|row| Reverse(row.connections));
    let shown = if limit == 0 {
        workloads.len()
    } else {
        limit.min(workloads.len())
    };
    let cells: Vec<_> = workloads[..shown].iter().map(cells).collect();
    let mut text = table(COLUMNS, &cells) + &and_more(workloads.len() - shown);
    for row in &workloads[..shown] {
        if let Some(advice) = &row.pool_advice {
            text.push_str(&format!("{} at {}: {}\n", row.workload, row.server, advice.text));
        }
    }
    for server in servers.iter().filter(|server| server.restart.connections > 0) {
        text.push_str(&restart(server));
    }
    Ok(text)
}

fn cells(row: &Workload) -> Vec<String> {
    let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".into());
    let pools = row.connections_per_instance.as_ref();
    vec![
        row.server.clone(),
        row.workload.clone(),
        row.instances.to_string(),
        row.connections.to_string(),
        or_none(pools.map(|of| of.median.to_string())),
        or_none(pools.map(|of| of.max.to_string())),
        or_none(row.busy_per_instance.as_ref().map(|busy| busy.p99.to_string())),
        or_none(row.idle_share.map(|share| format!("{:.0} %", share * 100.0))),
        or_none(row.opens_per_minute.map(|rate| format!("{rate:.0}"))),
        or_none(row.socket_memory_bytes.map(|bytes| numbers::bytes(bytes as f64))),
    ]
}

fn restart(server: &Server) -> String {
    let Restart {
        connections,
        instances,
        seconds,
    } = &server.restart;
    let within = match seconds {
        None => "it has accepted none yet that would say how fast".to_owned(),
        Some(Bounds {
            at_least,
            at_most: None,
        }) => format!("in {at_least:.1} s or more"),
        Some(Bounds {
            at_least,
            at_most: Some(at_most),
        }) => {
            format!("in {at_least:.1} to {at_most:.1} s at the rate it has shown")
        }
    };
    format!(
        "a restart of {} brings {connections} connections from {instances} instances, {within}\n",
        server.server
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(name: &str, connections: u64) -> Value {
        json!({
            "server": "s:1", "workload": name, "kind": "rule", "instances": 2, "connections": connections, "opened": 9,
            "opens_per_minute": 1.6, "connections_per_instance": {"median": 19.5, "max": 20}, "idle": 30,
            "idle_share": 0.75, "busy": 2, "socket_memory_bytes": 160_000,
            "busy_per_instance": {"p99": 2, "max": 3, "surveys": 360, "over_seconds": 3600},
            "pool_advice": {"connections_per_instance": 3, "instead_of": 19, "text": "p could be 3"},
        })
    }

    fn page(workloads: &[Value], seconds: &Value) -> Value {
        let restart = json!({"connections": 40, "instances": 2, "accept_rate": null, "seconds": seconds});
        json!({"workloads": workloads, "servers": [{"server": "s:1", "restart": restart}], "survey": null})
    }

    #[test]
    fn a_table_has_the_largest_first_then_advice_and_the_restart() {
        let mut unknown = workload("new", 41);
        for key in [
            "opens_per_minute",
            "connections_per_instance",
            "idle_share",
            "socket_memory_bytes",
            "busy_per_instance",
            "pool_advice",
        ] {
            unknown[key] = Value::Null;
        }
        let page = page(
            &[workload("api", 40), unknown],
            &json!({"at_least": 0.25, "at_most": 0.5}),
        );
        let expected = "\
server  workload  instances  connections  per instance  max  busy p99  idle  opens/min  memory
s:1     new               2           41             -    -         -     -          -       -
s:1     api               2           40          19.5   20         2  75 %          2  160 kB
api at s:1: p could be 3
a restart of s:1 brings 40 connections from 2 instances, in 0.2 to 0.5 s at the rate it has shown
";
        assert_eq!(text(page, ROWS).expect("understood"), expected);
    }

    #[test]
    fn rows_beyond_the_limit_are_counted_and_their_advice_is_left_out() {
        let page = page(&[workload("a", 1), workload("b", 2)], &Value::Null);
        let text = text(page, 1).expect("understood");
        assert!(!text.contains(" a "), "{text}");
        assert!(!text.contains("a at s:1"), "{text}");
        assert!(text.contains("and 1 more; --limit 0 shows all\n"), "{text}");
        assert!(text.contains("it has accepted none yet"), "{text}");
    }

    #[test]
    fn an_answer_of_another_program_is_refused() {
        assert!(text(json!({"workloads": [{}], "servers": []}), 1).is_err());
        assert_eq!(
            text(json!({"workloads": [], "servers": []}), 1).expect("understood"),
            "no connections\n"
        );
    }
}
