//! `stormglass clients`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::list::{Changes, Line, ListArguments, Row, and_more, largest_first, per_second};
use super::table::{Column, show, show_json, table};

#[derive(Debug, Args)]
pub(super) struct ClientsArguments {
    #[command(flatten)]
    list: ListArguments,
    /// What the rows are sorted by [default: connections; with --json as the agent has them]
    #[arg(long, value_name = "COLUMN")]
    sort: Option<Sort>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    /// Connections open now, the most first.
    Connections,
    /// Connections that began, the most first.
    Opened,
    /// Addresses of clients.
    Client,
}

pub(super) fn run(arguments: &ClientsArguments) -> Result<ExitCode> {
    let list = &arguments.list;
    let agent = list.agent.agent()?;
    let sort = arguments.sort.unwrap_or(Sort::Connections);
    if list.json {
        let order = arguments.sort.map(|sort| move |line: &Client| line.order(sort));
        show_json(&list.json("clients", list.ask(&agent, "clients", &[])?, order))?;
    } else if let Some(interval) = list.interval {
        show(&rates(list, list.ask_twice(&agent, "clients", interval)?, sort))?;
    } else {
        show(&totals(list, list.ask(&agent, "clients", &[])?, sort))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is read of a client.
#[derive(Debug, Clone, Deserialize)]
struct Client {
    server: String,
    client: String,
    connections: u64,
    opened: u64,
}

impl Line for Client {
    fn key(&self) -> (&str, &str) {
        (&self.server, &self.client)
    }

    fn since(&self, before: &Self) -> Option<Self> {
        Some(Self {
            opened: self.opened.checked_sub(before.opened)?,
            ..self.clone()
        })
    }
}

impl Client {
    fn order(&self, sort: Sort) -> (std::cmp::Reverse<u64>, String) {
        let number = match sort {
            Sort::Connections => self.connections,
            Sort::Opened => self.opened,
            Sort::Client => 0,
        };
        largest_first(number, &format!("{} {}", self.client, self.server))
    }
}

fn totals(list: &ListArguments, rows: Vec<Row<Client>>, sort: Sort) -> String {
    text(list, rows, sort, Column::number("OPENED"), |line| {
        line.opened.to_string()
    })
}

/// Connections as they are now, and those opened in between, per second.
fn rates(list: &ListArguments, Changes { rows, seconds }: Changes<Client>, sort: Sort) -> String {
    text(list, rows, sort, Column::number("OPENED/S"), |line| {
        per_second(line.opened, seconds)
    })
}

fn text(
    list: &ListArguments,
    rows: Vec<Row<Client>>,
    sort: Sort,
    opened: Column,
    cell: impl Fn(&Client) -> String,
) -> String {
    if rows.is_empty() {
        return "no clients\n".into();
    }
    let (lines, more) = list.lines(rows, |line| line.order(sort));
    let columns = [
        Column::text("SERVER"),
        Column::text("CLIENT"),
        Column::number("CONNECTIONS"),
        opened,
    ];
    let cells: Vec<_> = lines
        .iter()
        .map(|line| {
            vec![
                line.server.clone(),
                line.client.clone(),
                line.connections.to_string(),
                cell(line),
            ]
        })
        .collect();
    table(&columns, &cells) + &and_more(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, connections: u64, opened: u64) -> Client {
        Client {
            server: "s".into(),
            client: name.into(),
            connections,
            opened,
        }
    }

    #[test]
    fn the_connections_of_a_change_are_those_of_now_and_the_opened_ones_those_since() {
        let since = client("a", 5, 30).since(&client("a", 9, 10)).expect("grown");
        assert_eq!((since.connections, since.opened), (5, 20));
        assert!(client("a", 5, 3).since(&client("a", 9, 10)).is_none());
    }

    #[test]
    fn clients_stand_by_the_column_asked_for() {
        let (many, busy) = (client("10.0.0.9", 5, 5), client("10.0.0.1", 1, 50));
        for (sort, many_first) in [
            (Sort::Connections, true),
            (Sort::Opened, false),
            (Sort::Client, false),
        ] {
            assert_eq!(many.order(sort) < busy.order(sort), many_first, "{sort:?}");
        }
    }
}
