//! Which process a listening socket belongs to. sock_diag does not say; the descriptors of the processes do, and with
//! 100,000 connections they are dear to read: nothing is read twice here without need.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use super::{
    Listener,
    processes::{Candidate, Processes},
};

/// A listener on a configured port that no process seems to own (one of the kernel's own, or of a process that may not
/// be read) is looked for again after so many scans.
const OWNERLESS_SCANS: u64 = 64;

/// Descriptors per scan that may be read in vain, on average: some 2 ms. A server with more of them is left alone for a
/// while after a search that found nothing, so that other programs which listen for a moment cost little.
const DESCRIPTORS_PER_SCAN: u64 = 512;

/// What is known of listening sockets and their owners, by socket cookie.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: HashMap<i32, Known>,
    holders: HashMap<u64, Holder>,
    scan: u64,
}

/// A server's process, and what it was found to own.
#[derive(Debug, Clone)]
struct Known {
    start_time: u64,
    netns: u64,
    /// Listeners of its namespace that its descriptors were searched for.
    searched: HashMap<u64, Searched>,
    /// No search before this scan.
    rests_until: u64,
    complained: bool,
}

#[derive(Debug, Clone, Copy)]
struct Searched {
    owned: bool,
    scan: u64,
}

#[derive(Debug, Clone, Copy)]
enum Holder {
    Process { pid: i32, start_time: u64 },
    Nobody { scan: u64 },
}

impl Owners {
    /// Begins a scan: forgets processes that are no candidates any more, and meets the new ones.
    pub(super) fn begin(&mut self, candidates: &[Candidate]) {
        self.scan += 1;
        let mut known = HashMap::with_capacity(candidates.len());
        for candidate in candidates {
            known.insert(candidate.pid, self.meet(candidate));
        }
        self.known = known;
    }

    /// Shares the listeners of one namespace out among its candidates, the oldest first: forked children that inherited
    /// a socket do not get it.
    pub(super) fn assign(
        &mut self,
        candidates: &[Candidate],
        listeners: &[Listener],
        processes: &mut Processes,
    ) -> Vec<(Candidate, Vec<Listener>)> {
        let mut taken: HashSet<u64> = HashSet::new();
        let mut assigned = Vec::new();
        for candidate in candidates {
            let Some(known) = self.known.get_mut(&candidate.pid) else {
                continue;
            };
            if let Err(error) = known.search(candidate.pid, listeners, self.scan, processes) {
                processes.skipped += 1;
                known.complain(candidate, &error);
            }
            let own = listeners
                .iter()
                .filter(|listener| known.owns(listener) && taken.insert(listener.cookie));
            let own: Vec<Listener> = own.cloned().collect();
            if !own.is_empty() {
                assigned.push((candidate.clone(), own));
            }
        }
        assigned
    }

    /// Finds the oldest process that holds each of these listeners, whatever its name: (index of the listener, pid,
    /// start time). `near` are the processes of its namespace, `far` all others.
    pub(super) fn holders(
        &mut self,
        wanted: &[Listener],
        near: &[i32],
        far: &[i32],
        processes: &Processes,
    ) -> Vec<(usize, i32, u64)> {
        let mut found = Vec::new();
        let mut missing: HashMap<u32, usize> = HashMap::new();
        for (at, listener) in wanted.iter().enumerate() {
            match self.holders.get(&listener.cookie) {
                Some(&Holder::Process { pid, start_time }) if is_alive(processes, pid, start_time) => {
                    found.push((at, pid, start_time));
                }
                Some(Holder::Nobody { scan }) if self.scan < scan + OWNERLESS_SCANS => {}
                _ => {
                    missing.insert(listener.inode, at);
                }
            }
        }
        for pids in [near, far] {
            found.extend(search_all(pids, &mut missing, processes));
        }
        for &(at, pid, start_time) in &found {
            self.holders
                .insert(wanted[at].cookie, Holder::Process { pid, start_time });
        }
        for at in missing.into_values() {
            self.holders
                .insert(wanted[at].cookie, Holder::Nobody { scan: self.scan });
        }
        found
    }

