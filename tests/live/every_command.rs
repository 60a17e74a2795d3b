//! Every command of Valkey's table, called at least once and found in the right row, to the byte, in both directions.
//!
//! What is called is in `every_command/calls/*.calls` and `every_command/scenes.rs`, each with the row that it belongs in,
//! stated by hand and compared with what the server says (`COMMAND GETKEYS`). Which commands there are is asked of the
//! running server: one that is neither called nor named in [`LEFT_OUT`] is a failure.

mod call;
mod manner;
mod scenes;
mod session;
mod table;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::Opening;
use stormglass_tests::poll;
use stormglass_tests::ports::free_port;
use stormglass_tests::resp::{Connection, Reply};
use stormglass_tests::server::{Plan, Server};
use tempfile::NamedTempFile;

use self::call::{Call, Names, Step};
use self::manner::Manner;
use self::session::{Book, Line, Session, number_of};
use self::table::{Table, first_key};

/// Commands that are not called, and why.
const LEFT_OUT: [(&str, &str); 0] = [];

/// Lists that are called on a server that stands alone. Those with many calls without a key come first: each of these is
/// compared on its own, and pages grow with the rows.
const ALONE: [(&str, &str); 12] = [
    ("server", include_str!("every_command/calls/server.calls")),
    ("connection", include_str!("every_command/calls/connection.calls")),
    ("channels", include_str!("every_command/calls/channels.calls")),
    ("scripts", include_str!("every_command/calls/scripts.calls")),
    (
        "transactions",
        include_str!("every_command/calls/transactions.calls"),
    ),
    ("keys", include_str!("every_command/calls/keys.calls")),
    ("strings", include_str!("every_command/calls/strings.calls")),
    ("lists", include_str!("every_command/calls/lists.calls")),
    ("sets", include_str!("every_command/calls/sets.calls")),
    ("hashes", include_str!("every_command/calls/hashes.calls")),
    (
        "sorted_sets",
        include_str!("every_command/calls/sorted_sets.calls"),
    ),
    ("streams", include_str!("every_command/calls/streams.calls")),
];

