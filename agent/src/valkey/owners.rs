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
const OWNERLESS_SCANS: u64 = 16;

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
        let new = listeners
            .iter()
            .filter(|listener| !self.searched.contains_key(&listener.cookie));
        let mut missing: HashSet<u32> = new.map(|listener| listener.inode).collect();
        let mut owned = HashSet::new();
        if !missing.is_empty() {
            processes.socket_inodes(pid, |inode| {
                if missing.remove(&inode) {
                    owned.insert(inode);
                }
                !missing.is_empty()
            })?;
        }
        let searched = listeners.iter().map(|listener| {
            let new = Searched {
                owned: owned.contains(&listener.inode),
                scan,
            };
            (
                listener.cookie,
                self.searched.get(&listener.cookie).copied().unwrap_or(new),
            )
        });
        self.searched = searched.collect();
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
