//! Discovery: which Valkey and Redis servers run on this host, in whatever network namespace and cgroup, what they
//! listen on, and who is connected to them. It reads procfs and asks sock_diag, and knows nothing of BPF.
//!
//! | file | what it knows |
//! |---|---|
//! | `processes` | which processes go by a server's name |
//! | `netns` | network namespaces, entered on a thread of their own |
//! | `sock_diag` | the TCP sockets of a namespace |
//! | `owners` | which process a listening socket belongs to |
//! | `cgroups` | the cgroup v2 tree |
//! | `labels` | what a server is called |
//!
//! A socket that a process listens on in another network namespace than the one it is in now is not found.
#![forbid(unsafe_code)]

mod cgroups;
mod labels;
mod netns;
mod owners;
mod processes;
mod sock_diag;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

pub use self::{
    cgroups::{Cgroups, attach_points},
    labels::labels,
    netns::NetnsCookie,
};
use self::{
    netns::Namespaces,
    owners::Owners,
    processes::{Candidate, Processes},
    sock_diag::SockDiag,
};

/// Network namespaces without a server that are kept open while ports are looked for everywhere: two descriptors each,
/// of the usual 1024. Further ones are opened anew for each scan, which costs some 100 us.
const IDLE_NAMESPACES: usize = 128;

/// The cluster bus listens on a server's port plus this.
const CLUSTER_BUS_OFFSET: u16 = 10_000;

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// Processes to watch, by command name, by the name of their executable, or by what they call themselves.
    pub processes: Vec<String>,
    /// Further listening ports to watch, whatever the process.
    pub ports: Vec<u16>,
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        Self {
            processes: ["valkey-server", "redis-server", "keydb-server"]
                .map(str::to_owned)
                .into(),
            ports: Vec::new(),
        }
    }
}

/// A process that serves, and its listening sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundServer {
    /// Process number, as seen in the agent's own namespace. Of several processes that share a socket, the oldest.
    pub pid: i32,
    /// When the process started, in clock ticks after boot: tells a restarted server from the same one.
    pub start_time: u64,
    /// The configured name that it goes by; the command name if it was found by its port.
    pub process: String,
    /// Inode number of its network namespace.
    pub netns: u64,
    /// Cookie of its network namespace, as `bpf_get_netns_cookie` shows it.
    pub netns_cookie: u64,
    /// At least one, by ascending port.
    pub listeners: Vec<Listener>,
    /// The cgroup that the process is in now; its sockets may belong to another one.
    pub cgroup_of_process: Option<PathBuf>,
}

impl FoundServer {
    /// Its lowest port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.listeners.iter().map(|listener| listener.port).min()
    }
}

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address it is bound to.
    pub address: IpAddr,
    /// The port it is bound to.
    pub port: u16,
    /// Whether an IPv6 socket refuses IPv4 connections.
    pub v6only: bool,
    /// Inode number of the socket, as in `/proc/PID/fd`.
    pub inode: u32,
    /// Socket cookie, never used again until the host boots.
    pub cookie: u64,
    /// The cgroup in which the socket was created: programs attached there see its connections. 0 if the kernel did
    /// not say.
    pub cgroup_id: u64,
    /// Connections that wait to be accepted.
    pub queue_length: u32,
    /// How many may wait.
    pub queue_limit: u32,
}

/// An established TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// Our end; IPv4 addresses mapped into IPv6 are shown as IPv4.
    pub local: SocketAddr,
    /// The client's end, likewise.
    pub remote: SocketAddr,
    /// Socket cookie.
    pub cookie: u64,
    /// Inode number of the socket; 0 while the connection waits to be accepted.
    pub inode: u32,
    /// The cgroup of the listening socket that it came from.
    pub cgroup_id: u64,
}

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
    fn is_passing(&self) -> bool {
        match self {
            Self::UnknownNetns(_) => true,
            Self::EnterNetns { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
            }
            _ => false,
        }
    }
}

/// The host, as discovery sees it.
///
/// Keeps a netlink socket in each network namespace that has a server, so that the cheap questions stay cheap. That
/// keeps the namespace alive as well: each scan closes those of which no process is left.
#[derive(Debug)]
pub struct Host {
    processes: Processes,
    namespaces: Namespaces,
    owners: Owners,
    cgroups: Cgroups,
    /// Namespaces that a warning was given for.
    complained: BTreeSet<u64>,
}

