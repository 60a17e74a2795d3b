//! Tools that tests and checks run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::apt::Apt;
use super::{Lab, node, part, pip, servers};
use crate::process::{Run as _, say};

/// Client libraries that speak differently when they connect, and what the third one of them needs.
const CLIENTS: [&str; 7] = [
    "valkey==6.2.0",
    "redis==8.1.0",
    "valkey-glide-sync==2.6.0",
    "cffi==2.1.1",
    "protobuf==7.36.2",
    "pycparser==3.12",
    "typing_extensions==4.16.0",
];
const DENY_VERSION: &str = "0.20.2";

/// Brings promtool, Alertmanager, bpftool, nft, ethtool, and the clients for Python and for Node.js.
pub(crate) fn ensure_tools(lab: &Lab) -> Result<()> {
    ensure_prometheus(lab)?;
    ensure_alertmanager(lab)?;
    ensure_bpftool(lab)?;
    servers::from_packages(lab, "nftables", &["nftables"], &["usr/sbin/nft"])?;
    servers::from_packages(lab, "ethtool", &["ethtool"], &["sbin/ethtool"])?;
    node::ensure_node(lab)?;
    node::ensure_clients(lab)?;
    part::ensure(lab, "python", &CLIENTS.join(" "), |folder| {
        pip::install(&CLIENTS, folder)
    })
}

/// Brings Prometheus and promtool.
pub(crate) fn ensure_prometheus(lab: &Lab) -> Result<()> {
    let programs = ["usr/bin/prometheus", "usr/bin/promtool"];
    servers::from_packages(lab, "prometheus-and-promtool", &["prometheus"], &programs)
}

/// Brings Grafana's published types and the compiler that checks them, and returns their folder.
pub(crate) fn ensure_grafana_types(lab: &Lab) -> Result<PathBuf> {
    node::ensure_node(lab)?;
    node::ensure_locked(lab, "grafana-types", "dashboards/check")?;
    Ok(lab.dir().join("grafana-types/node_modules"))
}

/// Debian's Alertmanager looks for its templates where its package would have put them.
fn ensure_alertmanager(lab: &Lab) -> Result<()> {
    const PACKAGE: &str = "prometheus-alertmanager";
    const PROGRAM: &str = "usr/bin/prometheus-alertmanager";
    part::ensure(lab, "alertmanager", PACKAGE, |folder| {
        Apt::new(lab)?.unpack(&[PACKAGE], &[PROGRAM], folder)?;
        part::offer_with_data(lab, folder, PROGRAM, "usr/share/prometheus")
    })
}

/// Brings tcpdump and returns its path.
pub(crate) fn ensure_tcpdump(lab: &Lab) -> Result<PathBuf> {
    servers::from_packages(lab, "tcpdump", &["tcpdump"], &["usr/bin/tcpdump"])?;
    Ok(lab.bin("tcpdump"))
}

/// Brings bpftool alone.
pub(crate) fn ensure_bpftool(lab: &Lab) -> Result<()> {
    servers::from_packages(lab, "bpftool", &["bpftool"], &["usr/sbin/bpftool"])
}

/// Brings cargo-deny, compiled from source.
pub(crate) fn ensure_deny(lab: &Lab) -> Result<()> {
    part::ensure(lab, "deny", &format!("cargo-deny {DENY_VERSION}"), |folder| {
        say("building cargo-deny, some minutes");
        let build = folder.join("build");
        Command::new("cargo")
            // It runs for a second a day: compiling it unoptimised is what saves time.
            .args([
                "install",
                "cargo-deny",
                "--quiet",
                "--locked",
                "--debug",
                "--version",
                DENY_VERSION,
            ])
            .arg("--root")
            .arg(folder)
            .arg("--target-dir")
            .arg(&build)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .run()?;
        fs::remove_dir_all(build).map_err(Into::into)
    })
}
