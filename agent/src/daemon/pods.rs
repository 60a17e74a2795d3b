//! Pods of servers and clients.

use super::watch::Watch;
use crate::{
    snapshot::{ServerSnapshot, Snapshot},
    valkey::ServerFacts,
    workloads::Owners,
};

impl Watch {
    /// The pods of these servers' clients, as far as they are known.
    pub(super) fn pods_of_clients(&self, servers: &[ServerSnapshot]) -> Owners {
        let clients = servers.iter().flat_map(|server| &server.clients);
        self.kubernetes
            .of_addresses(clients.filter_map(|client| client.address))
    }

    /// Adds what is known of the pod that a server runs in.
    pub(super) fn add_pod(&self, mut facts: ServerFacts) -> ServerFacts {
        facts.pod = self.kubernetes.of_place(&facts.place);
        facts
    }

    /// Before each survey: workloads by owner go by the pods of now. Nothing is done as long as no client's pod changes.
    pub(super) fn tell_workloads_of_pods(&mut self) {
        let owners = if self.kubernetes.status().pods == 0 {
            Owners::default()
        } else {
            self.kubernetes.of_addresses(self.client_addresses().into_iter())
        };
        if self.workloads.knows_others(&owners) {
            let counted = Snapshot {
                servers: self.everything_of_workloads(),
                ..Snapshot::default()
            };
            self.workloads.replace_owners(owners, &counted);
        }
    }
}
