//! The scan of the host, and the questions asked between scans.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use super::{
    Cgroups, DiscoverySettings, Error, Established, FoundServer, Listener, NetnsCookie, Place,
    netns::Namespaces,
    owners::Owners,
    processes::{Candidate, Processes, Scan},
    sock_diag::SockDiag,
};

/// Network namespaces without a server that are kept open while ports are looked for everywhere: two descriptors each,
/// of the usual 1024. Further ones are opened anew for each scan, which costs some 100 us.
const IDLE_NAMESPACES: usize = 128;

/// The cluster bus listens on a server's port plus this.
const CLUSTER_BUS_OFFSET: u16 = 10_000;

/// The host, as discovery sees it.
///
/// Keeps a netlink socket in each network namespace that has a server, so that the cheap questions stay cheap. That
/// keeps the namespace alive as well: each scan closes those of which no process is left.
#[derive(Debug)]
pub struct Host {
    processes: Processes,
    pub(super) namespaces: Namespaces,
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

    /// CPU time that the first thread of a process, in which servers execute commands, has had, with a resolution of a clock tick
    /// (10 ms); `None` if it has ended. One small file is read.
    #[must_use]
    pub fn cpu_time(&self, pid: i32) -> Option<Duration> {
        let ticks = self.processes.stat_of_first_thread(pid)?.cpu_time;
        Some(Duration::from_secs_f64(
            ticks as f64 / procfs::ticks_per_second() as f64,
        ))
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
    fn by_namespace(&mut self, scan: &Scan, all: bool) -> BTreeMap<u64, Group> {
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
            .map(|(candidate, own)| {
                let pid = candidate.pid;
                let own = without_cluster_bus(own, ports, || self.processes.cluster_port(pid));
                (candidate, own)
            })
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
            place: cgroup.as_deref().map(Place::of_cgroup_file).unwrap_or_default(),
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

/// Processes of one network namespace: candidates, the oldest first; all of them if ports are looked for.
#[derive(Debug, Default)]
struct Group {
    candidates: Vec<Candidate>,
    pids: Vec<i32>,
}

/// The cluster bus speaks another protocol, on the port of another listener of the same process plus 10,000, or on the
/// one that `cluster-port` names: the only one besides that which a cluster node's title tells ([`Processes::cluster_port`],
/// asked only when needed). It is watched only if it is configured.
fn without_cluster_bus(
    mut listeners: Vec<Listener>,
    configured: &[u16],
    cluster_port: impl FnOnce() -> Option<u16>,
) -> Vec<Listener> {
    let ports: BTreeSet<u16> = listeners.iter().map(|listener| listener.port).collect();
    let above = |port: &u16| {
        let data_port = port.checked_sub(CLUSTER_BUS_OFFSET);
        data_port.is_some_and(|port| ports.contains(&port))
    };
    let mut buses: BTreeSet<u16> = ports.iter().copied().filter(above).collect();
    if buses.is_empty() && ports.len() == 2 {
        let data_port = cluster_port().filter(|port| ports.contains(port));
        buses = data_port.map_or(buses, |port| &ports - &BTreeSet::from([port]));
    }
    listeners.retain(|listener| configured.contains(&listener.port) || !buses.contains(&listener.port));
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_cluster_bus_is_not_watched_unless_it_is_configured() {
        let listener = |port| Listener {
            address: Ipv4Addr::LOCALHOST.into(),
            port,
            v6only: false,
            inode: 1,
            cookie: port.into(),
            cgroup_id: 1,
            queue_length: 0,
            queue_limit: 511,
            drops: 0,
        };
        let watched = |ports: &[u16], configured: &[u16], cluster_port: Option<u16>| -> Vec<u16> {
            let listeners = ports.iter().copied().map(listener).collect();
            without_cluster_bus(listeners, configured, || cluster_port)
                .into_iter()
                .map(|listener| listener.port)
                .collect()
        };
        assert_eq!(
            watched(&[6379, 6380, 16379, 16380, 17000], &[], None),
            [6379, 6380, 17000]
        );
        assert_eq!(watched(&[6379, 16379], &[16379], None), [6379, 16379]);
        assert_eq!(watched(&[60000, 5535], &[], None), [60000, 5535]);

        // By `cluster-port`.
        assert_eq!(watched(&[6379, 7000], &[], Some(6379)), [6379]);
        assert_eq!(watched(&[6379, 7000], &[7000], Some(6379)), [6379, 7000]);
        assert_eq!(watched(&[6379, 7000], &[], Some(6380)), [6379, 7000]);
        assert_eq!(watched(&[6379], &[], Some(6379)), [6379]);
        assert_eq!(
            watched(&[6379, 6380, 7000], &[], Some(6379)),
            [6379, 6380, 7000],
            "one is for TLS, but which?"
        );
    }
}
