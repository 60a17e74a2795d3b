//! `stormglass tenants`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use stormglass::tenants::{Candidate, Traffic, UNASSIGNED, suggest, to_toml};

use super::agent::Agent;
use super::list::{Changes, Line, ListArguments, Row, and_more, largest_first, per_second};
use super::table::{Column, show, show_json, table};

/// Prefixes without a rule that are named under the table.
const SHOWN_PREFIXES: usize = 10;

/// As many prefixes without a rule as there can be: those of the kernel, and as many of servers that restarted.
const ALL_PREFIXES: usize = 2 * agent_common::limits::PREFIXES;

/// Why nothing is suggested.
const HASHED: &str = "the agent shows prefixes as keyed hashes (`keys.hash_prefixes = true`), and no rule can be written of a hash: \
    write rules with the plain prefixes, which the agent still matches; `stormglass hash-prefix NAME` says which row is that of a \
    prefix you know. Where prefixes may be shown for a while, `hash_prefixes = false` and a reload do it, and no count is lost";

#[derive(Debug, Args)]
pub(super) struct TenantsArguments {
    #[command(flatten)]
    list: ListArguments,
    /// What the rows are sorted by [default: bytes; with --json as the agent has them]
    #[arg(long, value_name = "COLUMN")]
    sort: Option<Sort>,
    /// Print [[tenant]] tables for the prefixes that no rule matches, ready to be put into the configuration.
    #[arg(long, conflicts_with_all = ["json", "sort", "limit", "interval"])]
    suggest: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    /// Bytes in and out, the most first.
    Bytes,
    /// Commands, the most first.
    Commands,
    /// Error replies, the most first.
    Errors,
    /// Names of tenants.
    Name,
}

