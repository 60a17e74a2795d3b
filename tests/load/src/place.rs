//! Where load is brought: a server, and the network namespace from which it is reached.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

/// A server and the way to it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it listens, as its clients see it.
    pub address: SocketAddrV4,
    /// Its process, if it may be stopped.
    pub process: Option<Pid>,
    /// Where its clients are; `None`: where this program is.
    pub namespace: Option<Namespace>,
}

/// A network namespace in which clients are.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<Files>);

#[derive(Debug)]
struct Files {
    theirs: File,
    ours: File,
}

impl Namespace {
    /// A namespace by its file: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self> {
        let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
        Ok(Self(Arc::new(Files {
            theirs: open(path)?,
            ours: open(Path::new("/proc/thread-self/ns/net"))?,
        })))
    }

    /// Does something in it, on this thread: sockets that are made there stay there. Back is where it was [opened](Self::open).
    fn inside<T>(&self, make: impl FnOnce() -> T) -> Result<T> {
        setns(&self.0.theirs, CloneFlags::CLONE_NEWNET)
            .context("cannot enter the namespace; are we root?")?;
        let made = make();
        setns(&self.0.ours, CloneFlags::CLONE_NEWNET).context("cannot come back from the namespace")?;
        Ok(made)
    }
}

impl Place {
    /// A server on this port of 127.0.0.1.
    #[must_use]
    pub fn local(port: u16) -> Self {
        Self {
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            process: None,
            namespace: None,
        }
    }

    /// Makes a socket where the clients are.
    pub fn reached<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        match &self.namespace {
            Some(namespace) => namespace.inside(make)?,
            None => make(),
        }
    }

    /// Asks the server something and insists on an answer.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        let answer = self.try_ask(command)?;
        answer.with_context(|| format!("the server at {} was asked in vain", self.address))
    }

    /// Asks the server something, which it may refuse.
    pub(crate) fn try_ask<T: redis::FromRedisValue>(
        &self,
        command: &redis::Cmd,
    ) -> Result<redis::RedisResult<T>> {
        let client = redis::Client::open((self.address.ip().to_string(), self.address.port()))?;
        let mut connection = self.reached(|| {
            let connected = client.get_connection();
            connected.with_context(|| format!("cannot connect to {}", self.address))
        })?;
        Ok(command.query(&mut connection))
    }

    /// Makes it hold this string.
    pub(crate) fn holds(&self, key: &str, value: &[u8]) -> Result<()> {
        self.ask(&set(key, value))
    }

    /// One of its limits, which is not to be above what a test can reach.
    pub(crate) fn limit(&self, name: &str, at_most: u32) -> Result<u32> {
        let (_, value): (String, String) = self.ask(redis::cmd("CONFIG").arg("GET").arg(name))?;
        let value: u32 = value.parse().with_context(|| format!("{name} is {value:?}"))?;
        ensure!(
            value <= at_most,
            "this server's {name} is {value}, and this storm needs one of at most {at_most}"
        );
        Ok(value)
    }

    /// The server's process, for storms that need a server that does nothing.
    pub(crate) fn process(&self) -> Result<Pid> {
        self.process
            .context("this storm stops the server: say which process it is")
    }
}

/// The command that makes a server hold this string.
pub(crate) fn set(key: &str, value: &[u8]) -> redis::Cmd {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(value);
    set
}