impl Host {
    /// `procfs` is where the host's procfs is mounted, usually `/proc`.
    ///
    /// # Errors
    /// If no cgroup v2 file system is mounted, or the mount table cannot be read.
    pub fn open(procfs: impl Into<PathBuf>, netns_cookie: NetnsCookie) -> Result<Self, Error> {
        // Our own mount table, whatever host's procfs is read otherwise: the paths are for us to open.
        let path = PathBuf::from("/proc/self/mountinfo");
        let mountinfo = fs::read_to_string(&path).map_err(|source| Error::Procfs { path, source })?;
        Ok(Self {
            processes: Processes::new(procfs.into()),
            namespaces: Namespaces::new(netns_cookie),
            owners: Owners::default(),
            cgroups: Cgroups::find(&mountinfo)?,
            complained: BTreeSet::new(),
        })
    }

    /// Looks at every process and finds the servers, sorted by (process, lowest port).
    ///
    /// On a host with 1,000 processes a few milliseconds; the first one takes longer.
    ///
    /// # Errors
    /// Only if procfs cannot be listed. What vanishes or cannot be read is counted by [`Self::skipped`].
    pub fn servers(&mut self, settings: &DiscoverySettings) -> Result<Vec<FoundServer>, Error> {
        let scan = self.processes.scan(&settings.processes)?;
        self.owners.begin(&scan.candidates);
        let groups = self.by_namespace(&scan, !settings.ports.is_empty());
        let mut servers = Vec::new();
        let mut listening = HashSet::new();
        for (&netns, group) in &groups {
            match self.servers_in(netns, group, &scan.pids, &settings.ports, &mut listening) {
                Ok(found) => servers.extend(found),
                Err(error) => self.skip_namespace(netns, &error),
            }
        }
        self.owners.end(&listening);
        self.close_idle(&groups, &servers);
        servers.sort_by(|a, b| order(a).cmp(&order(b)));
        Ok(servers)
    }

    /// All listening TCP sockets of a namespace that has a server, with their accept queues as they are now. Cheap.
    ///
    /// # Errors
    /// If the last scan found no server in that namespace, or the kernel gives no answer.
    pub fn listeners(&mut self, netns: u64) -> Result<Vec<Listener>, Error> {
        self.namespaces.ask(netns, SockDiag::listeners)
    }

    /// The established connections of a namespace whose local port is one of these, sorted by cookie. Those that wait
    /// to be accepted are included. 100,000 connections take some 100 ms.
    ///
    /// # Errors
    /// As [`Self::listeners`].
    pub fn established(&mut self, netns: u64, local_ports: &[u16]) -> Result<Vec<Established>, Error> {
        self.namespaces
            .ask(netns, |sock_diag| sock_diag.established(local_ports))
    }

    /// Runs `work` in a namespace that has a server, on a thread of its own: the caller's namespace never changes.
    ///
    /// # Errors
    /// If the last scan found no server in that namespace, or it cannot be entered.
    pub fn in_netns<T: Send>(&self, netns: u64, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.namespaces.run_in(netns, work)
    }

    /// When a process started, in clock ticks after boot; `None` if it has ended. One small file is read.
    #[must_use]
    pub fn start_time(&self, pid: i32) -> Option<u64> {
        self.processes
            .stat(pid)
            .filter(|stat| !stat.ended)
            .map(|stat| stat.start_time)
    }

    /// The cgroup v2 tree.
    pub fn cgroups(&mut self) -> &mut Cgroups {
        &mut self.cgroups
    }

