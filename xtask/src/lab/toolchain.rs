//! The BPF toolchain: a rustc with a `core` for the BPF target, and bpf-linker of the same LLVM major.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::{self, Apt};
use super::{Lab, part};
use crate::process::{Run as _, say};

/// The kernel programs' target.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

const LLVM_MAJOR: &str = "22";
const LINKER_VERSION: &str = "0.13.0";

const PACKAGES: [&str; 8] = [
    "rustc-web=1.96*",
    "libstd-rust-web-1.96",
    "libstd-rust-web-dev=1.96*",
    "libstd-rust-web-dev-bpf=1.96*",
    "libllvm22",
    "llvm-22",
    "llvm-22-dev",
    "llvm-22-linker-tools",
];

/// Clippy of the same release as the packaged compiler.
const CLIPPY: &str = "rust-web-clippy=1.96*";

const ALTERNATIVE: &str = "no BPF toolchain. Bring one of your own (`rustup component add rust-src` for a toolchain \
     with LLVM 22, and on PATH a bpf-linker 0.13 that was built with `--features llvm-22`), or use Debian's";

/// A toolchain that can build the kernel programs.
pub(crate) struct Toolchain {
    rustc: PathBuf,
    linker: PathBuf,
    /// Cargo has to build `core` itself, from the `rust-src` component.
    build_std: bool,
}

impl Toolchain {
    /// A `cargo SUBCOMMAND` for the BPF target with everything but the package set. Build scripts and procedural
    /// macros do not see the flags, since a target is named.
    pub(crate) fn cargo(&self, lab: &Lab, subcommand: &str) -> Command {
        self.command(lab, Path::new("cargo"), subcommand)
    }

    /// `cargo clippy` for the BPF target.
    pub(crate) fn clippy(&self, lab: &Lab) -> Result<Command> {
        if self.build_std {
            return Ok(self.command(lab, Path::new("cargo"), "clippy"));
        }
        ensure_clippy(lab)?;
        Ok(self.command(lab, &lab.bin("cargo-clippy"), "clippy"))
    }

    fn command(&self, lab: &Lab, cargo: &Path, subcommand: &str) -> Command {
        let mut command = Command::new(cargo);
        command
            .args([subcommand, "--release", "--target", TARGET, "--target-dir"])
            .arg(lab.target().join("bpf"))
            .current_dir(lab.workspace())
            .env("RUSTC", &self.rustc)
            // `core` for this target is not part of any stable release.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags())
            .env_remove("RUSTFLAGS");
        if self.build_std {
            command.args(["-Z", "build-std=core"]);
        }
        command
    }

    fn flags(&self) -> OsString {
        let mut linker = OsString::from("-Clinker=");
        linker.push(&self.linker);
        let flags: [OsString; 7] = [
            "--cfg".into(),
            // aya-ebpf reads the registers of the machine that the programs will run on.
            "bpf_target_arch=\"x86_64\"".into(),
            "-Cdebuginfo=2".into(),
            linker,
            "-Clink-arg=--btf".into(),
            // Jumps and arithmetic on 32 bits; rustc passes it on to the linker. Every supported kernel knows v3.
            "-Ctarget-cpu=v3".into(),
            // Packet bytes have no alignment; without this an unaligned word is eight loads.
            "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".into(),
        ];
        flags.join(&OsString::from("\u{1f}"))
    }
}

/// The toolchain: one that this machine already has, or Debian's packages and a bpf-linker built for them.
pub(crate) fn ensure_toolchain(lab: &Lab) -> Result<Toolchain> {
    if let Some(toolchain) = own_toolchain() {
        return Ok(toolchain);
    }
    ensure_compiler(lab)?;
    ensure_linker(lab)?;
    let bin = lab.dir().join("bin");
    Ok(Toolchain {
        rustc: bin.join("rustc"),
        linker: bin.join("bpf-linker"),
        build_std: false,
    })
}

/// A default toolchain with the `rust-src` component, and a bpf-linker on PATH that reads its bitcode.
fn own_toolchain() -> Option<Toolchain> {
    let help = Command::new("bpf-linker").arg("--help").read().ok()?;
    let rustc = Command::new("rustup")
        .args(["which", "rustc"])
        .read()
        .unwrap_or_else(|_| "rustc".to_owned());
    let rustc = PathBuf::from(rustc.trim());
    let version = Command::new(&rustc).arg("-vV").read().ok()?;
    let sysroot = Command::new(&rustc).args(["--print", "sysroot"]).read().ok()?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    let usable = help.contains("allows-misaligned-mem-access")
        && version.contains(&format!("LLVM version: {LLVM_MAJOR}."))
        && source.is_dir();
    usable.then(|| Toolchain {
        rustc,
        linker: "bpf-linker".into(),
        build_std: true,
    })
}

fn ensure_compiler(lab: &Lab) -> Result<()> {
    let recipe = format!("BPF compiler: {}", PACKAGES.join(" "));
    part::ensure(lab, "bpf", &recipe, |folder| {
        apt::check_host().context(ALTERNATIVE)?;
        let programs = ["usr/bin/rustc", "usr/lib/llvm-22/bin/llvm-objdump"];
        Apt::new(lab)?.unpack(&PACKAGES, &programs, folder)?;
        for program in programs {
            part::offer(lab, folder, &folder.join(program))?;
        }
        Ok(())
    })
}

/// Builds bpf-linker against the unpacked LLVM, about a minute.
fn ensure_linker(lab: &Lab) -> Result<()> {
    let recipe = format!("bpf-linker {LINKER_VERSION} for LLVM {LLVM_MAJOR}");
    part::ensure(lab, "linker", &recipe, |folder| {
        say("building bpf-linker, about a minute");
        let compiler = lab.dir().join("bpf");
        let libraries = part::join(&part::library_folders(&compiler));
        let mut path = compiler.join("usr/lib/llvm-22/bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Command::new("cargo")
            .args([
                "install",
                "bpf-linker",
                "--quiet",
                "--locked",
                "--version",
                LINKER_VERSION,
            ])
            .args(["--no-default-features", "--features", "llvm-22", "--root"])
            .arg(folder)
            .arg("--target-dir")
            .arg(folder.join("build"))
            .env("PATH", path)
            .env("LD_LIBRARY_PATH", &libraries)
            .env("LIBRARY_PATH", &libraries)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .run()?;
        fs::remove_dir_all(folder.join("build"))?;
        part::offer(lab, &compiler, &folder.join("bin/bpf-linker"))
    })
}

/// The linter alone; it loads the compiler from its part.
fn ensure_clippy(lab: &Lab) -> Result<()> {
    part::ensure(lab, "clippy", CLIPPY, |folder| {
        Apt::new(lab)?.unpack(&[CLIPPY], &[], folder)?;
        part::offer(lab, &lab.dir().join("bpf"), &folder.join("usr/bin/cargo-clippy"))
    })
}
