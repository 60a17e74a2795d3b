//! Tells the daemon which kernel object to embed and which commit it was built from.
//!
//! `cargo xtask build` sets `STORMGLASS_BPF_OBJECT` to the built object. Without it the daemon still compiles, so that
//! `cargo test` needs no BPF toolchain, and says at run time that it carries no kernel programs.

use std::env;
use std::process::Command;

const OBJECT: &str = "STORMGLASS_BPF_OBJECT";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(stormglass_bpf_object)");
    println!("cargo:rerun-if-env-changed={OBJECT}");
    if let Ok(path) = env::var(OBJECT) {
        println!("cargo:rerun-if-changed={path}");
        println!("cargo:rustc-env={OBJECT}={path}");
        println!("cargo:rustc-cfg=stormglass_bpf_object");
    }
    println!("cargo:rustc-env=STORMGLASS_COMMIT={}", commit());
}

/// Short hash of the checked-out commit, or `unknown` outside a git checkout.
fn commit() -> String {
    // Where the source has no history: in a container.
    println!("cargo:rerun-if-env-changed=STORMGLASS_COMMIT");
    if let Some(given) = env::var("STORMGLASS_COMMIT").ok().filter(|text| !text.is_empty()) {
        return given;
    }
    // Only release builds follow every commit: a debug build that did would be compiled anew after each one.
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if release && let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
