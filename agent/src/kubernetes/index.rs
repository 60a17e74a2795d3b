//! Pods by what the agent sees of them: the UID or container in a cgroup's name, the address of a client. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use agent_common::limits;

use super::Pod;
use crate::valkey::Place;

/// Who claims an address, the last of them has it: the address, when the pod was created, when it was heard of.
type Claim = (IpAddr, i64, u64);

/// The pods that are known.
///
/// Bounded: beyond so many, pods of other nodes are refused and counted. Those of the agent's own node are always taken:
/// kubelet bounds them, to 110 by default.
#[derive(Debug, Clone)]
pub struct Index {
    node: Option<Box<str>>,
    most: usize,
    /// By UID of the object.
    pods: HashMap<Box<str>, Known>,
    /// UIDs of static pods to those of their objects.
    static_pods: HashMap<Box<str>, Box<str>>,
    /// Containers of pods on the own node, to the UIDs of their objects.
    containers: HashMap<Box<str>, Box<str>>,
    claims: BTreeMap<Claim, Arc<Pod>>,
    heard: u64,
    refused: u64,
}

#[derive(Debug, Clone)]
struct Known {
    pod: Arc<Pod>,
    /// When it was first heard of.
    heard: u64,
}

impl Index {
    /// Knows nothing yet. Without a node every pod counts as one of other nodes, with its containers.
    #[must_use]
    pub fn new(node: Option<&str>) -> Self {
        Self::with_room(node, limits::PODS)
    }

    fn with_room(node: Option<&str>, most: usize) -> Self {
        Self {
            node: node.map(Into::into),
            most,
            pods: HashMap::new(),
            static_pods: HashMap::new(),
            containers: HashMap::new(),
            claims: BTreeMap::new(),
            heard: 0,
            refused: 0,
        }
    }

    /// A pod is new, or has changed.
    pub fn apply(&mut self, mut pod: Pod) {
        let uid = object_uid(&pod).to_owned();
        let known = self.take(&uid);
        if known.is_none() && self.pods.len() >= self.most && !self.is_here(&pod) {
            self.refused += 1;
            return;
        }
        if self.node.is_some() && !self.is_here(&pod) {
            // No server here runs in them.
            pod.containers = Vec::new();
        }
        let heard = known.map_or_else(|| self.next(), |known| known.heard);
        self.put(uid.into(), Arc::new(pod), heard);
    }

    /// A pod, by the UID of its object, is gone, or has ended.
    pub fn remove(&mut self, uid: &str) {
        self.take(uid);
    }

    /// The pod that a server runs in, by its UID, or by its container where the path names no pod.
    #[must_use]
    pub fn of_place(&self, place: &Place) -> Option<&Arc<Pod>> {
        let by_uid = place.pod.as_ref().and_then(|pod| {
            let uid = self.static_pods.get(&*pod.uid).map_or(&*pod.uid, |uid| &**uid);
            self.pods.get(uid)
        });
        let by_container = || {
            let uid = self.containers.get(&*place.container.as_ref()?.id)?;
            self.pods.get(uid)
        };
        by_uid.or_else(by_container).map(|known| &known.pod)
    }

    /// The pod that has an address: of several that claim it (the old one is not seen to end yet) the newest.
    #[must_use]
    pub fn of_address(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        let address = address.to_canonical();
        let mut claims = self
            .claims
            .range((address, i64::MIN, 0)..=(address, i64::MAX, u64::MAX));
        claims.next_back().map(|(_, pod)| pod)
    }

    /// How many pods are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Pods that there was no room for: each as often as the API server told of it.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// An empty one for the same node, whose counts go on: the API server tells of all pods anew.
    pub(super) fn anew(&self) -> Self {
        Self {
            heard: self.heard,
            refused: self.refused,
            ..Self::with_room(self.node.as_deref(), self.most)
        }
    }

    /// The same pods as another node sees them, or none of them; counts go on.
    pub(super) fn at(&self, node: Option<&str>, keep: bool) -> Self {
        let mut index = self.anew();
        index.node = node.map(Into::into);
        if keep {
            for (uid, known) in &self.pods {
                index.put(uid.clone(), Arc::clone(&known.pod), known.heard);
            }
        }
        index
    }

    fn put(&mut self, uid: Box<str>, pod: Arc<Pod>, heard: u64) {
        for container in &pod.containers {
            self.containers.insert(container.clone(), uid.clone());
        }
        if pod.object_uid.is_some() {
            self.static_pods.insert(pod.uid.clone(), uid.clone());
        }
        for address in &pod.addresses {
            self.claims
                .insert((*address, pod.created, heard), Arc::clone(&pod));
        }
        self.pods.insert(uid, Known { pod, heard });
    }

    fn take(&mut self, uid: &str) -> Option<Known> {
        let known = self.pods.remove(uid)?;
        let pod = &known.pod;
        for container in &pod.containers {
            if self.containers.get(container).is_some_and(|of| &**of == uid) {
                self.containers.remove(container);
            }
        }
        if self.static_pods.get(&pod.uid).is_some_and(|of| &**of == uid) {
            self.static_pods.remove(&pod.uid);
        }
        for address in &pod.addresses {
            self.claims.remove(&(*address, pod.created, known.heard));
        }
        Some(known)
    }

    fn next(&mut self) -> u64 {
        self.heard += 1;
        self.heard
    }

    fn is_here(&self, pod: &Pod) -> bool {
        self.node.is_some() && pod.node == self.node
    }
}

