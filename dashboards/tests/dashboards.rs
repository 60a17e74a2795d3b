//! What the shipped dashboards have to be: what the code says, of metrics and labels that there are, laid out, explained, linked.

mod known;

use std::collections::BTreeSet;

use serde_json::Value;
use stormglass_dashboards::boards;
use stormglass_dashboards::rules::rules;
use stormglass_dashboards::shipped::{self, Panel};

use crate::known::Known;

/// Units that Grafana knows by these names, as far as they are used.
const UNITS: [&str; 11] = [
    "Bps",
    "bool_yes_no",
    "bytes",
    "cps",
    "dateTimeFromNow",
    "none",
    "ops",
    "percentunit",
    "reqps",
    "s",
    "short",
];

/// Variables that Grafana itself sets.
const BUILT_IN: [&str; 3] = ["__range", "__rate_interval", "__url_time_range"];

fn known() -> Known {
    let mut known = Known::of_the_table();
    for rule in rules().expect("rules that can be read") {
        if let Some(record) = rule.record {
            let labels = known.labels_of(&rule.expr).expect("rules of known metrics");
            known.record(record, labels);
        }
    }
    known
}

fn name(panel: &Panel) -> String {
    format!("{}: {}", panel.board, panel.title)
}

/// What follows each `mark` up to the `end`.
fn between<'a>(text: &'a str, mark: &str, end: &str) -> Vec<&'a str> {
    let after = text.split(mark).skip(1);
    after.filter_map(|rest| Some(rest.split_once(end)?.0)).collect()
}

/// Names of variables in a text: `$name` and `${name}`, fields of a series left out.
fn variables(text: &str) -> BTreeSet<String> {
    let after = text.split('$').skip(1);
    let names = after.map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    names
        .filter(|name| name != "__field" && name != "__data")
        .collect()
}

fn declared(board: &Value) -> BTreeSet<String> {
    let list = board["templating"]["list"].as_array().expect("variables");
    list.iter()
        .map(|variable| variable["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn the_files_are_what_the_code_says() {
    let stale = shipped::stale().unwrap();
    assert!(
        stale.is_empty(),
        "{stale:?}: run `cargo xtask dashboards generate`"
    );
}

#[test]
fn every_metric_and_label_of_the_panels_is_in_the_table() {
    let known = known();
    for panel in shipped::panels().unwrap() {
        assert!(!panel.queries.is_empty(), "{}", name(&panel));
        for query in &panel.queries {
            let labels = known
                .labels_of(&query.expression)
                .unwrap_or_else(|fault| panic!("{}: {fault}", name(&panel)));
            for label in between(&query.legend, "{{", "}}") {
                assert!(labels.contains(label), "{}: no label {label}", name(&panel));
            }
            let json = panel.json.to_string();
            for label in between(&json, "${__field.labels.", "}") {
                assert!(labels.contains(label), "{}: no label {label}", name(&panel));
            }
        }
    }
}

#[test]
fn columns_of_tables_are_labels_or_values_of_their_queries() {
    let known = known();
    for panel in shipped::panels().unwrap() {
        let Some(shown) = panel.json["transformations"][1]["options"]["include"]["names"].as_array() else {
            continue;
        };
        let letters = 'A'..='Z';
        let values: BTreeSet<_> = match panel.queries.len() {
            1 => BTreeSet::from(["Value".to_owned()]),
            several => letters
                .take(several)
                .map(|letter| format!("Value #{letter}"))
                .collect(),
        };
        let labels: BTreeSet<_> = panel
            .queries
            .iter()
            .flat_map(|query| known.labels_of(&query.expression).unwrap())
            .collect();
        for column in shown.iter().map(|column| column.as_str().unwrap()) {
            let is_known = values.contains(column) || labels.contains(column);
            assert!(is_known, "{}: no column {column}", name(&panel));
        }
        for value in values {
            assert!(
                shown.iter().any(|column| *column == value),
                "{}: {value} is not shown",
                name(&panel)
            );
        }
    }
}

#[test]
fn every_panel_is_explained_and_has_a_unit_that_grafana_knows() {
    for panel in shipped::panels().unwrap() {
        let description = panel.json["description"].as_str().unwrap();
        assert!(description.ends_with('.'), "{}", name(&panel));
        for unit in between(&panel.json.to_string(), "\"unit\":\"", "\"") {
            assert!(UNITS.contains(&unit), "{}: unit {unit}", name(&panel));
        }
    }
}

#[test]
fn panels_of_a_dashboard_have_numbers_of_their_own_and_do_not_overlap() {
    for board in boards::all() {
        let json = shipped::read(board.name).unwrap();
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in json["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64()), "{}: {panel}", board.name);
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "{}: {panel}", board.name);
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(cells.insert((x, y)), "{}: {panel}", board.name);
                }
            }
        }
    }
}

#[test]
fn variables_are_declared_before_they_are_used() {
    for board in boards::all() {
        let json = shipped::read(board.name).unwrap();
        let mut known: BTreeSet<_> = BUILT_IN.map(str::to_owned).into();
        for variable in json["templating"]["list"].as_array().unwrap() {
            let missing: Vec<_> = variables(&variable["query"].to_string())
                .difference(&known)
                .cloned()
                .collect();
            assert!(missing.is_empty(), "{}: {missing:?}", board.name);
            known.insert(variable["name"].as_str().unwrap().to_owned());
        }
        for part in ["panels", "annotations"] {
            let used = variables(&json[part].to_string());
            let missing: Vec<_> = used.difference(&known).collect();
            assert!(missing.is_empty(), "{}: {missing:?} in {part}", board.name);
        }
    }
}

#[test]
fn links_lead_to_a_dashboard_that_has_their_variables() {
    for panel in shipped::panels().unwrap() {
        for url in between(&panel.json.to_string(), "/d/stormglass-", "\"") {
            let (board, query) = url.split_once('?').unwrap();
            let target = shipped::read(board).unwrap();
            for variable in between(query, "var-", "=") {
                assert!(
                    declared(&target).contains(variable),
                    "{}: {board} has no {variable}",
                    name(&panel)
                );
            }
        }
    }
}
