//! Manifests, held to what other people's programs know of them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::Lab;
use crate::process::Run as _;

/// Kubernetes' last three versions.
const VERSIONS: [&str; 3] = ["1.35.0", "1.36.0", "1.37.0"];

/// Group and version of what the operator of Prometheus reads.
const OPERATOR: &str = "monitoring.coreos.com";
const OPERATORS_VERSION: &str = "monitoring.coreos.com/v1";

/// Rules, which promtool reads.
const RULES: &str = "PrometheusRule";
/// Kinds of the operator's that nothing here has a schema of.
const MONITORS: [&str; 2] = ["PodMonitor", "ServiceMonitor"];

/// Every document: those of Kubernetes strictly by the schemas of each version, rules by promtool. A kind that neither knows is
/// refused, but for the operator's monitors.
pub(super) fn check(lab: &Lab, files: &[(&'static str, String)]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut manifests: Vec<PathBuf> = Vec::new();
    let mut rules: Vec<PathBuf> = Vec::new();
    for (name, text) in files {
        let name = name.replace('/', "-");
        let sorted = sort(text).with_context(|| name.clone())?;
        let file = folder.path().join(&name);
        fs::write(&file, sorted.kubernetes.join("\n---\n"))?;
        manifests.push(file);
        for spec in sorted.rules {
            let file = folder.path().join(format!("rules-{}-{name}", rules.len()));
            fs::write(&file, spec)?;
            rules.push(file);
        }
    }
    for version in VERSIONS {
        by_schemas(lab, version, &manifests)?;
    }
    ensure!(!rules.is_empty(), "there are no rules in the manifests");
    let mut promtool = Command::new(lab.promtool());
    promtool.args(["check", "rules"]).args(rules).read()?;
    Ok(())
}

/// The tool warns of a kind without a schema, and is content.
fn by_schemas(lab: &Lab, version: &str, manifests: &[PathBuf]) -> Result<()> {
    let output = Command::new("python3")
        .args(["-m", "kubernetes_validate", "--strict", "--quiet", "-k", version])
        .args(manifests)
        .env("PYTHONPATH", lab.kubernetes_schemas())
        .output()
        .context("Python 3 is missing")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !said.trim().is_empty() {
        bail!(
            "Kubernetes {version} refuses the manifests, or does not know them:\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[derive(Default)]
struct Sorted<'a> {
    /// Documents of Kubernetes' own, or said to be.
    kubernetes: Vec<&'a str>,
    /// What promtool reads.
    rules: Vec<String>,
}

fn sort(text: &str) -> Result<Sorted<'_>> {
    let mut sorted = Sorted::default();
    for document in text.split("\n---\n") {
        let field = |name: &str| {
            let mut lines = document.lines();
            lines.find_map(|line| line.strip_prefix(name)).map(str::trim)
        };
        let version = field("apiVersion:").unwrap_or_default();
        let kind = field("kind:").unwrap_or_default();
        if !version.starts_with(OPERATOR) {
            sorted.kubernetes.push(document);
        } else if version == OPERATORS_VERSION && kind == RULES {
            sorted.rules.push(spec(document)?);
        } else if version != OPERATORS_VERSION || !MONITORS.contains(&kind) {
            bail!("nothing here knows a {kind:?} of {version}");
        }
    }
    Ok(sorted)
}

/// The `spec` of a document, as a file of its own.
fn spec(document: &str) -> Result<String> {
    let (_, below) = document.split_once("\nspec:\n").context("rules without a spec")?;
    let lines = below
        .lines()
        .take_while(|line| !line.starts_with(|c: char| c.is_alphabetic()));
    Ok(lines
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str =
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nspec:\n  groups:\n    - name: a\n";

    #[test]
    fn documents_go_to_who_knows_them() {
        let pod = "# Of the agent.\napiVersion: v1\nkind: Pod\n";
        let monitor = "apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\n";
        let text = format!("{pod}\n---\n{RULE}\n---\n{monitor}");
        let sorted = sort(&text).expect("known kinds");
        assert_eq!(sorted.kubernetes, [pod]);
        assert_eq!(sorted.rules, ["groups:\n  - name: a\n"]);
    }

    #[test]
    fn a_kind_that_the_operator_of_these_manifests_does_not_have_is_refused() {
        for wrong in [
            RULE.replace("PrometheusRule", "PrometheusRules"),
            RULE.replace("com/v1", "com/v1alpha1"),
        ] {
            assert!(sort(&wrong).is_err(), "{wrong}");
        }
    }
}
