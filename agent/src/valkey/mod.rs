//! Discovery: which Valkey and Redis servers run on this host, in whatever network namespace and cgroup, what they
//! listen on, and who is connected to them. It reads procfs and asks sock_diag, and knows nothing of BPF.
//!
//! | file | what it knows |
//! |---|---|
//! | `host` | the scan, and the questions asked between scans |
//! | `processes` | which processes go by a server's name |
//! | `netns` | network namespaces, entered on a thread of their own |
//! | `sock_diag` | the TCP sockets of a namespace |
//! | `survey` | a look at every connection, for another thread |
//! | `owners` | which process a listening socket belongs to |
//! | `cgroups` | the cgroup v2 tree |
//! | `containers` | container and pod, by the names of cgroups |
//! | `facts` | uptime, limits, and what takes reading a server's files |
//! | `version` | the version in an executable |
//! | `maxclients` | command lines and configuration files |
//! | `labels` | what a server is called |
//! | `error` | what can go wrong, and what to do then |
//!
//! A socket that a process listens on in another network namespace than the one it is in now is not found.
#![forbid(unsafe_code)]

mod cgroups;
mod containers;
mod error;
mod facts;
mod host;
mod labels;
mod maxclients;
mod netns;
mod owners;
mod processes;
mod sock_diag;
mod survey;
#[cfg(test)]
mod tests;
mod version;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use self::processes::Processes;
pub use self::{
    cgroups::{Cgroups, attach_points},
    containers::{Container, Place, Pod, Qos, Runtime},
    error::Error,
    facts::{DescriptorLimit, FactReader, ProcessFacts, ServerFacts},
    host::Host,
    labels::labels,
    maxclients::{CommandLine, MaxClients, Source},
    netns::NetnsCookie,
    survey::{SurveyedConnection, Surveyor},
};

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// Processes to watch, by command name, by the name of their executable, or by what they call themselves.
    pub processes: Vec<String>,
    /// Further listening ports to watch, whatever the process.
    pub ports: Vec<u16>,
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        Self {
            processes: ["valkey-server", "redis-server", "keydb-server"]
                .map(str::to_owned)
                .into(),
            ports: Vec::new(),
        }
    }
}

/// A process that serves, and its listening sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundServer {
    /// Process number, as seen in the agent's own namespace. Of several processes that share a socket, the oldest.
    pub pid: i32,
    /// When the process started, in clock ticks after boot: tells a restarted server from the same one.
    pub start_time: u64,
    /// The configured name that it goes by; the command name if it was found by its port.
    pub process: String,
    /// Inode number of its network namespace.
    pub netns: u64,
    /// Cookie of its network namespace, as `bpf_get_netns_cookie` shows it.
    pub netns_cookie: u64,
    /// At least one, by ascending port.
    pub listeners: Vec<Listener>,
    /// The cgroup that the process is in now; its sockets may belong to another one.
    pub cgroup_of_process: Option<PathBuf>,
    /// Container and pod, by the names of all its cgroups. Whoever knows pods by UID can name the server after its pod.
    pub place: Place,
}

impl FoundServer {
    /// Its lowest port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.listeners.iter().map(|listener| listener.port).min()
    }
}

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address it is bound to.
    pub address: IpAddr,
    /// The port it is bound to.
    pub port: u16,
    /// Whether an IPv6 socket refuses IPv4 connections.
    pub v6only: bool,
    /// Inode number of the socket, as in `/proc/PID/fd`.
    pub inode: u32,
    /// Socket cookie, never used again until the host boots.
    pub cookie: u64,
    /// The cgroup in which the socket was created: programs attached there see its connections. 0 if the kernel did
    /// not say.
    pub cgroup_id: u64,
    /// Connections that wait to be accepted.
    pub queue_length: u32,
    /// How many may wait.
    pub queue_limit: u32,
    /// Connections that were turned away so far; wraps.
    pub drops: u32,
}

/// An established TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// Our end; IPv4 addresses mapped into IPv6 are shown as IPv4.
    pub local: SocketAddr,
    /// The client's end, likewise.
    pub remote: SocketAddr,
    /// Socket cookie.
    pub cookie: u64,
    /// Inode number of the socket; 0 while the connection waits to be accepted.
    pub inode: u32,
    /// The cgroup of the listening socket that it came from.
    pub cgroup_id: u64,
}

/// When a process started, in clock ticks after boot, from `/proc`; `None` if it has ended. See [`Host::start_time`].
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    Processes::new("/proc".into())
        .stat(pid)
        .filter(|stat| !stat.ended)
        .map(|stat| stat.start_time)
}