    /// How many processes and namespaces all scans so far had to leave out, because they vanished or could not be read.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.processes.skipped
    }

    /// The namespaces to look into: those of the candidates, or all.
    fn by_namespace(&mut self, scan: &processes::Scan, all: bool) -> BTreeMap<u64, Group> {
        let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
        for candidate in &scan.candidates {
            let group = groups.entry(candidate.netns).or_default();
            group.pids.push(candidate.pid);
            group.candidates.push(candidate.clone());
        }
        if all {
            let candidates: HashSet<i32> = scan.candidates.iter().map(|candidate| candidate.pid).collect();
            for &pid in scan.pids.iter().filter(|pid| !candidates.contains(pid)) {
                if let Ok(netns) = self.processes.netns(pid) {
                    groups.entry(netns).or_default().pids.push(pid);
                }
            }
        }
        groups
    }

    fn servers_in(
        &mut self,
        netns: u64,
        group: &Group,
        all_pids: &[i32],
        ports: &[u16],
        listening: &mut HashSet<u64>,
    ) -> Result<Vec<FoundServer>, Error> {
        self.open_namespace(netns, &group.pids)?;
        let listeners = self.namespaces.ask(netns, SockDiag::listeners)?;
        listening.extend(listeners.iter().map(|listener| listener.cookie));

        let assigned = self
            .owners
            .assign(&group.candidates, &listeners, &mut self.processes);
        let taken: HashSet<u64> = assigned
            .iter()
            .flat_map(|(_, own)| own)
            .map(|listener| listener.cookie)
            .collect();
        let mut found: Vec<(Candidate, Vec<Listener>)> = assigned
            .into_iter()
            .map(|(candidate, own)| (candidate, without_cluster_bus(own, ports)))
            .collect();

        let further = listeners
            .into_iter()
            .filter(|l| ports.contains(&l.port) && !taken.contains(&l.cookie));
        found.extend(self.by_port(netns, &further.collect::<Vec<_>>(), group, all_pids));
        Ok(found
            .into_iter()
            .filter_map(|(process, own)| self.found(netns, process, own))
            .collect())
    }

    /// Any process of the namespace will do to open it; the first may be gone by now.
    fn open_namespace(&mut self, netns: u64, pids: &[i32]) -> Result<(), Error> {
        let mut result = Err(Error::UnknownNetns(netns));
        for &pid in pids {
            result = self.namespaces.open(netns, &self.processes.netns_path(pid));
            if !result.as_ref().is_err_and(Error::is_passing) {
                break;
            }
        }
        result
    }

    /// Listeners on configured ports that belong to processes of other names.
    fn by_port(
        &mut self,
        netns: u64,
        listeners: &[Listener],
        group: &Group,
        all_pids: &[i32],
    ) -> Vec<(Candidate, Vec<Listener>)> {
        if listeners.is_empty() {
            return Vec::new();
        }
        let mut by_process: BTreeMap<(i32, u64), Vec<Listener>> = BTreeMap::new();
        for (at, pid, start_time) in self
            .owners
            .holders(listeners, &group.pids, all_pids, &self.processes)
        {
            by_process
                .entry((pid, start_time))
                .or_default()
                .push(listeners[at].clone());
        }
        let named = by_process.into_iter().filter_map(|((pid, start_time), own)| {
            let name = self.processes.comm(pid)?;
            Some((
                Candidate {
                    pid,
                    name,
                    start_time,
                    parent: 0,
                    netns,
                },
                own,
            ))
        });
        named.collect()
    }

    fn found(&self, netns: u64, process: Candidate, mut listeners: Vec<Listener>) -> Option<FoundServer> {
        listeners.sort_unstable_by_key(|listener| (listener.port, listener.address, listener.cookie));
        let cgroup = self.processes.cgroup_file(process.pid);
        Some(FoundServer {
            pid: process.pid,
            start_time: process.start_time,
            process: process.name,
            netns,
            netns_cookie: self.namespaces.cookie(netns)?,
            listeners: (!listeners.is_empty()).then_some(listeners)?,
            cgroup_of_process: cgroup.and_then(|text| self.cgroups.of_cgroup_file(&text).ok()),
        })
    }

    fn skip_namespace(&mut self, netns: u64, error: &Error) {
        self.processes.skipped += 1;
        if error.is_passing() {
            tracing::debug!(netns, %error, "a network namespace vanished during the scan");
        } else if self.complained.insert(netns) {
            tracing::warn!(netns, %error, "servers in this network namespace are not watched");
        }
    }

    fn close_idle(&mut self, groups: &BTreeMap<u64, Group>, servers: &[FoundServer]) {
        let used: BTreeSet<u64> = servers.iter().map(|server| server.netns).collect();
        let alive: BTreeSet<u64> = groups.keys().copied().collect();
        self.namespaces.keep_only(&used, IDLE_NAMESPACES, &alive);
        self.complained.retain(|netns| alive.contains(netns));
    }
}

/// When a process started, in clock ticks after boot, from `/proc`; `None` if it has ended. See [`Host::start_time`].
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    Processes::new("/proc".into())
        .stat(pid)
        .filter(|stat| !stat.ended)
        .map(|stat| stat.start_time)
}

/// Processes of one network namespace: candidates, the oldest first; all of them if ports are looked for.
#[derive(Debug, Default)]
struct Group {
    candidates: Vec<Candidate>,
    pids: Vec<i32>,
}

/// The cluster bus speaks another protocol, on the port of another listener of the same process plus 10,000. It is
/// watched only if it is configured.
fn without_cluster_bus(mut listeners: Vec<Listener>, configured: &[u16]) -> Vec<Listener> {
    let ports: HashSet<u16> = listeners.iter().map(|listener| listener.port).collect();
    listeners.retain(|listener| {
        let data_port = listener.port.checked_sub(CLUSTER_BUS_OFFSET);
        configured.contains(&listener.port) || !data_port.is_some_and(|port| ports.contains(&port))
    });
    listeners
}

fn order(server: &FoundServer) -> (&str, Option<u16>, u64, u64, i32) {
    (
        &server.process,
        server.port(),
        server.netns,
        server.start_time,
        server.pid,
    )
}
