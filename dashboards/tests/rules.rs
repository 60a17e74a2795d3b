//! What the shipped rules have to be: of metrics and labels that there are, with a section in the runbooks, with tests.

mod known;

use std::collections::BTreeSet;

use anyhow::Result;
use stormglass_dashboards::rules::{Rule, expectations, rules};

use crate::known::Known;

const RUNBOOKS: &str = include_str!("../../docs/RUNBOOKS.md");

fn alerts() -> Result<Vec<(String, Rule)>> {
    let rules = rules()?.into_iter();
    Ok(rules
        .filter_map(|rule| Some((rule.alert.clone()?, rule)))
        .collect())
}

#[test]
fn every_metric_and_label_of_the_rules_is_in_the_table() {
    let mut known = Known::of_the_table();
    for rule in rules().unwrap() {
        let name = rule
            .record
            .as_deref()
            .or(rule.alert.as_deref())
            .expect("a rule has a name");
        let labels = known
            .labels_of(&rule.expr)
            .unwrap_or_else(|fault| panic!("{name}: {fault}"));
        for text in rule.annotations.values() {
            for label in between(text, "$labels.", |letter| {
                letter.is_alphanumeric() || letter == '_'
            }) {
                assert!(
                    labels.contains(label),
                    "{name}: no label {label} to speak of in {text:?}"
                );
            }
        }
        if let Some(record) = rule.record {
            known.record(record, labels);
        }
    }
}

/// What follows each `mark`, as long as `is_part`.
fn between<'a>(text: &'a str, mark: &str, is_part: fn(char) -> bool) -> Vec<&'a str> {
    let after = text.split(mark).skip(1);
    after
        .map(|rest| {
            rest.find(|letter| !is_part(letter))
                .map_or(rest, |end| &rest[..end])
        })
        .collect()
}

#[test]
fn every_alert_is_complete() {
    for (name, rule) in alerts().unwrap() {
        assert!(name.starts_with("Stormglass"), "{name}");
        assert!(rule.hold.is_some(), "{name}: no `for`");
        assert_eq!(rule.labels.keys().collect::<Vec<_>>(), ["severity"], "{name}");
        assert!(
            ["info", "warning", "critical"].contains(&&*rule.labels["severity"]),
            "{name}"
        );
        let annotations: Vec<_> = rule.annotations.keys().collect();
        assert_eq!(annotations, ["description", "runbook_url", "summary"], "{name}");
        let page = format!("https://stormglass.example/runbooks#{}", name.to_lowercase());
        assert_eq!(rule.annotations["runbook_url"], page);
    }
}

#[test]
fn every_alert_has_one_section_of_four_parts_in_the_runbooks_and_no_other_alert_has() {
    let known: BTreeSet<_> = alerts().unwrap().into_iter().map(|(name, _)| name).collect();
    let sections = RUNBOOKS.split("\n## ").skip(1);
    let sections: Vec<_> = sections.filter_map(|section| section.split_once('\n')).collect();
    for name in &known {
        let found: Vec<_> = sections.iter().filter(|(heading, _)| heading == name).collect();
        assert_eq!(found.len(), 1, "{name}: sections in docs/RUNBOOKS.md");
        let mut rest = found[0].1;
        for part in ["**Means.** ", "**Look at.** ", "**Now.** ", "**Later.** "] {
            let at = rest
                .find(part)
                .unwrap_or_else(|| panic!("{name}: no {part} at its place"));
            rest = &rest[at + part.len()..];
        }
    }
    for (heading, _) in sections {
        let is_alert = heading.starts_with("Stormglass");
        assert!(!is_alert || known.contains(heading), "no alert {heading}");
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() {
    let expectations = expectations().unwrap();
    let known: BTreeSet<_> = alerts().unwrap().into_iter().map(|(name, _)| name).collect();
    for name in &known {
        for fires in [true, false] {
            let tested = |test: &&stormglass_dashboards::rules::Expectation| {
                test.alert == *name && test.fires == fires
            };
            assert!(
                expectations.iter().any(|test| tested(&test)),
                "{name}: no test in which fires = {fires}"
            );
        }
    }
    for test in expectations {
        assert!(known.contains(&test.alert), "a test of no alert: {}", test.alert);
    }
}
