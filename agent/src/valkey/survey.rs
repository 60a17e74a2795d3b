//! A look at every connection of the servers, apart from the questions of discovery: on netlink sockets of its own, so that
//! it can be taken on another thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::Path,
};

use super::{
    Error, Host,
    sock_diag::{SockDiag, Vitals},
};

/// One established connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SurveyedConnection {
    /// Cookie of the socket: no two connections have the same one.
    pub cookie: u64,
    /// Our address; IPv4 addresses mapped into IPv6 are shown as IPv4.
    pub local: IpAddr,
    /// Our port.
    pub port: u16,
    /// The client's address, likewise.
    pub client: IpAddr,
    /// Milliseconds since data was last sent or received, or since the connection was established.
    pub quiet_milliseconds: u32,
    /// Whether data waits to be read by the server, to be sent, or to be acknowledged by the client.
    pub queued: bool,
    /// Kernel memory: the socket with its file, and what its buffers hold.
    pub memory_bytes: u64,
}

/// Takes surveys.
#[derive(Debug)]
pub struct Surveyor {
    sockets: BTreeMap<u64, SockDiag>,
    objects: Objects,
}

impl Surveyor {
    /// `procfs` is where procfs is mounted, usually `/proc`. Where it does not say how large the kernel's objects are
    /// (`slabinfo` is for root alone), memory is that of the buffers.
    #[must_use]
    pub fn new(procfs: &Path) -> Self {
        let slabinfo = fs::read_to_string(procfs.join("slabinfo")).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read slabinfo: the memory of sockets is shown without the sockets themselves");
            String::new()
        });
        Self {
            sockets: BTreeMap::new(),
            objects: Objects::read(&slabinfo),
        }
    }

    /// Is ready for these network namespaces, and lets go of all others.
    pub fn prepare(&mut self, host: &Host, namespaces: &BTreeSet<u64>) {
        self.sockets.retain(|netns, _| namespaces.contains(netns));
        for &netns in namespaces {
            if self.sockets.contains_key(&netns) {
                continue;
            }
            match host.in_netns(netns, SockDiag::open) {
                Ok(Ok(socket)) => _ = self.sockets.insert(netns, socket),
                Ok(Err(error)) => tracing::debug!(netns, %error, "cannot open a netlink socket for surveys"),
                Err(error) => tracing::debug!(netns, %error, "cannot open a netlink socket for surveys"),
            }
        }
    }

    /// Shows every established connection of a namespace whose local port is one of these, those that wait to be accepted
    /// included. One that others overtake in the kernel's table may come twice or not at all.
    ///
    /// # Errors
    /// If the namespace could not be prepared, or the kernel gives no answer. What was shown is then not everything.
    pub fn survey(
        &mut self,
        netns: u64,
        local_ports: &[u16],
        each: &mut dyn FnMut(&SurveyedConnection),
    ) -> Result<(), Error> {
        let objects = self.objects;
        let socket = self.sockets.get_mut(&netns).ok_or(Error::UnknownNetns(netns))?;
        let surveyed = socket.vitals(local_ports, &mut |vitals| each(&objects.connection(vitals)));
        surveyed.map_err(|source| {
            // A dump may be left unread in it.
            self.sockets.remove(&netns);
            Error::SockDiag { netns, source }
        })
    }
}

/// Bytes of the kernel's objects that make a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Objects {
    ipv4_socket: u64,
    ipv6_socket: u64,
    /// Inode, file and directory entry: they come when the server accepts.
    file: u64,
}

impl Objects {
    /// Columns: name, objects in use, objects, bytes of one. A kernel may keep some objects under another's name: those
    /// are left out.
    fn read(slabinfo: &str) -> Self {
        let size = |name: &str| {
            let line = slabinfo
                .lines()
                .find(|line| line.split_whitespace().next() == Some(name));
            line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
                .unwrap_or(0_u64)
        };
        Self {
            ipv4_socket: size("TCP"),
            ipv6_socket: size("TCPv6"),
            file: size("sock_inode_cache") + size("filp") + size("dentry"),
        }
    }

    fn connection(self, vitals: &Vitals) -> SurveyedConnection {
        let socket = if vitals.ipv6 {
            self.ipv6_socket
        } else {
            self.ipv4_socket
        };
        let file = if vitals.accepted { self.file } else { 0 };
        SurveyedConnection {
            cookie: vitals.cookie,
            local: vitals.local.ip(),
            port: vitals.local.port(),
            client: vitals.remote.ip(),
            quiet_milliseconds: vitals.quiet_milliseconds,
            queued: vitals.queued,
            memory_bytes: socket + file + vitals.buffer_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABINFO: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>
TCPv6                 26     26   2496   13    8 : tunables    0    0    0
request_sock_TCP       0      0    304   26    2 : tunables    0    0    0
TCP                  169    169   2368   13    8 : tunables    0    0    0
sock_inode_cache     209    209    832   19    4 : tunables    0    0    0
filp                 735    735    192   21    1 : tunables    0    0    0
dentry            330594 331527    192   21    1 : tunables    0    0    0
";

    fn vitals(ipv6: bool, accepted: bool) -> Vitals {
        Vitals {
            cookie: 1,
            local: "10.0.0.1:6379".parse().unwrap(),
            remote: "10.0.0.2:40000".parse().unwrap(),
            ipv6,
            accepted,
            quiet_milliseconds: 5,
            queued: false,
            buffer_bytes: 100,
        }
    }

    #[test]
    fn a_connection_holds_its_socket_its_file_and_its_buffers() {
        let objects = Objects::read(SLABINFO);
        let bytes = |ipv6, accepted| objects.connection(&vitals(ipv6, accepted)).memory_bytes;
        assert_eq!(bytes(false, true), 2368 + 832 + 192 + 192 + 100);
        assert_eq!(bytes(true, true), 2496 + 832 + 192 + 192 + 100);
        assert_eq!(bytes(false, false), 2368 + 100);
    }

    #[test]
    fn what_the_kernel_does_not_say_is_left_out() {
        for slabinfo in ["", "TCP\n", "TCP 1 1 x\n", "filp\t1 1\n"] {
            assert_eq!(Objects::read(slabinfo), Objects::default(), "{slabinfo:?}");
        }
    }
}
