//! `cargo xtask setup`: everything that building and testing needs, below `target/lab`. The host is not changed.

use std::time::Instant;

use anyhow::Result;

use crate::lab::{Lab, machines, servers, toolchain, tools};
use crate::process::say;

/// Brings toolchain, servers and tools. What is already there in the pinned version is left alone.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    let started = Instant::now();
    toolchain::ensure_toolchain(lab)?;
    servers::ensure_servers(lab)?;
    tools::ensure_tools(lab)?;
    tools::ensure_tcpdump(lab)?;
    tools::ensure_grafana_types(lab)?;
    machines::ensure_machines(lab)?;
    for series in machines::SUPPORTED.iter().chain([&machines::TOO_OLD]) {
        machines::ensure_kernel(lab, series)?;
    }
    say(format!(
        "set-up complete in {:.1} s, below {}",
        started.elapsed().as_secs_f64(),
        lab.dir().display()
    ));
    Ok(())
}
