//! Storms and incidents as the agent's API shows them.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Whether there were some, and all are over.
#[must_use]
pub fn are_over(storms: &[Value]) -> bool {
    !storms.is_empty() && storms.iter().all(|storm| !storm["ended"].is_null())
}

/// A figure of a storm's evidence.
#[must_use]
pub fn figure(storm: &Value, name: &str) -> Option<f64> {
    let figures = storm["evidence"].as_array()?;
    let figure = figures.iter().find(|figure| figure["name"] == name)?;
    figure["value"].as_f64()
}

/// A column of an incident's course.
pub fn column(incident: &Value, name: &str) -> Result<Vec<u64>> {
    let values = incident["course"][name].as_array();
    let values = values.with_context(|| format!("no {name}"))?;
    values
        .iter()
        .map(|value| value.as_u64().with_context(|| format!("{name}: {value}")))
        .collect()
}
