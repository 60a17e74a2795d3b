//! What detectors look at: one server's counters at one moment, and, when one of them suspects something, who its clients are.

use std::net::IpAddr;
use std::sync::Arc;

/// Counters of a server at one moment. What ends in `_total` only grows while the server's label lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observation {
    /// Connections established now.
    pub connections: u64,
    /// Connections established.
    pub opened_total: u64,
    /// Connections that ended.
    pub closed_total: u64,
    /// Of those, the ones that ended while a command waited for its reply.
    pub closed_waiting_total: u64,
    /// Clients that the server refused because it had as many as it takes.
    pub rejected_total: u64,
    /// Connections that wait to be accepted.
    pub queue_length: u64,
    /// How many may wait.
    pub queue_limit: u64,
    /// Connections that the listening sockets dropped because too many waited.
    pub queue_drops_total: u64,
    /// Most clients that the server takes, where that is known.
    pub clients_limit: Option<u64>,
}

/// Who the clients of a server are, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// Each address once, in any order.
    pub clients: Vec<ClientDetail>,
}

/// One client address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientDetail {
    /// The address.
    pub address: IpAddr,
    /// Its workload; `None` if no rule has it.
    pub workload: Option<Arc<str>>,
    /// The library that most of its connections named, with its version; `None` if they named none.
    pub library: Option<Arc<str>>,
    /// The ACL user of most of its connections; `None` if unknown.
    pub user: Option<Arc<str>>,
    /// Connections established since the agent watches.
    pub opened: u64,
    /// Connections established now.
    pub connections: u64,
}
