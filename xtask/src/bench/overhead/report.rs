//! What was found: the form of the JSON file, and of all that is drawn from it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::super::statistics::Spread;
use super::bpf_stats::PerUnit;
use super::cells::Cell;
use super::legs::Figures;
use super::subjects::Subject;
use crate::lab::Lab;
use crate::process::Run as _;

/// A whole run.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) host: Host,
    pub(super) settings: Settings,
    pub(super) cells: Vec<Findings>,
}

/// Where it ran.
#[derive(Serialize)]
pub(super) struct Host {
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) cpus: usize,
    pub(super) server: String,
    /// Of the agent.
    pub(super) commit: String,
}

#[derive(Serialize)]
pub(super) struct Settings {
    pub(super) pairs: u32,
    pub(super) seconds_per_leg: f64,
    /// Of the order of legs.
    pub(super) seed: u64,
}

/// One cell.
#[derive(Serialize)]
pub(super) struct Findings {
    pub(super) name: String,
    pub(super) cell: Cell,
    pub(super) commands_per_leg: u64,
    /// Over all legs with nothing switched on.
    pub(super) alone: Alone,
    pub(super) subjects: Vec<Comparison>,
    pub(super) kernel: Kernel,
}

/// The server without anything.
#[derive(Serialize)]
pub(super) struct Alone {
    pub(super) commands_per_second: Spread,
    pub(super) p99_ms: Spread,
    pub(super) machine_us_per_command: Spread,
    pub(super) server_us_per_command: Spread,
    /// Share of the machine that neither server nor load used.
    pub(super) elsewhere: Spread,
}

/// One subject: ratios of a leg with it to its neighbour without it, over all pairs.
#[derive(Serialize)]
pub(super) struct Comparison {
    pub(super) subject: Subject,
    pub(super) throughput: Spread,
    pub(super) p99: Spread,
    pub(super) machine_cpu: Spread,
    pub(super) server_cpu: Spread,
    /// Share of the traffic that it saw.
    pub(super) saw: Spread,
    pub(super) pairs: Vec<Pair>,
}

/// Two neighbouring legs.
#[derive(Serialize)]
pub(super) struct Pair {
    pub(super) off: Figures,
    pub(super) on: Figures,
    pub(super) on_came_first: bool,
    pub(super) saw: f64,
}

/// The agent's programs by the kernel's own statistics, by which an empty program reads as some 55 ns a run.
#[derive(Serialize)]
pub(super) struct Kernel {
    pub(super) ingress: Costs,
    pub(super) egress: Costs,
    /// Both directions.
    pub(super) command_ns: Spread,
}

#[derive(Serialize)]
pub(super) struct Costs {
    pub(super) command_ns: Spread,
    pub(super) packet_ns: Spread,
    pub(super) commands_per_packet: Spread,
}

impl Report {
    /// Writes the JSON file.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Host {
    /// This host, and what is in its workspace.
    pub(super) fn read(lab: &Lab, server: String) -> Result<Self> {
        let kernel =
            fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's version")?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        let commit = Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .current_dir(lab.workspace())
            .read();
        Ok(Self {
            kernel: kernel.trim().to_owned(),
            processor: processor.to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            server,
            commit: commit.map_or("unknown".to_owned(), |text| text.trim().to_owned()),
        })
    }
}

impl Alone {
    pub(super) fn of(legs: &[Figures]) -> Result<Self> {
        let spread = |value: fn(&Figures) -> f64| Spread::of(legs.iter().map(value)).context(NOTHING);
        Ok(Self {
            commands_per_second: spread(|leg| leg.commands_per_second)?,
            p99_ms: spread(|leg| leg.p99_ms)?,
            machine_us_per_command: spread(|leg| leg.machine_us_per_command)?,
            server_us_per_command: spread(|leg| leg.server_us_per_command)?,
            elsewhere: spread(|leg| leg.elsewhere)?,
        })
    }
}

impl Comparison {
    pub(super) fn of(subject: Subject, pairs: Vec<Pair>) -> Result<Self> {
        let ratio = |value: fn(&Figures) -> f64| {
            Spread::of(pairs.iter().map(|pair| value(&pair.on) / value(&pair.off))).context(NOTHING)
        };
        Ok(Self {
            subject,
            throughput: ratio(|leg| leg.commands_per_second)?,
            p99: ratio(|leg| leg.p99_ms)?,
            machine_cpu: ratio(|leg| leg.machine_us_per_command)?,
            server_cpu: ratio(|leg| leg.server_us_per_command)?,
            saw: Spread::of(pairs.iter().map(|pair| pair.saw)).context(NOTHING)?,
            pairs,
        })
    }
}