    /// Ends a scan: forgets the holders of sockets that are gone.
    pub(super) fn end(&mut self, listening: &HashSet<u64>) {
        self.holders.retain(|cookie, _| listening.contains(cookie));
    }

    fn meet(&mut self, candidate: &Candidate) -> Known {
        let same =
            |known: &&Known| known.start_time == candidate.start_time && known.netns == candidate.netns;
        if let Some(known) = self.known.get(&candidate.pid).filter(same) {
            return known.clone();
        }
        let parent = self
            .known
            .get(&candidate.parent)
            .filter(|parent| parent.netns == candidate.netns);
        Known {
            start_time: candidate.start_time,
            netns: candidate.netns,
            searched: parent
                .map(|parent| parent.inherited(self.scan))
                .unwrap_or_default(),
            rests_until: 0,
            complained: false,
        }
    }
}

impl Known {
    fn owns(&self, listener: &Listener) -> bool {
        self.searched
            .get(&listener.cookie)
            .is_some_and(|searched| searched.owned)
    }

    /// What a forked child shares with its parent. A background save inherits 100,000 descriptors: they must not be read
    /// to learn what is known. Left out is what came so late that the child itself may have opened it, in the scan
    /// before this one after the processes were listed.
    fn inherited(&self, scan: u64) -> HashMap<u64, Searched> {
        let early = self
            .searched
            .iter()
            .filter(|(_, searched)| searched.scan + 1 < scan);
        early.map(|(cookie, searched)| (*cookie, *searched)).collect()
    }

    /// Searches the process's descriptors if there is a listener that they were not searched for yet.
    fn search(
        &mut self,
        pid: i32,
        listeners: &[Listener],
        scan: u64,
        processes: &Processes,
    ) -> io::Result<()> {
        let listening: HashSet<u64> = listeners.iter().map(|listener| listener.cookie).collect();
        self.searched.retain(|cookie, _| listening.contains(cookie));
        let new: HashMap<u32, u64> = listeners
            .iter()
            .filter(|listener| !self.searched.contains_key(&listener.cookie))
            .map(|listener| (listener.inode, listener.cookie))
            .collect();
        if new.is_empty() || scan < self.rests_until {
            return Ok(());
        }
        let mut missing = new.clone();
        let read = processes.socket_inodes(pid, |inode| {
            missing.remove(&inode);
            !missing.is_empty()
        })?;
        if missing.len() == new.len() {
            self.rests_until = scan + read / DESCRIPTORS_PER_SCAN;
        }
        self.searched.extend(new.into_iter().map(|(inode, cookie)| {
            let owned = !missing.contains_key(&inode);
            (cookie, Searched { owned, scan })
        }));
        Ok(())
    }

    fn complain(&mut self, server: &Candidate, error: &io::Error) {
        let gone = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH));
        if !gone && !self.complained {
            self.complained = true;
            let (pid, process) = (server.pid, &server.name);
            tracing::warn!(pid, process, %error, "cannot read the descriptors of a server's process: it is not \
                watched; run the agent as root or with CAP_SYS_PTRACE");
        }
    }
}

fn is_alive(processes: &Processes, pid: i32, start_time: u64) -> bool {
    processes
        .stat(pid)
        .is_some_and(|stat| !stat.ended && stat.start_time == start_time)
}