fn object_uid(pod: &Pod) -> &str {
    pod.object_uid.as_deref().unwrap_or(&pod.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::Owner;
    use crate::valkey::{self, Container};

    fn pod(name: &str, address: &str, created: i64) -> Pod {
        Pod {
            uid: name.into(),
            name: name.into(),
            owner: Owner::default(),
            node: Some("here".into()),
            addresses: vec![address.parse().expect("an address")],
            containers: vec![format!("container-of-{name}").into()],
            created,
            ..Pod::default()
        }
    }

    fn at<'a>(index: &'a Index, address: &str) -> Option<&'a str> {
        let pod = index.of_address(address.parse().expect("an address"));
        pod.map(|pod| &*pod.name)
    }

    fn place(uid: &str, container: &str) -> Place {
        Place {
            container: Some(Container {
                id: container.into(),
                runtime: None,
            }),
            pod: (!uid.is_empty()).then(|| valkey::Pod {
                uid: uid.into(),
                qos: None,
            }),
        }
    }

    fn of<'a>(index: &'a Index, uid: &str, container: &str) -> Option<&'a str> {
        index.of_place(&place(uid, container)).map(|pod| &*pod.name)
    }

    #[test]
    fn a_pod_is_found_by_uid_container_and_address_until_it_is_gone() {
        let mut index = Index::new(Some("here"));
        index.apply(pod("a", "10.0.0.1", 1));
        assert_eq!(at(&index, "10.0.0.1"), Some("a"));
        assert_eq!(at(&index, "::ffff:10.0.0.1"), Some("a"));
        assert_eq!(at(&index, "10.0.0.2"), None);
        assert_eq!(of(&index, "a", "x"), Some("a"));
        assert_eq!(of(&index, "", "container-of-a"), Some("a"));
        // A cgroup that names another pod and a container of this one: nothing runs in two; the container is surer.
        assert_eq!(of(&index, "b", "container-of-b"), None);
        index.remove("a");
        assert_eq!(
            (at(&index, "10.0.0.1"), of(&index, "a", "container-of-a")),
            (None, None)
        );
        assert!(index.is_empty() && index.claims.is_empty() && index.containers.is_empty());
    }

    #[test]
    fn an_address_belongs_to_the_newest_that_claims_it_in_whatever_order_they_come_and_go() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let pods = [
                pod("old", "10.0.0.1", 1),
                pod("young", "10.0.0.1", 3),
                pod("middle", "10.0.0.1", 2),
            ];
            let mut index = Index::new(None);
            for at in order {
                index.apply(pods[at].clone());
            }
            assert_eq!(at(&index, "10.0.0.1"), Some("young"));
            // News of an old one do not make it newer.
            index.apply(pods[0].clone());
            assert_eq!(at(&index, "10.0.0.1"), Some("young"));
            index.remove("young");
            assert_eq!(at(&index, "10.0.0.1"), Some("middle"));
            index.remove("old");
            index.remove("middle");
            assert_eq!(at(&index, "10.0.0.1"), None);
        }
        // Of two of the same second, the one that was heard of last.
        let mut index = Index::new(None);
        index.apply(pod("first", "10.0.0.1", 5));
        index.apply(pod("second", "10.0.0.1", 5));
        index.apply(pod("first", "10.0.0.1", 5));
        assert_eq!(at(&index, "10.0.0.1"), Some("second"));
    }

    #[test]
    fn a_pod_that_changes_leaves_nothing_of_what_it_was() {
        let mut index = Index::new(Some("here"));
        index.apply(pod("a", "10.0.0.1", 1));
        let mut moved = pod("a", "10.0.0.2", 1);
        moved.containers = vec!["restarted".into()];
        index.apply(moved);
        assert_eq!(
            (at(&index, "10.0.0.1"), at(&index, "10.0.0.2")),
            (None, Some("a"))
        );
        assert_eq!(of(&index, "", "container-of-a"), None);
        assert_eq!(of(&index, "", "restarted"), Some("a"));
        assert_eq!((index.claims.len(), index.containers.len()), (1, 1));
    }

    #[test]
    fn a_static_pod_is_found_by_both_its_uids() {
        let mut index = Index::new(Some("here"));
        let mut object = pod("a", "10.0.0.1", 1);
        (object.uid, object.object_uid) = ("digest".into(), Some("uuid".into()));
        index.apply(object);
        assert_eq!(of(&index, "digest", ""), Some("a"));
        assert_eq!(of(&index, "uuid", ""), Some("a"));
        index.remove("uuid");
        assert!(index.static_pods.is_empty() && of(&index, "digest", "").is_none());
    }

    #[test]
    fn beyond_the_room_pods_of_other_nodes_are_refused_and_counted() {
        let mut index = Index::with_room(Some("here"), 2);
        for name in ["a", "b", "c"] {
            let mut elsewhere = pod(name, "10.0.0.1", 1);
            elsewhere.node = Some("there".into());
            index.apply(elsewhere);
        }
        assert_eq!((index.len(), index.refused()), (2, 1));
        assert_eq!(
            index.containers.len(),
            0,
            "containers of other nodes are of no use"
        );
        index.apply(pod("mine", "10.0.0.9", 1));
        assert_eq!((index.len(), at(&index, "10.0.0.9")), (3, Some("mine")));
        // Those that are known are still followed.
        index.apply(pod("a", "10.0.0.8", 1));
        assert_eq!((index.refused(), at(&index, "10.0.0.8")), (1, Some("a")));
    }
}
