//! Calls that keep account of themselves: what they must have added to which row, and whether the agent says so.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::Scrape;
use stormglass_tests::ledger::{Counted, Row};
use stormglass_tests::resp::{Connection, Reply};
use stormglass_tests::server::Server;

use super::manner::Manner;
use super::table::Table;

/// The conversation with one server, over several connections.
pub(super) struct Session<'a> {
    agent: &'a Agent,
    server: String,
    address: std::net::SocketAddr,
    /// How commands are written.
    pub(super) manner: Manner,
    table: Rc<Table>,
    book: Rc<RefCell<Book>>,
    before: Page,
}

/// What is compared of a page.
struct Page {
    counted: Counted,
    /// How many command names the agent did not know, on the whole host; `None` where others have servers there, too.
    unknown: Option<u64>,
}

/// What came of a run.
#[derive(Default)]
pub(super) struct Book {
    /// The servers of this run.
    servers: Vec<String>,
    /// Names of the commands that were sent.
    pub(super) called: BTreeSet<String>,
    /// How many were sent.
    pub(super) commands: u64,
    /// How many of them the server answered by an error.
    pub(super) errors: u64,
    /// Where both counts differ.
    pub(super) faults: Vec<String>,
    /// What must have been counted since the last settlement.
    expected: BTreeMap<String, Row>,
    /// What was sent since then, by row.
    calls: Vec<(String, String)>,
}

/// A connection of a session.
pub(super) struct Line {
    connection: Connection,
    manner: Manner,
    book: Rc<RefCell<Book>>,
    table: Rc<Table>,
}

impl Book {
    /// An empty one, of a run with these servers alone.
    pub(super) fn of(servers: Vec<String>) -> Self {
        Self {
            servers,
            ..Self::default()
        }
    }
}

impl<'a> Session<'a> {
    /// Begins to count.
    pub(super) fn begin(
        agent: &'a Agent,
        server: &Server,
        manner: Manner,
        table: &Rc<Table>,
        book: &Rc<RefCell<Book>>,
    ) -> Result<Self> {
        agent.sees(&server.label())?;
        let before = Page::read(agent, &server.label(), &book.borrow().servers)?;
        Ok(Self {
            agent,
            server: server.label(),
            address: server.address(),
            manner,
            table: Rc::clone(table),
            book: Rc::clone(book),
            before,
        })
    }

    /// The agent's name for the server.
    pub(super) fn label(&self) -> &str {
        &self.server
    }

    /// A connection that speaks the protocol of this run.
    pub(super) fn connect(&self) -> Result<Line> {
        let mut line = Line {
            connection: Connection::open(self.address)?,
            manner: self.manner,
            book: Rc::clone(&self.book),
            table: Rc::clone(&self.table),
        };
        if let Some(hello) = self.manner.greeting() {
            line.ask(hello, "(keyless)")?;
        }
        Ok(line)
    }

    /// Compares what the agent has counted since the last time with what was sent and received. A difference is a fault
    /// in the book.
    pub(super) fn settle(&mut self) -> Result<()> {
        let book = &mut *self.book.borrow_mut();
        let now = Page::read(self.agent, &self.server, &book.servers)?;
        let counted = now.counted.since(&self.before.counted)?;
        let expected = std::mem::take(&mut book.expected);
        let calls = std::mem::take(&mut book.calls);
        let mut faults = differences(&counted, &expected, &calls);
        if let (Some(before), Some(now)) = (self.before.unknown, now.unknown)
            && before != now
        {
            faults.push(format!("{} names are unknown, among {calls:#?}", now - before));
        }
        let manner = self.manner;
        book.faults
            .extend(faults.into_iter().map(|fault| format!("{manner:?}: {fault}")));
        self.before = now;
        Ok(())
    }
}

impl Line {
    /// Sends a command that belongs in `row`.
    pub(super) fn send(&mut self, words: &[Vec<u8>], row: &str) -> Result<()> {
        let bytes = self.manner.write(words);
        self.connection.send_bytes(&bytes)?;
        let book = &mut *self.book.borrow_mut();
        book.commands += 1;
        book.called.insert(self.table.name(words));
        let shown = words.iter().map(|word| String::from_utf8_lossy(word));
        let shown = shown.collect::<Vec<_>>().join(" ");
        let call = (row.to_owned(), shown.escape_debug().to_string());
        // Questions that are asked until the answer is right are told once.
        if book.calls.last() != Some(&call) {
            book.calls.push(call);
        }
        let expected = book.expected.entry(row.to_owned()).or_default();
        expected.bytes_in += bytes.len() as u64;
        expected.commands += 1;
        Ok(())
    }

