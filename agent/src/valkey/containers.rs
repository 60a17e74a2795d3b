//! Container and pod of a process, told by the names of its cgroups: what kubelet and the container runtimes write
//! there. Pure. Names and namespaces of pods are not in a path; who knows them finds the pod by its UID.
//!
//! | who | cgroupfs driver | systemd driver |
//! |---|---|---|
//! | kubelet, the pod | `kubepods/burstable/podUID` | `kubepods-burstable-podU_I_D.slice` |
//! | containerd | `ID` below the pod | `cri-containerd-ID.scope`; where only kubelet uses systemd, `SLICE:cri-containerd:ID` |
//! | CRI-O | `crio-ID` | `crio-ID.scope` |
//! | Docker | `docker/ID` | `docker-ID.scope` |
//! | podman | `libpod-ID` | `libpod-ID.scope`, of a service `libpod-payload-ID` |
//!
//! All of it may lie below the cgroup of another container (kind, Docker in Docker), and runtimes put further cgroups
//! below their own (`container`, `init`). The innermost counts.

/// Longest path that is looked at, in bytes: the kernel's own limit.
const PATH_BYTES: usize = 4096;
/// Lines of `/proc/PID/cgroup` that are looked at: version 1 has at most 14 controllers, and named hierarchies.
const LINES: usize = 64;
/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// Where a process runs; nothing of it on a plain host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The innermost container.
    pub container: Option<Container>,
    /// The innermost pod.
    pub pod: Option<Pod>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Who runs it; `None` where the path does not say, as containerd's under the cgroupfs driver.
    pub runtime: Option<Runtime>,
}

/// A pod of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its UID, with dashes; of a static pod the 32 digits that kubelet makes up.
    pub uid: String,
    /// Its class; `None` where the path does not begin above it.
    pub qos: Option<Qos>,
}

/// A container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// containerd, by its Kubernetes plugin or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Docker.
    Docker,
    /// podman.
    Podman,
}

impl Runtime {
    /// Name for people and programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// A pod's class of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Requests equal limits.
    Guaranteed,
    /// Some request or limit.
    Burstable,
    /// None at all.
    BestEffort,
}

impl Qos {
    /// Name as in a pod's status.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl Place {
    /// From the text of `/proc/PID/cgroup`: of version 2's line and those of version 1, the one that says most.
    #[must_use]
    pub fn of_cgroup_file(text: &str) -> Self {
        let mut best = Self::default();
        // Version 2's line comes last.
        let lines: Vec<&str> = text.lines().take(LINES).collect();
        for line in lines.into_iter().rev() {
            // HIERARCHY:CONTROLLERS:PATH, and the path may have colons.
            let Some(path) = line.splitn(3, ':').nth(2) else {
                continue;
            };
            let place = Self::of_path(path);
            if place.facts() > best.facts() {
                best = place;
            }
        }
        best
    }

    /// From the path of one cgroup.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        let mut place = Self::default();
        if path.len() > PATH_BYTES {
            return place;
        }
        let mut parent = String::new();
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        for name in path.split('/').flat_map(expand) {
            if let Some(pod) = pod(&name, &parent) {
                // A container above it is the node (kind), not the pod's.
                place = Self {
                    container: None,
                    pod: Some(pod),
                };
            } else if let Some(container) = container(&name, &parent) {
                place.container = Some(container);
            }
            parent = name;
        }
        place
    }

    fn facts(&self) -> usize {
        usize::from(self.container.is_some()) + 2 * usize::from(self.pod.is_some())
    }
}

/// A part of a path as one name, or as the two that it stands for: `SLICE:PREFIX:ID`. systemd writes a dash that does
/// not divide as `\x2d`.
fn expand(part: &str) -> Vec<String> {
    let part = part.replace("\\x2d", "-");
    let pieces: Vec<&str> = part.split(':').collect();
    match pieces[..] {
        [slice, prefix, id] => vec![slice.to_owned(), format!("{prefix}-{id}.scope")],
        _ => vec![part],
    }
}

/// `podUID`, or a slice whose last part is `podU_I_D`.
fn pod(name: &str, parent: &str) -> Option<Pod> {
    let (above, uid) = match name.strip_suffix(".slice") {
        Some(slice) => {
            let at = slice
                .rfind("pod")
                .filter(|at| *at == 0 || slice[..*at].ends_with('-'))?;
            (&slice[..at], &slice[at + 3..])
        }
        None => (parent, name.strip_prefix("pod")?),
    };
    let uid = uid.replace('_', "-");
    is_uid(&uid).then(|| Pod { qos: qos(above), uid })
}

