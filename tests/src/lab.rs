//! Where the agent, the servers and the tools are: what `cargo xtask test` names in the environment, else the places
//! where it leaves them.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The agent's release binary.
pub fn agent() -> Result<PathBuf> {
    find("STORMGLASS_LAB_AGENT", "release/stormglass")
}

/// Valkey's server.
pub fn valkey_server() -> Result<PathBuf> {
    find("STORMGLASS_LAB_VALKEY_SERVER", "lab/bin/valkey-server")
}

/// Valkey's load generator.
pub fn valkey_benchmark() -> Result<PathBuf> {
    find("STORMGLASS_LAB_VALKEY_BENCHMARK", "lab/bin/valkey-benchmark")
}

/// Redis' server.
pub fn redis_server() -> Result<PathBuf> {
    find("STORMGLASS_LAB_REDIS_SERVER", "lab/bin/redis-server")
}

/// Checker of metrics.
pub fn promtool() -> Result<PathBuf> {
    find("STORMGLASS_LAB_PROMTOOL", "lab/bin/promtool")
}

/// Lists what is loaded into and attached in the kernel.
pub fn bpftool() -> Result<PathBuf> {
    find("STORMGLASS_LAB_BPFTOOL", "lab/bin/bpftool")
}

/// Folder of the Python clients.
pub fn python_path() -> Result<PathBuf> {
    find("STORMGLASS_LAB_PYTHONPATH", "lab/python")
}

fn find(variable: &str, below_target: &str) -> Result<PathBuf> {
    let path = env::var_os(variable).map_or_else(|| target().join(below_target), PathBuf::from);
    if !path.exists() {
        bail!("there is no {}; `cargo xtask test` brings it", path.display());
    }
    Ok(path)
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}
