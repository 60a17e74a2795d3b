//! deploy/kubernetes, as the chart says it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

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

/// A file beside the agent's own, for who has what reads it.
struct Part {
    file: &'static str,
    /// What its reader has to know; whole lines.
    note: &'static str,
    values: &'static str,
    templates: &'static [&'static str],
}

const PARTS: [Part; 4] = [
    Part {
        file: "monitoring.yaml",
        note: "# For Prometheus' operator.\n",
        values: "podMonitor.enabled=true,prometheusRule.enabled=true",
        templates: &["podmonitor", "prometheusrule"],
    },
    Part {
        file: "servicemonitor.yaml",
        note: "# In place of the PodMonitor of monitoring.yaml, for an operator that selects ServiceMonitors only: with both, every sample\n\
               # is there twice.\n",
        values: "serviceMonitor.enabled=true",
        templates: &["servicemonitor"],
    },
    Part {
        file: "dashboards.yaml",
        note: "# For the sidecar of Grafana that looks for ConfigMaps by this label, in this namespace or in all.\n",
        values: "dashboards.enabled=true",
        templates: &["dashboards"],
    },
    Part {
        file: "networkpolicy.yaml",
        note: "# The agent's port and no other. Most network plugins exempt pods on their node's network, which the agent is unless\n\
               # hostNetwork is false.\n",
        values: "networkPolicy.enabled=true",
        templates: &["networkpolicy"],
    },
];

pub(super) fn chart(lab: &Lab) -> PathBuf {
    lab.workspace().join("deploy/helm/stormglass")
}

pub(super) fn folder(lab: &Lab) -> PathBuf {
    lab.workspace().join("deploy/kubernetes")
}

/// The files by name: the agent itself, and what others read.
pub(super) fn render(lab: &Lab) -> Result<Vec<(&'static str, String)>> {
    let agent = format!("{HEAD}{NAMESPACE}{}", plain(&template(lab, &[])?));
    let mut files = vec![("stormglass.yaml", agent)];
    for part in PARTS {
        let mut options = vec!["--set".to_owned(), part.values.to_owned()];
        for template in part.templates {
            options.extend(["--show-only".into(), format!("templates/{template}.yaml")]);
        }
        let text = plain(&template(lab, &options)?);
        files.push((part.file, format!("{HEAD}{}{text}", part.note)));
    }
    Ok(files)
}

/// That the files are what the chart says, and that there is no other; returns them by name.
pub(super) fn check(lab: &Lab) -> Result<Vec<(&'static str, String)>> {
    let files = render(lab)?;
    for (name, text) in &files {
        let written = fs::read_to_string(folder(lab).join(name)).unwrap_or_default();
        ensure!(
            written == *text,
            "deploy/kubernetes/{name} is not what the chart says; `cargo xtask deploy render` writes it"
        );
    }
    let there = fs::read_dir(folder(lab))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<BTreeSet<_>>>()?;
    let known = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    let others: Vec<_> = there.difference(&known).collect();
    ensure!(
        others.is_empty(),
        "deploy/kubernetes: {others:?} come from nowhere"
    );
    Ok(files)
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
        .context("Helm refuses the chart")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `kubectl apply` keeps each document, as JSON, in an annotation of the object; the sum of annotations is limited.
    const ANNOTATIONS: usize = 262_144;

    /// Bytes of a document as a JSON string: no less than kubectl needs.
    fn annotated(document: &str) -> usize {
        let bytes = |letter: char| match letter {
            '"' | '\\' | '\n' => 2,
            '<' | '>' | '&' => 6,
            _ => letter.len_utf8(),
        };
        document.chars().map(bytes).sum()
    }

    #[test]
    fn every_document_can_be_applied_by_the_client() {
        let lab = Lab::new();
        let mut documents = 0;
        for entry in fs::read_dir(folder(&lab)).expect("deploy/kubernetes") {
            let path = entry.expect("a file").path();
            let text = fs::read_to_string(&path).expect("text");
            for document in text.split("\n---\n") {
                documents += 1;
                let bytes = annotated(document);
                assert!(bytes < ANNOTATIONS, "{}: {bytes} bytes", path.display());
            }
        }
        assert!(documents > PARTS.len(), "{documents}");
    }

    #[test]
    fn dashboards_in_the_manifests_are_those_that_are_shipped() {
        let lab = Lab::new();
        let manifests = fs::read_to_string(folder(&lab).join("dashboards.yaml")).expect("dashboards.yaml");
        let mut boards = 0;
        for entry in fs::read_dir(lab.workspace().join("dashboards/grafana")).expect("dashboards") {
            let path = entry.expect("a file").path();
            let board = fs::read_to_string(&path).expect("JSON");
            let lines = board.trim().lines().map(|line| format!("    {line}\n"));
            assert!(
                manifests.contains(&lines.collect::<String>()),
                "{} is another one in deploy/kubernetes/dashboards.yaml: cargo xtask deploy render",
                path.display()
            );
            boards += 1;
        }
        assert_eq!(manifests.matches("\nkind: ConfigMap\n").count(), boards);
    }
}
