//! Accept queues, and the connections that the kernel turned away there.

use std::collections::BTreeMap;

use super::watch::Watch;
use crate::{snapshot::AcceptQueue, valkey::Listener};

/// What listening sockets have dropped, by server. A socket counts from what it had dropped when it was first seen, so that
/// the sums never fall, whatever becomes of sockets. Bounded by the servers that are kept and their sockets.
#[derive(Debug, Default)]
pub(super) struct Drops {
    servers: BTreeMap<String, ServerDrops>,
}

#[derive(Debug, Default)]
struct ServerDrops {
    total: u64,
    /// Last reading of each socket, by cookie.
    sockets: BTreeMap<u64, u32>,
}

impl Drops {
    /// Takes a reading of every listening socket of a server. Returns all its drops so far.
    fn note(&mut self, label: &str, readings: &[(u64, u32)]) -> u64 {
        if !self.servers.contains_key(label) {
            self.servers.insert(label.to_owned(), ServerDrops::default());
        }
        let Some(server) = self.servers.get_mut(label) else {
            return 0;
        };
        let before = std::mem::take(&mut server.sockets);
        for (cookie, drops) in readings {
            let last = before.get(cookie).unwrap_or(drops);
            // The kernel's counter is an int that wraps.
            server.total += u64::from(drops.wrapping_sub(*last));
            server.sockets.insert(*cookie, *drops);
        }
        server.total
    }
}

impl Watch {
    /// Accept queues by label, from sock_diag: one question per network namespace.
    pub(super) fn accept_queues(&mut self) -> BTreeMap<String, AcceptQueue> {
        let mut sockets: BTreeMap<u64, Vec<Listener>> = BTreeMap::new();
        for server in self.servers.values() {
            let Some(found) = &server.found else { continue };
            sockets
                .entry(found.netns)
                .or_insert_with(|| self.host.listeners(found.netns).unwrap_or_default());
        }
        let mut queues = BTreeMap::new();
        for (label, server) in &self.servers {
            let Some(found) = &server.found else { continue };
            let of_namespace = sockets.get(&found.netns).into_iter().flatten();
            let own = of_namespace.filter(|socket| {
                let mut listeners = found.listeners.iter();
                listeners.any(|listener| listener.cookie == socket.cookie)
            });
            let mut queue = AcceptQueue::default();
            let mut readings = Vec::new();
            for socket in own {
                queue.length += u64::from(socket.queue_length);
                queue.limit += u64::from(socket.queue_limit);
                readings.push((socket.cookie, socket.drops));
            }
            queue.drops = self.drops.note(label, &readings);
            queues.insert(label.clone(), queue);
        }
        let servers = &self.servers;
        self.drops.servers.retain(|label, _| servers.contains_key(label));
        queues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_count_from_the_first_look_and_never_fall() {
        let mut drops = Drops::default();
        assert_eq!(drops.note("s", &[(1, 500)]), 0, "before the agent");
        assert_eq!(drops.note("s", &[(1, 503), (2, 10)]), 3);
        assert_eq!(drops.note("s", &[(2, 14)]), 7, "a socket is gone");
        assert_eq!(drops.note("s", &[]), 7, "stopped");
        assert_eq!(drops.note("s", &[(3, 0)]), 7, "started again");
        assert_eq!(drops.note("s", &[(3, 2)]), 9);
        assert_eq!(drops.note("other", &[(4, 9)]), 0);
        drops.note("wraps", &[(5, u32::MAX)]);
        assert_eq!(drops.note("wraps", &[(5, 1)]), 2);
    }
}
