//! Many clients that hold connections from addresses of their own, one thread for all: they ask, time out, close and open again.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

use crate::place::Place;
use crate::replies::Replies;

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 16;

/// Between two instances that arrive: slowly enough for any accept queue.
const ARRIVAL: Duration = Duration::from_millis(5);

/// Instances with a pool of connections each.
pub struct Crowd {
    place: Place,
    network: u8,
    instances: u16,
    question: Question,
    /// Between two questions of one connection, for [`Crowd::live`]; `None`: nobody asks.
    every: Option<Duration>,
    members: Vec<Member>,
    opened: u64,
    buffer: Vec<u8>,
}

/// What is asked.
struct Question {
    bytes: Vec<u8>,
    replies: usize,
}

struct Member {
    source: Ipv4Addr,
    stream: TcpStream,
    /// When it asked what has not been answered.
    asked: Option<Instant>,
    /// Replies that are still to come.
    due: usize,
    replies: Replies,
    /// Where the rest begins that the socket has not taken.
    unsent: Option<usize>,
    /// When it asks next.
    next: Instant,
    /// Whether the server has closed it.
    closed: bool,
}

impl Crowd {
    /// Nobody yet, at this port of 127.0.0.1; its addresses are those of `127.NETWORK.0.0/16`, at most 62,500 instances.
    #[must_use]
    pub fn new(port: u16, network: u8, instances: u16) -> Self {
        Self::at(&Place::local(port), network, instances)
    }

