//! `cargo xtask build`: the kernel programs, then the daemon that embeds them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::lab::Lab;
use crate::lab::toolchain::{TARGET, ensure_toolchain};
use crate::process::{Run as _, say};

/// The variable by which the daemon's build script is told what to embed.
const OBJECT: &str = "STORMGLASS_BPF_OBJECT";

/// Leaves the daemon at `target/release/stormglass`.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    kernel_object(lab)?;
    say("building the daemon");
    cargo(lab, "build")
        .args(["--release", "--package", "stormglass"])
        .run()?;
    say(format!("built {}", lab.agent().display()));
    Ok(())
}

/// Leaves everything that tests run or are: the daemon at `target/debug/stormglass`, with the same kernel programs as the
/// released one, the load generator, the tests.
///
/// All default members at once: one by one, each would have its dependencies built anew, with the features that it alone
/// asks for. Returns the path of the kernel programs' object.
pub(crate) fn for_tests(lab: &Lab) -> Result<PathBuf> {
    let object = kernel_object(lab)?;
    say("building the daemon and the tests");
    cargo(lab, "build").args(["--bins", "--tests"]).run()?;
    Ok(object)
}

/// Leaves the load generator at [`Lab::load`]: the debug build that `cargo xtask test` makes as well, since it is far from its
/// limits.
pub(crate) fn load(lab: &Lab) -> Result<()> {
    say("building the load generator");
    Command::new("cargo")
        .args(["build", "--package", "stormglass-load", "--target-dir"])
        .arg(lab.target())
        .current_dir(lab.workspace())
        .run()
}

/// A command of cargo's, for the default members unless told otherwise; the daemon embeds the kernel programs that have been
/// built, if any.
pub(crate) fn cargo(lab: &Lab, subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .args([subcommand, "--target-dir"])
        .arg(lab.target())
        .current_dir(lab.workspace());
    let object = object(lab);
    if object.is_file() {
        command.env(OBJECT, object);
    }
    command
}

/// Builds the kernel programs and returns the path of their object.
pub(crate) fn kernel_object(lab: &Lab) -> Result<PathBuf> {
    let toolchain = ensure_toolchain(lab)?;
    say("building the kernel programs");
    toolchain
        .cargo(lab, "build")
        .args(["--package", "agent-ebpf"])
        .run()?;
    let object = object(lab);
    if !object.is_file() {
        bail!(
            "cargo left no {}; is the binary of agent-ebpf still called stormglass-ebpf?",
            object.display()
        );
    }
    Ok(object)
}

/// Where [`kernel_object`] leaves it.
fn object(lab: &Lab) -> PathBuf {
    programs(lab).join("stormglass-ebpf")
}

/// Where it leaves the programs of `cargo xtask bench floor`.
pub(crate) fn floor_object(lab: &Lab) -> PathBuf {
    programs(lab).join("stormglass-floor")
}

fn programs(lab: &Lab) -> PathBuf {
    lab.target().join("bpf").join(TARGET).join("release")
}
