//! Control-plane events: a server process started, a socket began to listen. Never one per connection or request.

use bytemuck::{Pod, Zeroable};

/// What an [`Event`] announces.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A process with a watched name was executed; `pid` is set.
    Exec = 1,
    /// A socket in a watched cgroup began to listen; `slot`, `scope` (namespace cookie), `address` and `port` are set.
    Listen = 2,
}

/// One event of the ring.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Event {
    /// [`EventKind`].
    pub kind: u32,
    /// Process id, in the initial pid namespace.
    pub pid: u32,
    /// Network namespace cookie.
    pub scope: u64,
    /// Listening address, IPv4 mapped into IPv6.
    pub address: [u32; 4],
    /// Port, host byte order.
    pub port: u32,
    /// Kernel slot that the socket got.
    pub slot: u32,
    /// Padding.
    pub reserved: u64,
}

/// A connection that existed before the agent, by socket cookie: where it belongs.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Seed {
    /// Kernel slot of the listening socket.
    pub slot: u32,
    /// Client address, IPv4 mapped into IPv6.
    pub client: [u32; 4],
    /// Port of the client, host byte order.
    pub port: u16,
    /// Padding.
    pub reserved: u16,
}
