//! Checks of `[kubernetes]`, and of `workload.kubernetes`.

use globset::{Glob, GlobBuilder};
use toml::Spanned;

use super::check::Result;
use super::error::Source;
use super::raw::{self, Switch, Texts};
use super::settings::{Kubernetes, KubernetesSwitch};

/// Labels that are kept of each pod: they cost memory for each, and a person reads few.
const LABELS: usize = 16;
/// Longest name of a label: 253 bytes of a domain, a slash, 63 bytes (Kubernetes' documentation of labels).
const LABEL_BYTES: usize = 317;
/// Longest name of a node.
const NODE_BYTES: usize = 253;

/// Checks `[kubernetes]`.
pub(super) fn kubernetes(file: &Source<'_>, raw: &raw::Kubernetes) -> Result<Kubernetes> {
    let default = Kubernetes::default();
    let kubeconfig = raw.kubeconfig.as_ref().map(|path| kubeconfig(file, path));
    let node = raw.node.as_ref().map(|node| node_name(file, node));
    Ok(Kubernetes {
        enabled: match &raw.enabled {
            Some(enabled) => switch(file, enabled)?,
            None => default.enabled,
        },
        kubeconfig: kubeconfig.transpose()?,
        node: node.transpose()?,
        client_pods: raw.client_pods.unwrap_or(default.client_pods),
        labels: match &raw.labels {
            Some(labels) => label_names(file, labels)?,
            None => default.labels,
        },
    })
}

fn switch(file: &Source<'_>, raw: &Spanned<Switch>) -> Result<KubernetesSwitch> {
    match raw.get_ref() {
        Switch::Flag(true) => Ok(KubernetesSwitch::On),
        Switch::Flag(false) => Ok(KubernetesSwitch::Off),
        Switch::Word(word) if word == "auto" => Ok(KubernetesSwitch::Auto),
        Switch::Word(word) => Err(file.error(
            raw.span(),
            format!("`kubernetes.enabled` cannot be {word:?}"),
            "write true, false or \"auto\"".into(),
        )),
    }
}

fn kubeconfig(file: &Source<'_>, raw: &Spanned<String>) -> Result<String> {
    let path = raw.get_ref();
    if path.starts_with('/') {
        return Ok(path.clone());
    }
    Err(file.error(
        raw.span(),
        format!("`kubernetes.kubeconfig` cannot be {path:?}"),
        "write the path from the root on, such as \"/etc/stormglass/kubeconfig\"".into(),
    ))
}

/// It becomes part of a selector: nothing else may be in it than in the name of a node.
fn node_name(file: &Source<'_>, raw: &Spanned<String>) -> Result<String> {
    let node = raw.get_ref();
    let ordinary = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !node.is_empty() && node.len() <= NODE_BYTES && node.chars().all(ordinary) {
        return Ok(node.clone());
    }
    Err(file.error(
        raw.span(),
        format!("{node:?} is not the name of a node"),
        "write it as `kubectl get nodes` does".into(),
    ))
}

fn label_names(file: &Source<'_>, raw: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>> {
    let labels = raw.get_ref();
    if labels.len() > LABELS {
        return Err(file.error(
            raw.span(),
            format!("{} labels are too many", labels.len()),
            format!("name at most {LABELS}"),
        ));
    }
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let checked = labels.iter().map(|label| {
        let name = label.get_ref();
        if !name.is_empty() && name.len() <= LABEL_BYTES && name.chars().all(ordinary) {
            return Ok(name.clone());
        }
        Err(file.error(
            label.span(),
            format!("{name:?} is not the name of a label"),
            "write it as in the pod, such as \"app.kubernetes.io/name\"".into(),
        ))
    });
    checked.collect()
}

/// Checks the `kubernetes` of a workload.
pub(super) fn owners(file: &Source<'_>, raw: Option<&Spanned<Texts>>) -> Result<Vec<Glob>> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let texts = match raw.get_ref() {
        Texts::One(text) => std::slice::from_ref(text),
        Texts::Several(texts) => texts,
    };
    let advice =
        "write NAMESPACE/KIND/NAME, each of them a name or a glob, such as \"shop/Deployment/cart-*\"";
    let checked = texts.iter().map(|text| {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() != 3 || parts.iter().any(|part| part.is_empty()) {
            let reason = format!("`{text}` does not say whose pods");
            return Err(file.error(raw.span(), reason, advice.into()));
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(false)
            .build();
        glob.map_err(|error| {
            let reason = format!("`{text}` is not a glob ({})", error.kind());
            file.error(raw.span(), reason, advice.into())
        })
    });
    checked.collect()
}
