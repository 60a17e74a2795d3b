//! What can go wrong, and what to do then.

use std::{io, path::PathBuf};

/// What can go wrong. A process or namespace that vanishes or cannot be read is no error of a scan: it is skipped, and
/// counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No cgroup v2 file system in the mount table.
    #[error(
        "no cgroup v2 file system is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with \
         systemd.unified_cgroup_hierarchy=1); in a container, mount the host's /sys/fs/cgroup"
    )]
    NoCgroup2,
    /// The cgroup of a process cannot be told.
    #[error("cgroup of the process: {0}")]
    Cgroup(String),
    /// The list of processes cannot be read.
    #[error("cannot list processes in {path}: mount procfs there, in a container that of the host: {source}")]
    Procfs {
        /// Where procfs was expected.
        path: PathBuf,
        /// Why it could not be read.
        source: io::Error,
    },
    /// The namespace was never seen, or no process is left in it.
    #[error("network namespace {0} is not open: no server was found in it by the last scan; scan again")]
    UnknownNetns(u64),
    /// The namespace cannot be entered.
    #[error(
        "cannot enter network namespace {netns}: run the agent as root or with CAP_SYS_ADMIN and CAP_SYS_PTRACE: {source}"
    )]
    EnterNetns {
        /// Inode number of the namespace.
        netns: u64,
        /// Why it cannot be entered.
        source: io::Error,
    },
    /// The kernel does not tell the cookie of a namespace.
    #[error("cannot read the cookie of a network namespace: it takes Linux 5.14 or later: {0}")]
    NetnsCookie(io::Error),
    /// sock_diag gave no answer.
    #[error(
        "cannot list sockets in network namespace {netns}: is the kernel module tcp_diag loaded? {source}"
    )]
    SockDiag {
        /// Inode number of the namespace.
        netns: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Whether a namespace or process went away under our hands, which needs nobody's attention.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::UnknownNetns(_) => true,
            Self::EnterNetns { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
            }
            _ => false,
        }
    }
}
