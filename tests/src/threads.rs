//! What the threads of a process may do.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use nix::unistd::Pid;

/// A thread, as /proc tells of it.
#[derive(Debug)]
pub struct Thread {
    /// Capabilities that it has or may raise.
    pub permitted: u64,
    /// Capabilities that it has.
    pub effective: u64,
    /// 1: nothing that it starts can have more.
    pub no_new_privileges: u64,
}

/// By name; of several with the same name, any.
pub fn threads(process: Pid) -> Result<BTreeMap<String, Thread>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        // One that has just ended has no status.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value
                .map(str::trim)
                .with_context(|| format!("no {name} in {status}"))
        };
        let thread = Thread {
            permitted: u64::from_str_radix(field("CapPrm:")?, 16)?,
            effective: u64::from_str_radix(field("CapEff:")?, 16)?,
            no_new_privileges: field("NoNewPrivs:")?.parse()?,
        };
        threads.insert(field("Name:")?.to_owned(), thread);
    }
    Ok(threads)
}
