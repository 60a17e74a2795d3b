//! The server's own command table: which names there are, and where it finds the keys of a call.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use stormglass_tests::resp::{Connection, Reply};

/// Every command that can be sent, subcommands as `container|sub`.
pub(super) struct Table {
    /// Names, and of containers the names of their subcommands.
    commands: BTreeMap<String, BTreeSet<String>>,
    /// Containers that do nothing by themselves.
    hollow: BTreeSet<String>,
}

impl Table {
    /// Asks the server.
    pub(super) fn read(connection: &mut Connection) -> Result<Self> {
        let mut table = Self {
            commands: BTreeMap::new(),
            hollow: BTreeSet::new(),
        };
        for entry in array(connection.ask(&[b"COMMAND"])?)? {
            table.add(entry)?;
        }
        ensure!(table.commands.len() > 200, "COMMAND lists too little");
        Ok(table)
    }

    /// The name of what these words call.
    pub(super) fn name(&self, words: &[Vec<u8>]) -> String {
        let word = |at: usize| {
            let word = words.get(at).map(Vec::as_slice).unwrap_or_default();
            String::from_utf8_lossy(word).to_ascii_lowercase()
        };
        let joined = format!("{}|{}", word(0), word(1));
        match self.commands.get(&word(0)) {
            Some(subcommands) if subcommands.contains(&joined) => joined,
            _ => word(0),
        }
    }

    /// What is in the table and not among `called`, and what is called and not in the table.
    pub(super) fn differences(&self, called: &BTreeSet<String>) -> Vec<String> {
        let names = self.names();
        let missing = names
            .difference(called)
            .map(|name| format!("{name} is in the server's table, and no list calls it"));
        let unknown = called
            .difference(&names)
            .map(|name| format!("{name} is called, and not in the server's table"));
        missing.chain(unknown).collect()
    }

    fn names(&self) -> BTreeSet<String> {
        let alone = self.commands.keys().filter(|name| !self.hollow.contains(*name));
        alone.chain(self.commands.values().flatten()).cloned().collect()
    }

    fn add(&mut self, entry: Reply) -> Result<()> {
        let fields = array(entry)?;
        let [
            Reply::Bulk(Some(name)),
            Reply::Integer(arity),
            ..,
            Reply::Array(Some(subcommands)),
        ] = &fields[..]
        else {
            bail!("COMMAND has another layout: {fields:?}")
        };
        let name = String::from_utf8(name.clone())?;
        // A negative arity is the least number of words.
        if !subcommands.is_empty() && !(-1..=1).contains(arity) {
            self.hollow.insert(name.clone());
        }
        let subcommands = subcommands.iter().map(subcommand).collect::<Result<_>>()?;
        self.commands.insert(name, subcommands);
        Ok(())
    }
}

/// The first key of a call by the server's own `COMMAND GETKEYS`: the one that stands first.
pub(super) fn first_key(connection: &mut Connection, words: &[Vec<u8>]) -> Result<Option<Vec<u8>>> {
    let mut question: Vec<&[u8]> = vec![b"COMMAND", b"GETKEYS"];
    question.extend(words.iter().map(Vec::as_slice));
    let keys = match connection.call(&question)? {
        Reply::Array(Some(keys)) => keys,
        Reply::Error(error) if error.contains("has no key arguments") => return Ok(None),
        other => bail!("COMMAND GETKEYS answers {other:?}"),
    };
    let is_key = |word: &&Vec<u8>| {
        keys.iter()
            .any(|key| matches!(key, Reply::Bulk(Some(key)) if key == *word))
    };
    Ok(words.iter().find(is_key).cloned())
}

fn subcommand(entry: &Reply) -> Result<String> {
    match entry {
        Reply::Array(Some(fields)) => match fields.first() {
            Some(Reply::Bulk(Some(name))) => Ok(String::from_utf8(name.clone())?),
            other => bail!("a subcommand without name: {other:?}"),
        },
        other => bail!("expected a subcommand, the server answered {other:?}"),
    }
}

fn array(reply: Reply) -> Result<Vec<Reply>> {
    match reply {
        Reply::Array(Some(values)) => Ok(values),
        other => bail!("expected an array, the server answered {other:?}"),
    }
}
