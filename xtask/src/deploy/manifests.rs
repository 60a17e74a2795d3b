//! deploy/kubernetes, as the chart says it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::lab::Lab;
use crate::process::Run as _;

/// What the manifests begin with.
const HEAD: &str =
    "# Written by `cargo xtask deploy render` from deploy/helm/stormglass; a change belongs there.\n";

const NAMESPACE: &str = "---
# The agent sees the host's processes: namespaces that enforce a Pod Security Standard have to allow it.
apiVersion: v1
kind: Namespace
metadata:
  name: stormglass
  labels:
    pod-security.kubernetes.io/enforce: privileged
";

pub(super) fn chart(lab: &Lab) -> PathBuf {
    lab.workspace().join("deploy/helm/stormglass")
}

pub(super) fn folder(lab: &Lab) -> PathBuf {
    lab.workspace().join("deploy/kubernetes")
}

/// The files by name: the agent itself, and what the operator of Prometheus reads.
pub(super) fn render(lab: &Lab) -> Result<[(&'static str, String); 2]> {
    let agent = format!("{HEAD}{NAMESPACE}{}", plain(&template(lab, &[])?));
    let monitoring = [
        "--set",
        "podMonitor.enabled=true,prometheusRule.enabled=true",
        "--show-only",
        "templates/podmonitor.yaml",
        "--show-only",
        "templates/prometheusrule.yaml",
    ];
    let monitoring = template(lab, &monitoring.map(str::to_owned))?;
    Ok([
        ("stormglass.yaml", agent),
        ("monitoring.yaml", format!("{HEAD}{}", plain(&monitoring))),
    ])
}

/// What `helm template` answers.
pub(super) fn template(lab: &Lab, options: &[String]) -> Result<String> {
    Command::new(lab.helm())
        .args([
            "template",
            "stormglass",
            "--namespace",
            "stormglass",
            "--kube-version",
            "1.37.0",
        ])
        .args(options)
        .arg(chart(lab))
        .read()
}

/// Without what only Helm reads.
fn plain(text: &str) -> String {
    let helms = |line: &&str| {
        let line = line.trim_start();
        !(line.starts_with("# Source: ")
            || line.starts_with("helm.sh/chart: ")
            || line == "app.kubernetes.io/managed-by: Helm")
    };
    text.lines()
        .filter(helms)
        .map(|line| format!("{line}\n"))
        .collect()
}
