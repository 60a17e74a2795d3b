//! Real client libraries, and what each of them sent by its own count.

mod benchmark;
mod redis_rs;
mod scripts;

use std::collections::BTreeMap;

use stormglass_tests::ledger::Account;

pub(crate) use self::benchmark::{Benchmark, endless_benchmark};
pub(crate) use self::redis_rs::drive as redis_rs;
pub(crate) use self::scripts::{ioredis, valkey_glide, valkey_py};

/// What clients know of what they sent and were answered.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// By key prefix.
    pub(crate) rows: BTreeMap<String, Sent>,
    /// Bytes of messages and invalidations, without what else subscribers are told.
    pub(crate) pushed: u64,
}

/// What one client knows of one prefix.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sent {
    /// Commands whose first key begins with it.
    pub(crate) commands: Option<u64>,
    /// Their bytes.
    pub(crate) bytes_in: Option<u64>,
    /// Bytes of their replies.
    pub(crate) bytes_out: Option<u64>,
}

impl Told {
    /// Adds what another client knows. No two clients share a prefix.
    pub(crate) fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.pushed += other.pushed;
    }

    /// Insists that no row of the agent has more than the clients know of: where bytes are unattributed, none was guessed.
    pub(crate) fn assert_not_exceeded(&self, account: &Account) {
        for (prefix, sent) in &self.rows {
            let row = account.counted.prefixes.get(prefix).copied().unwrap_or_default();
            let most = |known: Option<u64>| known.unwrap_or(u64::MAX);
            assert!(
                row.commands <= most(sent.commands)
                    && row.bytes_in <= most(sent.bytes_in)
                    && row.bytes_out <= most(sent.bytes_out),
                "{prefix} has {row:?}, but only {sent:?} were sent"
            );
        }
    }

    /// Insists that the agent's rows are what the clients know of them.
    pub(crate) fn assert_counted(&self, account: &Account) {
        for (prefix, sent) in &self.rows {
            let row = account.counted.prefixes.get(prefix).copied().unwrap_or_default();
            let known = |what: &str, sent: Option<u64>, counted: u64| {
                assert_eq!(counted, sent.unwrap_or(counted), "{what} of {prefix}");
                assert!(counted > 0, "no {what} of {prefix}");
            };
            known("commands", sent.commands, row.commands);
            known("bytes in", sent.bytes_in, row.bytes_in);
            known("bytes out", sent.bytes_out, row.bytes_out);
        }
        let row = account
            .counted
            .prefixes
            .get("(pubsub)")
            .copied()
            .unwrap_or_default();
        assert!(
            row.bytes_out >= self.pushed,
            "{} bytes were pushed, (pubsub) has {row:?}",
            self.pushed
        );
    }
}