/// Searches processes, the oldest first, for sockets by inode, and takes what it finds out of `missing`.
fn search_all(
    pids: &[i32],
    missing: &mut HashMap<u32, usize>,
    processes: &Processes,
) -> Vec<(usize, i32, u64)> {
    if missing.is_empty() {
        return Vec::new();
    }
    let mut by_age: Vec<(u64, i32)> = pids
        .iter()
        .filter_map(|&pid| Some((processes.stat(pid)?.start_time, pid)))
        .collect();
    by_age.sort_unstable();
    let mut found = Vec::new();
    for (start_time, pid) in by_age {
        // Unreadable processes cannot be told from those without the socket: the listener stays without an owner.
        let _ = processes.socket_inodes(pid, |inode| {
            found.extend(missing.remove(&inode).map(|at| (at, pid, start_time)));
            !missing.is_empty()
        });
        if missing.is_empty() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr, os::unix::fs::symlink, path::Path};

    use super::*;

    fn listener(number: u32) -> Listener {
        Listener {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 6379,
            v6only: false,
            inode: number,
            cookie: u64::from(number) + 1000,
            cgroup_id: 1,
            queue_length: 0,
            queue_limit: 511,
            drops: 0,
        }
    }

    /// A process that started at its own number, with these sockets, in a procfs of our own making.
    fn process(root: &Path, pid: i32, sockets: &[u32]) {
        let path = root.join(pid.to_string());
        fs::create_dir_all(path.join("fd")).unwrap();
        fs::write(
            path.join("stat"),
            format!("{pid} (v) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {pid} 0"),
        )
        .unwrap();
        for inode in sockets {
            symlink(
                format!("socket:[{inode}]"),
                path.join("fd").join(inode.to_string()),
            )
            .unwrap();
        }
    }

    fn candidate(pid: i32, parent: i32) -> Candidate {
        Candidate {
            pid,
            name: "v".to_owned(),
            start_time: pid as u64,
            parent,
            netns: 1,
        }
    }

    /// One scan: (pid, inodes) of what was assigned.
    fn scan(
        owners: &mut Owners,
        candidates: &[Candidate],
        inodes: &[u32],
        processes: &mut Processes,
    ) -> Vec<(i32, Vec<u32>)> {
        let listeners: Vec<Listener> = inodes.iter().copied().map(listener).collect();
        owners.begin(candidates);
        let assigned = owners.assign(candidates, &listeners, processes);
        owners.end(&listeners.iter().map(|listener| listener.cookie).collect());
        let inodes = |own: Vec<Listener>| own.into_iter().map(|listener| listener.inode).collect();
        assigned
            .into_iter()
            .map(|(candidate, own)| (candidate.pid, inodes(own)))
            .collect()
    }

    fn world() -> (tempfile::TempDir, Processes, Owners) {
        let root = tempfile::tempdir().unwrap();
        let processes = Processes::new(root.path().to_owned());
        (root, processes, Owners::default())
    }

    #[test]
    fn a_shared_socket_belongs_to_the_oldest_and_then_to_its_heir() {
        let (root, mut processes, mut owners) = world();
        process(root.path(), 5, &[1, 2]);
        process(root.path(), 6, &[1, 3]);
        let both = [candidate(5, 1), candidate(6, 5)];
        assert_eq!(
            scan(&mut owners, &both, &[1, 2, 3, 4], &mut processes),
            [(5, vec![1, 2]), (6, vec![3])]
        );
        assert_eq!(
            scan(&mut owners, &both[1..], &[1, 3, 4], &mut processes),
            [(6, vec![1, 3])]
        );
    }

    #[test]
    fn descriptors_are_read_again_only_for_a_new_listener() {
        let (root, mut processes, mut owners) = world();
        process(root.path(), 5, &[1]);
        let server = [candidate(5, 1)];
        assert_eq!(
            scan(&mut owners, &server, &[1, 9], &mut processes),
            [(5, vec![1])]
        );
        process(root.path(), 5, &[9]);
        assert_eq!(
            scan(&mut owners, &server, &[1, 9], &mut processes),
            [(5, vec![1])]
        );
        process(root.path(), 5, &[2]);
        assert_eq!(
            scan(&mut owners, &server, &[1, 2, 9], &mut processes),
            [(5, vec![1, 2])]
        );
    }

    #[test]
    fn the_descriptors_of_a_background_save_are_not_read() {
        let (root, mut processes, mut owners) = world();
        process(root.path(), 5, &[1]);
        for _ in 0..2 {
            scan(&mut owners, &[candidate(5, 1)], &[1, 9], &mut processes);
        }
        // The child has no fd folder here: to read it would count as skipped.
        let both = [candidate(5, 1), candidate(7, 5)];
        assert_eq!(scan(&mut owners, &both, &[1, 9], &mut processes), [(5, vec![1])]);
        assert_eq!(processes.skipped, 0);
    }

    #[test]
    fn a_server_started_by_a_server_between_the_reading_of_processes_and_sockets_is_found() {
        let (root, mut processes, mut owners) = world();
        process(root.path(), 5, &[1]);
        process(root.path(), 7, &[2]);
        scan(&mut owners, &[candidate(5, 1)], &[1], &mut processes);
        // The child's socket is there already, the child itself was not listed yet.
        scan(&mut owners, &[candidate(5, 1)], &[1, 2], &mut processes);
        let both = [candidate(5, 1), candidate(7, 5)];
        assert_eq!(
            scan(&mut owners, &both, &[1, 2], &mut processes),
            [(5, vec![1]), (7, vec![2])]
        );
    }

    #[test]
    fn a_process_number_used_again_starts_from_nothing() {
        let (root, mut processes, mut owners) = world();
        process(root.path(), 5, &[1]);
        scan(&mut owners, &[candidate(5, 1)], &[1, 2], &mut processes);
        fs::remove_dir_all(root.path().join("5")).unwrap();
        process(root.path(), 5, &[2]);
        let other = Candidate {
            start_time: 99,
            ..candidate(5, 1)
        };
        assert_eq!(
            scan(&mut owners, &[other], &[1, 2], &mut processes),
            [(5, vec![2])]
        );
    }

    #[test]
    fn a_server_with_many_connections_is_left_alone_after_a_search_in_vain() {
        let (root, mut processes, mut owners) = world();
        let connections: Vec<u32> = (10_000..10_000 + 3 * DESCRIPTORS_PER_SCAN as u32).collect();
        process(root.path(), 5, &connections);
        process(root.path(), 5, &[1]);
        let server = [candidate(5, 1)];
        scan(&mut owners, &server, &[1], &mut processes);
        scan(&mut owners, &server, &[1, 2], &mut processes);
        process(root.path(), 5, &[3]);
        for _ in 0..2 {
            assert_eq!(
                scan(&mut owners, &server, &[1, 3], &mut processes),
                [(5, vec![1])]
            );
        }
        assert_eq!(
            scan(&mut owners, &server, &[1, 3], &mut processes),
            [(5, vec![1, 3])]
        );
    }

    #[test]
    fn a_server_whose_descriptors_cannot_be_read_is_counted_and_tried_again() {
        let (root, mut processes, mut owners) = world();
        let server = [candidate(5, 1)];
        assert_eq!(scan(&mut owners, &server, &[1], &mut processes), []);
        assert_eq!(processes.skipped, 1);
        process(root.path(), 5, &[1]);
        assert_eq!(scan(&mut owners, &server, &[1], &mut processes), [(5, vec![1])]);
    }

    #[test]
    fn the_oldest_holder_of_any_name_is_found_and_replaced_when_it_ends() {
        let (root, processes, mut owners) = world();
        process(root.path(), 8, &[1]);
        process(root.path(), 9, &[1]);
        let wanted = [listener(1), listener(2)];
        assert_eq!(owners.holders(&wanted, &[9, 8], &[], &processes), [(0, 8, 8)]);
        fs::remove_dir_all(root.path().join("8")).unwrap();
        assert_eq!(owners.holders(&wanted, &[9], &[], &processes), [(0, 9, 9)]);
    }

    #[test]
    fn a_holder_in_another_namespace_is_found_and_one_without_is_sought_again_later() {
        let (root, processes, mut owners) = world();
        let wanted = [listener(1)];
        assert_eq!(owners.holders(&wanted, &[], &[8], &processes), []);
        process(root.path(), 8, &[1]);
        assert_eq!(owners.holders(&wanted, &[], &[8], &processes), []);
        owners.scan += OWNERLESS_SCANS;
        assert_eq!(owners.holders(&wanted, &[], &[8], &processes), [(0, 8, 8)]);
    }
}
