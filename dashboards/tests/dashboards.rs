//! What the shipped dashboards have to be: what the code says, of metrics and labels that there are, laid out, explained, linked.

mod known;

use std::collections::BTreeSet;

use serde_json::Value;
use stormglass::storms::Kind;
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
fn every_metric_and_label_of_variables_and_annotations_is_in_the_table() {
    let known = known();
    for variable in shipped::variables().unwrap() {
        let labels = known
            .labels_of(&variable.series)
            .unwrap_or_else(|fault| panic!("{variable:?}: {fault}"));
        assert!(labels.contains(&variable.label), "{variable:?}");
    }
    let annotations = shipped::annotations().unwrap();
    assert!(!annotations.is_empty());
    for annotation in annotations {
        let labels = known
            .labels_of(&annotation.expression)
            .unwrap_or_else(|fault| panic!("{}: {fault}", annotation.board));
        for label in between(&annotation.json.to_string(), "{{", "}}") {
            assert!(labels.contains(label), "{}: no label {label}", annotation.board);
        }
    }
}

/// Addresses are the same at every server: they are counted where they are most, and added up only beneath connections, which are
/// added up as well.
#[test]
fn instances_of_a_workload_are_not_added_up_over_servers() {
    let metric = "stormglass_workload_instances";
    let mut asked = 0;
    for panel in shipped::panels().unwrap() {
        for query in panel
            .queries
            .iter()
            .filter(|query| query.expression.contains(metric))
        {
            asked += 1;
            let is_counted_once = query
                .expression
                .starts_with(&format!("max by (workload) ({metric}"));
            let is_divided_by = query
                .expression
                .contains(&format!("/ (sum by (workload) ({metric}"));
            assert!(
                is_counted_once || is_divided_by,
                "{}: {}",
                name(&panel),
                query.expression
            );
        }
    }
    assert!(asked >= 3, "{asked} questions");
}

/// Everything that Prometheus scrapes may have `process_cpu_seconds_total`.
#[test]
fn processes_are_those_of_agents() {
    let panels = shipped::panels().unwrap().into_iter();
    let of_processes: Vec<_> = panels
        .filter(|panel| {
            panel
                .queries
                .iter()
                .any(|query| query.expression.contains("process_cpu"))
        })
        .collect();
    assert!(!of_processes.is_empty());
    for panel in of_processes {
        for query in &panel.queries {
            let series = query.expression.matches("process_").count();
            let beside = "and on (cluster, instance, job)";
            assert_eq!(
                query.expression.matches(beside).count(),
                series,
                "{}",
                name(&panel)
            );
        }
    }
}

/// Values as long as they well may be, by label.
fn long_value(label: &str) -> &'static str {
    match label {
        "client" => "2001:db8:85a3:8d3:1319:8a2e:370:7348",
        "direction" => "out",
        "error" => "NOMASTERLINK",
        "instance" => "cache-12.eu-1.prod.corp:9466",
        "kind" => Kind::AcceptQueueSaturation.label(),
        "map" | "program" => "sixteen_letters",
        "reason" => "client_entry_missing",
        "receiver" => "hooks.example.com",
        "server" => "payments-prod/valkey-sessions-0:6379",
        "sink" => "alertmanager",
        "cluster" | "connection_tenant" | "prefix" | "tenant" | "user" | "workload" => "checkout-session-api",
        _ => "",
    }
}

/// How wide the names of a panel can be, in pixels: a letter has six and a half.
fn names_width(panel: &Panel) -> f64 {
    let widths = panel.queries.iter().map(|query| {
        let mut name = query.legend.clone();
        for label in between(&query.legend, "{{", "}}") {
            let value = long_value(label);
            assert!(!value.is_empty(), "how long can a {label} be?");
            name = name.replace(&format!("{{{{{label}}}}}"), value);
        }
        name.len() as f64 * 6.5
    });
    widths.fold(0.0, f64::max)
}

/// Which host a curve is of stands at the end of its name: what is cut cannot be told apart.
#[test]
fn names_of_curves_and_bars_are_not_cut_and_leave_half_of_the_panel() {
    let mut checked = 0;
    for panel in shipped::panels().unwrap() {
        let legend = &panel.json["options"]["legend"];
        // On a screen of 1440 pixels.
        let half = panel.json["gridPos"]["w"].as_f64().unwrap() * 30.0;
        if legend["displayMode"] == "table" {
            let figures = legend["calcs"].as_array().unwrap().len() as f64 * 76.0;
            let width = legend["width"].as_f64().unwrap();
            assert!(
                30.0 + names_width(&panel) + figures <= width,
                "{}: cut at {width}",
                name(&panel)
            );
            assert!(width <= half, "{}: {width} of {half}", name(&panel));
            checked += 1;
        } else if panel.json["type"] == "bargauge" {
            let names = names_width(&panel);
            assert!(names <= half, "{}: {names} of {half}", name(&panel));
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
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
