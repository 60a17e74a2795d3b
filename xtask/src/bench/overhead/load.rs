//! The load: valkey-benchmark, and what it says.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::cells::{Cell, Verb};
use crate::lab::Lab;
use crate::rig::child::Child;
use crate::rig::interrupt::Interrupt;

/// Different keys. Few enough that values of 64 KiB fit everywhere, and that every GET finds one.
const KEYS: u32 = 1000;

/// SETs at random that leave none of the keys out, but for one time in millions.
const FILLING: u64 = 25_000;

/// How long a run may take beyond its calibrated length, which MONITOR may multiply.
const PATIENCE: Duration = Duration::from_secs(300);

/// What valkey-benchmark measured.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) commands_per_second: f64,
    pub(super) p99_ms: f64,
}

/// A way to put one cell's load on one server.
pub(super) struct Load<'a> {
    pub(super) lab: &'a Lab,
    pub(super) folder: &'a Path,
    pub(super) port: u16,
    pub(super) cell: Cell,
}

impl Load<'_> {
    /// Gives every key its value.
    pub(super) fn fill(&self, interrupt: &Interrupt) -> Result<()> {
        let cell = Cell {
            verb: Verb::Set,
            pipeline: 16,
            connections: 10,
            ..self.cell
        };
        self.start(&cell, FILLING)?
            .finish(interrupt, PATIENCE)
            .map(|_| ())
    }

    /// Sends this many commands and waits for all replies.
    pub(super) fn run(&self, commands: u64, interrupt: &Interrupt) -> Result<Outcome> {
        let output = self.start(&self.cell, commands)?.finish(interrupt, PATIENCE)?;
        outcome(&output, self.cell.verb.name())
            .with_context(|| format!("valkey-benchmark printed no figures of {}:\n{output}", self.cell))
    }

    /// Commands that take about this long, by runs that become longer.
    pub(super) fn calibrate(&self, length: Duration, interrupt: &Interrupt) -> Result<u64> {
        let mut commands = self.rounded(2_000);
        for share in [0.1, 0.3, 1.0] {
            let rate = self.run(commands, interrupt)?.commands_per_second;
            commands = self.rounded((rate * length.as_secs_f64() * share) as u64);
        }
        Ok(commands)
    }

    /// Whole pipelines of every connection: no other number is sent exactly.
    pub(super) fn rounded(&self, commands: u64) -> u64 {
        let turn = u64::from(self.cell.pipeline) * u64::from(self.cell.connections);
        commands.div_ceil(turn).max(1) * turn
    }

    fn start(&self, cell: &Cell, commands: u64) -> Result<Child> {
        let options = [
            ("-h", "127.0.0.1".to_owned()),
            ("-p", self.port.to_string()),
            ("-t", cell.verb.name().to_ascii_lowercase()),
            ("-n", commands.to_string()),
            ("-c", cell.connections.to_string()),
            ("-P", cell.pipeline.to_string()),
            ("-d", cell.value_bytes.to_string()),
            ("-r", KEYS.to_string()),
        ];
        let mut command = Command::new(self.lab.valkey_benchmark());
        for (option, value) in options {
            command.arg(option).arg(value);
        }
        command.arg("--csv");
        Child::start("valkey-benchmark", &mut command, self.folder)
    }
}

/// The line of `test` in what `valkey-benchmark --csv` prints, by the names of the columns.
fn outcome(csv: &str, test: &str) -> Option<Outcome> {
    let mut rows = csv.lines().map(fields);
    let columns = rows.find(|row| row.first() == Some(&"test"))?;
    let row = rows.find(|row| row.first() == Some(&test))?;
    let value = |name: &str| {
        let column = columns.iter().position(|column| *column == name)?;
        row.get(column)?.parse().ok()
    };
    Some(Outcome {
        commands_per_second: value("rps")?,
        p99_ms: value("p99_latency_ms")?,
    })
}

/// Its fields never contain commas or quotes.
fn fields(line: &str) -> Vec<&str> {
    line.split(',')
        .map(|field| field.trim().trim_matches('"'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","75301.21","0.370","0.120","0.359","0.551","0.759","4.455"
"GET","79176.56","0.412","0.088","0.359","0.671","0.887","3.855"
"#;

    #[test]
    fn figures_are_found_by_test_and_column() {
        let expected = Outcome {
            commands_per_second: 79176.56,
            p99_ms: 0.887,
        };
        assert_eq!(outcome(CSV, "GET"), Some(expected));
    }

    #[test]
    fn a_warning_before_the_header_is_passed_over() {
        let text = format!("WARNING: Could not fetch server CONFIG\n{CSV}");
        assert_eq!(outcome(&text, "SET").map(|outcome| outcome.p99_ms), Some(0.759));
    }

    #[test]
    fn output_without_the_test_or_a_column_is_refused() {
        assert_eq!(outcome(CSV, "MGET"), None);
        assert_eq!(outcome(&CSV.replace("p99_latency_ms", "p98"), "GET"), None);
        assert_eq!(outcome(&CSV.replace("79176.56", "fast"), "GET"), None);
        assert_eq!(outcome("Error: no connection\n", "GET"), None);
    }
}
