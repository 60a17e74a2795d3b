//! Which servers are wanted, while that can change.
//!
//! A server that is watched and no longer wanted is not shown, but the kernel goes on counting it until it ends: its
//! connections have their state, and nobody would notice their end. Should it be wanted again, nothing is missing.

use crate::valkey::{DiscoverySettings, FoundServer};

/// What is wanted now, and what has to be looked for because of servers that were wanted before.
#[derive(Debug)]
pub(super) struct Wanted {
    now: DiscoverySettings,
    looked_for: DiscoverySettings,
}

impl Wanted {
    /// From the start on.
    pub(super) fn new(now: DiscoverySettings) -> Self {
        Self {
            looked_for: now.clone(),
            now,
        }
    }

    /// Other servers are wanted from now on.
    pub(super) fn change(&mut self, now: DiscoverySettings) {
        let before = std::mem::replace(&mut self.looked_for, now.clone());
        self.now = now;
        for process in before.processes {
            if !self.looked_for.processes.contains(&process) {
                self.looked_for.processes.push(process);
            }
        }
        for port in before.ports {
            if !self.looked_for.ports.contains(&port) {
                self.looked_for.ports.push(port);
            }
        }
    }

    /// What a scan looks for.
    pub(super) const fn looked_for(&self) -> &DiscoverySettings {
        &self.looked_for
    }

    /// Whether a server is wanted now.
    pub(super) fn wants(&self, server: &FoundServer) -> bool {
        let by_port = |port| self.now.ports.contains(&port);
        self.now.processes.contains(&server.process)
            || server.listeners.iter().any(|listener| by_port(listener.port))
    }

    /// Takes from what a scan found the servers that are wanted, or `watched` already. Once all of them are wanted, nothing
    /// else has to be looked for.
    pub(super) fn choose(
        &mut self,
        mut found: Vec<FoundServer>,
        watched: impl Fn(&FoundServer) -> bool,
    ) -> Vec<FoundServer> {
        found.retain(|server| self.wants(server) || watched(server));
        if found.iter().all(|server| self.wants(server)) {
            self.looked_for = self.now.clone();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::valkey::{Listener, Place};

    fn settings(processes: &[&str], ports: &[u16]) -> DiscoverySettings {
        DiscoverySettings {
            processes: processes.iter().map(|&process| process.to_owned()).collect(),
            ports: ports.to_vec(),
        }
    }

    fn server(process: &str, port: u16) -> FoundServer {
        FoundServer {
            pid: i32::from(port),
            start_time: 1,
            process: process.into(),
            netns: 1,
            netns_cookie: 1,
            listeners: vec![Listener {
                address: "127.0.0.1".parse().expect("an address"),
                port,
                v6only: false,
                inode: 1,
                cookie: 1,
                cgroup_id: 1,
                queue_length: 0,
                queue_limit: 0,
                drops: 0,
            }],
            cgroup_of_process: None,
            place: Place::default(),
        }
    }

    #[test]
    fn a_watched_server_is_looked_for_until_it_ends_though_it_is_wanted_no_longer() {
        let mut wanted = Wanted::new(settings(&["a", "b"], &[7]));
        wanted.change(settings(&["b"], &[8]));
        assert_eq!(*wanted.looked_for(), settings(&["b", "a"], &[8, 7]));
        let found = vec![
            server("a", 1),
            server("a", 2),
            server("b", 3),
            server("x", 7),
            server("x", 8),
        ];
        let watched = |server: &FoundServer| [1, 7].contains(&server.port().unwrap_or_default());
        let chosen = wanted.choose(found, watched);
        let chosen: Vec<_> = chosen
            .iter()
            .map(|server| (server.port(), wanted.wants(server)))
            .collect();
        assert_eq!(
            chosen,
            [
                (Some(1), false),
                (Some(3), true),
                (Some(7), false),
                (Some(8), true)
            ]
        );
        assert_eq!(wanted.looked_for().processes, ["b", "a"], "two are still there");
        let chosen = wanted.choose(vec![server("a", 2), server("b", 3)], |_| false);
        assert_eq!(chosen.len(), 1);
        assert_eq!(*wanted.looked_for(), settings(&["b"], &[8]));
    }

    #[test]
    fn several_changes_forget_no_watched_server() {
        let mut wanted = Wanted::new(settings(&["a"], &[]));
        wanted.change(settings(&["b"], &[]));
        wanted.change(settings(&["c"], &[]));
        assert_eq!(*wanted.looked_for(), settings(&["c", "b", "a"], &[]));
    }
}
