//! A client that knows how many bytes it has exchanged for which prefix.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use stormglass_tests::ledger::Row;
use stormglass_tests::resp::{Connection, Reply, frame};
use stormglass_tests::server::Server;

/// Bytes and commands by prefix, as the agent should count them.
pub(crate) type Books = BTreeMap<&'static str, Row>;

/// Commands of one prefix, each a list of words.
pub(crate) type Command<'a> = (&'static str, &'a [&'a [u8]]);

/// A connection with books.
pub(crate) struct Client {
    connection: Connection,
    books: Books,
}

impl Client {
    /// Connects.
    pub(crate) fn open(server: &Server) -> Result<Self> {
        Ok(Self {
            connection: server.connect()?,
            books: Books::new(),
        })
    }

    /// Sends a command and insists on a reply that is no error.
    pub(crate) fn ask(&mut self, prefix: &'static str, words: &[&[u8]]) -> Result<Reply> {
        match self.call(prefix, words)? {
            Reply::Error(error) => bail!("the server refused a command: {error}"),
            reply => Ok(reply),
        }
    }

    /// Sends a command and waits for its reply.
    pub(crate) fn call(&mut self, prefix: &'static str, words: &[&[u8]]) -> Result<Reply> {
        self.pipeline(&[(prefix, words)])?;
        self.receive(prefix)
    }

    /// Sends commands in one write.
    pub(crate) fn pipeline(&mut self, commands: &[Command<'_>]) -> Result<()> {
        let mut bytes = Vec::new();
        for (prefix, words) in commands {
            let frame = frame(words);
            let row = self.books.entry(prefix).or_default();
            row.bytes_in += frame.len() as u64;
            row.commands += 1;
            bytes.extend_from_slice(&frame);
        }
        self.connection.send_bytes(&bytes)
    }

    /// Reads one reply or message and enters it under `prefix`.
    pub(crate) fn receive(&mut self, prefix: &'static str) -> Result<Reply> {
        let before = self.connection.received();
        let reply = self.connection.receive()?;
        self.books.entry(prefix).or_default().bytes_out += self.connection.received() - before;
        Ok(reply)
    }

    /// What it has exchanged.
    pub(crate) fn books(&self) -> &Books {
        &self.books
    }
}

/// The sum of some clients' books.
pub(crate) fn sum<'a>(clients: impl IntoIterator<Item = &'a Client>) -> Books {
    let mut sum = Books::new();
    for (prefix, row) in clients.into_iter().flat_map(Client::books) {
        let total = sum.entry(prefix).or_default();
        *total = total.plus(*row);
    }
    sum
}
