//! `cargo xtask build`: the kernel programs, then the daemon that embeds them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::lab::Lab;
use crate::lab::toolchain::{TARGET, ensure_toolchain};
use crate::process::{Run as _, say};

/// Leaves the daemon at `target/release/stormglass`.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    let object = kernel_object(lab)?;
    say("building the daemon");
    Command::new("cargo")
        .args(["build", "--release", "--package", "stormglass", "--target-dir"])
        .arg(lab.target())
        .current_dir(lab.workspace())
        .env("STORMGLASS_BPF_OBJECT", object)
        .run()?;
    say(format!("built {}", lab.agent().display()));
    Ok(())
}

/// Builds the kernel programs and returns the path of their object.
pub(crate) fn kernel_object(lab: &Lab) -> Result<PathBuf> {
    let toolchain = ensure_toolchain(lab)?;
    say("building the kernel programs");
    toolchain
        .cargo(lab, "build")
        .args(["--package", "agent-ebpf"])
        .run()?;
    let object = lab
        .target()
        .join("bpf")
        .join(TARGET)
        .join("release/stormglass-ebpf");
    if !object.is_file() {
        bail!(
            "cargo left no {}; is the binary of agent-ebpf still called stormglass-ebpf?",
            object.display()
        );
    }
    Ok(object)
}
