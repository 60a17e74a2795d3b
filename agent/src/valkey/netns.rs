//! Network namespaces: entered on a thread of their own, never by the caller, and held open only while they are watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    panic, thread,
};

use nix::sched::{CloneFlags, setns};

use super::{Error, sock_diag::SockDiag};
use crate::privileges;

/// Reads the cookie of the network namespace of a socket (`SO_NETNS_COOKIE`), which `bpf_get_netns_cookie` shows to the
/// kernel programs. No safe wrapper of it exists, so whoever opens the [`super::Host`] brings one.
pub type NetnsCookie = fn(BorrowedFd<'_>) -> io::Result<u64>;

/// The namespaces that are open now, by inode number.
///
/// Each open one is kept alive by us, even after its last process: [`Self::keep_only`] ends that.
#[derive(Debug)]
pub(super) struct Namespaces {
    open: BTreeMap<u64, Namespace>,
    cookie_of: NetnsCookie,
}

#[derive(Debug)]
struct Namespace {
    handle: File,
    cookie: u64,
    /// `None` after an error: a dump may be left unread in it.
    sock_diag: Option<SockDiag>,
}

impl Namespaces {
    pub(super) fn new(cookie_of: NetnsCookie) -> Self {
        Self {
            open: BTreeMap::new(),
            cookie_of,
        }
    }

    /// Opens a namespace by a process in it (`path`: its `ns/net`), unless it is open already.
    pub(super) fn open(&mut self, netns: u64, path: &str) -> Result<(), Error> {
        if self.open.contains_key(&netns) {
            return Ok(());
        }
        let failed = |source| Error::EnterNetns { netns, source };
        let handle = File::open(path).map_err(failed)?;
        if handle.metadata().map_err(failed)?.ino() != netns {
            // The process moved on, or its number went to another.
            return Err(Error::UnknownNetns(netns));
        }
        let sock_diag = run_in(netns, &handle, SockDiag::open)?.map_err(failed)?;
        let cookie = (self.cookie_of)(sock_diag.as_fd()).map_err(Error::NetnsCookie)?;
        self.open.insert(
            netns,
            Namespace {
                handle,
                cookie,
                sock_diag: Some(sock_diag),
            },
        );
        Ok(())
    }

    pub(super) fn cookie(&self, netns: u64) -> Option<u64> {
        Some(self.open.get(&netns)?.cookie)
    }

    /// Asks for sockets; once more on a fresh netlink socket if that fails.
    pub(super) fn ask<T>(
        &mut self,
        netns: u64,
        question: impl Fn(&mut SockDiag) -> io::Result<T>,
    ) -> Result<T, Error> {
        let namespace = self.open.get_mut(&netns).ok_or(Error::UnknownNetns(netns))?;
        if let Some(answer) = namespace
            .sock_diag
            .as_mut()
            .and_then(|socket| question(socket).ok())
        {
            return Ok(answer);
        }
        namespace.sock_diag = None;
        let failed = |source| Error::SockDiag { netns, source };
        let mut fresh = run_in(netns, &namespace.handle, SockDiag::open)?.map_err(failed)?;
        let answer = question(&mut fresh).map_err(failed)?;
        namespace.sock_diag = Some(fresh);
        Ok(answer)
    }

    pub(super) fn run_in<T: Send>(&self, netns: u64, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let namespace = self.open.get(&netns).ok_or(Error::UnknownNetns(netns))?;
        run_in(netns, &namespace.handle, work)
    }

    /// Closes all namespaces but these, and at most `others` more.
    pub(super) fn keep_only(&mut self, used: &BTreeSet<u64>, mut others: usize, alive: &BTreeSet<u64>) {
        self.open.retain(|netns, _| {
            let keep = used.contains(netns) || (others > 0 && alive.contains(netns));
            if keep && !used.contains(netns) {
                others -= 1;
            }
            keep
        });
    }

    #[cfg(test)]
    pub(super) fn are_open(&self) -> Vec<u64> {
        self.open.keys().copied().collect()
    }
}

/// Runs `work` on a thread of its own in a namespace. In the caller's namespace that takes no privilege.
fn run_in<T: Send>(netns: u64, handle: &File, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let in_namespace = || {
        if current().ok() != Some(netns) {
            // Without it the next call says what is missing.
            let _ = privileges::raise_entering();
            setns(handle, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::EnterNetns {
                netns,
                source: errno.into(),
            })?;
        }
        Ok(work())
    };
    let finished = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, in_namespace);
        thread.map(thread::ScopedJoinHandle::join)
    });
    match finished {
        Ok(Ok(result)) => result,
        Ok(Err(panicked)) => panic::resume_unwind(panicked),
        Err(source) => Err(Error::EnterNetns { netns, source }),
    }
}

/// The namespace of the calling thread.
fn current() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}
