//! The Prometheus rules and their tests, as they are shipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// One rule: it records a series, or it is an alert.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the series that it records.
    pub record: Option<String>,
    /// Name of the alert.
    pub alert: Option<String>,
    /// What is asked.
    pub expr: String,
    /// How long it has to hold before the alert fires.
    #[serde(rename = "for")]
    pub hold: Option<String>,
    /// Labels of the alert.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What people read.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A test of an alert: whether it is expected to fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Name of the alert.
    pub alert: String,
    /// Whether it has to fire.
    pub fires: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[expect(dead_code, reason = "has to be there, and nothing depends on it")]
    name: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
}

#[derive(Deserialize)]
struct AlertTest {
    alertname: String,
    exp_alerts: Vec<serde_yaml_ng::Value>,
}

/// Folder of the rules.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus")
}

/// Files of the rules, the recorded ones first.
#[must_use]
pub fn files() -> [PathBuf; 2] {
    ["recording.yaml", "alerts.yaml"].map(|name| folder().join(name))
}

/// Files of their tests, by name.
pub fn test_files() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder().join("tests")).context("no tests of the rules")?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    Ok(files)
}

/// Every rule, in the order of the files.
pub fn rules() -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for path in files() {
        let file: File = read(&path)?;
        rules.extend(file.groups.into_iter().flat_map(|group| group.rules));
    }
    Ok(rules)
}

/// What the tests of alerts expect.
pub fn expectations() -> Result<Vec<Expectation>> {
    let mut expectations = Vec::new();
    for path in test_files()? {
        let file: TestFile = read(&path)?;
        let tests = file.tests.into_iter().flat_map(|test| test.alert_rule_test);
        expectations.extend(tests.map(|test| Expectation {
            alert: test.alertname,
            fires: !test.exp_alerts.is_empty(),
        }));
    }
    Ok(expectations)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_yaml_ng::from_str(&text).with_context(|| path.display().to_string())
}
