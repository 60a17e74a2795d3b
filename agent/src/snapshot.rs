//! What the daemon knows at one moment: plain data, read from the kernel's maps by [`crate::kernel`] and consumed by
//! tenants, metrics and HTTP. No part of it refers to a map, a clock or a socket.

use std::net::IpAddr;
use std::sync::Arc;

use agent_common::abi::{Direction, PrefixCounters, Reason};

use crate::valkey::ServerFacts;

/// Everything that one scrape shows.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// One entry per live server, in the order of their labels.
    pub servers: Vec<ServerSnapshot>,
    /// What clients have said of themselves is not in it: the kernel could not list the connections.
    pub unheard: bool,
    /// Losses that belong to no server, by reason. Reasons with zero are included.
    pub dropped: Vec<(&'static str, u64)>,
    /// How full each kernel map is.
    pub maps: Vec<MapUsage>,
    /// What the kernel programs have cost so far.
    pub programs: Vec<ProgramUsage>,
}

/// One server: all its listening sockets added up.
#[derive(Debug, Clone, Default)]
pub struct ServerSnapshot {
    /// Label `server`, unique on this host and stable across restarts of the server.
    pub label: String,
    /// Its process.
    pub facts: ServerFacts,
    /// Bytes per second over the last seconds; `None` during its first.
    pub rate: Option<Rate>,
    /// Connections established now, those from before the agent included.
    pub connections: u64,
    /// Connections established since the agent watches this server.
    pub opened: u64,
    /// Connections that ended since the agent watches this server.
    pub closed: u64,
    /// How connections ended.
    pub ends: Ends,
    /// New connections per 100 ms window, windows without any left out.
    pub accept_burst: BurstHistogram,
    /// Connections waiting in the accept queues of all listening sockets, and the sum of their limits.
    pub accept_queue: AcceptQueue,
    /// One entry with `address: None` for the addresses beyond the limit `clients`, if there are some; then each client address
    /// once, an IPv4-mapped one as IPv4, in order.
    pub clients: Vec<ClientSnapshot>,
    /// What clients have said of themselves, by address; those that said nothing are not here. No order; an address and what it
    /// said may be there several times.
    pub introductions: Vec<Introduction>,
    /// Connections by client library and version; no order.
    pub libraries: Vec<LibrarySnapshot>,
    /// The same by ACL user.
    pub users: Vec<UserSnapshot>,
    /// Per key prefix, special rows (`(none)`, `(keyless)`, `(other)`, ...) included.
    pub prefixes: Vec<PrefixSnapshot>,
    /// Payload bytes that belong to no prefix, by direction and reason; entries with zero are left out.
    pub unattributed: Vec<(Direction, Reason, u64)>,
}

/// Bytes per second, unattributed ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    /// From clients to the server.
    pub in_per_second: f64,
    /// Replies.
    pub out_per_second: f64,
    /// How many seconds this is the average of.
    pub seconds: f64,
}

/// Windows of 100 ms by how many connections they brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BurstHistogram {
    /// `windows[i]` counts the windows with at most `2^i` and more than `2^(i-1)` new connections (the last bucket
    /// has no upper bound). Not cumulative.
    pub windows: [u64; agent_common::limits::BURST_BUCKETS],
    /// All connections of all these windows.
    pub connections: u64,
}

/// How connections ended since the agent watches. The three counts exclude each other, except that what was given up
/// waiting may also have brought no command with a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// The client closed it, or either side reset it, while a command waited for its reply: the client gave up, or the
    /// server died. Commands that may wait for others (BLPOP) do not count.
    pub waiting: u64,
    /// Of connections read from their first byte to their last: no command with a key or a channel came.
    pub without_command: u64,
    /// The server refused it: it had as many clients as it takes.
    pub rejected: u64,
    /// `lifetimes[i]` counts the connections that lived less than `2^i` and at least `2^(i-1)` units of 2^20 ns (1.05 ms);
    /// the last bucket has no upper bound. Not cumulative, and without those from before the agent.
    pub lifetimes: [u64; agent_common::limits::LIFETIME_BUCKETS],
    /// Sum of their lives in units of 2^20 ns.
    pub lifetime_units: u64,
}

impl Ends {
    /// Adds what a slot has counted.
    pub fn add(&mut self, counters: &agent_common::abi::ListenerCounters) {
        self.waiting += counters.closed_waiting;
        self.without_command += counters.closed_without_command;
        self.rejected += counters.rejected;
        self.lifetime_units += counters.lifetime_units;
        for (sum, lived) in self.lifetimes.iter_mut().zip(&counters.lifetimes) {
            *sum += lived;
        }
    }
}

