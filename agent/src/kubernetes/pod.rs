//! What is kept of a pod. The API server sends some 10 kB for each; only these fields are read out of them.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::IpAddr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{Resource, core::NamespaceResourceScope};
use serde::{Deserialize, Deserializer};

/// Addresses of a pod: one of each family; more are not in the API today.
const ADDRESSES: usize = 4;
/// Containers of a pod that are remembered, those of preparation and debugging included.
const CONTAINERS: usize = 64;
/// Label that a Deployment's controller gives to the pods of each of its ReplicaSets, and part of their names.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Annotation of the object that stands for a static pod: the UID that kubelet made up for it, and named its cgroup by.
const STATIC_UID: &str = "kubernetes.io/config.hash";
/// A Job of a CronJob is named after it and the minute for which it is due, since 1970 began: 8 digits until 2160.
const MINUTE_DIGITS: usize = 8;

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its UID, as in the names of its cgroups.
    pub uid: Box<str>,
    /// The UID of its object, if that is another one: kubelet makes up the UIDs of static pods.
    pub object_uid: Option<Box<str>>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What keeps it.
    pub owner: Owner,
    /// The node it runs on; `None` before it is scheduled.
    pub node: Option<Box<str>>,
    /// Its labels, of those that the configuration names.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// Its own addresses: none if it uses those of its node.
    pub addresses: Vec<IpAddr>,
    /// Ids of its containers, without the runtime's name.
    pub containers: Vec<Box<str>>,
    /// When it was created, in seconds since 1970 began.
    pub created: i64,
}

/// What keeps a pod: by that it is known to people, its own name being made up.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// `Deployment`, `StatefulSet`, ...; `Pod` where a pod is kept by nobody, or by its node.
    pub kind: Box<str>,
    /// Its name; its namespace is the pod's.
    pub name: Box<str>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl Owner {
    /// Of a pod with these labels, kept by `controller`.
    ///
    /// What keeps the keeper is not asked for, so that no right but that to see pods is needed: it is in the names. A
    /// ReplicaSet whose name ends in the template's hash is a Deployment's, a Job whose name ends in a minute a CronJob's.
    fn new(controller: Option<&OwnerReference>, pod: &str, labels: &BTreeMap<String, String>) -> Self {
        let Some(controller) = controller.filter(|controller| controller.kind != "Node") else {
            return Self {
                kind: "Pod".into(),
                name: pod.into(),
            };
        };
        let name = &*controller.name;
        let (kind, name) = match &*controller.kind {
            "ReplicaSet" => match labels.get(TEMPLATE_HASH).and_then(|hash| without(name, hash)) {
                Some(deployment) => ("Deployment", deployment),
                None => ("ReplicaSet", name),
            },
            "Job" => match cron_job(name) {
                Some(cron_job) => ("CronJob", cron_job),
                None => ("Job", name),
            },
            kind => (kind, name),
        };
        Self {
            kind: kind.into(),
            name: name.into(),
        }
    }
}

fn without<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let before = name.strip_suffix(ending)?.strip_suffix('-')?;
    (!ending.is_empty() && !before.is_empty()).then_some(before)
}

fn cron_job(name: &str) -> Option<&str> {
    let (before, minute) = name.rsplit_once('-')?;
    let is_minute = minute.len() == MINUTE_DIGITS && minute.bytes().all(|byte| byte.is_ascii_digit());
    (is_minute && !before.is_empty()).then_some(before)
}

/// A pod as the API server writes it, without what is not read.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct PodObject {
    #[serde(deserialize_with = "what_is_read")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: PodStatus,
}

/// Of the metadata; what is left out, who manages which field above all, is half of a pod.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

