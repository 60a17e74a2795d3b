//! Storms as the agent's API shows them.

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
