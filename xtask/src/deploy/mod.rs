//! `cargo xtask deploy`: the plain manifests, written from the chart, the package, and what all of it is held to.

mod chart;
mod manifests;
mod package;
mod unit;
mod validate;

use std::fs;

use anyhow::Result;
use clap::Subcommand;

use crate::lab::{Lab, tools};
use crate::process::say;

/// What `cargo xtask deploy` can be told.
#[derive(Subcommand)]
pub(crate) enum Deploy {
    /// Write deploy/kubernetes from the chart
    Render,
    /// Hold chart and manifests to each other, to Kubernetes' schemas, to promtool and to their own schema, and the unit to systemd
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
    tools::ensure_prometheus(lab)?;
    let mut texts = chart::check(lab)?;
    texts.extend(manifests::check(lab)?);
    validate::check(lab, &texts)?;
    unit::check(lab)?;
    package::check(lab)?;
    say("chart, manifests and unit hold");
    Ok(())
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
