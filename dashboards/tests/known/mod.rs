//! Metrics and their labels, as rules and dashboards may use them.

use std::collections::{BTreeMap, BTreeSet};

use stormglass::metrics::table::{ALL, Kind};
use stormglass_dashboards::promql;

/// Labels that Prometheus gives to every series of a target; `cluster` if its configuration does (dashboards/README.md).
const OF_TARGETS: [&str; 3] = ["cluster", "instance", "job"];

/// Metrics, and the labels of each.
pub(crate) struct Known {
    metrics: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    /// What the agent exports, and what Prometheus itself says of a target.
    pub(crate) fn of_the_table() -> Self {
        let mut metrics = BTreeMap::from([("up".to_owned(), labels(&[]))]);
        for metric in ALL {
            if metric.kind == Kind::Histogram {
                let mut bucket = labels(metric.labels);
                bucket.insert("le".to_owned());
                metrics.insert(format!("{}_bucket", metric.name), bucket);
                metrics.insert(format!("{}_sum", metric.name), labels(metric.labels));
                metrics.insert(format!("{}_count", metric.name), labels(metric.labels));
            } else {
                metrics.insert(metric.name.to_owned(), labels(metric.labels));
            }
        }
        Self { metrics }
    }

    /// Remembers what a rule records.
    pub(crate) fn record(&mut self, name: String, labels: BTreeSet<String>) {
        self.metrics.insert(name, labels);
    }

    /// Labels that the answer to an expression can have at most.
    pub(crate) fn labels_of(&self, expression: &str) -> Result<BTreeSet<String>, String> {
        let names = promql::names(expression);
        let mut all = BTreeSet::new();
        for (metric, matched) in names.selectors {
            let labels = self
                .metrics
                .get(&metric)
                .ok_or_else(|| format!("no metric {metric}"))?;
            if let Some(label) = matched.iter().find(|label| !labels.contains(*label)) {
                return Err(format!("{metric} has no label {label}"));
            }
            all.extend(labels.iter().cloned());
        }
        match names.groupings.iter().find(|label| !all.contains(*label)) {
            Some(label) => Err(format!("nothing in it has the label {label}")),
            None => Ok(all),
        }
    }
}

fn labels(own: &[&str]) -> BTreeSet<String> {
    own.iter()
        .chain(&OF_TARGETS)
        .map(|label| (*label).to_owned())
        .collect()
}