/// The class that the name above a pod's, or the beginning of its own, says.
fn qos(above: &str) -> Option<Qos> {
    let above = above.trim_end_matches(".slice").trim_end_matches('-');
    if above.ends_with("besteffort") {
        Some(Qos::BestEffort)
    } else if above.ends_with("burstable") {
        Some(Qos::Burstable)
    } else if above.ends_with("kubepods") {
        Some(Qos::Guaranteed)
    } else {
        None
    }
}

/// A UUID, or the digits of a static pod.
fn is_uid(uid: &str) -> bool {
    let lengths: Vec<usize> = uid.split('-').map(str::len).collect();
    matches!(lengths[..], [8, 4, 4, 4, 12] | [32]) && uid.split('-').all(is_hexadecimal)
}

/// The runtime's prefix and the id, or the id alone. conmon, which watches over a container of CRI-O or podman, is in a
/// cgroup of its own that is none.
fn container(name: &str, parent: &str) -> Option<Container> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = match name.rsplit_once('-') {
        Some((prefix, id)) => (Some(prefix), id),
        None => (None, name),
    };
    if id.len() != ID_DIGITS || !is_hexadecimal(id) {
        return None;
    }
    let runtime = match prefix {
        Some("cri-containerd" | "nerdctl") => Some(Runtime::Containerd),
        Some("crio") => Some(Runtime::CriO),
        Some("docker") => Some(Runtime::Docker),
        Some("libpod" | "libpod-payload") => Some(Runtime::Podman),
        Some(_) => return None,
        None if parent == "docker" => Some(Runtime::Docker),
        None => None,
    };
    Some(Container {
        id: id.to_owned(),
        runtime,
    })
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Id, runtime, UID, class.
    type Told<'a> = (Option<&'a str>, Option<Runtime>, Option<&'a str>, Option<Qos>);

    fn told(place: &Place) -> Told<'_> {
        let (container, pod) = (place.container.as_ref(), place.pod.as_ref());
        (
            container.map(|container| &*container.id),
            container.and_then(|container| container.runtime),
            pod.map(|pod| &*pod.uid),
            pod.and_then(|pod| pod.qos),
        )
    }

    fn of_path(path: &str, expected: Told<'_>) {
        assert_eq!(told(&Place::of_path(path)), expected, "{path}");
    }

    // Tests of the NeuVector agent, share/system/cgroup_test.go (Bottlerocket).
    const CONTAINERD_SYSTEMD: &str = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-poddd1bf9d1_241d_47f5_8e25_12de83135812.slice/cri-containerd-f45298cd514d1930c4fe3afc4412e59547f7e3148fddd22ca33cefce046eb830.scope";
    // The same tests.
    const DOCKER_SHIM_SYSTEMD: &str = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod045b1e35_7f13_11e7_ac42_0050568ffca0.slice/docker-b5b6f2da8008be266864f896f93789762b2ce50792114a5c5f2cc3315af0bc70.scope";
    const KUBELET_CGROUPFS: &str = "/kubepods/besteffort/pod74ba62da-1a3d-11e7-bb11-080027cb0e22/cb1eadb7abe3a6545e9856411207073277838e1bdc003337c2f8685faeedc32c";
    const BELOW_ITS_OWN: &str = "/kubepods/besteffort/podf8a694f2-7c08-11e9-98da-000c29077430/c04e0a88a1de067f25bece337d4dbb897396e0b623c2a65330850fc9823f1903/kube-proxy";
    const DOCKER_SYSTEMD: &str =
        "/system.slice/docker-9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d.scope";
    const DOCKER_IN_DOCKER: &str = "/docker/a9a5ad238e59234193ee7ec3fcff5e735b3708ea1068826952255b69e3cfa413/docker/ec08435e04266c5ba381fccbb829f626d11d8ddf5f8f547263c7a2d79ab4787a";
    const ID_ALONE: &str = "/4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";

    #[test]
    fn containerd_is_told_under_either_driver_of_either_side() {
        of_path(
            CONTAINERD_SYSTEMD,
            (
                Some("f45298cd514d1930c4fe3afc4412e59547f7e3148fddd22ca33cefce046eb830"),
                Some(Runtime::Containerd),
                Some("dd1bf9d1-241d-47f5-8e25-12de83135812"),
                Some(Qos::BestEffort),
            ),
        );
        of_path(
            KUBELET_CGROUPFS,
            (
                Some("cb1eadb7abe3a6545e9856411207073277838e1bdc003337c2f8685faeedc32c"),
                None,
                Some("74ba62da-1a3d-11e7-bb11-080027cb0e22"),
                Some(Qos::BestEffort),
            ),
        );
        // kubelet uses systemd, containerd does not: from a test of a cgroup parser, with containerd's unit above it.
        of_path(
            "/system.slice/containerd.service/kubepods-besteffort-podb41662f7_b03a_4c65_8ef9_6e4e55c3cf27.slice:cri-containerd:1753b7cbbf62734d812936961224d5bc0cf8f45214e0d5cdd1a781a053e7c48f",
            (
                Some("1753b7cbbf62734d812936961224d5bc0cf8f45214e0d5cdd1a781a053e7c48f"),
                Some(Runtime::Containerd),
                Some("b41662f7-b03a-4c65-8ef9-6e4e55c3cf27"),
                Some(Qos::BestEffort),
            ),
        );
        // What nerdctl names it without Kubernetes.
        of_path(
            "/system.slice/nerdctl-1753b7cbbf62734d812936961224d5bc0cf8f45214e0d5cdd1a781a053e7c48f.scope",
            (
                Some("1753b7cbbf62734d812936961224d5bc0cf8f45214e0d5cdd1a781a053e7c48f"),
                Some(Runtime::Containerd),
                None,
                None,
            ),
        );
    }

    #[test]
    fn each_class_is_told_and_a_guaranteed_pod_lies_directly_below_kubepods() {
        // Tests of the StackRox collector (burstable); the others by kubelet's naming, as in Cilium's tests of cgroups.
        let id = "6525e65814a99d431b6978e8f8c895013176c6c58173b56639d4b020c14e6022";
        let burstable = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podce705797_e47e_11e9_bd71_42010a000002.slice/docker-{id}.scope"
        );
        let docker = Some(Runtime::Docker);
        let digits = "ce705797-e47e-11e9-bd71-42010a000002";
        let uid = Some(digits);
        of_path(&burstable, (Some(id), docker, uid, Some(Qos::Burstable)));
        let guaranteed = burstable
            .replace("-burstable-pod", "-pod")
            .replace("kubepods-burstable.slice/", "");
        of_path(&guaranteed, (Some(id), docker, uid, Some(Qos::Guaranteed)));
        let below = format!("pod{digits}/{id}");
        of_path(
            &format!("/kubepods/{below}"),
            (Some(id), None, uid, Some(Qos::Guaranteed)),
        );
        of_path(
            &format!("/kubepods/burstable/{below}"),
            (Some(id), None, uid, Some(Qos::Burstable)),
        );
        // From inside a cgroup namespace, as OpenTelemetry's and others' examples have it: the class is not in sight.
        of_path(&format!("/../../{below}"), (Some(id), None, uid, None));
    }

    #[test]
    fn crio_is_told_with_the_cgroup_that_crun_puts_below_and_conmon_is_no_container() {
        let id = "78283d52a8505805e4138f05dcecc6e90fd1c3f6fbc0261b4654f3d763c5ed97";
        // Documentation of CRI-O's layout: crun's child is in `container`; the cgroupfs driver has no suffix.
        let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0185634f_eef8_427e_a2c5_884d45bc5503.slice";
        let uid = Some("0185634f-eef8-427e-a2c5-884d45bc5503");
        for name in [
            format!("crio-{id}.scope"),
            format!("crio-{id}.scope/container"),
            format!("crio-{id}"),
        ] {
            of_path(
                &format!("{slice}/{name}"),
                (Some(id), Some(Runtime::CriO), uid, Some(Qos::Burstable)),
            );
        }
        // A listing by systemd-cgtop of an OpenShift node.
        of_path(
            &format!("{slice}/crio-conmon-{id}.scope"),
            (None, None, uid, Some(Qos::Burstable)),
        );
        // kubernetes/minikube issue 11280: the node is a container of Docker's.
        of_path(
            "/docker/d6701ec289c56e4391acb11d07474b3139466857a305490575508a8b7a9fcf22/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod2ca4a155_3599_498d_bb9d_4446693fa3ea.slice/crio-0ba8ac17e4e7a31fb82279503552fe94e64bab4745bf6fd2ff231e7c8ca8bed0.scope",
            (
                Some("0ba8ac17e4e7a31fb82279503552fe94e64bab4745bf6fd2ff231e7c8ca8bed0"),
                Some(Runtime::CriO),
                Some("2ca4a155-3599-498d-bb9d-4446693fa3ea"),
                Some(Qos::BestEffort),
            ),
        );
    }

    #[test]
    fn docker_is_told_under_either_driver_and_inside_itself() {
        let docker = Some(Runtime::Docker);
        let id = Some("9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d");
        of_path(DOCKER_SYSTEMD, (id, docker, None, None));
        of_path(&format!("{DOCKER_SYSTEMD}/init"), (id, docker, None, None));
        let inner = Some("ec08435e04266c5ba381fccbb829f626d11d8ddf5f8f547263c7a2d79ab4787a");
        of_path(DOCKER_IN_DOCKER, (inner, docker, None, None));
        of_path(
            DOCKER_SHIM_SYSTEMD,
            (
                Some("b5b6f2da8008be266864f896f93789762b2ce50792114a5c5f2cc3315af0bc70"),
                docker,
                Some("045b1e35-7f13-11e7-ac42-0050568ffca0"),
                Some(Qos::BestEffort),
            ),
        );
    }

    #[test]
    fn podman_is_told_as_root_without_root_and_as_a_service() {
        let podman = Some(Runtime::Podman);
        // Tests of the StackRox collector.
        let id = "e9cf81e3b1d172752567c8fe6ac48c1c751b9237ab47bf55cbfd5a971a4a9519";
        let expected = (Some(id), podman, None, None);
        of_path(&format!("/machine.slice/libpod-{id}.scope/container"), expected);
        of_path(&format!("/machine.slice/libpod-{id}.scope"), expected);
        of_path(&format!("/libpod_parent/libpod-{id}"), expected);
        of_path(
            &format!("/user.slice/user-1001.slice/user@1001.service/user.slice/libpod-{id}.scope/container"),
            expected,
        );
        of_path(
            &format!("/machine.slice/libpod-conmon-{id}.scope"),
            (None, None, None, None),
        );
        // A post on Quadlet, of a Valkey in fact: systemd's unit holds the container's cgroup and conmon's.
        of_path(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/redis.service/libpod-payload-e8c29da1a2f6c4bb032304f7dfbc5a767e026092c4a2fcbc830e58565f972f54",
            (
                Some("e8c29da1a2f6c4bb032304f7dfbc5a767e026092c4a2fcbc830e58565f972f54"),
                podman,
                None,
                None,
            ),
        );
        // podman's own pods are not Kubernetes'.
        let pod = format!("/machine.slice/machine-libpod_pod_{id}.slice/libpod-{id}.scope");
        of_path(&pod, expected);
    }

    #[test]
    fn a_pod_of_a_node_that_is_a_container_is_told_from_its_node() {
        // containerd/nri pull request 227 (kind).
        let inner = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod1e597579_417e_482f_bf65_5fe170c3aebd.slice";
        let id = "a09bc17f5aa29b0dbdec9ede5f46cf1396d2405917ab02e6f1eb1019f388396e";
        let uid = Some("1e597579-417e-482f-bf65-5fe170c3aebd");
        let best_effort = Some(Qos::BestEffort);
        let node = "/machine.slice/libpod-cbdfa0f1f08763b1963c30d98e11e1f052cb67f1e9b7c0ab8a6ca6c70cbcad69.scope/container";
        for node in ["", DOCKER_SYSTEMD, node] {
            of_path(
                &format!("{node}{inner}/cri-containerd-{id}.scope"),
                (Some(id), Some(Runtime::Containerd), uid, best_effort),
            );
            // The slice of a pod is no container of its node.
            of_path(&format!("{node}{inner}"), (None, None, uid, best_effort));
        }
        // Cilium Tetragon's tests: kind with the cgroupfs driver, and a static pod, whose UID is a digest.
        of_path(
            "/system.slice/docker-c1146e7ccca9ab4436abd69923c07d097b37b762ed21cc3f24584c2f84e77c57.scope/kubelet/kubepods/burstable/pod09a70ae9ccc491e651e5c773579b3490/b0e6aa50e847c3d3b1880e307ec7996040275c8063832cffc9274defce2cb655",
            (
                Some("b0e6aa50e847c3d3b1880e307ec7996040275c8063832cffc9274defce2cb655"),
                None,
                Some("09a70ae9ccc491e651e5c773579b3490"),
                Some(Qos::Burstable),
            ),
        );
        // Mesos, StackRox collector's tests: two UUIDs above the pod are none of a pod.
        of_path(
            "/mesos/3b1cf944-1d97-40a6-ac73-b156ac2f2bfe/mesos/077d75a1-d7b6-4e55-8114-13f925fe4f49/kubepods/besteffort/pod8e18d5f1-1421-42b7-8151-fb1c3be4bd4d/e73c55f3e7f5b6a9cfc32a89bf13e44d348bcc4fa7b079f804d61fb1532ddbe5",
            (
                Some("e73c55f3e7f5b6a9cfc32a89bf13e44d348bcc4fa7b079f804d61fb1532ddbe5"),
                None,
                Some("8e18d5f1-1421-42b7-8151-fb1c3be4bd4d"),
                best_effort,
            ),
        );
    }

    #[test]
    fn dashes_that_systemd_escapes_are_dashes() {
        let id = "f45298cd514d1930c4fe3afc4412e59547f7e3148fddd22ca33cefce046eb830";
        of_path(
            &format!(
                r"/my\x2droot.slice/my\x2droot-kubepods.slice/my\x2droot-kubepods-poddd1bf9d1\x2d241d\x2d47f5\x2d8e25\x2d12de83135812.slice/cri\x2dcontainerd\x2d{id}.scope"
            ),
            (
                Some(id),
                Some(Runtime::Containerd),
                Some("dd1bf9d1-241d-47f5-8e25-12de83135812"),
                Some(Qos::Guaranteed),
            ),
        );
    }

    #[test]
    fn plain_services_and_lookalikes_are_no_containers() {
        of_path(BELOW_ITS_OWN, {
            let id = "c04e0a88a1de067f25bece337d4dbb897396e0b623c2a65330850fc9823f1903";
            let uid = "f8a694f2-7c08-11e9-98da-000c29077430";
            (Some(id), None, Some(uid), Some(Qos::BestEffort))
        });
        of_path(ID_ALONE, (Some(&ID_ALONE[1..]), None, None, None));
        for path in [
            "",
            "/",
            "/../..",
            "/init.scope",
            "/system.slice/valkey-server@6379.service",
            "/system.slice/system-redis\\x2dserver.slice/redis-server@x.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/podman.slice",
            "/pod.slice/pods/podium",
            "/kubepods.slice/kubepods-pod.slice",
            "/kubepods/podXYZ",
            "/docker/short",
            "/system.slice/docker-9EC39B91F3D70E1BEFF50A308F77067065EA6BE0D91A3378375056CD4422CF3D.scope",
            "/a:b:c:d",
            "/tripod_dd1bf9d1_241d_47f5_8e25_12de83135812.slice",
        ] {
            of_path(path, (None, None, None, None));
        }
        let long = format!("/{}{DOCKER_SYSTEMD}", "x".repeat(PATH_BYTES));
        of_path(&long, (None, None, None, None));
    }

    #[test]
    fn of_the_lines_of_version_1_and_2_the_one_that_says_most_counts() {
        // NeuVector's tests: version 1 alone, where one controller is at the root.
        let version_1 = format!("8:pids:{KUBELET_CGROUPFS}\n3:rdma:/\n1:name=systemd:{KUBELET_CGROUPFS}\n");
        let expected = Place::of_path(KUBELET_CGROUPFS);
        assert_eq!(expected.facts(), 3);
        assert_eq!(Place::of_cgroup_file(&version_1), expected);
        // A hybrid host: version 2 is there and knows nothing, or only the unit.
        for unified in ["/", "/system.slice/containerd.service"] {
            assert_eq!(
                Place::of_cgroup_file(&format!("{version_1}0::{unified}\n")),
                expected
            );
        }
        let colons = "12:cpu,cpuacct:/system.slice/containerd.service/kubepods-besteffort-podb41662f7_b03a_4c65_8ef9_6e4e55c3cf27.slice:cri-containerd:1753b7cbbf62734d812936961224d5bc0cf8f45214e0d5cdd1a781a053e7c48f\n";
        assert_eq!(Place::of_cgroup_file(colons).facts(), 3);
        // Where both know a place, version 2's: it is what the kernel programs go by.
        let both = format!("1:name=systemd:{KUBELET_CGROUPFS}\n0::{CONTAINERD_SYSTEMD}\n");
        assert_eq!(Place::of_cgroup_file(&both), Place::of_path(CONTAINERD_SYSTEMD));
        assert_eq!(Place::of_cgroup_file("nonsense\n::\n0::/\n"), Place::default());
    }
}
