//! What one look at every connection found.

use std::collections::HashMap;
use std::net::IpAddr;

/// One server's connections at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSurvey {
    /// By client address, IPv4 in its own form.
    pub addresses: HashMap<IpAddr, Tally>,
    /// Those whose users or client names belong to a workload, by its place in the file. They are not among the others.
    pub named: HashMap<(usize, IpAddr), Tally>,
    /// Those of addresses beyond what a survey takes.
    pub beyond: Tally,
}

impl ServerSurvey {
    /// Everything together.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = self.beyond;
        let tallies = self.addresses.values().chain(self.named.values());
        tallies.for_each(|tally| total.add(*tally));
        total
    }

    /// Places in the file mean nothing any more.
    pub fn forget_names(&mut self) {
        for ((_, address), tally) in self.named.drain() {
            self.addresses.entry(address).or_default().add(tally);
        }
    }
}

/// Connections, and what they were found to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Established, those that wait to be accepted included.
    pub connections: u64,
    /// Without data in either direction for as long as the configuration says.
    pub idle: u64,
    /// With data since the survey before, or with data on its way.
    pub busy: u64,
    /// Kernel memory: the sockets themselves and what their buffers hold.
    pub memory_bytes: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.idle += other.idle;
        self.busy += other.busy;
        self.memory_bytes += other.memory_bytes;
    }
}