    /// Reads a reply to a command that belongs in `row`; what is pushed belongs to the channels.
    pub(super) fn receive(&mut self, row: &str) -> Result<Reply> {
        let before = self.connection.received();
        let reply = self.connection.receive()?;
        let row = if matches!(reply, Reply::Push(_)) {
            "(pubsub)"
        } else {
            row
        };
        self.came(row, self.connection.received() - before);
        self.book.borrow_mut().errors += u64::from(matches!(reply, Reply::Error(_)));
        Ok(reply)
    }

    /// Reads whatever comes until the server pauses or closes the connection; it belongs in `row`.
    pub(super) fn drain(&mut self, row: &str, quiet: std::time::Duration) -> Result<u64> {
        let bytes = self.connection.drain(quiet)?;
        self.came(row, bytes);
        Ok(bytes)
    }

    /// Sends a command and insists on a reply that is no error.
    pub(super) fn ask(&mut self, command: &str, row: &str) -> Result<Reply> {
        let words: Vec<_> = command.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        self.send(&words, row)?;
        let reply = self.receive(row)?;
        ensure!(!matches!(reply, Reply::Error(_)), "{command}: {reply:?}");
        Ok(reply)
    }

    fn came(&self, row: &str, bytes: u64) {
        let book = &mut *self.book.borrow_mut();
        book.expected.entry(row.to_owned()).or_default().bytes_out += bytes;
    }
}

impl Page {
    /// Rows and unattributed bytes of one server, and what the host has lost. The rest of a page takes longer to read than
    /// to fetch, and pages are many.
    fn read(agent: &Agent, server: &str, ours: &[String]) -> Result<Self> {
        let page = agent.metrics()?;
        let labels = |server: &str| format!("server=\"{server}\"");
        let of_server = labels(server);
        let is_compared = |line: &&str| {
            let counts =
                line.starts_with("stormglass_prefix_") || line.starts_with("stormglass_unattributed_");
            counts && line.contains(&of_server) || line.starts_with("stormglass_dropped_total")
        };
        let lines: Vec<_> = page.lines().filter(is_compared).collect();
        let scrape = Scrape::parse(&lines.join("\n"))?;
        let ours: Vec<_> = ours.iter().map(|server| labels(server)).collect();
        let strangers = page
            .lines()
            .filter(|line| line.starts_with("stormglass_connections{"))
            .any(|line| !ours.iter().any(|labels| line.contains(labels)));
        let unknown = scrape.count("stormglass_dropped_total", &[("reason", "unknown_command")]);
        Ok(Self {
            counted: Counted::of(&scrape, server),
            unknown: (!strangers).then_some(unknown),
        })
    }
}

/// What is counted otherwise than expected, row by row.
fn differences(
    counted: &Counted,
    expected: &BTreeMap<String, Row>,
    calls: &[(String, String)],
) -> Vec<String> {
    let mut faults = Vec::new();
    let rows: BTreeSet<_> = counted.prefixes.keys().chain(expected.keys()).collect();
    for row in rows {
        let has = counted.prefixes.get(row).copied().unwrap_or_default();
        let due = expected.get(row).copied().unwrap_or_default();
        if has != due {
            let of_row = calls.iter().filter(|(found, _)| found == row);
            let of_row: String = of_row.map(|(_, call)| format!("\n    {call}")).collect();
            faults.push(format!(
                "row {row}: {due:?} were sent and received, {has:?} are counted{of_row}"
            ));
        }
    }
    if !counted.unattributed.is_empty() {
        faults.push(format!("unattributed: {:?}", counted.unattributed));
    }
    faults
}

/// The number of a connection, by the server's word.
pub(super) fn number_of(line: &mut Line) -> Result<String> {
    match line.ask("CLIENT ID", "(keyless)")? {
        Reply::Integer(number) => Ok(number.to_string()),
        other => Err(anyhow::anyhow!("{other:?}")).context("CLIENT ID has no number"),
    }
}
