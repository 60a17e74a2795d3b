//! The kernel's own count of what its programs cost.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use crate::rig::scrape::Scrape;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// An error if somebody else takes the time of programs: that would be measured as the agent's cost.
pub(super) fn check_off() -> Result<()> {
    let value = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
    ensure!(
        value.trim() == "0",
        "kernel.bpf_stats_enabled is on, which costs time itself; `sysctl -w kernel.bpf_stats_enabled=0` first"
    );
    Ok(())
}

/// The kernel takes the time of every program while this lives. That costs time itself: throughput is not measured
/// meanwhile. Dropping it puts the old value back.
pub(super) struct Statistics {
    before: String,
}

impl Statistics {
    /// Switches the statistics on. An error if somebody else did so since the last time: the legs in between are spoilt.
    pub(super) fn enable() -> Result<Self> {
        check_off()?;
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}; kernel ns need it"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            eprintln!("cannot put {SWITCH} back to {}: {error}", self.before.trim());
        }
    }
}

/// What the agent's programs had cost at some moment.
pub(super) struct Costs {
    pub(super) ingress: Cost,
    pub(super) egress: Cost,
}

/// Of one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    seconds: f64,
    runs: f64,
}

impl Costs {
    /// Reads the agent's metrics.
    pub(super) fn read(scrape: &Scrape) -> Result<Self> {
        Ok(Self {
            ingress: Cost::read(scrape, "sg_ingress")?,
            egress: Cost::read(scrape, "sg_egress")?,
        })
    }
}

impl Cost {
    fn read(scrape: &Scrape, program: &str) -> Result<Self> {
        let value = |name: &str| scrape.value(name, &[("program", program)]);
        let metrics = [
            "stormglass_bpf_program_run_seconds_total",
            "stormglass_bpf_program_runs_total",
        ];
        let [Some(seconds), Some(runs)] = metrics.map(value) else {
            bail!("the agent has no {} of {program}", metrics.join(" or no "));
        };
        Ok(Self { seconds, runs })
    }

    /// Nanoseconds since `before`: per command, and per packet (acknowledgements without payload are packets, too).
    pub(super) fn since(&self, before: &Self, commands: u64) -> Result<PerUnit> {
        let nanoseconds = (self.seconds - before.seconds) * 1e9;
        let packets = self.runs - before.runs;
        if packets < 1.0 || commands == 0 {
            bail!("the kernel counted no run of the agent's programs; is {SWITCH} switched off by others?");
        }
        Ok(PerUnit {
            command_ns: nanoseconds / commands as f64,
            packet_ns: nanoseconds / packets,
            commands_per_packet: commands as f64 / packets,
        })
    }
}

/// Cost in the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PerUnit {
    pub(super) command_ns: f64,
    pub(super) packet_ns: f64,
    pub(super) commands_per_packet: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(seconds: f64, runs: u64) -> Scrape {
        let lines = ["sg_ingress", "sg_egress"].map(|program| {
            format!(
                "stormglass_bpf_program_run_seconds_total{{program=\"{program}\"}} {seconds}\n\
                 stormglass_bpf_program_runs_total{{program=\"{program}\"}} {runs}\n"
            )
        });
        Scrape::parse(&lines.concat()).unwrap()
    }

    #[test]
    fn time_is_divided_by_commands_and_by_packets() {
        let before = Costs::read(&page(1.0, 100)).unwrap();
        let after = Costs::read(&page(1.5, 1_000_100)).unwrap();
        let cost = after.ingress.since(&before.ingress, 2_000_000).unwrap();
        assert_eq!(
            [cost.command_ns, cost.packet_ns, cost.commands_per_packet],
            [250.0, 500.0, 2.0]
        );
    }

    #[test]
    fn statistics_that_stand_still_are_an_error() {
        let costs = Costs::read(&page(1.0, 100)).unwrap();
        assert!(costs.egress.since(&costs.egress, 5).is_err());
    }

    #[test]
    fn a_page_without_programs_is_an_error() {
        assert!(Costs::read(&Scrape::parse("up 1\n").unwrap()).is_err());
    }
}