/// Accept queue of a server, from sock_diag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Connections that wait to be accepted.
    pub length: u64,
    /// How many may wait: `min(backlog, net.core.somaxconn)`, summed over the server's listening sockets.
    pub limit: u64,
    /// Connections that the kernel turned away, since the agent watches these sockets: the queue was full, or there was no
    /// memory.
    pub drops: u64,
}

/// One client address at one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSnapshot {
    /// The client's address; `None` is the row `(other)`.
    pub address: Option<IpAddr>,
    /// Connections established now.
    pub connections: u64,
    /// Connections established since the agent watches.
    pub opened: u64,
}

/// Connections of one address whose client said the same of itself.
///
/// A connection counts as opened by somebody once it is known who that is: when it asked for data, lived two seconds, or ended
/// ([`agent_common::limits::INTRODUCTION`]). Until then it is introducing itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// The client's address.
    pub address: IpAddr,
    /// ACL user.
    pub user: Arc<str>,
    /// Client name.
    pub name: Arc<str>,
    /// Client library.
    pub library: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// Connections established now.
    pub connections: u64,
    /// Connections opened since the agent watches; never more than there were, and less by those that ended while this was read.
    pub opened: u64,
    /// The same and those that introduce themselves; never less than there were: what was opened and is not claimed is nobody
    /// else's.
    pub claimed: u64,
    /// Connections that introduce themselves.
    pub introducing: u64,
}

/// Connections of one version of a client library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LibrarySnapshot {
    /// As CLIENT SETINFO LIB-NAME named it; `(none)`, `(unknown)` or `(other)`, see [`crate::clients`].
    pub library: String,
    /// As CLIENT SETINFO LIB-VER named it; likewise.
    pub version: String,
    /// Connections established now.
    pub connections: u64,
    /// Connections opened since the agent watches, as [`Introduction`] counts them; `None` without a row of its own.
    pub opened: Option<u64>,
}

/// Connections of one ACL user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserSnapshot {
    /// The user; `default` where none was named, `(unknown)` or `(other)`, see [`crate::clients`].
    pub user: String,
    /// Connections established now.
    pub connections: u64,
}

/// One established connection, and what its client has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSnapshot {
    /// Label `server`.
    pub server: Arc<str>,
    /// Address of the client.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// ACL user.
    pub user: Arc<str>,
    /// Client name.
    pub name: Arc<str>,
    /// Client library.
    pub library: Arc<str>,
    /// Its version.
    pub library_version: Arc<str>,
    /// Number of the database; `None`: unknown.
    pub database: Option<u32>,
    /// Version of the protocol, 2 or 3, as far as has been seen.
    pub protocol: u8,
    /// Established before the agent.
    pub adopted: bool,
    /// Whether its stream is read at this moment.
    pub synchronised: bool,
}

/// One key prefix at one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixSnapshot {
    /// The prefix as a label value: always valid UTF-8, other bytes as `\xNN`, special rows in parentheses.
    pub prefix: String,
    /// Whether this is one of the special rows (`(none)`, `(keyless)`, `(other)`, `(pubsub)`, `(replication)`).
    pub special: bool,
    /// The tenant of the connections that had it by their users, client names or addresses; `None`: no rule has them. A prefix
    /// has a row for each such tenant.
    pub class: Option<Arc<str>>,
    /// Of `(other)`: the tenant whose prefixes are in it, by the rules of when they were put there.
    pub tenant: Option<Arc<str>>,
    /// Everything that was counted for it.
    pub counters: PrefixCounters,
}

/// How full a kernel map is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapUsage {
    /// Name of the map, as `bpftool map` shows it.
    pub map: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
}

/// What a kernel program has cost, from the kernel's own statistics (`kernel.bpf_stats_enabled`).
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramUsage {
    /// Name of the program, as `bpftool prog` shows it.
    pub program: &'static str,
    /// Time spent in it; zero while the statistics are off.
    pub run_seconds: f64,
    /// How often it ran; zero while the statistics are off.
    pub runs: u64,
}

/// Counters of a row that tests need no more of.
#[cfg(test)]
pub(crate) fn counters(commands: u64, bytes_in: u64, bytes_out: u64) -> PrefixCounters {
    let mut counters = PrefixCounters {
        bytes_in,
        bytes_out,
        ..PrefixCounters::default()
    };
    counters.request_sizes[5] = commands;
    counters
}