impl Kernel {
    /// Of legs, each with ingress and egress.
    pub(super) fn of(legs: &[[PerUnit; 2]]) -> Result<Self> {
        let both = legs
            .iter()
            .map(|[ingress, egress]| ingress.command_ns + egress.command_ns);
        Ok(Self {
            ingress: Costs::of(legs, 0)?,
            egress: Costs::of(legs, 1)?,
            command_ns: Spread::of(both).context(NOTHING)?,
        })
    }
}

impl Costs {
    /// Of one side of each leg.
    fn of(legs: &[[PerUnit; 2]], side: usize) -> Result<Self> {
        let spread = |value: fn(&PerUnit) -> f64| {
            Spread::of(legs.iter().map(|leg| value(&leg[side]))).context(NOTHING)
        };
        Ok(Self {
            command_ns: spread(|cost| cost.command_ns)?,
            packet_ns: spread(|cost| cost.packet_ns)?,
            commands_per_packet: spread(|cost| cost.commands_per_packet)?,
        })
    }
}

const NOTHING: &str = "no leg came to a figure; --seconds is too short for this machine";

#[cfg(test)]
pub(super) mod tests {
    use super::super::cells;
    use super::*;

    fn leg(commands_per_second: f64) -> Figures {
        Figures {
            commands_per_second,
            p99_ms: 2.0,
            machine_us_per_command: 20.0,
            server_us_per_command: 10.0,
            elsewhere: 0.2,
        }
    }

    fn pair(off: f64, on: f64) -> Pair {
        Pair {
            off: leg(off),
            on: leg(on),
            on_came_first: false,
            saw: 0.75,
        }
    }

    fn cost(command_ns: f64) -> PerUnit {
        PerUnit {
            command_ns,
            packet_ns: 321.0,
            commands_per_packet: 1.0,
        }
    }

    /// A report of one cell, with MONITOR beside the agent.
    pub(in super::super) fn sample() -> Report {
        let cell = cells::chosen(false, &["get/16B/P1/c50".to_owned()]).unwrap()[0];
        let subject = |subject, on| Comparison::of(subject, vec![pair(1000.0, on)]).unwrap();
        Report {
            host: Host {
                kernel: "6.18".to_owned(),
                processor: "Fast & <small>".to_owned(),
                cpus: 2,
                server: "Valkey 9.1.2".to_owned(),
                commit: "abc".to_owned(),
            },
            settings: Settings {
                pairs: 1,
                seconds_per_leg: 3.0,
                seed: 7,
            },
            cells: vec![Findings {
                name: cell.to_string(),
                cell,
                commands_per_leg: 100,
                alone: Alone::of(&[leg(1000.0)]).unwrap(),
                subjects: vec![subject(Subject::Agent, 987.0), subject(Subject::Monitor, 456.0)],
                kernel: Kernel::of(&[[cost(300.0), cost(244.0)]]).unwrap(),
            }],
        }
    }

    #[test]
    fn ratios_are_of_neighbours_and_not_of_medians() {
        let pairs = vec![pair(100.0, 50.0), pair(1000.0, 900.0), pair(10.0, 10.0)];
        let comparison = Comparison::of(Subject::Agent, pairs).unwrap();
        assert_eq!(comparison.throughput.median, 0.9);
        assert_eq!(comparison.p99.median, 1.0);
    }

    #[test]
    fn both_directions_are_added_up_leg_by_leg() {
        let legs = [
            [cost(300.0), cost(200.0)],
            [cost(100.0), cost(700.0)],
            [cost(1.0), cost(2.0)],
        ];
        assert_eq!(Kernel::of(&legs).unwrap().command_ns.median, 500.0);
    }

    #[test]
    fn the_file_has_what_people_compare() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overhead.json");
        sample().write(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let cell = &value["cells"][0];
        assert_eq!(cell["name"], "get/16B/P1/c50");
        assert_eq!(cell["subjects"][0]["subject"], "agent");
        assert_eq!(cell["subjects"][0]["throughput"]["median"], 0.987);
        assert_eq!(cell["kernel"]["command_ns"]["median"], 544.0);
    }
}
