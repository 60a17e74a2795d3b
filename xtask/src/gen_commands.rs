//! `cargo xtask gen-commands`: writes the command table of the RESP meter from what a real server says about itself.

mod metadata;
mod placing;

use std::fmt::Write as _;
use std::fs;
use std::process::Command as Process;

use anyhow::{Context as _, Result, bail};

use self::metadata::{Command, FirstKey, read};
use self::placing::{MAX_PROBES, Placing, SLOTS, place};
use crate::lab::{Lab, servers};
use crate::process::{Run as _, say};
use crate::server::Server;

const OUTPUT: &str = "agent-common/src/resp/commands.rs";

/// Longest name the table can hold, `agent-common`'s `limits::NAME_BYTES`.
const NAME_BYTES: usize = 24;

/// A line of the table.
struct Row {
    name: String,
    info: String,
}

/// Asks the lab's Valkey for its commands and writes them to agent-common.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    servers::ensure_valkey(lab)?;
    let server = Server::start(lab)?;
    let (source, commands) = read(server.address())?;
    drop(server);
    let rows = rows(&commands)?;
    let placing = place(&rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>())?;
    let path = lab.workspace().join(OUTPUT);
    fs::write(&path, render(&source, &rows, &placing)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Process::new("rustfmt")
        .args(["--edition", "2024"])
        .arg(&path)
        .run()?;
    say(format!("wrote {} commands of {source} to {OUTPUT}", rows.len()));
    Ok(())
}

/// The table's lines by name: every command, and the subcommands of those containers that need a second look.
fn rows(commands: &[Command]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for command in commands {
        let container = is_container(command);
        rows.push(row(command, container));
        if container {
            rows.extend(command.subcommands.iter().map(|sub| row(sub, false)));
        }
    }
    if let Some(row) = rows
        .iter()
        .find(|row| row.name.len() > NAME_BYTES && !row.name.contains('|'))
    {
        bail!(
            "command {} is longer than {NAME_BYTES} bytes; the meter's names need another word",
            row.name
        );
    }
    rows.retain(|row| row.name.len() <= NAME_BYTES);
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

/// Whether the subcommand decides where the key is, or what becomes of the replies.
fn is_container(command: &Command) -> bool {
    let keyed = |sub: &Command| sub.first_key != FirstKey::None;
    let effective = |sub: &Command| effect(&sub.name).is_some();
    command.subcommands.iter().any(|sub| keyed(sub) || effective(sub))
}

fn row(command: &Command, container: bool) -> Row {
    let place = match command.first_key {
        _ if container => "KIND_CONTAINER".to_owned(),
        FirstKey::None => match CONFIRMED_NAMES.iter().position(|name| *name == command.name) {
            Some(index) => format!("confirmed_as({})", index + 1),
            None => match identifies(&command.name) {
                Some(what) => format!("identifying({what})"),
                None => "KIND_NONE".to_owned(),
            },
        },
        FirstKey::At(argument) => format!("key_at({argument})"),
        FirstKey::AtOrBehindKeys(argument) => format!("key_at_or_behind_keys({argument})"),
        FirstKey::CountAt { argument, offset } => format!("key_count_at({argument}, {offset})"),
        FirstKey::AfterStreams(argument) => format!("key_after_streams({argument})"),
    };
    let mut info = match effect(&command.name) {
        Some(effect) => format!("with_effect({effect}, {place})"),
        None => place,
    };
    if command.blocking {
        info.push_str(" | BLOCKING");
    }
    if READS.contains(&command.name.as_str()) {
        info.push_str(" | READS");
    }
    Row {
        name: command.name.clone(),
        info,
    }
}

/// Reads that answer nil, or an array with nil in it, for what does not exist (Valkey's command documentation; COMMAND
/// does not report it). Reads that answer an empty array or zero cannot be told from those that found something empty.
const READS: [&str; 9] = [
    "get", "getdel", "getex", "hget", "hmget", "lindex", "mget", "zmscore", "zscore",
];

/// Commands of pub/sub that are confirmed under their name, in the order of agent-common's `run_flag::CONFIRMED_NAMES`.
const CONFIRMED_NAMES: [&str; 6] = [
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
];

/// What a command does to its connection; no server reports that.
fn effect(name: &str) -> Option<&'static str> {
    Some(match name {
        "subscribe" | "psubscribe" | "ssubscribe" => "EFFECT_SUBSCRIBE",
        "unsubscribe" | "punsubscribe" | "sunsubscribe" => "EFFECT_UNSUBSCRIBE",
        "monitor" => "EFFECT_MONITOR",
        "psync" | "sync" | "cluster|syncslots" => "EFFECT_REPLICATION",
        "replconf" => "EFFECT_REPLCONF",
        "client|reply" => "EFFECT_CLIENT_REPLY",
        "quit" => "EFFECT_QUIT",
        "reset" => "EFFECT_RESET",
        "publish" | "spublish" => "EFFECT_PUBLISH",
        "multi" => "EFFECT_MULTI",
        "exec" => "EFFECT_EXEC",
        "discard" => "EFFECT_DISCARD",
        "hello" => "EFFECT_HELLO",
        name if identifies(name).is_some() => "EFFECT_IDENTIFY",
        _ => return None,
    })
}

/// What a command says of the client that sends it.
fn identifies(name: &str) -> Option<&'static str> {
    Some(match name {
        "auth" => "IDENTIFIES_USER",
        "client|setname" => "IDENTIFIES_CLIENT",
        "client|setinfo" => "IDENTIFIES_LIBRARY",
        "select" => "IDENTIFIES_DATABASE",
        _ => return None,
    })
}

fn render(source: &str, rows: &[Row], placing: &Placing) -> Result<String> {
    let [first, second, third] = placing.multipliers;
    let mut text = format!(
        "//! Written by `cargo xtask gen-commands` from the COMMAND reply of {source}. Do not edit.\n\n\
         use super::command::words::{{Row, confirmed_as, identifying, key_after_streams, key_at, key_at_or_behind_keys, key_count_at, table, with_effect}};\n\
         use super::command::*;\n\n\
         /// The server whose metadata this is.\n\
         pub const SOURCE: &str = \"{source}\";\n\n\
         /// Factors of the hash; with them no name is further than [`MAX_PROBES`] slots from its home.\n\
         pub(super) const MULTIPLIERS: [u64; 3] = [{first:#018x}, {second:#018x}, {third:#018x}];\n\n\
         /// Home slots, a power of two.\n\
         pub(super) const SLOTS: usize = {SLOTS};\n\n\
         /// Slots to look at, the home slot included.\n\
         pub(super) const MAX_PROBES: usize = {};\n\n\
         /// The hash table itself.\n\
         pub(super) static TABLE: [Entry; SLOTS + MAX_PROBES] = table(ROWS);\n\n\
         /// Slot, name and info of every command, by name.\n\
         #[rustfmt::skip]\n\
         pub(super) const ROWS: &[Row] = &[\n",
        placing.probes
    );
    for (row, slot) in rows.iter().zip(&placing.slots) {
        writeln!(text, "    ({slot}, \"{}\", {}),", row.name, row.info)?;
    }
    text.push_str("];\n");
    debug_assert!(placing.probes <= MAX_PROBES);
    Ok(text)
}
