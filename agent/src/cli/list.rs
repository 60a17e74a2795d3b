//! What `tenants` and `clients` have in common: rows of the API, asked for once or twice, sorted and cut.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::agent::{Agent, AgentArguments, of_server};

/// Rows of a table, unless `--limit` says otherwise: what a person reads.
const ROWS: usize = 50;

/// Longest interval between two questions.
const INTERVAL_MOST: Duration = Duration::from_secs(3600);

/// Shortest one: below it, what a rate shows is the moment of the questions.
const INTERVAL_LEAST: Duration = Duration::from_millis(100);

/// Flags of a command that lists rows of the API.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    pub(super) agent: AgentArguments,
    /// Print the JSON of the API.
    #[arg(long)]
    pub(super) json: bool,
    /// Only what this server has seen, by its label (`stormglass servers` lists them).
    #[arg(long, value_name = "NAME")]
    pub(super) server: Option<String>,
    /// Rows to print at most; 0: all [default: 50, with --json all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Ask twice, so far apart (500ms, 2s, 1m), and show what happened in between per second.
    #[arg(long, value_name = "TIME", value_parser = interval, conflicts_with = "json")]
    pub(super) interval: Option<Duration>,
}

/// A row as it came, and as it is understood.
pub(super) struct Row<L> {
    pub(super) line: L,
    raw: Value,
}

/// What changed between two answers.
pub(super) struct Changes<L> {
    /// One for each row that is in both, as differences.
    pub(super) rows: Vec<Row<L>>,
    /// Time between the two answers, in seconds.
    pub(super) seconds: f64,
}

/// A row of which two answers can be compared.
pub(super) trait Line: DeserializeOwned {
    /// What tells it from the others.
    fn key(&self) -> (&str, &str);

    /// What was counted since `before`; `None` if counters went back (the agent, or the counting of this row, began anew).
    fn since(&self, before: &Self) -> Option<Self>;
}

impl ListArguments {
    /// The rows of a page, under the name that they have there.
    pub(super) fn ask<L: Line>(
        &self,
        agent: &Agent,
        name: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Vec<Row<L>>> {
        let mut parameters = parameters.to_vec();
        parameters.extend(of_server(self.server.as_deref()));
        let answer = agent.get(&format!("/api/v1/{name}"), &parameters)?;
        rows(answer, name)
    }

    /// Asks twice and compares.
    pub(super) fn ask_twice<L: Line>(
        &self,
        agent: &Agent,
        name: &str,
        interval: Duration,
    ) -> Result<Changes<L>> {
        let before = self.ask::<L>(agent, name, &[])?;
        let begin = Instant::now();
        std::thread::sleep(interval);
        let after = self.ask::<L>(agent, name, &[])?;
        Ok(Changes {
            seconds: begin.elapsed().as_secs_f64(),
            rows: changes(&before, after),
        })
    }

    /// The API's answer, in this order and so long if the command line asks for it.
    pub(super) fn json<L, O: Ord>(
        &self,
        name: &str,
        mut rows: Vec<Row<L>>,
        order: Option<impl Fn(&L) -> O>,
    ) -> Value {
        if let Some(order) = order {
            rows.sort_by_cached_key(|row| order(&row.line));
        }
        if let Some(limit) = self.limit.filter(|limit| *limit != 0) {
            rows.truncate(limit);
        }
        json!({ name: rows.into_iter().map(|row| row.raw).collect::<Vec<_>>() })
    }

    /// The lines of a table in this order, and how many more there are.
    pub(super) fn lines<L, O: Ord>(&self, rows: Vec<Row<L>>, order: impl Fn(&L) -> O) -> (Vec<L>, usize) {
        let mut lines: Vec<L> = rows.into_iter().map(|row| row.line).collect();
        lines.sort_by_cached_key(order);
        let all = lines.len();
        let limit = match self.limit.unwrap_or(ROWS) {
            0 => all,
            limit => limit,
        };
        lines.truncate(limit);
        (lines, all.saturating_sub(limit))
    }
}

/// The order of a column of numbers: the largest first, equal ones by name.
pub(super) fn largest_first(number: u64, name: &str) -> (Reverse<u64>, String) {
    (Reverse(number), name.to_owned())
}

/// The line under a table that leaves rows out.
pub(super) fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!("and {more} more; --limit 0 shows all\n"),
    }
}

/// A number per second, as people read it.
pub(super) fn per_second(count: u64, seconds: f64) -> String {
    let rate = count as f64 / seconds;
    let decimals = usize::from(rate < 10.0 && rate > 0.0);
    format!("{rate:.decimals$}")
}

