//! An API server with the agent's account and some pods, a recorder before it, and a watcher.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use stormglass::{
    config::{self, KubernetesSwitch},
    kubernetes::Kubernetes,
};
use stormglass_tests::kubernetes::{
    cluster::{Cluster, Programs},
    recorder::Recorder,
    recording::{End, Exchange},
};

use crate::pods::Pod;

const ACCOUNT: &str = "/api/v1/namespaces/stormglass/serviceaccounts";
/// Where the objects of the manifest go.
const MANIFEST: &[(&str, &str)] = &[
    ("Namespace", "/api/v1/namespaces"),
    ("ServiceAccount", ACCOUNT),
    ("ConfigMap", "/api/v1/namespaces/stormglass/configmaps"),
    ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ("DaemonSet", "/apis/apps/v1/namespaces/stormglass/daemonsets"),
];
const BINDING: (&str, &str) = (
    "ClusterRoleBinding",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
);

pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) recorder: Recorder,
    watcher: Option<Kubernetes>,
}

impl Stage {
    /// With these pods, before anybody watches; the agent's account has all rights of the manifest.
    pub(crate) fn new(
        programs: &Programs,
        file: &Path,
        title: &str,
        flags: &[&str],
        pods: &[Pod],
    ) -> Result<Self> {
        let stage = Self::without_rights(programs, file, title, flags, pods)?;
        stage.grant()?;
        Ok(stage)
    }

    /// The same, but for the binding of account and role.
    pub(crate) fn without_rights(
        programs: &Programs,
        file: &Path,
        title: &str,
        flags: &[&str],
        pods: &[Pod],
    ) -> Result<Self> {
        let cluster = Cluster::start(programs, flags)?;
        let mut about = cluster.versions()?;
        about["title"] = title.into();
        let recorder = Recorder::start(file, about, cluster.address(), cluster.trusted()?)?;
        let stage = Self {
            cluster,
            recorder,
            watcher: None,
        };
        for (kind, path) in MANIFEST {
            stage.cluster.create(path, &document(kind)?)?;
        }
        stage.new_token()?;
        for namespace in ["shop", "pay", "kube-system"] {
            let name = json!({"metadata": {"name": namespace}});
            // The API server makes its own namespaces when it comes to it.
            let _ = stage.cluster.request("POST", "/api/v1/namespaces", Some(&name));
            let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
            stage
                .cluster
                .request("POST", &accounts, Some(&json!({"metadata": {"name": "default"}})))?;
        }
        for pod in pods {
            stage.run(pod)?;
        }
        Ok(stage)
    }

    pub(crate) fn grant(&self) -> Result<()> {
        self.recorder
            .done("the ClusterRoleBinding of deploy/kubernetes")?;
        self.cluster.create(BINDING.1, &document(BINDING.0)?)?;
        Ok(())
    }

    /// A token of the agent's account, by which the watcher goes from its next client on.
    pub(crate) fn new_token(&self) -> Result<()> {
        let wanted = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
        let answer = self
            .cluster
            .request("POST", &format!("{ACCOUNT}/stormglass/token"), Some(&wanted))?;
        self.recorder
            .write_token(answer["status"]["token"].as_str().context("no token")?)
    }

    /// Deletes the agent's account: its tokens are worth nothing any more.
    pub(crate) fn delete_account(&self) -> Result<()> {
        self.act("DELETE", &format!("{ACCOUNT}/stormglass"), None)
    }

    pub(crate) fn create_account(&self) -> Result<()> {
        self.recorder.done("the account anew, and a token of it")?;
        self.cluster.create(ACCOUNT, &document("ServiceAccount")?)?;
        self.new_token()
    }

    /// Does something to the server, and writes it down.
    pub(crate) fn act(&self, method: &str, path: &str, body: Option<&Value>) -> Result<()> {
        self.recorder.done(&format!("{method} {path}"))?;
        self.cluster.request(method, path, body)?;
        Ok(())
    }

    /// Creates a pod, schedules it, and lets it run.
    pub(crate) fn run(&self, pod: &Pod) -> Result<()> {
        let path = pod.path();
        let (pods, _) = path.rsplit_once('/').context("no path")?;
        self.act("POST", pods, Some(&pod.object()))?;
        if !pod.is_static() {
            let binding = json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": pod.name},
                "target": {"kind": "Node", "name": pod.node}});
            self.act("POST", &format!("{path}/binding"), Some(&binding))?;
        }
        self.status(pod, &pod.running("a1"))
    }

    pub(crate) fn status(&self, pod: &Pod, status: &Value) -> Result<()> {
        self.act("PATCH", &format!("{}/status", pod.path()), Some(status))
    }

    pub(crate) fn label(&self, pod: &Pod, value: &str) -> Result<()> {
        let patch = json!({"metadata": {"labels": {"tier": value}}});
        self.act("PATCH", &pod.path(), Some(&patch))
    }

    /// As kubelet does after the pod's containers have ended.
    pub(crate) fn kill(&self, pod: &Pod) -> Result<()> {
        self.act("DELETE", &format!("{}?gracePeriodSeconds=0", pod.path()), None)
    }

    /// The watcher comes.
    pub(crate) fn watch(&mut self, client_pods: bool) {
        self.watcher = Some(Kubernetes::start(&config::Kubernetes {
            enabled: KubernetesSwitch::Auto,
            kubeconfig: Some(self.recorder.kubeconfig().display().to_string()),
            node: Some("here".into()),
            client_pods,
            labels: vec!["app".into(), "tier".into()],
        }));
    }

    /// Waits until the watcher knows as many pods, and has an open watch.
    pub(crate) fn knows(&self, pods: u64) -> Result<()> {
        let watcher = self.watcher.as_ref().context("no watcher")?;
        let known = self.recorder.until(&format!("{pods} pods"), |_| {
            let status = watcher.status();
            status.complete && status.pods == pods
        });
        known.with_context(|| format!("{:?}", watcher.status()))?;
        self.recorder.until("an open watch", |exchanges| {
            exchanges.last().is_some_and(is_open_watch)
        })
    }

    /// Ends the recording: by then the watcher knows as many pods as run.
    pub(crate) fn finish(self) -> Result<()> {
        let pods = self.cluster.request("GET", "/api/v1/pods", None)?;
        let items = pods["items"].as_array().context("no list")?;
        let running = items.iter().filter(|pod| pod["status"]["phase"] == "Running");
        let Self {
            cluster,
            recorder,
            watcher,
        } = self;
        let known = watcher.context("no watcher")?.status().pods;
        ensure!(
            !items.is_empty() && known <= running.count() as u64,
            "{known} pods are known"
        );
        recorder.finish(pods)?;
        drop(cluster);
        Ok(())
    }
}

/// A watch that the server lets in and that has not ended.
pub(crate) fn is_open_watch(exchange: &Exchange) -> bool {
    let status = exchange.head.as_ref().map(|head| head.status);
    exchange.get.contains("watch=true") && status == Some(200) && exchange.end == End::Open
}

/// The first document of this kind in the manifest that is shipped.
fn document(kind: &str) -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/stormglass.yaml");
    let text = fs::read_to_string(file)?;
    let mut documents = text.split("\n---\n");
    let found = documents.find(|document| document.lines().any(|line| line == format!("kind: {kind}")));
    Ok(found
        .with_context(|| format!("no {kind} in the manifest"))?
        .to_owned())
}