pub(super) fn run(arguments: &TenantsArguments) -> Result<ExitCode> {
    let list = &arguments.list;
    let agent = list.agent.agent()?;
    let sort = arguments.sort.unwrap_or(Sort::Bytes);
    if arguments.suggest {
        show(&suggestion(arguments, &agent)?)?;
    } else if list.json {
        let order = arguments.sort.map(|sort| move |line: &Tenant| line.order(sort));
        show_json(&list.json("tenants", list.ask(&agent, "tenants", &[])?, order))?;
    } else if let Some(interval) = list.interval {
        show(&rates(list, list.ask_twice(&agent, "tenants", interval)?, sort))?;
    } else {
        show(&totals(list, list.ask(&agent, "tenants", &[])?, sort))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is read of a tenant. Fields that an older agent does not have are empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Tenant {
    tenant: String,
    owner: String,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
    hits: u64,
    misses: u64,
    errors: BTreeMap<String, u64>,
    duration_seconds: Option<Quantiles>,
    disagreements: Vec<Disagreement>,
    unassigned: Option<Unassigned>,
}

/// Connections of another tenant that used prefixes of this one.
#[derive(Debug, Clone, Deserialize)]
struct Disagreement {
    connection_tenant: String,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Unassigned {
    /// An older agent does not say, and does not hash.
    #[serde(default)]
    hashed: bool,
    prefixes: Vec<Prefix>,
}

#[derive(Debug, Clone, Deserialize)]
struct Prefix {
    prefix: String,
    special: bool,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Line for Tenant {
    fn key(&self) -> (&str, &str) {
        (&self.tenant, "")
    }

    fn since(&self, before: &Self) -> Option<Self> {
        let errors = self.errors.iter().map(|(word, count)| {
            let earlier = before.errors.get(word).copied().unwrap_or(0);
            Some((word.clone(), count.checked_sub(earlier)?))
        });
        Some(Self {
            tenant: self.tenant.clone(),
            owner: self.owner.clone(),
            commands: self.commands.checked_sub(before.commands)?,
            bytes_in: self.bytes_in.checked_sub(before.bytes_in)?,
            bytes_out: self.bytes_out.checked_sub(before.bytes_out)?,
            hits: self.hits.checked_sub(before.hits)?,
            misses: self.misses.checked_sub(before.misses)?,
            errors: errors.collect::<Option<_>>()?,
            duration_seconds: None,
            disagreements: Vec::new(),
            unassigned: None,
        })
    }
}

impl Tenant {
    fn order(&self, sort: Sort) -> (std::cmp::Reverse<u64>, String) {
        let number = match sort {
            Sort::Bytes => self.bytes_in.saturating_add(self.bytes_out),
            Sort::Commands => self.commands,
            Sort::Errors => self.errors(),
            Sort::Name => 0,
        };
        largest_first(number, &self.tenant)
    }

    fn errors(&self) -> u64 {
        self.errors
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn hit_ratio(&self) -> String {
        let reads = self.hits.saturating_add(self.misses);
        if reads == 0 {
            return "-".into();
        }
        format!("{:.1} %", self.hits as f64 / reads as f64 * 100.0)
    }
}

const TOTALS: &[Column] = &[
    Column::text("TENANT"),
    Column::text("OWNER"),
    Column::number("COMMANDS"),
    Column::number("BYTES IN"),
    Column::number("BYTES OUT"),
    Column::number("HITS"),
    Column::number("ERRORS"),
    Column::number("P50 MS"),
    Column::number("P99 MS"),
];

/// Everything that was counted, and what no rule matches.
fn totals(list: &ListArguments, rows: Vec<Row<Tenant>>, sort: Sort) -> String {
    let (lines, more) = list.lines(rows, |line| line.order(sort));
    let milliseconds =
        |quantile: Option<f64>| quantile.map_or("-".into(), |seconds| format!("{:.3}", seconds * 1e3));
    let cells: Vec<_> = lines
        .iter()
        .map(|line| {
            let durations = line.duration_seconds;
            vec![
                line.tenant.clone(),
                owner(&line.owner),
                line.commands.to_string(),
                line.bytes_in.to_string(),
                line.bytes_out.to_string(),
                line.hit_ratio(),
                line.errors().to_string(),
                milliseconds(durations.map(|quantiles| quantiles.p50)),
                milliseconds(durations.map(|quantiles| quantiles.p99)),
            ]
        })
        .collect();
    let unassigned = lines.iter().find_map(|line| line.unassigned.as_ref());
    [
        table(TOTALS, &cells),
        and_more(more),
        used_by_others(&lines),
        unassigned.map_or(String::new(), without_rule),
    ]
    .concat()
}

const DISAGREEMENTS: &[Column] = &[
    Column::text("PREFIXES OF"),
    Column::text("USED BY"),
    Column::number("COMMANDS"),
    Column::number("BYTES IN"),
    Column::number("BYTES OUT"),
];

/// Prefixes of one tenant that connections of another use.
fn used_by_others(lines: &[Tenant]) -> String {
    let cells: Vec<_> = lines
        .iter()
        .flat_map(|line| {
            line.disagreements.iter().map(|by| {
                vec![
                    line.tenant.clone(),
                    by.connection_tenant.clone(),
                    by.commands.to_string(),
                    by.bytes_in.to_string(),
                    by.bytes_out.to_string(),
                ]
            })
        })
        .collect();
    if cells.is_empty() {
        return String::new();
    }
    format!(
        "\nprefixes of a tenant on connections of another, by user, client name or address\n{}",
        table(DISAGREEMENTS, &cells)
    )
}

const RATES: &[Column] = &[
    Column::text("TENANT"),
    Column::text("OWNER"),
    Column::number("COMMANDS/S"),
    Column::number("IN/S"),
    Column::number("OUT/S"),
    Column::number("HITS"),
    Column::number("ERRORS/S"),
];

/// What was counted in between, per second.
fn rates(list: &ListArguments, Changes { rows, seconds }: Changes<Tenant>, sort: Sort) -> String {
    let (lines, more) = list.lines(rows, |line| line.order(sort));
    let cells: Vec<_> = lines
        .iter()
        .map(|line| {
            vec![
                line.tenant.clone(),
                owner(&line.owner),
                per_second(line.commands, seconds),
                per_second(line.bytes_in, seconds),
                per_second(line.bytes_out, seconds),
                line.hit_ratio(),
                per_second(line.errors(), seconds),
            ]
        })
        .collect();
    table(RATES, &cells) + &and_more(more)
}

fn owner(owner: &str) -> String {
    if owner.is_empty() {
        "-".into()
    } else {
        owner.into()
    }
}

const PREFIXES: &[Column] = &[
    Column::text("PREFIX"),
    Column::number("COMMANDS"),
    Column::number("BYTES IN"),
    Column::number("BYTES OUT"),
];

/// The biggest prefixes that no rule matches. Special rows are left out: a server always has some, and few need a rule.
fn without_rule(unassigned: &Unassigned) -> String {
    let ordinary: Vec<_> = unassigned
        .prefixes
        .iter()
        .filter(|prefix| !prefix.special)
        .collect();
    if ordinary.is_empty() {
        return String::new();
    }
    let cells: Vec<_> = ordinary
        .iter()
        .take(SHOWN_PREFIXES)
        .map(|prefix| {
            vec![
                prefix.prefix.clone(),
                prefix.commands.to_string(),
                prefix.bytes_in.to_string(),
                prefix.bytes_out.to_string(),
            ]
        })
        .collect();
    let advice = if unassigned.hashed {
        "as keyed hashes; `stormglass hash-prefix NAME` says which is that of a prefix you know"
    } else {
        "`stormglass tenants --suggest` writes rules for them"
    };
    format!(
        "\nbiggest prefixes without a rule; {advice}\n{}",
        table(PREFIXES, &cells)
    )
}

/// Rules for all prefixes that have none.
fn suggestion(arguments: &TenantsArguments, agent: &Agent) -> Result<String> {
    let all = ALL_PREFIXES.to_string();
    let rows: Vec<Row<Tenant>> = arguments.list.ask(agent, "tenants", &[("prefixes", &all)])?;
    let mut taken: BTreeSet<String> = rows.iter().map(|row| row.line.tenant.clone()).collect();
    // The agent names no tenants beyond `limits.tenants`, the file does.
    taken.extend(arguments.list.agent.tenant_names()?);
    let unassigned = rows.into_iter().find(|row| row.line.tenant == UNASSIGNED);
    let candidates = candidates(unassigned.and_then(|row| row.line.unassigned))?;
    Ok(to_toml(&suggest(&candidates, &taken)))
}

/// The prefixes that rules can be written of.
fn candidates(seen: Option<Unassigned>) -> Result<Vec<Candidate>> {
    let seen = seen.unwrap_or_default();
    if seen.hashed {
        bail!(HASHED);
    }
    let ordinary = seen.prefixes.into_iter().filter(|prefix| !prefix.special);
    let candidates = ordinary.map(|prefix| Candidate {
        prefix: prefix.prefix,
        traffic: Traffic {
            commands: prefix.commands,
            bytes_in: prefix.bytes_in,
            bytes_out: prefix.bytes_out,
        },
    });
    Ok(candidates.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tenant(value: serde_json::Value) -> Tenant {
        serde_json::from_value(value).expect("understood")
    }

    #[test]
    fn a_tenant_since_an_earlier_answer_is_the_difference_of_every_counter() {
        let before = tenant(
            json!({"tenant": "a", "commands": 1, "bytes_in": 2, "bytes_out": 3, "hits": 4, "misses": 5,
            "errors": {"ERR": 1}}),
        );
        let after = tenant(
            json!({"tenant": "a", "commands": 11, "bytes_in": 22, "bytes_out": 33, "hits": 7, "misses": 6,
            "errors": {"ERR": 3, "OOM": 2}}),
        );
        let since = after.since(&before).expect("grown");
        assert_eq!((since.commands, since.bytes_in, since.bytes_out), (10, 20, 30));
        assert_eq!((since.hit_ratio(), since.errors()), ("75.0 %".into(), 4));
        assert!(before.since(&after).is_none(), "counters that went back");
    }

    #[test]
    fn tenants_stand_by_the_column_asked_for() {
        let large = tenant(json!({"tenant": "z", "commands": 1, "bytes_in": 20, "errors": {"ERR": 1}}));
        let busy = tenant(json!({"tenant": "a", "commands": 2, "bytes_out": 10}));
        for (sort, large_first) in [
            (Sort::Bytes, true),
            (Sort::Commands, false),
            (Sort::Errors, true),
            (Sort::Name, false),
        ] {
            assert_eq!(large.order(sort) < busy.order(sort), large_first, "{sort:?}");
        }
    }

    #[test]
    fn who_uses_prefixes_of_others_is_named() {
        let alone = tenant(json!({"tenant": "a"}));
        assert_eq!(used_by_others(std::slice::from_ref(&alone)), "");
        let used = tenant(json!({"tenant": "b", "disagreements": [
            {"connection_tenant": "a", "commands": 1, "bytes_in": 2, "bytes_out": 3}
        ]}));
        let text = used_by_others(&[alone, used]);
        assert!(
            text.ends_with("b            a               1         2          3\n"),
            "{text}"
        );
    }

    #[test]
    fn special_rows_are_no_missing_rules() {
        let prefix = |name: &str, special: bool| Prefix {
            prefix: name.into(),
            special,
            commands: 1,
            bytes_in: 2,
            bytes_out: 3,
        };
        let mut unassigned = Unassigned {
            hashed: false,
            prefixes: vec![prefix("(none)", true)],
        };
        assert_eq!(without_rule(&unassigned), "");
        unassigned.prefixes.push(prefix("cart", false));
        let text = without_rule(&unassigned);
        assert!(
            text.ends_with("cart           1         2          3\n"),
            "{text}"
        );
        assert!(!text.contains("(none)"), "{text}");
        assert!(
            text.contains("--suggest") && !text.contains("hash-prefix"),
            "{text}"
        );
        unassigned.hashed = true;
        let text = without_rule(&unassigned);
        assert!(
            !text.contains("--suggest") && text.contains("hash-prefix"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_suggested_of_hashes_and_what_to_do_is_said() {
        let seen = |hashed: bool| {
            let prefix =
                json!({"prefix": "cart", "special": false, "commands": 1, "bytes_in": 2, "bytes_out": 3});
            let seen: Unassigned =
                serde_json::from_value(json!({"hashed": hashed, "prefixes": [prefix]})).expect("understood");
            candidates(Some(seen))
        };
        assert_eq!(seen(false).expect("a candidate").len(), 1);
        let error = seen(true).expect_err("hashes").to_string();
        assert!(
            error.contains("keys.hash_prefixes") && error.contains("stormglass hash-prefix"),
            "{error}"
        );
        let older: Unassigned = serde_json::from_value(json!({"prefixes": []})).expect("of an older agent");
        assert!(!older.hashed);
    }
}
