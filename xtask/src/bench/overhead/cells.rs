//! What is measured: cells of command, value size, pipeline and connections.

use std::fmt;

use anyhow::{Result, bail};
use serde::Serialize;

/// What valkey-benchmark sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verb {
    Get,
    Set,
}

/// One kind of load. Its name, e.g. `get/16B/P1/c50`, is what `--only` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Cell {
    pub(super) verb: Verb,
    pub(super) value_bytes: u32,
    /// Commands that a connection sends before it waits for replies.
    pub(super) pipeline: u32,
    pub(super) connections: u32,
}

const VERBS: [Verb; 2] = [Verb::Get, Verb::Set];
const VALUES: [u32; 3] = [16, 1024, 65536];
const PIPELINES: [u32; 3] = [1, 16, 100];
const CONNECTIONS: [u32; 2] = [50, 1000];

/// Cells that are measured without `--full`: each dimension is varied around what most fleets run.
const DEFAULT: [&str; 12] = [
    "get/16B/P1/c50",
    "set/16B/P1/c50",
    "get/16B/P16/c50",
    "set/16B/P16/c50",
    "get/16B/P100/c50",
    "set/16B/P100/c50",
    "get/1KiB/P1/c50",
    "set/1KiB/P1/c50",
    "get/1KiB/P16/c50",
    "get/64KiB/P1/c50",
    "set/64KiB/P1/c50",
    "get/16B/P1/c1000",
];

/// Cells in which MONITOR and a capture are measured without `--full`.
const COMPARED: [&str; 3] = ["get/16B/P1/c50", "get/16B/P16/c50", "set/1KiB/P1/c50"];

/// The cells to measure: of the default ones, or of all with `full`, those whose name contains one of `only`.
pub(super) fn chosen(full: bool, only: &[String]) -> Result<Vec<Cell>> {
    let base: Vec<Cell> = matrix()
        .into_iter()
        .filter(|cell| full || DEFAULT.contains(&cell.to_string().as_str()))
        .collect();
    let wanted = |cell: &Cell| {
        let name = cell.to_string();
        only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
    };
    let cells: Vec<Cell> = base.iter().copied().filter(wanted).collect();
    if cells.is_empty() {
        let names: Vec<String> = base.iter().map(Cell::to_string).collect();
        let hint = if full { "" } else { " (and more with --full)" };
        bail!("--only names no cell; there are{hint}:\n  {}", names.join("\n  "));
    }
    Ok(cells)
}

/// Every cell, the cheap loads first.
fn matrix() -> Vec<Cell> {
    let mut cells = Vec::new();
    for connections in CONNECTIONS {
        for value_bytes in VALUES {
            for pipeline in PIPELINES {
                for verb in VERBS {
                    cells.push(Cell {
                        verb,
                        value_bytes,
                        pipeline,
                        connections,
                    });
                }
            }
        }
    }
    cells
}

impl Verb {
    /// As valkey-benchmark and its output write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
        }
    }
}

impl Cell {
    /// Whether the comparisons are measured here without `--full`.
    pub(super) fn is_compared(&self) -> bool {
        COMPARED.contains(&self.to_string().as_str())
    }

    /// Lowest share of the throughput that the agent may leave, where there is a target.
    pub(super) fn throughput_target(&self) -> Option<f64> {
        match self.pipeline {
            1 => Some(0.98),
            16 => Some(0.95),
            _ => None,
        }
    }

    /// Highest ratio of the machine's CPU per command, where there is a target.
    pub(super) fn cpu_target(&self) -> Option<f64> {
        (self.pipeline == 1).then_some(1.05)
    }

    /// Most nanoseconds in the kernel for a command and its reply.
    pub(super) fn kernel_target(&self) -> Option<f64> {
        (self.pipeline == 1).then_some(600.0)
    }

    /// Most nanoseconds in the kernel for a command that comes with many.
    pub(super) fn ingress_command_target(&self) -> Option<f64> {
        (self.pipeline == 100).then_some(60.0)
    }

    /// Most nanoseconds in the kernel for a packet with one command: larger ones come in several.
    pub(super) fn ingress_packet_target(&self) -> Option<f64> {
        (self.pipeline == 1 && self.value_bytes <= 1024).then_some(300.0)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self.verb.name().to_ascii_lowercase();
        let value = match self.value_bytes {
            small if small < 1024 => format!("{small}B"),
            large => format!("{}KiB", large / 1024),
        };
        let name = format!("{verb}/{value}/P{}/c{}", self.pipeline, self.connections);
        formatter.pad(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(cells: &[Cell]) -> Vec<String> {
        cells.iter().map(Cell::to_string).collect()
    }

    #[test]
    fn the_whole_matrix_has_every_combination_once() {
        let mut names = names(&chosen(true, &[]).unwrap());
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2 * 3 * 3 * 2);
    }

    #[test]
    fn every_default_and_compared_cell_is_in_the_matrix() {
        let default = names(&chosen(false, &[]).unwrap());
        assert_eq!(default.len(), DEFAULT.len());
        assert!(COMPARED.iter().all(|name| default.contains(&(*name).to_owned())));
    }

    #[test]
    fn only_takes_parts_of_names() {
        let only = ["get/16B/P1/".to_owned(), "set/64KiB".to_owned()];
        let cells = chosen(false, &only).unwrap();
        assert_eq!(
            names(&cells),
            ["get/16B/P1/c50", "set/64KiB/P1/c50", "get/16B/P1/c1000"]
        );
    }

    #[test]
    fn a_filter_that_names_nothing_lists_the_cells() {
        let error = chosen(false, &["hget".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("get/16B/P1/c50") && error.contains("--full"),
            "{error}"
        );
    }
}
