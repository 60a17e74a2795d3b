//! What the double answers, as the API server writes it.

use serde_json::{Value, json};

use super::{Request, State};

/// The only thing that an agent has to ask for.
const PODS: &str = "/api/v1/pods";

/// An answer to a request.
pub(super) enum Answer {
    /// A whole one: status, further header lines, body.
    Whole {
        code: u16,
        header: &'static str,
        body: String,
    },
    /// What changes behind this version, as it comes.
    Watch { behind: u64 },
    /// One event, and the end.
    Event(Value),
}

impl Answer {
    pub(super) fn refusal(code: u16, header: &'static str) -> Self {
        Self::Whole {
            code,
            header,
            body: status(code, "Refused", "not now").to_string(),
        }
    }

    /// To a request that came with this token.
    pub(super) fn new(request: &Request, token: &str, state: &mut State) -> Self {
        if let Some(refusal) = state.refusals.pop_front() {
            return refusal;
        }
        if token != state.token {
            return Self::refusal(401, "");
        }
        let path = request.target.split('?').next();
        if request.method != "GET" || path != Some(PODS) {
            return Self::refusal(403, "");
        }
        if request.is_watch() {
            let behind = request.version().unwrap_or(state.version);
            return if behind < state.forgotten {
                Self::Event(expired())
            } else {
                Self::Watch { behind }
            };
        }
        list(request, state)
    }
}

/// A list, or a page of it: the token for the next one says how many pods were before.
fn list(request: &Request, state: &State) -> Answer {
    let number = |name| request.parameter(name).and_then(|text| text.parse().ok());
    let begin: usize = number("continue").unwrap_or(0);
    let limit = number("limit").unwrap_or(usize::MAX);
    let pods: Vec<&Value> = state.pods.iter().filter(|pod| wants(request, pod)).collect();
    let end = begin.saturating_add(limit).min(pods.len());
    let mut list = json!({"kind": "PodList", "apiVersion": "v1", "items": pods[begin.min(end)..end],
        "metadata": {"resourceVersion": state.version.to_string()}});
    if end < pods.len() {
        list["metadata"]["continue"] = end.to_string().into();
    }
    Answer::Whole {
        code: 200,
        header: "",
        body: list.to_string(),
    }
}

/// Whether the request asks for this pod, or for all.
pub(super) fn wants(request: &Request, pod: &Value) -> bool {
    let selector = request.parameter("fieldSelector");
    let node = selector.and_then(|selector| selector.strip_prefix("spec.nodeName%3D"));
    node.is_none_or(|node| pod["spec"]["nodeName"] == *node)
}

/// An event as a line of a watch.
pub(super) fn line(event: &Value) -> Vec<u8> {
    format!("{event}\n").into_bytes()
}

pub(super) fn bookmark(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata":
        {"resourceVersion": version.to_string()}, "spec": {"containers": null}, "status": {}}})
}

pub(super) fn expired() -> Value {
    let status = status(410, "Expired", "too old resource version: 1 (2)");
    json!({"type": "ERROR", "object": status})
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code})
}

/// A running pod of a Deployment, as the API server writes it.
#[must_use]
pub fn pod(uid: &str, namespace: &str, deployment: &str, node: &str, address: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": format!("{deployment}-7d4b9c6f5-x2x9q"), "namespace": namespace, "uid": uid, "resourceVersion": "7",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": deployment, "pod-template-hash": "7d4b9c6f5"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": format!("{deployment}-7d4b9c6f5"), "uid": "r"}],
        },
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}
