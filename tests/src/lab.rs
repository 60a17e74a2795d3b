//! Where the agent, the servers and the tools are: what `cargo xtask test` names in the environment, else the places
//! where it leaves them.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The agent, as `cargo xtask test` builds it.
pub fn agent() -> Result<PathBuf> {
    find("STORMGLASS_LAB_AGENT", "debug/stormglass")
}

/// The load generator: `stormglass-load`.
pub fn load_generator() -> Result<PathBuf> {
    find("STORMGLASS_LAB_LOAD", "debug/stormglass-load")
}

/// Valkey's server.
pub fn valkey_server() -> Result<PathBuf> {
    find("STORMGLASS_LAB_VALKEY_SERVER", "lab/bin/valkey-server")
}

/// The server of Valkey 8.0.
pub fn valkey_8_0() -> Result<PathBuf> {
    find("STORMGLASS_LAB_VALKEY_8_0", "lab/bin/valkey-server-8.0")
}

/// The server of Valkey 8.1.
pub fn valkey_8_1() -> Result<PathBuf> {
    find("STORMGLASS_LAB_VALKEY_8_1", "lab/bin/valkey-server-8.1")
}

/// Valkey's load generator.
pub fn valkey_benchmark() -> Result<PathBuf> {
    find("STORMGLASS_LAB_VALKEY_BENCHMARK", "lab/bin/valkey-benchmark")
}

/// Redis' server.
pub fn redis_server() -> Result<PathBuf> {
    find("STORMGLASS_LAB_REDIS_SERVER", "lab/bin/redis-server")
}

/// Prometheus.
pub fn prometheus() -> Result<PathBuf> {
    find("STORMGLASS_LAB_PROMETHEUS", "lab/bin/prometheus")
}

/// Checker of metrics.
pub fn promtool() -> Result<PathBuf> {
    find("STORMGLASS_LAB_PROMTOOL", "lab/bin/promtool")
}

/// Alertmanager.
pub fn alertmanager() -> Result<PathBuf> {
    find("STORMGLASS_LAB_ALERTMANAGER", "lab/bin/prometheus-alertmanager")
}

/// Lists what is loaded into and attached in the kernel.
pub fn bpftool() -> Result<PathBuf> {
    find("STORMGLASS_LAB_BPFTOOL", "lab/bin/bpftool")
}

/// Rules for packets.
pub fn nft() -> Result<PathBuf> {
    find("STORMGLASS_LAB_NFT", "lab/bin/nft")
}

/// What a network interface does by itself.
pub fn ethtool() -> Result<PathBuf> {
    find("STORMGLASS_LAB_ETHTOOL", "lab/bin/ethtool")
}

/// Terminals without a screen.
pub fn tmux() -> Result<PathBuf> {
    find("STORMGLASS_LAB_TMUX", "lab/bin/tmux")
}

/// Node.js.
pub fn node() -> Result<PathBuf> {
    find("STORMGLASS_LAB_NODE", "lab/bin/node")
}

/// Runs OCI containers.
pub fn runc() -> Result<PathBuf> {
    find("STORMGLASS_LAB_RUNC", "lab/bin/runc")
}

/// Asks for pages as everybody does.
pub fn curl() -> Result<PathBuf> {
    find("STORMGLASS_LAB_CURL", "lab/bin/curl")
}

/// Makes certificates as everybody does.
pub fn openssl() -> Result<PathBuf> {
    find("STORMGLASS_LAB_OPENSSL", "lab/bin/openssl")
}

/// A browser that nobody looks at.
pub fn chromium() -> Result<PathBuf> {
    find("STORMGLASS_LAB_CHROMIUM", "lab/bin/chromium-headless-shell")
}

/// The only fonts that it is to see.
pub fn fonts() -> Result<PathBuf> {
    find("STORMGLASS_LAB_FONTS", "lab/chromium/fonts.conf")
}

/// Folder of its driver.
pub fn browser_path() -> Result<PathBuf> {
    find("STORMGLASS_LAB_BROWSER_PATH", "lab/browser-driver/node_modules")
}

/// Folder of its clients.
pub fn node_path() -> Result<PathBuf> {
    find("STORMGLASS_LAB_NODE_PATH", "lab/node-clients/node_modules")
}

/// Folder of the Python clients.
pub fn python_path() -> Result<PathBuf> {
    find("STORMGLASS_LAB_PYTHONPATH", "lab/python")
}

/// Clients with go-redis.
pub fn go_redis_fleet() -> Result<PathBuf> {
    find("STORMGLASS_LAB_GO_REDIS_FLEET", "lab/bin/go-redis-fleet")
}

/// Clients with Lettuce.
pub fn lettuce_fleet() -> Result<PathBuf> {
    find("STORMGLASS_LAB_LETTUCE_FLEET", "lab/bin/lettuce-fleet")
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
