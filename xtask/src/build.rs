//! `cargo xtask build`: the kernel programs, then the daemon that embeds them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::lab::Lab;
use crate::lab::toolchain::{TARGET, ensure_toolchain};
use crate::process::{Run as _, say};

/// Leaves the daemon at `target/release/stormglass`.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    daemon(lab, "release")?;
    say(format!("built {}", lab.agent().display()));
    Ok(())
}

/// Leaves the daemon at `target/tested/stormglass`: quicker to build than the released one, by the profile `tested`. The kernel
/// programs in it are the same.
pub(crate) fn for_tests(lab: &Lab) -> Result<()> {
    daemon(lab, "tested")
}

fn daemon(lab: &Lab, profile: &str) -> Result<()> {
    let object = kernel_object(lab)?;
    say("building the daemon");
    Command::new("cargo")
        .args([
            "build",
            "--profile",
            profile,
            "--package",
            "stormglass",
            "--target-dir",
        ])
        .arg(lab.target())
        .current_dir(lab.workspace())
        .env("STORMGLASS_BPF_OBJECT", object)
        .run()
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