    /// Nobody yet. Their addresses begin as the server's does: `10.NETWORK.0.0/16`, if it listens on 10.0.0.1. The namespace in which
    /// they are has to take these for its own.
    #[must_use]
    pub fn at(place: &Place, network: u8, instances: u16) -> Self {
        Self {
            place: place.clone(),
            network,
            instances,
            question: Question {
                bytes: b"*2\r\n$3\r\nGET\r\n$6\r\ncart:1\r\n".to_vec(),
                replies: 1,
            },
            every: None,
            members: Vec::new(),
            opened: 0,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// It asks this, which has so many replies, none of them an aggregate; `GET cart:1` if nothing is said.
    #[must_use]
    pub fn asking(mut self, bytes: Vec<u8>, replies: usize) -> Self {
        self.question = Question { bytes, replies };
        self
    }

    /// Each connection asks so often while it [lives](Self::live), unless it still waits for an answer.
    #[must_use]
    pub fn every(mut self, every: Duration) -> Self {
        self.every = Some(every);
        self
    }

    /// From now on each connection asks so often.
    pub fn asks_every(&mut self, every: Duration) {
        self.every = Some(every);
    }

    /// The address of an instance.
    fn source(&self, instance: u16) -> Ipv4Addr {
        let [first, ..] = self.place.address.ip().octets();
        Ipv4Addr::new(
            first,
            self.network,
            (instance / 250) as u8,
            (instance % 250) as u8 + 1,
        )
    }

    /// Connections that it has, those included that the server has closed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Connections that it has opened since it began.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Opens so many for every instance, one instance after the other: slowly enough for any accept queue.
    pub fn arrive(&mut self, each: usize) -> Result<()> {
        self.arrive_by(each, Self::open_one)
    }

    /// The same, and nobody asks.
    pub fn arrive_silently(&mut self, each: usize) -> Result<()> {
        self.arrive_by(each, Self::open_silently)
    }

    fn arrive_by(&mut self, each: usize, open: fn(&mut Self, u16) -> Result<()>) -> Result<()> {
        for instance in 0..self.instances {
            for _ in 0..each {
                open(self, instance)?;
            }
            sleep(ARRIVAL);
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
        let mut member = self.connect_one(instance)?;
        member.ask(&self.question);
        self.members.push(member);
        Ok(())
    }

    /// Opens one more for an instance, and asks nothing.
    fn open_silently(&mut self, instance: u16) -> Result<()> {
        let member = self.connect_one(instance)?;
        self.members.push(member);
        Ok(())
    }

    fn connect_one(&mut self, instance: u16) -> Result<Member> {
        self.opened += 1;
        Member::open(self.source(instance), &self.place)
    }

    /// Spreads the next questions of all evenly by chance, so that they do not ask in step.
    pub fn spread(&mut self, dice: &mut Rng) {
        let Some(every) = self.every else { return };
        let now = Instant::now();
        for member in &mut self.members {
            member.next = now + every.mul_f64(dice.f64());
        }
    }

    /// A moment of its life: whoever is due asks, and everybody reads what has been answered.
    pub fn live(&mut self) {
        if let Some(every) = self.every {
            let now = Instant::now();
            for member in &mut self.members {
                if member.asked.is_none() && !member.closed && now >= member.next {
                    member.ask(&self.question);
                    // What was missed is not made up for: a client waits between two questions.
                    member.next = (member.next + every).max(now);
                }
            }
        }
        self.listen();
    }

    /// Everybody asks, unless an answer is due already.
    pub fn ask(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.asked.is_none()) {
            member.ask(&self.question);
        }
    }

    /// Everybody asks, whatever is due already.
    pub fn insist(&mut self) {
        for member in &mut self.members {
            member.ask(&self.question);
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
            member.listen(&self.question, &mut self.buffer);
        }
    }

    /// Closes what has not been answered within `patience`, and opens it again at once. Returns how many that were.
    pub fn give_up(&mut self, patience: Duration) -> Result<usize> {
        self.reopen(|member| member.asked.is_some_and(|asked| asked.elapsed() >= patience))
    }

    /// Opens again, and asks on, what the server has closed. Returns how many that were.
    pub fn come_back(&mut self) -> Result<usize> {
        self.reopen(|member| member.closed)
    }

    /// Opens again, and asks on, what is to be after all that has come has been read. Returns how many that were.
    fn reopen(&mut self, is_to_be: impl Fn(&Member) -> bool) -> Result<usize> {
        let mut reopened = 0;
        for member in &mut self.members {
            member.listen(&self.question, &mut self.buffer);
            if is_to_be(member) {
                member.reopen(&self.place)?;
                member.ask(&self.question);
                reopened += 1;
            }
        }
        self.opened += reopened as u64;
        Ok(reopened)
    }

    /// Closes `count` connections from `first` on and opens them again, without asking anything.
    pub fn renew(&mut self, first: usize, count: usize) -> Result<()> {
        for member in self.members.iter_mut().skip(first).take(count) {
            member.listen(&self.question, &mut self.buffer);
            member.reopen(&self.place)?;
            self.opened += 1;
        }
        Ok(())
    }

    /// Closes all.
    pub fn leave(&mut self) {
        self.members.clear();
    }
}

impl Member {
    fn open(source: Ipv4Addr, place: &Place) -> Result<Self> {
        Ok(Self {
            source,
            stream: place.reached(|| dial(source, place.address))?,
            asked: None,
            due: 0,
            replies: Replies::default(),
            unsent: None,
            next: Instant::now(),
            closed: false,
        })
    }

    /// A new connection takes the old one's place, whose socket is closed after the new one has been opened.
    fn reopen(&mut self, place: &Place) -> Result<()> {
        let next = self.next;
        *self = Self::open(self.source, place)?;
        self.next = next;
        Ok(())
    }

    fn ask(&mut self, question: &Question) {
        if self.unsent.is_some() {
            return;
        }
        self.asked.get_or_insert_with(Instant::now);
        self.due += question.replies;
        self.unsent = Some(0);
        self.send(question);
    }

    /// Gives the socket what it takes: nothing before it is established, and after the server has closed it.
    fn send(&mut self, question: &Question) {
        let Some(rest) = self.unsent.and_then(|from| question.bytes.get(from..)) else {
            return;
        };
        // What is not taken goes with the next look; a broken connection is given up there.
        let taken = self.stream.write(rest).unwrap_or_default();
        self.unsent = (taken < rest.len()).then(|| question.bytes.len() - rest.len() + taken);
    }

    fn listen(&mut self, question: &Question, buffer: &mut [u8]) {
        if self.closed {
            return;
        }
        self.send(question);
        loop {
            match self.stream.read(buffer) {
                Ok(0) => self.closed = true,
                Ok(read) => {
                    let replies = self.replies.read(buffer.get(..read).unwrap_or_default());
                    self.due = self.due.saturating_sub(replies);
                    if self.due == 0 {
                        self.asked = None;
                    }
                    if read == buffer.len() {
                        continue;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
                Err(_) => self.closed = true,
            }
            return;
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
