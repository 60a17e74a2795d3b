//! What the demo and the benchmarks put on stage: servers in cgroups of their own, the agent, and their end, whatever
//! happens. Dropping a piece ends it.

use anyhow::{Result, ensure};
use nix::unistd::geteuid;

pub(crate) mod agent;
pub(crate) mod cgroup;
pub(crate) mod child;
pub(crate) mod interrupt;
pub(crate) mod ports;
pub(crate) mod scrape;
pub(crate) mod server;
pub(crate) mod storm;

/// What would fail only after minutes of building; `command` is what was called, such as `demo`.
pub(crate) fn check_host(command: &str) -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "`cargo xtask {command}` loads programs into the kernel and makes cgroups: run it as root: sudo -E cargo xtask {command}"
    );
    cgroup::mount_point().map(|_| ())
}
