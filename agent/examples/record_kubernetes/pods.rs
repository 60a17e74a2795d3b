//! Pods as controllers, the scheduler and kubelets would write them: they are not there.

use serde_json::{Value, json};

/// What is said of a pod.
#[derive(Clone, Copy)]
pub(crate) struct Pod {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    /// Kind and name of what keeps it; the first may be `Node`, the second nothing.
    pub(crate) owner: Option<(&'static str, &'static str)>,
    pub(crate) labels: &'static [(&'static str, &'static str)],
    pub(crate) node: &'static str,
    /// One of each family; none: it is on its node's network.
    pub(crate) addresses: &'static [&'static str],
}

const CART: Pod = Pod {
    namespace: "shop",
    name: "cart-7d4b9c6f5-x2x9q",
    owner: Some(("ReplicaSet", "cart-7d4b9c6f5")),
    labels: &[("app", "cart"), ("pod-template-hash", "7d4b9c6f5")],
    node: "here",
    addresses: &["10.1.0.11"],
};

/// Those that are there when the watcher comes.
pub(crate) const FIRST: &[Pod] = &[
    CART,
    Pod {
        name: "cart-7d4b9c6f5-m4k8t",
        node: "there",
        addresses: &["10.1.0.12"],
        ..CART
    },
    Pod {
        name: "cache-0",
        owner: Some(("StatefulSet", "cache")),
        labels: &[
            ("app", "cache"),
            ("statefulset.kubernetes.io/pod-name", "cache-0"),
        ],
        addresses: &["10.1.0.13", "fd00:10:1::13"],
        ..CART
    },
    Pod {
        namespace: "shop",
        name: "debug",
        owner: None,
        labels: &[],
        node: "there",
        addresses: &["10.1.0.14"],
    },
    Pod {
        namespace: "pay",
        name: "ledger-5c9d8b7f64-q7w2e",
        owner: Some(("ReplicaSet", "ledger-5c9d8b7f64")),
        labels: &[("app", "ledger"), ("pod-template-hash", "5c9d8b7f64")],
        node: "there",
        addresses: &["10.1.0.15"],
    },
    Pod {
        namespace: "pay",
        name: "nightly-29764800-5h6j7",
        owner: Some(("Job", "nightly-29764800")),
        labels: &[("job-name", "nightly-29764800")],
        node: "there",
        addresses: &["10.1.0.16"],
    },
    Pod {
        namespace: "pay",
        name: "import-z9x8c",
        owner: Some(("Job", "import")),
        labels: &[("job-name", "import")],
        node: "here",
        addresses: &["10.1.0.17"],
    },
    Pod {
        namespace: "pay",
        name: "canary-k2j3h",
        owner: Some(("ReplicaSet", "canary")),
        labels: &[("app", "canary")],
        node: "there",
        addresses: &["10.1.0.18"],
    },
    Pod {
        namespace: "kube-system",
        name: "kube-proxy-4f5g6",
        owner: Some(("DaemonSet", "kube-proxy")),
        labels: &[("k8s-app", "kube-proxy")],
        node: "here",
        addresses: &[],
    },
    Pod {
        namespace: "kube-system",
        name: "registry-cache-here",
        owner: Some(("Node", "here")),
        labels: &[("app", "registry-cache")],
        node: "here",
        addresses: &["10.1.0.19"],
    },
];

/// One that comes later.
pub(crate) const LATER: Pod = Pod {
    name: "cart-7d4b9c6f5-n6b5v",
    addresses: &["10.1.0.20"],
    ..CART
};

/// One that comes later still, and gets the address of [`debug`](FIRST) when that is gone.
pub(crate) const HEIR: Pod = Pod {
    name: "cart-7d4b9c6f5-t1r2e",
    node: "there",
    addresses: &["10.1.0.14"],
    ..CART
};

impl Pod {
    pub(crate) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }

    /// kubelet makes the object of a static pod itself; all others are scheduled.
    pub(crate) fn is_static(&self) -> bool {
        matches!(self.owner, Some(("Node", _)))
    }

    pub(crate) fn object(&self) -> Value {
        let labels = self
            .labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()));
        let mut object = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": self.name, "namespace": self.namespace,
                "labels": Value::Object(labels.collect())},
            "spec": {"hostNetwork": self.addresses.is_empty(), "containers": [{"name": "main",
                "image": "registry.example/main:1", "ports": [{"containerPort": 6379, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}}]},
        });
        if let Some((kind, name)) = self.owner {
            let version = match kind {
                "Job" => "batch/v1",
                "Node" => "v1",
                _ => "apps/v1",
            };
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": version, "kind": kind, "name": name,
                "uid": "3b5c1f0e-0f5a-4c8e-9d59-6a1c55d0f2b1", "controller": true,
                "blockOwnerDeletion": kind != "Node"}]);
        }
        if self.is_static() {
            let hash = "8f6e1c2a9b4d4e7fa1c3b5d7e9f01234";
            object["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": hash,
                "kubernetes.io/config.mirror": hash, "kubernetes.io/config.source": "file",
                "kubernetes.io/config.seen": "2026-11-30T12:00:00.123456789Z"});
            object["spec"]["nodeName"] = self.node.into();
            object["spec"]["tolerations"] = json!([{"effect": "NoExecute", "operator": "Exists"}]);
        }
        object
    }

    /// What kubelet says when its container runs; `container` is the beginning of the container's id.
    pub(crate) fn running(&self, container: &str) -> Value {
        let time = "2026-11-30T12:00:01Z";
        let own: Vec<Value> = self
            .addresses
            .iter()
            .map(|address| json!({"ip": address}))
            .collect();
        let host = if self.node == "here" {
            "192.0.2.1"
        } else {
            "192.0.2.2"
        };
        let addresses = if own.is_empty() {
            vec![json!({"ip": host})]
        } else {
            own
        };
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time, "lastProbeTime": null});
        json!({"status": {
            "phase": "Running", "hostIP": host, "hostIPs": [{"ip": host}], "startTime": time,
            "podIP": addresses[0]["ip"], "podIPs": addresses,
            "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady")],
            "containerStatuses": [{"name": "main", "ready": true, "started": true, "restartCount": 0,
                "image": "registry.example/main:1", "imageID": format!("registry.example/main@sha256:{:0>64}", "1"),
                "containerID": format!("containerd://{:0<64}", container_id(self.name, container)),
                "state": {"running": {"startedAt": time}}}],
        }})
    }
}

/// Hexadecimal, and another one for each pod.
fn container_id(pod: &str, container: &str) -> String {
    let digits = pod.bytes().map(|byte| format!("{byte:02x}"));
    container.to_owned() + &digits.collect::<String>()
}
