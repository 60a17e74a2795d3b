//! `cargo xtask deploy`: the plain manifests, written from the chart, and what both are held to.

mod manifests;
mod package;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;

use crate::lab::{Lab, tools};
use crate::process::{Run as _, say};

/// Kubernetes' last three versions.
const VERSIONS: [&str; 3] = ["1.35.0", "1.36.0", "1.37.0"];

/// Values that the schema has to refuse.
const WRONG: &[&str] = &[
    "hostNetwork=maybe",
    "listen.port=70000",
    "listen.port=\"9466\"",
    "listen.address=localhost",
    "image.pullPolicy=Sometimes",
    "image.digest=latest",
    "tolerations=all",
    "log.level=loud",
    "seccomp.type=None",
    "podMonitor.interval=15",
    "prometheusRule.runbookUrl=wiki",
    "stateDir=relative",
    "image.name=stormglass",
    "resources=large",
    "nodeSelectors.a=b",
    "web.password=secret",
];

/// What `cargo xtask deploy` can be told.
#[derive(Subcommand)]
pub(crate) enum Deploy {
    /// Write deploy/kubernetes from the chart
    Render,
    /// Hold chart and manifests to each other, to Kubernetes' schemas and to their own
    Check,
    /// Build the Debian package of target/release/stormglass
    Package,
}

pub(crate) fn run(lab: &Lab, command: &Deploy) -> Result<()> {
    match command {
        Deploy::Render => {
            tools::ensure_helm(lab)?;
            for (name, text) in manifests::render(lab)? {
                fs::write(manifests::folder(lab).join(name), text)?;
                say(format!("wrote deploy/kubernetes/{name}"));
            }
            Ok(())
        }
        Deploy::Check => check(lab),
        Deploy::Package => package::run(lab),
    }
}

fn check(lab: &Lab) -> Result<()> {
    tools::ensure_helm(lab)?;
    lint(lab)?;
    refuse(lab)?;
    for (name, text) in manifests::render(lab)? {
        let written = fs::read_to_string(manifests::folder(lab).join(name)).unwrap_or_default();
        ensure!(
            written == text,
            "deploy/kubernetes/{name} is not what the chart says; `cargo xtask deploy render` writes it"
        );
    }
    validate(lab)?;
    say("chart and manifests hold");
    Ok(())
}

fn lint(lab: &Lab) -> Result<()> {
    let chart = manifests::chart(lab);
    for values in ["values.yaml", "ci/everything.yaml"] {
        Command::new(lab.helm())
            .args(["lint", "--strict", "--quiet", "--values"])
            .arg(chart.join(values))
            .arg(&chart)
            .read()?;
    }
    Ok(())
}

fn refuse(lab: &Lab) -> Result<()> {
    let chart = manifests::chart(lab);
    for wrong in WRONG {
        let (flag, value) = match wrong.split_once("=\"") {
            Some((key, text)) => ("--set-string", format!("{key}={}", text.trim_end_matches('"'))),
            None => ("--set", (*wrong).to_owned()),
        };
        let output = Command::new(lab.helm())
            .args(["template", "stormglass", flag, &value])
            .arg(&chart)
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success() && words.contains("schema"),
            "the schema of the values takes {wrong}: {words}"
        );
    }
    let own_http = "config=[http]\nlisten = \"0.0.0.0:1\"";
    let taken = Command::new(lab.helm())
        .args(["template", "stormglass", "--set-literal", own_http])
        .arg(&chart)
        .output()?;
    ensure!(!taken.status.success(), "the chart takes a second [http]");
    Ok(())
}

/// Every document against the schemas of each version, strictly. Those of the operator have none: `promtool` and the names of
/// their fields are what is known of them.
fn validate(lab: &Lab) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut files: Vec<PathBuf> = Vec::new();
    let texts = [
        manifests::template(lab, &[])?,
        manifests::template(lab, &["--values".into(), everything(lab)])?,
    ];
    ensure!(
        texts[1].contains("https://wiki.example.com/RUNBOOKS.md#stormglass")
            && !texts[1].contains("stormglass.example"),
        "prometheusRule.runbookUrl does not get into the rules"
    );
    for (number, text) in texts.iter().enumerate() {
        let known = text
            .split("\n---\n")
            .filter(|document| document.contains("kind:") && !document.contains("monitoring.coreos.com"));
        let file = folder.path().join(format!("{number}.yaml"));
        fs::write(&file, known.collect::<Vec<_>>().join("\n---\n"))?;
        files.push(file);
    }
    for version in VERSIONS {
        let output = Command::new("python3")
            .args([
                "-m",
                "kubernetes_validate",
                "--strict",
                "--no-warn",
                "-k",
                version,
            ])
            .args(&files)
            .env("PYTHONPATH", lab.kubernetes_schemas())
            .output()
            .context("Python 3 is missing")?;
        if !output.status.success() {
            bail!(
                "Kubernetes {version} refuses the manifests:\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(())
}

fn everything(lab: &Lab) -> String {
    manifests::chart(lab)
        .join("ci/everything.yaml")
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use serde_json::Value;

    use crate::lab::Lab;

    fn deployed(path: &str) -> String {
        let path = Lab::new().workspace().join("deploy").join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// In the words of OCI.
    fn capabilities(text: &str) -> BTreeSet<String> {
        let words = text.split([' ', ',', '[', ']', '=']);
        let names = words.map(str::trim).filter(|word| !word.is_empty());
        names
            .map(|name| format!("CAP_{}", name.trim_start_matches("CAP_")))
            .collect()
    }

    #[test]
    fn container_chart_manifests_and_unit_grant_the_same_capabilities() {
        let container: Value = serde_json::from_str(&deployed("container/config.json")).expect("JSON");
        let sets = container["process"]["capabilities"].as_object().expect("sets");
        let shipped: BTreeSet<String> = serde_json::from_value(sets["bounding"].clone()).expect("names");
        assert_eq!(shipped.len(), 6);
        for (name, set) in sets {
            assert_eq!(set, &sets["bounding"], "{name}");
        }
        for file in [
            "helm/stormglass/templates/daemonset.yaml",
            "kubernetes/stormglass.yaml",
        ] {
            let text = deployed(file);
            let added = text.lines().find_map(|line| line.trim().strip_prefix("add: "));
            assert_eq!(capabilities(added.expect("capabilities")), shipped, "{file}");
        }
        let unit = deployed("stormglass.service");
        let bounding = unit
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        assert_eq!(capabilities(bounding.expect("capabilities")), shipped);
    }

    #[test]
    fn container_and_chart_mount_the_same_places_of_the_host() {
        let container: Value = serde_json::from_str(&deployed("container/config.json")).expect("JSON");
        let mounts = container["mounts"].as_array().expect("mounts");
        let places = mounts
            .iter()
            .filter(|mount| mount["type"] == "bind")
            .map(|mount| mount["destination"].as_str().unwrap_or_default().to_owned());
        let manifest = deployed("kubernetes/stormglass.yaml");
        let mounted = manifest
            .lines()
            .filter_map(|line| line.trim().strip_prefix("mountPath: ").map(str::to_owned));
        assert_eq!(places.collect::<BTreeSet<_>>(), mounted.collect::<BTreeSet<_>>());
    }
}
