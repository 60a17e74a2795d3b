//! What the programs cost and how full the maps are.

use std::fs;

use agent_common::limits;

use super::{Kernel, Readings, Supply};
use crate::snapshot::{MapUsage, ProgramUsage};

impl Kernel {
    /// Run time and runs of each program. Zeros while `kernel.bpf_stats_enabled` is off.
    #[must_use]
    pub fn program_usage(&self) -> Vec<ProgramUsage> {
        self.program_fds()
            .into_iter()
            .filter_map(|(program, fd)| {
                let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
                let nanoseconds = field(&info, "run_time_ns").unwrap_or(0);
                Some(ProgramUsage {
                    program,
                    run_seconds: nanoseconds as f64 / 1e9,
                    runs: field(&info, "run_cnt").unwrap_or(0),
                })
            })
            .collect()
    }

    /// Instructions that the verifier had to look at, by program.
    #[must_use]
    pub fn verified_instructions(&self) -> Vec<(&'static str, u64)> {
        self.program_fds()
            .into_iter()
            .filter_map(|(program, fd)| {
                let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
                Some((program, field(&info, "verified_insns")?))
            })
            .collect()
    }

    /// How full the maps are that can be full.
    #[must_use]
    pub fn map_usage(&self, readings: &Readings, slots_in_use: usize) -> Vec<MapUsage> {
        let [common, of_tenants, of_classes] = readings.rows_in_use;
        [
            // Rows between two owners are taken, too.
            (
                "SG_PREFIXES",
                common + self.resting(Supply::Common),
                self.capacity.prefixes as usize,
            ),
            ("SG_FREE_CLASS_ROWS", of_classes, limits::CLASS_ROWS),
            (
                "SG_FREE_TENANT_ROWS",
                of_tenants + self.resting(Supply::Tenants),
                limits::TENANT_ROWS,
            ),
            (
                "SG_CLIENTS",
                readings.clients.len(),
                self.capacity.clients as usize,
            ),
            ("SG_ENDED", self.ended().len(), limits::ENDED),
            ("SG_NAME_TABLE", self.client_names.keys().count(), limits::NAMES),
            ("SG_SLOTS", slots_in_use, limits::LISTENERS),
            ("SG_DECLARED", self.declared.len(), limits::DECLARED_PREFIXES),
            ("SG_PARKED", self.parking.len(), limits::PARKING_PLACES),
        ]
        .into_iter()
        .map(|(map, entries, capacity)| MapUsage {
            map,
            entries: entries as u64,
            capacity: capacity as u64,
        })
        .collect()
    }
}

/// A number from the text of /proc/PID/fdinfo.
fn field(info: &str, name: &str) -> Option<u64> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_fdinfo() {
        let info = "pos:\t0\nprog_type:\t8\nrun_time_ns:\t1234\nrun_cnt:\t56\nverified_insns:\t789\n";
        assert_eq!(field(info, "run_time_ns"), Some(1_234));
        assert_eq!(field(info, "run_cnt"), Some(56));
        assert_eq!(field(info, "run"), None);
    }
}
