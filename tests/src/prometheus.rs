//! The real Prometheus, with the shipped rules, in fast motion: a minute of theirs is a second of its, or less.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{lab, poll, ports};

/// How long it may take to start, or to end.
const WITHIN: Duration = Duration::from_secs(20);

/// How fast time passes for the rules.
#[derive(Clone, Copy)]
pub struct Pace {
    /// How many seconds of the rules are one here.
    pub speed: u64,
    /// How often targets are scraped and rules judged: several times in the shortest range of the rules.
    pub every: Duration,
}

impl Pace {
    /// A minute of the rules is a second.
    pub const MINUTES: Self = Self {
        speed: 60,
        every: Duration::from_millis(500),
    };

    /// An hour of the rules is twelve seconds.
    pub const HOURS: Self = Self {
        speed: 300,
        every: Duration::from_millis(250),
    };
}

/// A running one. Dropping it kills it.
pub struct Prometheus {
    process: Process,
    port: u16,
    _dir: TempDir,
}

/// Something to scrape: where, and what its labels are.
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// Labels of its series, `instance` among them.
    pub labels: String,
}

impl Prometheus {
    /// Starts one that scrapes `targets` twice a second, judges by the rules in `files` as often, and tells `alertmanager`. It waits
    /// until it is ready.
    pub fn start(targets: &[Target], files: &[impl AsRef<Path>], alertmanager: Option<&str>) -> Result<Self> {
        Self::start_with(Pace::MINUTES, "", targets, files, alertmanager)
    }

    /// The same at another pace, with further lines of the scrape's configuration: how targets are to be reached, and taken.
    pub fn start_with(
        pace: Pace,
        scrape: &str,
        targets: &[Target],
        files: &[impl AsRef<Path>],
        alertmanager: Option<&str>,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        for (index, file) in files.iter().enumerate() {
            let text = std::fs::read_to_string(file)?;
            std::fs::write(
                dir.path().join(format!("rules-{index}.yaml")),
                in_fast_motion(&text, pace.speed),
            )?;
        }
        let config = config(pace.every, scrape, targets, alertmanager);
        std::fs::write(dir.path().join("prometheus.yml"), &config)?;
        let port = ports::free_port()?;
        let mut command = Command::new(lab::prometheus()?);
        command.current_dir(dir.path()).args([
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            "--query.lookback-delta=3s".to_owned(),
            "--rules.alert.resend-delay=1s".to_owned(),
            "--rules.alert.for-grace-period=0s".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ]);
        let prometheus = Self {
            process: Process::spawn("prometheus", &mut command)?,
            port,
            _dir: dir,
        };
        poll::until_true("Prometheus is ready", WITHIN, || {
            Ok(prometheus.get("/-/ready", &[]).is_ok())
        })
        .with_context(|| prometheus.process.words())?;
        Ok(prometheus)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The answer to a question about now.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        self.result("/api/v1/query", &[("query", expression)])
    }

    /// The answer to a question about the last seconds, a value for each.
    pub fn query_range(&self, expression: &str, from: f64, to: f64) -> Result<Vec<Value>> {
        let (from, to) = (from.to_string(), to.to_string());
        let parameters = [
            ("query", expression),
            ("start", &from),
            ("end", &to),
            ("step", "1"),
        ];
        self.result("/api/v1/query_range", &parameters)
    }

    /// Names of the alerts that have fired in the last minutes.
    pub fn fired(&self) -> Result<Vec<String>> {
        let alerts = self.query("count by (alertname) (max_over_time(ALERTS{alertstate=\"firing\"}[5m]))")?;
        let names = alerts.iter().map(|alert| &alert["metric"]["alertname"]);
        Ok(names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect())
    }

    /// Faults of its rules, by name.
    pub fn faults(&self) -> Result<Vec<String>> {
        let page: Value = serde_json::from_str(&self.get("/api/v1/rules", &[])?)?;
        let groups = page["data"]["groups"].as_array().context("no groups of rules")?;
        ensure!(!groups.is_empty(), "no rules are loaded");
        let rules = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().into_iter().flatten());
        Ok(rules
            .filter(|rule| rule["health"] != "ok")
            .map(|rule| format!("{}: {} {}", rule["name"], rule["health"], rule["lastError"]))
            .collect())
    }

    /// Ends it as its service manager would.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(WITHIN).map(|_| ())
    }

    fn result(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Vec<Value>> {
        let page: Value = serde_json::from_str(&self.get(path, parameters)?)?;
        ensure!(page["status"] == "success", "{page}");
        page["data"]["result"].as_array().cloned().context("no result")
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<String> {
        let mut request = ureq::get(format!("http://127.0.0.1:{}{path}", self.port));
        for (name, value) in parameters {
            request = request.query(*name, *value);
        }
        let mut response = request
            .config()
            .timeout_global(Some(Duration::from_secs(20)))
            .http_status_as_error(false)
            .build()
            .call()?;
        let body = response.body_mut().read_to_string()?;
        ensure!(response.status().as_u16() == 200, "{}: {body}", response.status());
        Ok(body)
    }
}

fn config(every: Duration, scrape: &str, targets: &[Target], alertmanager: Option<&str>) -> String {
    let every = every.as_millis();
    let mut config = format!(
        "global:\n  scrape_interval: {every}ms\n  scrape_timeout: {every}ms\n  evaluation_interval: {every}ms\n\
         rule_files: ['rules-*.yaml']\n"
    );
    if let Some(url) = alertmanager {
        let address = url.trim_start_matches("http://");
        config +=
            &format!("alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['{address}']\n");
    }
    config += "scrape_configs:\n- job_name: stormglass\n  honor_labels: true\n";
    for line in scrape.lines() {
        config += &format!("  {line}\n");
    }
    config += "  static_configs:\n";
    for target in targets {
        config += &format!(
            "  - targets: ['{}']\n    labels: {{ {} }}\n",
            target.address, target.labels
        );
    }
    config
}

/// Rules of which every `for` and every range is shorter by `speed` than it is. Nothing else is changed.
fn in_fast_motion(rules: &str, speed: u64) -> String {
    let lines = rules.lines().map(|line| match line.split_once("for: ") {
        Some((indent, time)) if indent.trim().is_empty() => format!("{indent}for: {}", shorter(time, speed)),
        _ => ranges_in_fast_motion(line, speed),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn ranges_in_fast_motion(line: &str, speed: u64) -> String {
    let mut parts = line.split('[');
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((range, rest)) => changed += &format!("[{}]{rest}", shorter(range, speed)),
            None => changed += &format!("[{part}"),
        }
    }
    changed
}

/// At a speed of 60 `5m` is `5000ms`.
fn shorter(time: &str, speed: u64) -> String {
    let (number, unit) = time.split_at(time.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return time.to_owned(),
    };
    match number.parse::<u64>() {
        Ok(number) => format!("{}ms", number * seconds * 1_000 / speed),
        Err(_) => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_the_rules_is_a_second_and_nothing_else_changes() {
        let rules =
            "    expr: a:b:rate5m > 5 and rate(c[5m]) # 1h\n    for: 30s\n    summary: 'wait for: 5m'\n";
        assert_eq!(
            in_fast_motion(rules, 60),
            "    expr: a:b:rate5m > 5 and rate(c[5000ms]) # 1h\n    for: 500ms\n    summary: 'wait for: 5m'\n"
        );
    }
}
