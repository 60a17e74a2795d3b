//! What most people have: a Prometheus that scrapes an exporter of INFO, and an alert on the number of clients. A real one is given
//! what was scraped, and asked when the alert would have fired.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::{Figures, OfKind};
use crate::lab::{Lab, tools};
use crate::process::{Run as _, say};
use crate::rig::{child::Child, interrupt::Interrupt, ports};

/// The alert, of what a selector like `kind="error_burst"` selects: clients twenty per cent off what they were in the last ten
/// minutes, or four fifths of what is possible. Without `for`: as soon as it can.
pub(super) fn alert(selector: &str) -> String {
    let clients = format!("redis_connected_clients{{{selector}}}");
    format!(
        "abs({clients} - avg_over_time({clients}[10m])) > 0.2 * avg_over_time({clients}[10m]) \
         or {clients} > 0.8 * redis_config_maxclients{{{selector}}}"
    )
}

/// Seconds between two evaluations, as between two scrapes.
const STEP: u64 = 15;

/// Alerts with less between them are one.
const SEPARATE: Duration = Duration::from_secs(60);

/// Prometheus answers no more points than this at once.
const POINTS: u64 = 10_000;

/// Long enough for all that was scraped to be in a few blocks.
const BLOCK: &str = "500h";

const READY_WITHIN: Duration = Duration::from_secs(60);

/// What it would have done.
pub(super) struct Alerts {
    /// By kind, the time from each onset to the alert, in milliseconds; those without are missing.
    pub(super) delays_ms: BTreeMap<String, Vec<u32>>,
    /// In normal life.
    pub(super) false_alarms: usize,
}

impl Alerts {
    /// The delays of one kind.
    pub(super) fn delays_of(&self, of: &OfKind) -> &[u32] {
        self.delays_ms.get(&of.kind).map_or(&[], Vec::as_slice)
    }

    /// Storms of one kind that it would not have told of.
    pub(super) fn missed(&self, of: &OfKind) -> u32 {
        of.runs - self.delays_of(of).len() as u32
    }
}

/// Gives `scraped`, a file of `OpenMetrics`, to a Prometheus and asks it.
pub(super) fn ask(lab: &Lab, scraped: &Path, figures: &Figures) -> Result<Alerts> {
    tools::ensure_prometheus(lab)?;
    say("giving a Prometheus what its exporter would have shown");
    let interrupt = Interrupt::new()?;
    let folder = tempfile::tempdir().context("cannot make a folder for Prometheus")?;
    let data = folder.path().join("data");
    Command::new(lab.promtool())
        .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
        .args(["--max-block-duration", BLOCK])
        .args([scraped, &data])
        .run()?;
    let prometheus = Prometheus::start(lab, folder.path(), &interrupt)?;
    let mut delays_ms = BTreeMap::new();
    for of in &figures.storms {
        let (first, last) = bounds(&of.onsets_ms, of.others_within_ms);
        let alert = alert(&format!("kind=\"{}\"", of.kind));
        let fired = prometheus.fired(&alert, "run", first, last)?;
        let delays = of.onsets_ms.iter().enumerate().filter_map(|(run, onset)| {
            let fired = fired.get(&run.to_string())?;
            let delays = fired.iter().filter_map(|at| at.checked_sub(*onset));
            delays
                .filter(|delay| *delay <= of.others_within_ms)
                .min()
                .map(|delay| delay as u32)
        });
        delays_ms.insert(of.kind.clone(), delays.collect());
    }
    let life = &figures.life;
    let by_month = prometheus.fired(&alert("month!=\"\""), "month", life.begins_ms, life.ends_ms)?;
    Ok(Alerts {
        delays_ms,
        false_alarms: by_month.values().map(|fired| separate(fired)).sum(),
    })
}

/// From the first onset to the end of the last storm's time.
fn bounds(onsets: &[u64], within: u64) -> (u64, u64) {
    let first = onsets.iter().min().copied().unwrap_or_default();
    let last = onsets.iter().max().copied().unwrap_or_default();
    (first, last + within)
}

/// How many alerts that is.
fn separate(fired: &[u64]) -> usize {
    let apart = |pair: &&[u64]| pair[1] - pair[0] > SEPARATE.as_millis() as u64;
    fired.windows(2).filter(apart).count() + usize::from(!fired.is_empty())
}

/// A real one, over data that it did not scrape itself.
struct Prometheus {
    url: String,
    _process: Child,
}

#[derive(Deserialize)]
struct Page {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Prometheus {
    fn start(lab: &Lab, folder: &Path, interrupt: &Interrupt) -> Result<Self> {
        let config = folder.join("prometheus.yml");
        fs::write(&config, "").with_context(|| format!("cannot write {}", config.display()))?;
        let listen = format!("127.0.0.1:{}", ports::free_from(9_390)?);
        let mut command = Command::new(lab.prometheus());
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            // Nothing of what it is given is too old.
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address={listen}"));
        let mut process = Child::start("prometheus", &mut command, folder)?;
        let url = format!("http://{listen}");
        let begun = Instant::now();
        while ureq::get(format!("{url}/-/ready")).call().is_err() {
            process.check()?;
            if begun.elapsed() > READY_WITHIN {
                bail!("Prometheus is not ready after {} s", READY_WITHIN.as_secs());
            }
            interrupt.sleep(Duration::from_millis(100))?;
        }
        Ok(Self {
            url,
            _process: process,
        })
    }

    /// When `alert` fired between two moments, in milliseconds, by the value of a label.
    fn fired(&self, alert: &str, label: &str, first: u64, last: u64) -> Result<BTreeMap<String, Vec<u64>>> {
        let mut fired: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let (mut from, last) = (first / 1_000 / STEP * STEP, last / 1_000);
        while from <= last {
            let to = last.min(from + STEP * (POINTS - 1));
            for series in self.range(alert, from, to)? {
                let name = series.metric.get(label).cloned().unwrap_or_default();
                let moments = series.values.iter().map(|(at, _)| (at * 1e3) as u64);
                fired.entry(name).or_default().extend(moments);
            }
            from = to + STEP;
        }
        Ok(fired)
    }

    fn range(&self, query: &str, from: u64, to: u64) -> Result<Vec<Series>> {
        let mut answer = ureq::get(format!("{}/api/v1/query_range", self.url))
            .query("query", query)
            .query("start", from.to_string())
            .query("end", to.to_string())
            .query("step", STEP.to_string())
            .call()
            .with_context(|| format!("Prometheus does not answer {query:?}"))?;
        let page: Page = serde_json::from_reader(answer.body_mut().as_reader())
            .context("the answer of Prometheus is not understood")?;
        Ok(page.data.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_close_to_each_other_are_one() {
        assert_eq!(separate(&[]), 0);
        assert_eq!(separate(&[0, 15_000, 75_000, 135_001]), 2);
    }
}