/// The list that is called on a cluster of one.
const CLUSTER: (&str, &str) = ("cluster", include_str!("every_command/calls/cluster.calls"));

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_command_is_found_in_its_row_over_resp2() -> Result<()> {
    run(Manner::Resp2)
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_command_is_found_in_its_row_over_resp3() -> Result<()> {
    run(Manner::Resp3)
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_command_is_found_in_its_row_when_it_is_typed_as_a_line() -> Result<()> {
    run(Manner::Inline)
}

/// Runs everything in one manner; a failure names every call that is not counted as it should be.
fn run(manner: Manner) -> Result<()> {
    let stage = Stage::set(manner)?;
    for part in [cluster, stand_alone] {
        if let Err(error) = part(&stage) {
            stage.fault(format!("{error:#}"));
        }
    }
    let faults = stage.end()?;
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    Ok(())
}

fn stand_alone(stage: &Stage) -> Result<()> {
    let mut opening = Opening::at(&stage.agent, &stage.alone)?;
    for list in ALONE {
        stage.play(&stage.alone, list)?;
    }
    for scene in scenes::SCENES {
        let mut session = stage.session(&stage.alone)?;
        scene(&mut session)?;
        session.settle()?;
    }
    stage.compare_sums(&mut opening)
}

fn cluster(stage: &Stage) -> Result<()> {
    stage.wait_for_the_cluster()?;
    let mut opening = Opening::at(&stage.agent, &stage.cluster)?;
    stage.play(&stage.cluster, CLUSTER)?;
    stage.compare_sums(&mut opening)
}

/// The servers, and who watches them.
struct Stage {
    manner: Manner,
    agent: Agent,
    alone: Server,
    cluster: Server,
    /// Keys are moved to it, replicas join it, its figures are reset, and it ends.
    doomed: Server,
    table: Rc<Table>,
    book: Rc<RefCell<Book>>,
    _users: NamedTempFile,
}

impl Stage {
    fn set(manner: Manner) -> Result<Self> {
        let users = NamedTempFile::new()?;
        let alone = Plan::valkey()?.config(&format!(
            "enable-debug-command yes\nenable-module-command yes\naclfile {}\n",
            users.path().display()
        ));
        let cluster = Plan::valkey()?.config(&format!(
            "cluster-enabled yes\ncluster-port {}\ncluster-require-full-coverage no\n",
            free_port()?
        ));
        let (alone, cluster, doomed) = (alone.start()?, cluster.start()?, Plan::valkey()?.start()?);
        cluster
            .connect()?
            .ask(&[b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16382"])?;
        let book = Book::of(vec![alone.label(), cluster.label(), doomed.label()]);
        Ok(Self {
            manner,
            agent: Agent::start()?,
            table: Rc::new(Table::read(&mut alone.connect()?)?),
            alone,
            cluster,
            doomed,
            book: Rc::new(RefCell::new(book)),
            _users: users,
        })
    }

    /// A cluster does not serve keys at once.
    fn wait_for_the_cluster(&self) -> Result<()> {
        let mut connection = self.cluster.connect()?;
        poll::until_true("the cluster is ready", Duration::from_secs(10), || {
            let info = connection.ask(&[b"CLUSTER", b"INFO"])?.text()?;
            Ok(info.contains("cluster_state:ok"))
        })
    }

    fn session(&self, server: &Server) -> Result<Session<'_>> {
        Session::begin(&self.agent, server, self.manner, &self.table, &self.book)
    }

    /// Sets a list up, calls it, and compares the counts.
    fn play(&self, server: &Server, (name, text): (&str, &str)) -> Result<()> {
        let steps = call::read(name, text)?;
        let mut names = self.names(server)?;
        let mut helper = server.connect()?;
        for call in calls(&steps) {
            if let Err(error) = self.prepare(&mut helper, call, &names) {
                self.fault(format!("{}: {error:#}", call.name));
            }
        }
        let mut session = self.session(server)?;
        let mut line = session.connect()?;
        names.connection = number_of(&mut line)?;
        for step in &steps {
            match step {
                Step::Connect => {
                    line = session.connect()?;
                    names.connection = number_of(&mut line)?;
                }
                Step::Call(call) => {
                    self.call(&mut line, call, &names)?;
                    // The others have rows of their own, which tell them apart at the end.
                    if call.row().starts_with('(') {
                        session.settle()?;
                    }
                }
            }
        }
        session.settle()
    }

    /// Sends a call's set-up, and compares where its key is with what the server says.
    fn prepare(&self, helper: &mut Connection, call: &Call, names: &Names) -> Result<()> {
        for words in &call.setup {
            let words = call.spell_all(words, names, <[u8]>::to_vec);
            helper
                .ask(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
                .context("it cannot be set up")?;
        }
        let words = call.spell_all(&call.words, names, |word| self.manner.spell(word));
        if call.refusal.as_deref() == Some("ERR wrong number of arguments") {
            return Ok(());
        }
        let (stated, found) = (call.key(), first_key(helper, &words)?);
        ensure!(
            found == stated,
            "its first key is {}, the server says {}",
            shown(stated),
            shown(found)
        );
        Ok(())
    }

    fn call(&self, line: &mut Line, call: &Call, names: &Names) -> Result<()> {
        let words = call.spell_all(&call.words, names, |word| self.manner.spell(word));
        let row = call.row();
        line.send(&words, &row)?;
        for _ in 0..call.replies {
            let reply = line
                .receive(&row)
                .with_context(|| format!("{}: no reply", call.name))?;
            let fault = match (&reply, &call.refusal) {
                (Reply::Error(error), Some(refusal)) if error.starts_with(refusal) => continue,
                (Reply::Error(error), _) => format!("the server refuses it: {error}"),
                (_, Some(refusal)) => format!("the server accepts it, {refusal} was expected"),
                (_, None) => continue,
            };
            self.fault(format!("{}: {fault}", call.name));
        }
        Ok(())
    }

    /// Insists that all bytes together are those that the server has counted, set-up included, and all are attributed.
    fn compare_sums(&self, opening: &mut Opening) -> Result<()> {
        let account = opening.account(&self.agent)?;
        let server = (account.server.bytes_in, account.server.bytes_out);
        if account.total() != server || !account.counted.unattributed.is_empty() {
            self.fault(format!(
                "{:?} bytes are counted, {server:?} by the server itself; unattributed: {:?}",
                account.total(),
                account.counted.unattributed
            ));
        }
        Ok(())
    }

    fn names(&self, server: &Server) -> Result<Names> {
        let node = match server.connect()?.call(&[b"CLUSTER", b"MYID"])? {
            Reply::Error(_) => String::new(),
            node => node.text()?,
        };
        Ok(Names {
            node,
            elsewhere: self.doomed.port().to_string(),
            ..Names::default()
        })
    }

    /// The scenes that the server does not survive, and what all of it has shown.
    fn end(self) -> Result<Vec<String>> {
        let mut session = Session::begin(&self.agent, &self.doomed, self.manner, &self.table, &self.book)?;
        scenes::replicas_join(&mut session)?;
        scenes::figures_are_reset(&mut session)?;
        session.settle()?;
        scenes::the_server_ends(&mut session, &self.agent, self.doomed)?;

        let mut book = self.book.borrow_mut();
        let mut called = std::mem::take(&mut book.called);
        called.extend(LEFT_OUT.map(|(name, _)| name.to_owned()));
        let (names, commands, errors) = (called.len(), book.commands, book.errors);
        println!(
            "{:?}: {names} names called by {commands} commands, {errors} of them answered by an error",
            self.manner
        );
        let mut faults = std::mem::take(&mut book.faults);
        faults.extend(self.table.differences(&called));
        Ok(faults)
    }

    fn fault(&self, fault: String) {
        self.book.borrow_mut().faults.push(fault);
    }
}

fn shown(key: Option<Vec<u8>>) -> String {
    key.map_or_else(|| "none".into(), |key| String::from_utf8_lossy(&key).into_owned())
}

fn calls(steps: &[Step]) -> impl Iterator<Item = &Call> {
    steps.iter().filter_map(|step| match step {
        Step::Call(call) => Some(call),
        Step::Connect => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_of_calls_can_be_read() -> Result<()> {
        for (name, text) in ALONE.into_iter().chain([CLUSTER]) {
            let calls = calls(&call::read(name, text)?).count();
            ensure!(calls > 10, "{name} has {calls} calls");
        }
        Ok(())
    }
}
