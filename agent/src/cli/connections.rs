//! `stormglass connections`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Deserialize as _;
use serde_json::Value;

use super::agent::{AgentArguments, NOT_UNDERSTOOD, of_server};
use super::list::and_more;
use super::table::{Column, show, show_json, table};

/// Rows of the table, unless `--limit` says otherwise: what a person reads.
const ROWS: usize = 50;

#[derive(Debug, Args)]
pub(super) struct ConnectionsArguments {
    #[command(flatten)]
    agent: AgentArguments,
    #[command(flatten)]
    wanted: Wanted,
    /// Print the JSON of the API.
    #[arg(long)]
    json: bool,
    /// Rows to print at most; 0: all
    #[arg(long, value_name = "N", default_value_t = ROWS, conflicts_with = "json")]
    limit: usize,
}

/// Which connections are shown: those that are all of this. The agent leaves other servers out, the rest is done here.
#[derive(Debug, Default, Args)]
struct Wanted {
    /// Only those of this server, by its label (`stormglass servers` lists them).
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only those of this ACL user.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only those of this client name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only those of this client library (`stormglass libraries` lists them).
    #[arg(long, value_name = "NAME")]
    library: Option<String>,
    /// Only those of this version of the library.
    #[arg(long, value_name = "VERSION")]
    library_version: Option<String>,
}

pub(super) fn run(arguments: &ConnectionsArguments) -> Result<ExitCode> {
    let parameters = of_server(arguments.wanted.server.as_deref());
    let agent = arguments.agent.agent()?;
    let mut answer = agent.get("/api/v1/connections", parameters.as_slice())?;
    arguments.wanted.keep(&mut answer)?;
    if arguments.json {
        show_json(&answer)?;
    } else {
        show(&text(&answer, arguments.limit)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Wanted {
    /// Takes away all other connections.
    fn keep(&self, answer: &mut Value) -> Result<()> {
        let wanted = [
            ("user", &self.user),
            ("name", &self.name),
            ("library", &self.library),
            ("library_version", &self.library_version),
        ];
        rows_mut(answer)?.retain(|row| {
            let mut wanted = wanted.iter();
            wanted.all(|(key, value)| value.as_ref().is_none_or(|value| row[key] == **value))
        });
        Ok(())
    }
}

fn rows_mut(answer: &mut Value) -> Result<&mut Vec<Value>> {
    answer["connections"].as_array_mut().context(NOT_UNDERSTOOD)
}

/// What is read of a connection.
#[derive(serde::Deserialize)]
struct Connection {
    server: String,
    address: String,
    port: u16,
    user: String,
    name: String,
    library: String,
    library_version: String,
    database: Option<u32>,
    protocol: u8,
}

const COLUMNS: &[Column] = &[
    Column::text("server"),
    Column::text("client"),
    Column::text("user"),
    Column::text("name"),
    Column::text("library"),
    Column::text("version"),
    Column::text("protocol"),
    Column::number("database"),
];

fn text(answer: &Value, limit: usize) -> Result<String> {
    let rows = Vec::<Connection>::deserialize(&answer["connections"]).context(NOT_UNDERSTOOD)?;
    if rows.is_empty() {
        return Ok("no connections\n".into());
    }
    let shown = if limit == 0 {
        rows.len()
    } else {
        limit.min(rows.len())
    };
    let cells: Vec<_> = rows[..shown].iter().map(cells).collect();
    Ok(table(COLUMNS, &cells) + &and_more(rows.len() - shown))
}

fn cells(row: &Connection) -> Vec<String> {
    let client = match row.address.contains(':') {
        true => format!("[{}]:{}", row.address, row.port),
        false => format!("{}:{}", row.address, row.port),
    };
    vec![
        row.server.clone(),
        client,
        row.user.clone(),
        row.name.clone(),
        row.library.clone(),
        row.library_version.clone(),
        format!("RESP{}", row.protocol),
        row.database
            .map_or_else(|| "-".into(), |number| number.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page() -> Value {
        let row = |address: &str, library: &str, version: &str, database: Value| {
            json!({
                "server": "s:1", "address": address, "port": 7, "user": "u", "name": "n", "library": library,
                "library_version": version, "database": database, "protocol": 3, "before_agent": false, "synchronised": true,
            })
        };
        json!({"connections": [
            row("10.0.0.1", "go-redis", "8.11", json!(2)),
            row("fd00::1", "go-redis", "9.17", Value::Null),
            row("10.0.0.3", "valkey-py", "8.11", json!(0)),
        ]})
    }

    #[test]
    fn a_connection_is_a_line_and_those_beyond_the_limit_are_counted() {
        let expected = "\
server  client       user  name  library   version  protocol  database
s:1     10.0.0.1:7   u     n     go-redis  8.11     RESP3            2
s:1     [fd00::1]:7  u     n     go-redis  9.17     RESP3            -
and 1 more; --limit 0 shows all
";
        assert_eq!(text(&page(), 2).expect("understood"), expected);
        assert!(!text(&page(), 0).expect("understood").contains("more"));
    }

    #[test]
    fn only_connections_that_are_all_of_what_is_wanted_are_kept() {
        let wanted = Wanted {
            library: Some("go-redis".into()),
            library_version: Some("8.11".into()),
            ..Wanted::default()
        };
        let mut answer = page();
        wanted.keep(&mut answer).expect("understood");
        let kept = rows_mut(&mut answer).expect("a list");
        assert_eq!((kept.len(), &kept[0]["address"]), (1, &json!("10.0.0.1")));
        let nobody = Wanted {
            user: Some("x".into()),
            ..Wanted::default()
        };
        nobody.keep(&mut answer).expect("understood");
        assert_eq!(text(&answer, ROWS).expect("understood"), "no connections\n");
    }

    #[test]
    fn an_answer_of_another_program_is_refused() {
        assert!(Wanted::default().keep(&mut json!({})).is_err());
        assert!(text(&json!({"connections": [{}]}), 1).is_err());
    }
}
