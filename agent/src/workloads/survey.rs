//! What one look at every connection found.

use std::collections::HashMap;
use std::net::IpAddr;

/// One server's connections at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSurvey {
    /// By client address, IPv4 in its own form.
    pub addresses: HashMap<IpAddr, Tally>,
    /// Those of addresses beyond what a survey takes.
    pub beyond: Tally,
}

impl ServerSurvey {
    /// Everything together.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = self.beyond;
        self.addresses.values().for_each(|tally| total.add(*tally));
        total
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