fn rows<L: Line>(mut answer: Value, name: &str) -> Result<Vec<Row<L>>> {
    let Some(Value::Array(rows)) = answer.get_mut(name).map(Value::take) else {
        bail!("the answer has no list of {name}; is another version running?");
    };
    let rows = rows.into_iter().map(|raw| {
        let line = L::deserialize(&raw)
            .with_context(|| format!("a row of {name} is not understood; is another version running?"))?;
        Ok(Row { line, raw })
    });
    rows.collect()
}

fn changes<L: Line>(before: &[Row<L>], after: Vec<Row<L>>) -> Vec<Row<L>> {
    let before: std::collections::HashMap<_, _> =
        before.iter().map(|row| (row.line.key(), &row.line)).collect();
    let changes = after.into_iter().filter_map(|row| {
        let line = row.line.since(before.get(&row.line.key())?)?;
        Some(Row { line, raw: row.raw })
    });
    changes.collect()
}

/// A time between two questions, as it is written on the command line.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || "write a time such as 500ms, 2s or 1m".to_owned();
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let interval = Duration::from_millis(number.saturating_mul(milliseconds));
    if interval < INTERVAL_LEAST || interval > INTERVAL_MOST {
        return Err("write a time from 100ms to 60m".into());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Counted {
        name: String,
        count: u64,
    }

    impl Line for Counted {
        fn key(&self) -> (&str, &str) {
            (&self.name, "")
        }

        fn since(&self, before: &Self) -> Option<Self> {
            Some(Self {
                name: self.name.clone(),
                count: self.count.checked_sub(before.count)?,
            })
        }
    }

    fn answer(rows: &[(&str, u64)]) -> Value {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, count)| json!({"name": name, "count": count}))
            .collect();
        json!({ "rows": rows })
    }

    fn read(counts: &[(&str, u64)]) -> Vec<Row<Counted>> {
        rows(answer(counts), "rows").expect("understood")
    }

    fn arguments(limit: Option<usize>) -> ListArguments {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            list: ListArguments,
        }
        let limit = limit.map(|limit| limit.to_string());
        let flags = limit.iter().flat_map(|limit| ["--limit", limit]);
        <Only as clap::Parser>::parse_from(["x"].into_iter().chain(flags)).list
    }

    #[test]
    fn what_happened_between_two_answers_is_the_difference_of_the_rows_in_both() {
        let before = read(&[("a", 5), ("restarted", 9), ("gone", 1)]);
        let after = read(&[("new", 100), ("a", 12), ("restarted", 3)]);
        let changes: Vec<_> = changes(&before, after)
            .into_iter()
            .map(|row| row.line.count)
            .collect();
        assert_eq!(changes, [7]);
    }

    #[test]
    fn a_table_is_sorted_and_says_how_much_it_leaves_out() {
        let order = |line: &Counted| largest_first(line.count, &line.name);
        let names = |limit| {
            let (lines, more) = arguments(limit).lines(read(&[("b", 1), ("a", 1), ("c", 2)]), order);
            (lines.into_iter().map(|line| line.name).collect::<String>(), more)
        };
        assert_eq!(names(Some(2)), ("ca".into(), 1));
        assert_eq!(names(Some(0)), ("cab".into(), 0));
        assert_eq!(names(None), ("cab".into(), 0));
        assert_eq!(and_more(1), "and 1 more; --limit 0 shows all\n");
    }

    #[test]
    fn json_is_that_of_the_api_unless_an_order_or_length_is_asked_for() {
        let counts = [("b", 1), ("a", 2)];
        let order = |line: &Counted| largest_first(line.count, &line.name);
        let all = arguments(None).json("rows", read(&counts), None::<fn(&Counted) -> u64>);
        assert_eq!(all, answer(&counts));
        let first = arguments(Some(1)).json("rows", read(&counts), Some(order));
        assert_eq!(first, answer(&[("a", 2)]));
    }

    #[test]
    fn an_answer_without_such_rows_asks_for_another_version() {
        for wrong in [
            json!({}),
            json!([]),
            json!({"rows": 1}),
            json!({"rows": [{"name": "a"}]}),
        ] {
            let error = rows::<Counted>(wrong, "rows").map(|_| ()).expect_err("wrong");
            assert!(
                error.to_string().contains("is another version running?"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_interval_has_a_unit_and_bounds() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(interval("1m"), Ok(Duration::from_secs(60)));
        for wrong in [
            "2",
            "s",
            "",
            "2h",
            "-1s",
            "1ms",
            "0s",
            "61m",
            "99999999999999999999s",
            "18446744073709551615m",
        ] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn small_rates_keep_a_decimal() {
        assert_eq!(per_second(3, 2.0), "1.5");
        assert_eq!(per_second(3000, 2.0), "1500");
        assert_eq!(per_second(0, 2.0), "0");
    }
}
