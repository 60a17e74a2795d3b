//! What went over the sockets, per server: the load's own count, for others to be compared with.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use redis::RedisError;
use serde::Serialize;

/// Counts of all connections, by target.
pub(crate) struct Ledger {
    accounts: Vec<(SocketAddr, Account)>,
    first_error: Mutex<Option<String>>,
}

/// Counts of all connections to one target.
#[derive(Default)]
pub(crate) struct Account {
    connections: AtomicU64,
    errors: AtomicU64,
    commands: AtomicU64,
    setup: Bytes,
    traffic: Bytes,
}

/// Bytes of one or many sockets.
#[derive(Default)]
pub(crate) struct Bytes {
    sent: AtomicU64,
    received: AtomicU64,
}

/// A tenant's ledger as JSON.
#[derive(Serialize)]
pub(crate) struct Report {
    tenant: String,
    targets: Vec<TargetReport>,
}

#[derive(Serialize)]
struct TargetReport {
    target: SocketAddr,
    /// Connections opened.
    connections: u64,
    errors: u64,
    /// Commands on the tenant's keys, all of them answered unless there were errors.
    commands: u64,
    /// Bytes of these commands.
    sent_bytes: u64,
    /// Bytes of their replies.
    received_bytes: u64,
    /// Bytes of what a connection says before its first command: HELLO, CLIENT SETINFO, CLIENT SETNAME.
    setup_sent_bytes: u64,
    /// Bytes of the replies to it.
    setup_received_bytes: u64,
}

impl Ledger {
    pub(crate) fn new(targets: &[SocketAddr]) -> Self {
        Self {
            accounts: targets
                .iter()
                .map(|&target| (target, Account::default()))
                .collect(),
            first_error: Mutex::new(None),
        }
    }

    /// The account of the target with this number.
    pub(crate) fn account(&self, target: usize) -> &Account {
        &self.accounts[target].1
    }

    /// A connection failed, or could not be made.
    pub(crate) fn failed(&self, target: usize, error: &RedisError) {
        let (address, account) = &self.accounts[target];
        account.errors.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first_error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| format!("{address}: {error}"));
    }

    /// What failed first, if anything did.
    pub(crate) fn first_error(&self) -> Option<String> {
        self.first_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn report(&self, tenant: &str) -> Report {
        let targets = self.accounts.iter().map(|(target, account)| TargetReport {
            target: *target,
            connections: account.connections.load(Ordering::Relaxed),
            errors: account.errors.load(Ordering::Relaxed),
            commands: account.commands.load(Ordering::Relaxed),
            sent_bytes: account.traffic.sent.load(Ordering::Relaxed),
            received_bytes: account.traffic.received.load(Ordering::Relaxed),
            setup_sent_bytes: account.setup.sent.load(Ordering::Relaxed),
            setup_received_bytes: account.setup.received.load(Ordering::Relaxed),
        });
        Report {
            tenant: tenant.to_owned(),
            targets: targets.collect(),
        }
    }
}

impl Account {
    /// A connection is ready for commands; `socket` holds what its set-up took, and is empty afterwards.
    pub(crate) fn opened(&self, socket: &Bytes) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.setup.take(socket);
    }

    /// A connection that was ready is closed.
    pub(crate) fn closed(&self, socket: &Bytes) {
        self.traffic.take(socket);
    }

    /// Commands were answered.
    pub(crate) fn commands(&self, commands: u64) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
    }
}

impl Bytes {
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn take(&self, other: &Self) {
        let sent = other.sent.swap(0, Ordering::Relaxed);
        let received = other.received.swap(0, Ordering::Relaxed);
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
    }
}

impl Report {
    /// Commands answered, all targets together.
    pub(crate) fn commands(&self) -> u64 {
        self.targets.iter().map(|target| target.commands).sum()
    }

    /// Connections that failed or could not be made, all targets together.
    pub(crate) fn errors(&self) -> u64 {
        self.targets.iter().map(|target| target.errors).sum()
    }
}
