//! The dashboards as they are shipped: the files in `grafana/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::boards;

/// A panel of a file.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Name of its dashboard.
    pub board: &'static str,
    /// Its title.
    pub title: String,
    /// What it asks.
    pub queries: Vec<Query>,
    /// All of it.
    pub json: Value,
}

/// A question of a panel.
#[derive(Debug, Clone)]
pub struct Query {
    /// PromQL with Grafana's variables in it.
    pub expression: String,
    /// What a series is called.
    pub legend: String,
    /// About now alone, not about a range of time.
    pub is_instant: bool,
}

/// Where the values of a variable come from: those that a label of the series has, `label_values(SERIES, LABEL)`.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Name of its dashboard.
    pub board: &'static str,
    /// Its own.
    pub name: String,
    /// PromQL with the variables before it.
    pub series: String,
    /// Which label.
    pub label: String,
}

/// Marks on every curve of a dashboard.
#[derive(Debug, Clone)]
pub struct Annotation {
    /// Name of its dashboard.
    pub board: &'static str,
    /// PromQL with Grafana's variables in it.
    pub expression: String,
    /// All of it.
    pub json: Value,
}

/// Where the file of a dashboard is.
#[must_use]
pub fn path(board: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("grafana/{board}.json"))
}

/// Writes all files anew.
pub fn write() -> Result<()> {
    for (name, text) in generated()? {
        let path = path(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Names of the dashboards whose file is not what the code says.
pub fn stale() -> Result<Vec<&'static str>> {
    let generated = generated()?.into_iter();
    Ok(generated
        .filter(|(name, text)| fs::read_to_string(path(name)).ok().as_ref() != Some(text))
        .map(|(name, _)| name)
        .collect())
}

fn generated() -> Result<Vec<(&'static str, String)>> {
    let boards = boards::all().into_iter();
    boards
        .map(|board| {
            let text = serde_json::to_string_pretty(&board.json())?;
            Ok((board.name, text + "\n"))
        })
        .collect()
}

/// A file, read.
pub fn read(board: &str) -> Result<Value> {
    let path = path(board);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Every panel of every file that asks something.
pub fn panels() -> Result<Vec<Panel>> {
    let mut panels = Vec::new();
    for board in boards::all() {
        let json = read(board.name)?;
        let list = json["panels"].as_array().context("a dashboard without panels")?;
        let asking = list.iter().filter(|panel| panel["type"] != "row");
        panels.extend(asking.map(|panel| Panel::of(board.name, panel)));
    }
    Ok(panels)
}

/// Every variable of every file that Prometheus is asked for.
pub fn variables() -> Result<Vec<Variable>> {
    let mut variables = Vec::new();
    for board in boards::all() {
        let json = read(board.name)?;
        let list = json["templating"]["list"].as_array().context("no variables")?;
        for variable in list.iter().filter(|variable| variable["type"] == "query") {
            let query = text(&variable["query"]["query"]);
            let inside = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'));
            let parts = inside.and_then(|inside| inside.rsplit_once(", "));
            let (series, label) = parts.with_context(|| format!("{}: {query}", board.name))?;
            variables.push(Variable {
                board: board.name,
                name: text(&variable["name"]),
                series: series.to_owned(),
                label: label.to_owned(),
            });
        }
    }
    Ok(variables)
}

/// Every annotation of every file that Prometheus is asked for.
pub fn annotations() -> Result<Vec<Annotation>> {
    let mut annotations = Vec::new();
    for board in boards::all() {
        let json = read(board.name)?;
        let list = json["annotations"]["list"].as_array().context("no annotations")?;
        let asking = list.iter().filter(|annotation| annotation["expr"].is_string());
        annotations.extend(asking.map(|annotation| Annotation {
            board: board.name,
            expression: text(&annotation["expr"]),
            json: annotation.clone(),
        }));
    }
    Ok(annotations)
}

impl Panel {
    fn of(board: &'static str, json: &Value) -> Self {
        let targets = json["targets"].as_array().into_iter().flatten();
        Self {
            board,
            title: text(&json["title"]),
            queries: targets
                .map(|target| Query {
                    expression: text(&target["expr"]),
                    legend: text(&target["legendFormat"]),
                    is_instant: target["instant"] == true,
                })
                .collect(),
            json: json.clone(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
