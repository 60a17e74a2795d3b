//! Who the clients are: the kernel's list of connections in words, and the names that no connection has any more.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use agent_common::abi::{ClientKey, ConnectionRecord, EndedKey, NameKind, address_from_words};
use anyhow::Result;

use super::watch::Watch;
use crate::{
    clients::{self, Heard},
    snapshot::{ConnectionSnapshot, Introduction, ServerSnapshot},
    workloads::Ended,
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
        self.learn_names(records.iter().flat_map(|record| record.names));
        Ok(self.in_words(&records))
    }

    fn in_words(&self, records: &[ConnectionRecord]) -> Vec<ConnectionSnapshot> {
        let labels = self.labels_by_slot();
        let in_words = records.iter().filter_map(|record| {
            let label = labels.get(&record.slot)?;
            Some(self.names.connection(label, record))
        });
        in_words.collect()
    }

    fn learn_names(&mut self, numbers: impl Iterator<Item = u32>) {
        if !self.names.cover(numbers) {
            self.names.replace(&self.kernel.names());
        }
    }

    /// What the connections say of themselves, and what those that ended have said.
    fn hear(&mut self) -> Result<Heard> {
        let before = self.kernel.ended();
        let records = self.connection_records()?;
        let heard = Heard {
            before,
            records,
            after: self.kernel.ended(),
        };
        self.learn_names(heard.names());
        Ok(heard)
    }

    /// By server, what clients have said of themselves.
    fn introductions(&self, heard: &Heard) -> HashMap<Arc<str>, Vec<Introduction>> {
        let labels = self.labels_by_slot();
        let mut by_server: HashMap<Arc<str>, Vec<Introduction>> = HashMap::new();
        for (slot, introduction) in heard.introductions(&self.names) {
            if let Some(label) = labels.get(&slot) {
                by_server.entry(Arc::clone(label)).or_default().push(introduction);
            }
        }
        by_server
    }

    /// The same, if a workload is made of users or client names; nothing else asks for it between two scrapes.
    pub(super) fn introductions_of_workloads(&mut self) -> HashMap<Arc<str>, Vec<Introduction>> {
        if !self.workloads.have_names() {
            return HashMap::new();
        }
        match self.hear() {
            Ok(heard) => self.introductions(&heard),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "workloads by users and client names stay as they are"
                );
                HashMap::new()
            }
        }
    }

    /// Which connections belong to a workload by their users or client names: its place in the file by the cookie of the
    /// socket.
    pub(super) fn named_connections(&mut self) -> HashMap<u64, usize> {
        if !self.workloads.have_names() {
            return HashMap::new();
        }
        let records = match self.connection_records() {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the survey does not know users and client names"
                );
                return HashMap::new();
            }
        };
        self.learn_names(records.iter().flat_map(|record| record.names));
        let mut decided: HashMap<[u32; 2], Option<usize>> = HashMap::new();
        let named = records.iter().filter_map(|record| {
            let [user, name, ..] = record.names;
            let rule = *decided.entry([user, name]).or_insert_with(|| {
                let user = self.names.text(NameKind::User, user);
                let name = self.names.text(NameKind::Client, name);
                self.workloads.rule_of_names(&user, &name)
            });
            Some((record.cookie, rule?))
        });
        named.collect()
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

    /// Adds to each server who its clients are, which users and libraries they have. Returns false, with a warning, if the
    /// kernel could not list the connections.
    pub(super) fn add_identities(&mut self, servers: &mut [ServerSnapshot]) -> bool {
        let heard = match self.hear() {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the inventory of clients stays empty"
                );
                return false;
            }
        };
        // Sums need no order, and a scrape has no time to sort.
        let mut by_server: HashMap<Arc<str>, Vec<ConnectionSnapshot>> = HashMap::new();
        for connection in self.in_words(&heard.records) {
            let server = Arc::clone(&connection.server);
            by_server.entry(server).or_default().push(connection);
        }
        let room = self.libraries.get();
        let mut introductions = self.introductions(&heard);
        for server in servers {
            let label = server.label.as_str();
            if let Some(own) = by_server.get(label) {
                server.libraries = clients::libraries(own, room);
                server.users = clients::users(own);
            }
            server.introductions = introductions.remove(label).unwrap_or_default();
            let opens = &mut self.library_opens;
            let opens = opens.rows(label, server.opened, &server.introductions, room);
            clients::add_opens(&mut server.libraries, opens);
        }
        true
    }

    /// Adds up what ended connections had said of themselves, as far as it is chosen, for good; the kernel forgets it. What it
    /// comes to, by client.
    pub(super) fn settle_ended(
        &mut self,
        chosen: impl Fn(&EndedKey) -> bool,
    ) -> HashMap<ClientKey, Vec<Ended>> {
        let mut ended = self.kernel.ended();
        ended.retain(|(key, _)| chosen(key));
        if ended.is_empty() {
            return HashMap::new();
        }
        self.learn_names(ended.iter().flat_map(|(key, _)| key.names));
        let labels = self.labels_by_slot();
        let room = self.libraries.get();
        let mut by_client: HashMap<ClientKey, Vec<Ended>> = HashMap::new();
        for (key, connections) in ended {
            self.kernel.forget_ended(&key);
            let Some(label) = labels.get(&key.slot) else {
                continue;
            };
            let text = |kind: NameKind| self.names.text(kind, key.names[kind as usize]);
            let library = (text(NameKind::Library), text(NameKind::LibraryVersion));
            self.library_opens.settle(label, &library, connections, room);
            let client = ClientKey {
                slot: key.slot,
                address: key.client,
            };
            by_client.entry(client).or_default().push(Ended {
                user: text(NameKind::User),
                name: text(NameKind::Client),
                connections,
            });
        }
        by_client
    }

    /// The same where the client itself is not forgotten, or was never known.
    pub(super) fn settle_names(&mut self, chosen: impl Fn(&EndedKey) -> bool) {
        let ended = self.settle_ended(chosen);
        let labels = self.labels_by_slot();
        for (client, ended) in ended {
            if let Some(label) = labels.get(&client.slot) {
                self.workloads
                    .settle(label, address_from_words(client.address), &ended);
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
        let mut lost = HashSet::new();
        // A client may have taken one up at the moment in which it was forgotten.
        forgotten.retain(|number| {
            let kept = used.contains(number);
            if !kept {
                kernel.forget_class(*number);
                lost.insert(*number);
            }
            kept
        });
        let names = self.kernel.names();
        let (going, unused): (Vec<_>, Vec<_>) = names
            .into_iter()
            .filter(|(number, _)| !used.contains(number))
            .partition(|(number, _)| self.unused_names.contains(number));
        let numbers = || going.iter().map(|(number, _)| *number);
        lost.extend(numbers());
        self.settle_names(|key| key.names.iter().any(|number| lost.contains(number)));
        for (_, key) in &going {
            self.kernel.forget_name(key);
        }
        self.forgotten_names.extend(numbers());
        self.unused_names = unused.into_iter().map(|(number, _)| number).collect();
    }
}