fn what_is_read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let read = Metadata::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        creation_timestamp: read.creation_timestamp,
        labels: read.labels,
        annotations: read.annotations,
        owner_references: read.owner_references,
        ..ObjectMeta::default()
    })
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<Address>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Address {
    ip: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

impl Resource for PodObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl PodObject {
    pub(super) fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// What is kept of it, with the labels of these names. `None` if it has ended (it holds its address no longer), or if
    /// it has no name or UID.
    pub(super) fn into_pod(self, labels: &[String]) -> Option<Pod> {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let name = metadata.name?;
        let object_uid: Box<str> = metadata.uid?.into();
        let static_uid = metadata
            .annotations
            .and_then(|mut annotations| annotations.remove(STATIC_UID));
        let all = metadata.labels.unwrap_or_default();
        let owners = metadata.owner_references.unwrap_or_default();
        let controller = owners.iter().find(|owner| owner.controller == Some(true));
        let wanted = labels.iter().filter_map(|key| {
            let (key, value) = all.get_key_value(key)?;
            Some((key.as_str().into(), value.as_str().into()))
        });
        Some(Pod {
            owner: Owner::new(controller, &name, &all),
            labels: wanted.collect(),
            node: spec.node_name.map(Into::into),
            addresses: if spec.host_network == Some(true) {
                Vec::new()
            } else {
                status.addresses()
            },
            containers: status.containers(),
            created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
            namespace: metadata.namespace.unwrap_or_default().into(),
            name: name.into(),
            object_uid: static_uid.is_some().then(|| object_uid.clone()),
            uid: static_uid.map_or(object_uid, Into::into),
        })
    }
}

impl PodStatus {
    fn addresses(&self) -> Vec<IpAddr> {
        let several = self
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|address| address.ip.as_ref());
        let mut addresses: Vec<IpAddr> = several
            .chain(&self.pod_ip)
            .filter_map(|text| text.parse().ok())
            .map(|address: IpAddr| address.to_canonical())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES);
        addresses.shrink_to_fit();
        addresses
    }

    fn containers(&self) -> Vec<Box<str>> {
        let lists = [
            &self.container_statuses,
            &self.init_container_statuses,
            &self.ephemeral_container_statuses,
        ];
        let containers = lists.into_iter().flatten().flatten();
        containers
            .filter_map(|container| {
                // `containerd://ID`; empty before it is created.
                let (_, id) = container.container_id.as_ref()?.split_once("://")?;
                (!id.is_empty()).then(|| id.into())
            })
            .take(CONTAINERS)
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(in super::super) fn pod(object: Value) -> Option<Pod> {
        let object: PodObject = serde_json::from_value(object).expect("a pod");
        object.into_pod(&["app".into(), "tier".into()])
    }

    fn object() -> Value {
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": "cart-7d4b9c6f5-x2x9q", "namespace": "shop", "uid": "dd1bf9d1-241d-47f5-8e25-12de83135812",
                "resourceVersion": "7", "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": {"app": "cart", "pod-template-hash": "7d4b9c6f5", "secret": "not kept"},
                "ownerReferences": [
                    {"apiVersion": "x/v1", "kind": "Other", "name": "o", "uid": "o"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7d4b9c6f5", "uid": "r", "controller": true},
                ],
                "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}}],
            },
            "spec": {"nodeName": "node-1", "containers": [{"name": "cart", "image": "i"}]},
            "status": {
                "phase": "Running", "podIP": "10.1.0.7", "podIPs": [{"ip": "10.1.0.7"}, {"ip": "fd00::7"}],
                "initContainerStatuses": [{"name": "i", "containerID": "containerd://aa"}],
                "containerStatuses": [{"name": "c", "containerID": "containerd://bb"}, {"name": "d", "containerID": ""}],
            },
        })
    }

    #[test]
    fn of_a_pod_is_kept_what_is_shown_and_nothing_else() {
        let pod = pod(object()).expect("a live pod");
        assert_eq!((&*pod.namespace, &*pod.name), ("shop", "cart-7d4b9c6f5-x2x9q"));
        assert_eq!(&*pod.uid, "dd1bf9d1-241d-47f5-8e25-12de83135812");
        assert_eq!(pod.owner.to_string(), "Deployment/cart");
        assert_eq!(pod.node.as_deref(), Some("node-1"));
        let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.7", "fd00::7"]);
        assert_eq!(pod.containers, ["bb".into(), "aa".into()]);
        assert_eq!(pod.created, 1_767_323_045);
        assert_eq!(pod.labels, BTreeMap::from([("app".into(), "cart".into())]));
    }

    #[test]
    fn a_pod_that_has_ended_is_none_and_one_on_its_nodes_network_has_no_address() {
        for (phase, live) in [
            ("Pending", true),
            ("Unknown", true),
            ("Succeeded", false),
            ("Failed", false),
        ] {
            let mut object = object();
            object["status"]["phase"] = phase.into();
            assert_eq!(pod(object).is_some(), live, "{phase}");
        }
        let mut object = object();
        object["spec"]["hostNetwork"] = true.into();
        assert_eq!(pod(object).expect("live").addresses, [] as [IpAddr; 0]);
    }

    #[test]
    fn an_object_without_spec_and_status_is_a_pod_and_one_without_a_uid_is_none() {
        let mut object = json!({"metadata": {"name": "p", "uid": "u"}});
        assert_eq!(&*pod(object.clone()).expect("a pod").owner.name, "p");
        object["metadata"]["uid"] = Value::Null;
        assert_eq!(pod(object), None);
    }

    #[test]
    fn a_static_pod_goes_by_the_uid_of_its_cgroup_and_is_nobodys() {
        let mut object = object();
        object["metadata"]["annotations"] =
            json!({"kubernetes.io/config.hash": "09a70ae9ccc491e651e5c773579b3490"});
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "n", "controller": true}]);
        let pod = pod(object).expect("a pod");
        assert_eq!(&*pod.uid, "09a70ae9ccc491e651e5c773579b3490");
        assert_eq!(
            pod.object_uid.as_deref(),
            Some("dd1bf9d1-241d-47f5-8e25-12de83135812")
        );
        assert_eq!(pod.owner.to_string(), "Pod/cart-7d4b9c6f5-x2x9q");
    }

    #[test]
    fn who_keeps_a_pod_is_told_by_the_names_of_its_keeper() {
        for (kind, keeper, hash, owner) in [
            (
                "ReplicaSet",
                "cart-7d4b9c6f5",
                Some("7d4b9c6f5"),
                "Deployment/cart",
            ),
            ("ReplicaSet", "a-b-1", Some("1"), "Deployment/a-b"),
            ("ReplicaSet", "cart-7d4b9c6f5", None, "ReplicaSet/cart-7d4b9c6f5"),
            (
                "ReplicaSet",
                "cart7d4b9c6f5",
                Some("7d4b9c6f5"),
                "ReplicaSet/cart7d4b9c6f5",
            ),
            ("ReplicaSet", "-x", Some("x"), "ReplicaSet/-x"),
            ("ReplicaSet", "cart-", Some(""), "ReplicaSet/cart-"),
            ("StatefulSet", "valkey", None, "StatefulSet/valkey"),
            ("DaemonSet", "agent", None, "DaemonSet/agent"),
            ("Job", "report-29389440", None, "CronJob/report"),
            ("Job", "report-2938944", None, "Job/report-2938944"),
            ("Job", "import-2026110x", None, "Job/import-2026110x"),
            ("Job", "-29389440", None, "Job/-29389440"),
        ] {
            let mut object = object();
            object["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "x", "kind": kind, "name": keeper, "uid": "k", "controller": true}]);
            object["metadata"]["labels"] = hash.map_or(json!({}), |hash| json!({"pod-template-hash": hash}));
            assert_eq!(pod(object).expect("a pod").owner.to_string(), owner);
        }
    }
}
