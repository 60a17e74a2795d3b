//! `cargo xtask bench meter`: the RESP meter on the host (criterion), and its figures side by side with a RESP crate's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::lab::Lab;
use crate::process::{Run as _, say};

/// What `cargo xtask bench meter` can be told.
#[derive(Args)]
pub(super) struct Options {
    /// Only streams whose name contains this
    filter: Option<String>,
    /// Length of each measurement, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

/// Runs the measurements and prints them as a table.
pub(super) fn run(lab: &Lab, options: &Options) -> Result<()> {
    let started = SystemTime::now();
    say("measuring the meter");
    let mut command = Command::new("cargo");
    command
        .args([
            "bench",
            "--package",
            "agent-common",
            "--bench",
            "meter",
            "--target-dir",
        ])
        .arg(lab.target())
        .current_dir(lab.workspace())
        .args([
            "--",
            "--quiet",
            "--measurement-time",
            &options.seconds.to_string(),
        ])
        .args(&options.filter);
    command.run()?;
    let measured = measurements(&lab.target().join("criterion"), started)?;
    if measured.is_empty() {
        let filter = options.filter.as_deref().unwrap_or_default();
        bail!("no stream has {filter:?} in its name; without a filter all are measured");
    }
    println!("{}", table(&measured).join("\n"));
    Ok(())
}

/// One parser on one stream.
struct Measurement {
    stream: String,
    parser: String,
    messages: f64,
    bytes: f64,
    /// For all of it.
    nanoseconds: f64,
    finished: SystemTime,
}

/// Criterion's description of a measurement.
#[derive(Deserialize)]
struct Description {
    group_id: String,
    function_id: String,
    throughput: Throughput,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Throughput {
    elements_and_bytes: Amounts,
}

#[derive(Deserialize)]
struct Amounts {
    elements: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

impl Measurement {
    fn read(folder: &Path, finished: SystemTime) -> Result<Self> {
        let description: Description = json(&folder.join("benchmark.json"))?;
        let estimates: Estimates = json(&folder.join("estimates.json"))?;
        let amounts = description.throughput.elements_and_bytes;
        Ok(Self {
            stream: description.group_id,
            parser: description.function_id,
            messages: amounts.elements as f64,
            bytes: amounts.bytes as f64,
            nanoseconds: estimates.median.point_estimate,
            finished,
        })
    }

    fn per_message(&self) -> f64 {
        self.nanoseconds / self.messages
    }

    /// Bytes of a nanosecond are gigabytes of a second.
    fn megabytes_per_second(&self) -> f64 {
        self.bytes / self.nanoseconds * 1e3
    }
}

/// What was measured since `started`, in that order. Older results lie beside it.
fn measurements(folder: &Path, started: SystemTime) -> Result<Vec<Measurement>> {
    let mut found = Vec::new();
    for stream in folders(folder)? {
        for parser in folders(&stream)? {
            let new = parser.join("new");
            let written = fs::metadata(new.join("estimates.json")).and_then(|file| file.modified());
            match written {
                Ok(written) if written >= started => found.push(Measurement::read(&new, written)?),
                _ => {}
            }
        }
    }
    found.sort_by_key(|one| one.finished);
    Ok(found)
}

fn folders(parent: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(parent).with_context(|| format!("cannot read {}", parent.display()))?;
    let paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not as criterion 0.8 writes it", path.display()))
}

/// A line for each stream; the crate's figures where it was measured.
fn table(measured: &[Measurement]) -> Vec<String> {
    let mut lines = vec![
        format!("{:<38}{:<24}{:<20}", "", "METER", "REDIS-PROTOCOL"),
        format!(
            "{:<28}{:>8}{:>12}{:>10}{:>12}{:>10}{:>12}",
            "STREAM", "bytes", "ns/message", "MB/s", "ns/message", "MB/s", "time ratio"
        ),
    ];
    for meter in measured.iter().filter(|one| one.parser == "meter") {
        let other = measured
            .iter()
            .find(|one| one.stream == meter.stream && one.parser != "meter");
        let mut line = format!(
            "{:<28}{:>8.0}{}",
            meter.stream,
            meter.bytes / meter.messages,
            cells(meter)
        );
        if let Some(other) = other {
            line += &format!("{}{:>12.2}", cells(other), meter.nanoseconds / other.nanoseconds);
        }
        lines.push(line);
    }
    lines.push("Bytes are per message, both directions. Time ratio: the meter's to the crate's.".to_owned());
    lines
}

fn cells(one: &Measurement) -> String {
    format!("{:>12.1}{:>10.0}", one.per_message(), one.megabytes_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENCHMARK: &str = r#"{"group_id":"get","function_id":"meter","value_str":null,
        "throughput":{"ElementsAndBytes":{"elements":50,"bytes":5000}},"full_id":"get/meter",
        "directory_name":"get/meter","title":"get/meter"}"#;

    fn criterion_folder(estimates: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("get/meter/new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("benchmark.json"), BENCHMARK).unwrap();
        fs::write(new.join("estimates.json"), estimates).unwrap();
        folder
    }

    #[test]
    fn criterions_files_become_figures() {
        let started = SystemTime::UNIX_EPOCH;
        let folder =
            criterion_folder(r#"{"mean":{"point_estimate":1.0},"median":{"point_estimate":2500.0}}"#);
        let found = measurements(folder.path(), started).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].per_message(), 50.0);
        assert_eq!(found[0].megabytes_per_second(), 2000.0);
    }

    #[test]
    fn results_of_an_earlier_run_are_left_out() {
        let folder = criterion_folder("{}");
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        assert!(measurements(folder.path(), later).unwrap().is_empty());
    }

    #[test]
    fn a_stream_without_the_crate_has_a_line_of_its_own() {
        let one = |parser: &str, nanoseconds| Measurement {
            stream: "get".to_owned(),
            parser: parser.to_owned(),
            messages: 10.0,
            bytes: 1000.0,
            nanoseconds,
            finished: SystemTime::UNIX_EPOCH,
        };
        let both = table(&[one("meter", 200.0), one("redis-protocol", 400.0)]);
        assert!(both[2].ends_with("0.50"), "{}", both[2]);
        let alone = table(&[one("meter", 200.0)]);
        assert_eq!(
            alone[2].split_whitespace().collect::<Vec<_>>(),
            ["get", "100", "20.0", "5000"]
        );
    }
}
