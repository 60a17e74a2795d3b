//! Many clients that hold connections from addresses of their own, one thread for all: they ask, time out, close and open again.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

/// Instances with a pool of connections each.
pub struct Crowd {
    server: SocketAddrV4,
    network: u8,
    instances: u16,
    members: Vec<Member>,
}

struct Member {
    source: Ipv4Addr,
    stream: TcpStream,
    /// When it asked what has not been answered.
    asked: Option<Instant>,
}

impl Crowd {
    /// Nobody yet; its addresses are those of `127.NETWORK.0.0/16`.
    #[must_use]
    pub fn new(port: u16, network: u8, instances: u16) -> Self {
        Self {
            server: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            network,
            instances,
            members: Vec::new(),
        }
    }

    /// The address of an instance.
    fn source(&self, instance: u16) -> Ipv4Addr {
        Ipv4Addr::new(
            127,
            self.network,
            (instance / 250) as u8,
            (instance % 250) as u8 + 1,
        )
    }

    /// Connections that it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Opens so many for every instance, one instance after the other: slowly enough for any accept queue.
    pub fn arrive(&mut self, each: usize) -> Result<()> {
        for instance in 0..self.instances {
            for _ in 0..each {
                self.open_one(instance)?;
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Opens so many more for every instance at once, and asks on each.
    pub fn open(&mut self, each: usize) -> Result<()> {
        for instance in 0..self.instances {
            for _ in 0..each {
                self.open_one(instance)?;
            }
        }
        Ok(())
    }

    /// Opens one more for an instance, and asks on it.
    pub fn open_one(&mut self, instance: u16) -> Result<()> {
        let source = self.source(instance);
        let mut member = Member {
            source,
            stream: dial(source, self.server)?,
            asked: None,
        };
        member.ask();
        self.members.push(member);
        Ok(())
    }

    /// Everybody asks, unless an answer is due already.
    pub fn ask(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.asked.is_none()) {
            member.ask();
        }
    }

    /// Connections on which something has been asked and not been answered, as far as has been listened.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.members
            .iter()
            .filter(|member| member.asked.is_some())
            .count()
    }

    /// Reads what has been answered.
    pub fn listen(&mut self) {
        for member in &mut self.members {
            member.listen();
        }
    }

    /// Closes what has not been answered within `patience`, and opens it again at once. Returns how many that were.
    pub fn give_up(&mut self, patience: Duration) -> Result<usize> {
        let server = self.server;
        let mut gave_up = 0;
        for member in &mut self.members {
            member.listen();
            if member.asked.is_some_and(|asked| asked.elapsed() >= patience) {
                member.stream = dial(member.source, server)?;
                member.asked = None;
                member.ask();
                gave_up += 1;
            }
        }
        Ok(gave_up)
    }

    /// Closes the first `count` connections and opens them again, without asking anything.
    pub fn renew(&mut self, first: usize, count: usize) -> Result<()> {
        let server = self.server;
        for member in self.members.iter_mut().skip(first).take(count) {
            member.listen();
            member.stream = dial(member.source, server)?;
            member.asked = None;
        }
        Ok(())
    }

    /// Closes all.
    pub fn leave(&mut self) {
        self.members.clear();
    }
}

impl Member {
    fn ask(&mut self) {
        // Before a connection is established, and after the server has closed it, there is nothing to write to.
        self.asked = Some(Instant::now());
        let _ = self.stream.write(b"*2\r\n$3\r\nGET\r\n$6\r\ncart:1\r\n");
    }

    fn listen(&mut self) {
        let mut bytes = [0; 256];
        match self.stream.read(&mut bytes) {
            Ok(read) if read > 0 => self.asked = None,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {}
        }
    }
}

/// Begins to connect and waits for a handshake on loopback, unless the kernel drops it.
fn dial(source: Ipv4Addr, server: SocketAddrV4) -> Result<TcpStream> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // The port is chosen when the other end is known: two sources may have the same.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    let address = SockaddrIn::from(SocketAddrV4::new(source, 0));
    bind(socket.as_raw_fd(), &address).with_context(|| format!("cannot use {source} as source"))?;
    match connect(socket.as_raw_fd(), &SockaddrIn::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error).with_context(|| format!("cannot connect to {server} from {source}")),
    }
}
