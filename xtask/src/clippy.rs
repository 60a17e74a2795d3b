//! `cargo xtask clippy`: every crate, with warnings denied.

use std::process::Command;

use anyhow::Result;

use crate::lab::Lab;
use crate::lab::toolchain::ensure_toolchain;
use crate::process::{Run as _, say};

/// Checks the host's crates with the default toolchain, then the kernel programs with theirs.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    say("clippy on the host's crates");
    Command::new("cargo")
        .args([
            "clippy",
            "--workspace",
            "--exclude",
            "agent-ebpf",
            "--all-targets",
            "--target-dir",
        ])
        .arg(lab.target())
        .args(["--", "-D", "warnings"])
        .current_dir(lab.workspace())
        .run()?;
    say("clippy on the kernel programs");
    ensure_toolchain(lab)?
        .clippy(lab)?
        .args(["--package", "agent-ebpf", "--no-deps", "--", "-D", "warnings"])
        .run()
}
