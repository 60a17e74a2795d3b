//! What a host must offer, checked before anything is loaded: `doctor` prints it, `run` refuses with the same words.

use std::{fs, path::Path};

use procfs::process::Process;

use crate::valkey::Cgroups;

/// Oldest kernel that is supported: bpf_loop (5.17) and what the verifier learnt until the 6.1 long-term release.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// The verdict on a requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Fulfilled; what was found.
    Met(String),
    /// Works without, but less; what is missing and what to do.
    Weak {
        /// What was found.
        found: String,
        /// What to do.
        advice: String,
    },
    /// Cannot run; what is missing and what to do.
    Unmet {
        /// What was found.
        found: String,
        /// What to do.
        advice: String,
    },
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// What it is about.
    pub name: &'static str,
    /// How the host does.
    pub verdict: Verdict,
}

/// Checks this host.
#[must_use]
pub fn check() -> Vec<Requirement> {
    vec![
        Requirement {
            name: "kernel",
            verdict: kernel(&kernel_release()),
        },
        Requirement {
            name: "btf",
            verdict: btf(Path::new("/sys/kernel/btf/vmlinux")),
        },
        Requirement {
            name: "cgroup v2",
            verdict: cgroups(),
        },
        Requirement {
            name: "capabilities",
            verdict: capabilities(effective_capabilities()),
        },
        Requirement {
            name: "memlock",
            verdict: memlock(),
        },
        Requirement {
            name: "pid namespace",
            verdict: pid_namespace(),
        },
    ]
}

/// Release of the running kernel.
pub(super) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

fn kernel(release: &str) -> Verdict {
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let version = (
        numbers.next().and_then(Result::ok),
        numbers.next().and_then(Result::ok),
    );
    match version {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_KERNEL => Verdict::Met(release.into()),
        _ => Verdict::Unmet {
            found: format!("Linux {release}"),
            advice: format!(
                "stormglass needs Linux {}.{} or later",
                OLDEST_KERNEL.0, OLDEST_KERNEL.1
            ),
        },
    }
}

fn btf(path: &Path) -> Verdict {
    if path.exists() {
        return Verdict::Met(path.display().to_string());
    }
    Verdict::Unmet {
        found: format!("{} is missing", path.display()),
        advice: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y (every current distribution kernel is)"
            .into(),
    }
}

fn cgroups() -> Verdict {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match Cgroups::find(&mountinfo) {
        Ok(cgroups) => Verdict::Met(cgroups.root().display().to_string()),
        Err(error) => Verdict::Unmet {
            found: format!("{error:#}"),
            advice: "mount it with `mount -t cgroup2 none /sys/fs/cgroup`, in a container mount the host's \
                     /sys/fs/cgroup"
                .into(),
        },
    }
}

/// Capabilities by number (include/uapi/linux/capability.h), name and use.
const CAPABILITIES: [(u32, &str, &str); 6] = [
    (39, "CAP_BPF", "loads the programs"),
    (38, "CAP_PERFMON", "lets them read kernel pointers"),
    (12, "CAP_NET_ADMIN", "attaches them to cgroups"),
    (21, "CAP_SYS_ADMIN", "enters the servers' network namespaces"),
    (19, "CAP_SYS_PTRACE", "tells which process a socket belongs to"),
    (2, "CAP_DAC_READ_SEARCH", "does so for servers of other users"),
];

fn effective_capabilities() -> Option<u64> {
    Process::myself()
        .and_then(|process| process.status())
        .ok()
        .map(|status| status.capeff)
}

fn capabilities(effective: Option<u64>) -> Verdict {
    let effective = effective.unwrap_or(0);
    let missing: Vec<String> = CAPABILITIES
        .iter()
        .filter(|(number, ..)| effective >> number & 1 == 0)
        .map(|(_, name, purpose)| format!("{name} ({purpose})"))
        .collect();
    if missing.is_empty() {
        return Verdict::Met(CAPABILITIES.map(|(_, name, _)| name).join(" "));
    }
    Verdict::Unmet {
        found: format!("missing {}", missing.join(", ")),
        advice: "run as root, or grant them (systemd AmbientCapabilities=, Kubernetes securityContext.capabilities)"
            .into(),
    }
}

fn memlock() -> Verdict {
    // Since Linux 5.11 BPF memory is charged to the cgroup, so that the limit no longer matters to the maps.
    match nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft == libc::RLIM_INFINITY => Verdict::Met("unlimited".into()),
        Ok((soft, _)) => Verdict::Met(format!(
            "{soft} bytes; BPF memory is charged to the cgroup instead"
        )),
        Err(error) => Verdict::Weak {
            found: format!("the limit cannot be read: {error}"),
            advice: "nothing, unless loading fails with EPERM".into(),
        },
    }
}

fn pid_namespace() -> Verdict {
    // The kernel gives the initial pid namespace this inode number (include/linux/proc_ns.h, PROC_PID_INIT_INO).
    const INITIAL: &str = "pid:[4026531836]";
    let own = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    match own.to_str() {
        Some(INITIAL) => Verdict::Met("the host's".into()),
        _ => Verdict::Weak {
            found: "not the host's".into(),
            advice: "in Kubernetes set hostPID: true; servers outside this namespace are not found".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_and_new_ones_are_not() {
        for fine in ["6.1.0-18-cloud-amd64", "6.18.44-x", "7.0", "10.2.1"] {
            assert!(matches!(kernel(fine), Verdict::Met(_)), "{fine}");
        }
        for old in ["5.10.0-28-amd64", "6.0.19", "4.19", "nonsense", ""] {
            assert!(matches!(kernel(old), Verdict::Unmet { .. }), "{old}");
        }
    }

    #[test]
    fn a_missing_capability_is_named_with_its_purpose() {
        let all = CAPABILITIES.iter().fold(0, |all, (number, ..)| all | 1 << number);
        assert!(matches!(capabilities(Some(all)), Verdict::Met(_)));
        for (number, name, _) in CAPABILITIES {
            let Verdict::Unmet { found, .. } = capabilities(Some(all & !(1 << number))) else {
                panic!("{name} is not missed");
            };
            assert!(found.contains(name), "{found}");
        }
    }
}
