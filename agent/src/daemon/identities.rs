//! Who the clients are: the kernel's list of connections in words, and the names that no connection has any more.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use agent_common::abi::ConnectionRecord;
use anyhow::Result;

use super::watch::Watch;
use crate::{
    clients,
    snapshot::{ConnectionSnapshot, ServerSnapshot},
};

impl Watch {
    /// Every established connection of the live servers, in the order of their labels.
    ///
    /// # Errors
    ///
    /// When the kernel cannot list them, which a supported one does not do.
    pub(super) fn connections(&mut self) -> Result<Vec<ConnectionSnapshot>> {
        let mut connections = self.connections_in_any_order()?;
        connections.sort_by(|left, right| {
            let key = |connection: &ConnectionSnapshot| (connection.address, connection.port);
            left.server
                .cmp(&right.server)
                .then_with(|| key(left).cmp(&key(right)))
        });
        Ok(connections)
    }

    pub(super) fn connections_in_any_order(&mut self) -> Result<Vec<ConnectionSnapshot>> {
        let records = self.connection_records()?;
        if !self.names.cover(&records) {
            self.names.replace(&self.kernel.names());
        }
        let labels = self.labels_by_slot();
        let in_words = records.iter().filter_map(|record| {
            let label = labels.get(&record.slot)?;
            Some(self.names.connection(label, record))
        });
        Ok(in_words.collect())
    }

    /// The kernel's records of the connections in every network namespace that has a server, each connection once.
    fn connection_records(&mut self) -> Result<Vec<ConnectionRecord>> {
        let servers = self.servers.values().filter_map(|server| server.found.as_ref());
        let namespaces: BTreeSet<u64> = servers.map(|found| found.netns).collect();
        let mut records = Vec::new();
        for netns in namespaces {
            let kernel = &mut self.kernel;
            records.extend(self.host.in_netns(netns, || kernel.connections())??);
        }
        let mut seen = HashSet::with_capacity(records.len());
        records.retain(|record| seen.insert(record.cookie));
        Ok(records)
    }

    /// Adds to each server which users and libraries its connections have.
    pub(super) fn add_identities(&mut self, servers: &mut [ServerSnapshot]) {
        let connections = match self.connections_in_any_order() {
            Ok(connections) => connections,
            Err(error) => {
                return tracing::warn!(
                    error = format!("{error:#}"),
                    "the inventory of clients stays empty"
                );
            }
        };
        // Sums need no order, and a scrape has no time to sort.
        let mut by_server: HashMap<Arc<str>, Vec<ConnectionSnapshot>> = HashMap::new();
        for connection in connections {
            let server = Arc::clone(&connection.server);
            by_server.entry(server).or_default().push(connection);
        }
        let room = self.libraries.get();
        for server in servers {
            if let Some(own) = by_server.get(server.label.as_str()) {
                server.libraries = clients::libraries(own, room);
                server.users = clients::users(own);
            }
        }
    }

    /// Takes away names that no connection had now and at the last call: of clients that are gone, or were refused.
    pub(super) fn sweep_names(&mut self) {
        let records = match self.connection_records() {
            Ok(records) => records,
            Err(error) => {
                return tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot look for names that are not used"
                );
            }
        };
        let used: HashSet<u32> = records.iter().flat_map(|record| record.names).collect();
        let (kernel, forgotten) = (&mut self.kernel, &mut self.forgotten_names);
        // A client may have taken one up at the moment in which it was forgotten.
        forgotten.retain(|number| {
            let kept = used.contains(number);
            if !kept {
                kernel.forget_class(*number);
            }
            kept
        });
        let mut unused = HashSet::new();
        for (number, key) in self.kernel.names() {
            if used.contains(&number) {
                continue;
            }
            if self.unused_names.contains(&number) {
                self.kernel.forget_name(&key);
                self.forgotten_names.insert(number);
            } else {
                unused.insert(number);
            }
        }
        self.unused_names = unused;
    }
}
