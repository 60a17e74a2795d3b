//! `cargo xtask deny`: licences, bans and sources of all dependencies, by deny.toml.

use std::process::Command;

use anyhow::Result;

use crate::lab::{Lab, tools};
use crate::process::Run as _;

/// Checks what needs no network. The advisory database does, and is left to a scheduled job.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    tools::ensure_deny(lab)?;
    Command::new(lab.cargo_deny())
        .args(["--workspace", "check", "licenses", "bans", "sources"])
        .current_dir(lab.workspace())
        .run()
}
