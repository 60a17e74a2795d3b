//! `stormglass libraries`.

use std::cmp::Reverse;
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
pub(super) struct LibrariesArguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// Only those at this server, by its label (`stormglass servers` lists them).
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only the versions of this library.
    #[arg(long, value_name = "NAME")]
    library: Option<String>,
    /// Print JSON, as in the API.
    #[arg(long)]
    json: bool,
    /// Rows to print at most, those with the most connections first, then those that opened the most; 0: all
    #[arg(long, value_name = "N", default_value_t = ROWS, conflicts_with = "json")]
    limit: usize,
}

pub(super) fn run(arguments: &LibrariesArguments) -> Result<ExitCode> {
    let parameters = of_server(arguments.server.as_deref());
    let agent = arguments.agent.agent()?;
    let mut answer = agent.get("/api/v1/libraries", parameters.as_slice())?;
    let libraries = kept(arguments, answer["libraries"].take())?;
    if arguments.json {
        show_json(&serde_json::json!({ "libraries": libraries }))?;
    } else {
        show(&text(&libraries, arguments.limit)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The rows that are asked for.
fn kept(arguments: &LibrariesArguments, libraries: Value) -> Result<Value> {
    let Value::Array(mut rows) = libraries else {
        anyhow::bail!(NOT_UNDERSTOOD)
    };
    let wanted = |row: &Value| {
        let library = arguments.library.as_ref();
        library.is_none_or(|library| row["library"] == **library)
    };
    rows.retain(wanted);
    Ok(rows.into())
}

/// What is read of a version of a library.
#[derive(serde::Deserialize)]
struct Library {
    server: String,
    library: String,
    version: String,
    connections: u64,
    opened: Option<u64>,
}

const COLUMNS: &[Column] = &[
    Column::text("server"),
    Column::text("library"),
    Column::text("version"),
    Column::number("connections"),
    Column::number("opened"),
];

fn text(libraries: &Value, limit: usize) -> Result<String> {
    let mut rows = Vec::<Library>::deserialize(libraries).context(NOT_UNDERSTOOD)?;
    if rows.is_empty() {
        return Ok("no connections\n".into());
    }
    rows.sort_by_key(|row| Reverse((row.connections, row.opened)));
    let shown = if limit == 0 {
        rows.len()
    } else {
        limit.min(rows.len())
    };
    let cells = rows[..shown].iter().map(|row| {
        vec![
            row.server.clone(),
            row.library.clone(),
            row.version.clone(),
            row.connections.to_string(),
            row.opened.map_or_else(|| "-".into(), |opened| opened.to_string()),
        ]
    });
    let cells: Vec<_> = cells.collect();
    Ok(table(COLUMNS, &cells) + &and_more(rows.len() - shown))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: LibrariesArguments,
    }

    fn arguments(words: &[&str]) -> LibrariesArguments {
        let line = ["libraries"].iter().chain(words);
        Line::try_parse_from(line).expect("accepted").arguments
    }

    fn rows() -> Value {
        let row = |server: &str, library: &str, version: &str, connections: u64, opened: Value| json!({"server": server, "library": library, "version": version, "connections": connections, "opened": opened});
        json!([
            row("a:1", "go-redis", "9.17", 3, json!(7)),
            row("b:2", "go-redis", "8.11", 40, json!(1200)),
            row("b:2", "(none)", "(none)", 5, Value::Null),
        ])
    }

    #[test]
    fn versions_stand_by_their_connections_over_all_servers() {
        let expected = "\
server  library   version  connections  opened
b:2     go-redis  8.11              40    1200
b:2     (none)    (none)             5       -
and 1 more; --limit 0 shows all
";
        assert_eq!(text(&rows(), 2).expect("understood"), expected);
        assert_eq!(text(&json!([]), 2).expect("understood"), "no connections\n");
    }

    #[test]
    fn one_library_can_be_asked_for() {
        let of = |words: &[&str]| kept(&arguments(words), rows()).expect("understood");
        assert_eq!(of(&["--library", "go-redis"]).as_array().map(Vec::len), Some(2));
        assert_eq!(of(&["--library", "(none)"]), json!([rows()[2]]));
        assert_eq!(of(&[]), rows());
    }

    #[test]
    fn an_answer_of_another_program_is_refused() {
        assert!(kept(&arguments(&[]), Value::Null).is_err());
        assert!(text(&json!([{}]), 1).is_err());
    }
}
