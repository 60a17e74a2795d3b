//! What the meter knows about a command from its name: where its first key is, and whether it changes how the
//! connection goes on. The table is generated from Valkey's own metadata by `cargo xtask gen-commands`.
//!
//! A name is looked up as three words: lower case, zero padded, the first byte lowest. A subcommand is joined to its
//! container by `|`. What is found is one `u32`, read by the functions below.

use super::commands::{MAX_PROBES, MULTIPLIERS, SLOTS, TABLE};
use crate::limits::NAME_BYTES;

pub use super::commands::SOURCE;

/// [`kind`]: the command has no key.
pub const KIND_NONE: u32 = 0;
/// [`kind`]: the first key is argument number [`argument`]. The command's name is argument 0, so GET has 1. Where
/// [`offset`] is not 0 and that argument is empty, the first key follows the word KEYS (MIGRATE).
pub const KIND_KEY: u32 = 1;
/// [`kind`]: argument number [`argument`] is the number of keys; the first one is [`offset`] arguments behind it.
pub const KIND_KEY_COUNT: u32 = 2;
/// [`kind`]: the first key follows the word STREAMS, looked for from argument number [`argument`] on.
pub const KIND_KEYWORD: u32 = 3;
/// [`kind`]: argument 1 is a subcommand; look up both names joined by `|`.
pub const KIND_CONTAINER: u32 = 4;

/// [`effect`]: none on the connection.
pub const EFFECT_NONE: u32 = 0;
/// [`effect`]: SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE: one confirmation per channel, then messages at any time.
pub const EFFECT_SUBSCRIBE: u32 = 1;
/// [`effect`]: UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE: one confirmation per channel, at least one.
pub const EFFECT_UNSUBSCRIBE: u32 = 2;
/// [`effect`]: MONITOR: lines of other clients' commands from now on.
pub const EFFECT_MONITOR: u32 = 3;
/// [`effect`]: PSYNC, SYNC, CLUSTER SYNCSLOTS: the connection becomes a replica link.
pub const EFFECT_REPLICATION: u32 = 4;
/// [`effect`]: REPLCONF: part of a replica link, or of what leads to one.
pub const EFFECT_REPLCONF: u32 = 5;
/// [`effect`]: CLIENT REPLY: replies are switched off or on.
pub const EFFECT_CLIENT_REPLY: u32 = 6;
/// [`effect`]: QUIT: one reply, then the server closes.
pub const EFFECT_QUIT: u32 = 7;
/// [`effect`]: RESET: the connection is as it was when it opened.
pub const EFFECT_RESET: u32 = 8;
/// [`effect`]: PUBLISH, SPUBLISH: argument 1 is a channel, not a key.
pub const EFFECT_PUBLISH: u32 = 9;
/// [`effect`]: MULTI: commands are queued from now on.
pub const EFFECT_MULTI: u32 = 10;
/// [`effect`]: EXEC: the queued commands are executed.
pub const EFFECT_EXEC: u32 = 11;
/// [`effect`]: DISCARD: the queued commands are forgotten.
pub const EFFECT_DISCARD: u32 = 12;
/// [`effect`]: HELLO: may change the protocol version.
pub const EFFECT_HELLO: u32 = 13;

/// [`effect`]: AUTH, SELECT, CLIENT SETNAME, CLIENT SETINFO: it says who the client is, see [`identifies`].
pub const EFFECT_IDENTIFY: u32 = 14;

/// [`identifies`]: the user (AUTH).
pub const IDENTIFIES_USER: u32 = 1;
/// [`identifies`]: the client's name (CLIENT SETNAME).
pub const IDENTIFIES_CLIENT: u32 = 2;
/// [`identifies`]: the client library (CLIENT SETINFO).
pub const IDENTIFIES_LIBRARY: u32 = 3;
/// [`identifies`]: the database (SELECT).
pub const IDENTIFIES_DATABASE: u32 = 4;

/// Flag: the command may block until another client or a replica does something.
pub const BLOCKING: u32 = 1 << 28;
/// Flag: the command reads, and answers nil for what does not exist.
pub const READS: u32 = 1 << 29;

/// The bits of [`kind`] and [`argument`].
pub(super) const PLACE: u32 = 0xffff;
/// [`PLACE`] of a command whose first argument is its first key.
pub(super) const PLACE_FIRST: u32 = KIND_KEY | 1 << 8;

/// One slot of the table. An empty slot has the empty name.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The name's bytes, little-endian, zero padded.
    pub name: [u64; 3],
    /// What [`lookup`] returns.
    pub info: u32,
    /// Zero; makes the size explicit.
    pub reserved: u32,
}

/// Finds a command by its name: lower case, subcommands as `container|sub`. `None`: no such command, or no subcommand
/// that a container of the table has.
#[inline(always)]
#[must_use]
pub fn lookup(name: &[u64; 3]) -> Option<u32> {
    if name[0] == 0 {
        return None;
    }
    let home = home(name);
    let mut probe = 0;
    while probe < MAX_PROBES {
        let entry = TABLE.get(home + probe)?;
        let differs = entry.name[0] ^ name[0] | entry.name[1] ^ name[1] | entry.name[2] ^ name[2];
        if differs == 0 {
            return Some(entry.info);
        }
        probe += 1;
    }
    None
}

/// Where the first key is: [`KIND_NONE`] to [`KIND_CONTAINER`].
#[inline(always)]
#[must_use]
pub const fn kind(info: u32) -> u32 {
    info & 0xff
}

/// The argument number that [`kind`] speaks of.
#[inline(always)]
#[must_use]
pub const fn argument(info: u32) -> u32 {
    info >> 8 & 0xff
}

/// For [`KIND_KEY_COUNT`]: how many arguments behind the count the first key is. For [`KIND_KEY`]: see there.
#[inline(always)]
#[must_use]
pub const fn offset(info: u32) -> u32 {
    info >> 16 & 0xff
}

/// For [`KIND_KEY`]: whether the first key follows the word KEYS where argument number [`argument`] is empty.
#[inline(always)]
#[must_use]
pub const fn has_keys_elsewhere(info: u32) -> bool {
    kind(info) == KIND_KEY && offset(info) != 0
}

/// The bits that a command with [`EFFECT_NONE`] may have.
pub(super) const PLAIN: u32 = !(15 << 24);

/// What the command does to its connection: [`EFFECT_NONE`] to [`EFFECT_IDENTIFY`].
#[inline(always)]
#[must_use]
pub const fn effect(info: u32) -> u32 {
    info >> 24 & 15
}

/// For SUBSCRIBE, UNSUBSCRIBE and their families: which of [`CONFIRMED_NAMES`](crate::abi::run_flag::CONFIRMED_NAMES) confirms it, counted from 1.
#[inline(always)]
#[must_use]
pub const fn confirmed_name(info: u32) -> u32 {
    // These commands have no argument that is a key: its number is free.
    match effect(info) {
        EFFECT_SUBSCRIBE | EFFECT_UNSUBSCRIBE => argument(info),
        _ => 0,
    }
}

/// For [`EFFECT_IDENTIFY`]: what it says of the client. 0 for HELLO, which names it in options.
#[inline(always)]
#[must_use]
pub const fn identifies(info: u32) -> u32 {
    match effect(info) {
        EFFECT_IDENTIFY => argument(info),
        _ => 0,
    }
}

/// The slot where a search begins. The last slots can be probed without wrapping: the table is longer than [`SLOTS`].
#[inline(always)]
fn home(name: &[u64; 3]) -> usize {
    let hash = name[0].wrapping_mul(MULTIPLIERS[0])
        ^ name[1].wrapping_mul(MULTIPLIERS[1])
        ^ name[2].wrapping_mul(MULTIPLIERS[2]);
    (hash >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

/// A name as the table stores it; bytes beyond [`NAME_BYTES`] are dropped.
#[must_use]
pub const fn pack(name: &str) -> [u64; 3] {
    let bytes = name.as_bytes();
    let mut words = [0; 3];
    let mut index = 0;
    while index < bytes.len() && index < NAME_BYTES {
        words[index / 8] |= (bytes[index] as u64) << (index % 8 * 8);
        index += 1;
    }
    words
}

const _: () = assert!(NAME_BYTES == 24 && SLOTS.is_power_of_two() && size_of::<Entry>() == 32);

/// Words that the generated table is written in.
pub(super) mod words {
    use super::{Entry, KIND_KEY, KIND_KEY_COUNT, KIND_KEYWORD, KIND_NONE};

    /// A row of the generated table: slot, name, info.
    pub(in super::super) type Row = (usize, &'static str, u32);

    pub(in super::super) const fn key_at(argument: u32) -> u32 {
        KIND_KEY | argument << 8
    }

    pub(in super::super) const fn key_at_or_behind_keys(argument: u32) -> u32 {
        KIND_KEY | argument << 8 | 1 << 16
    }

    pub(in super::super) const fn key_count_at(argument: u32, offset: u32) -> u32 {
        KIND_KEY_COUNT | argument << 8 | offset << 16
    }

    pub(in super::super) const fn key_after_streams(argument: u32) -> u32 {
        KIND_KEYWORD | argument << 8
    }

    /// A command of pub/sub, and which name confirms it.
    pub(in super::super) const fn confirmed_as(name: u32) -> u32 {
        KIND_NONE | name << 8
    }

    /// A command that says of the client what the number means.
    pub(in super::super) const fn identifying(what: u32) -> u32 {
        KIND_NONE | what << 8
    }

    pub(in super::super) const fn with_effect(effect: u32, info: u32) -> u32 {
        effect << 24 | info
    }

    /// Puts every row into its slot.
    pub(in super::super) const fn table<const N: usize>(rows: &[Row]) -> [Entry; N] {
        let mut table = [Entry {
            name: [0; 3],
            info: 0,
            reserved: 0,
        }; N];
        let mut index = 0;
        while index < rows.len() {
            let (slot, name, info) = rows[index];
            table[slot] = Entry {
                name: super::pack(name),
                info,
                reserved: 0,
            };
            index += 1;
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{abi::run_flag::CONFIRMED_NAMES, resp::commands::ROWS};

    fn found(name: &str) -> u32 {
        lookup(&pack(name)).unwrap_or_else(|| panic!("{name} is not in the table"))
    }

    fn key(name: &str) -> (u32, u32, u32) {
        let info = found(name);
        (kind(info), argument(info), offset(info))
    }

    #[test]
    fn plain_commands_have_their_key_where_the_server_says() {
        for name in ["get", "set", "sort", "object|encoding"] {
            let expected = if name.contains('|') { 2 } else { 1 };
            assert_eq!(key(name), (KIND_KEY, expected, 0), "{name}");
        }
        assert_eq!(key("memory|usage"), (KIND_KEY, 2, 0));
        assert_eq!(key("xgroup|create"), (KIND_KEY, 2, 0));
        assert_eq!(
            key("zunionstore"),
            (KIND_KEY, 1, 0),
            "the destination comes before the count"
        );
        assert_eq!(key("bitop"), (KIND_KEY, 2, 0), "the destination");
        assert_eq!(key("migrate"), (KIND_KEY, 3, 1), "or behind KEYS");
    }

    #[test]
    fn counted_keys_follow_their_count() {
        assert_eq!(key("eval"), (KIND_KEY_COUNT, 2, 1));
        assert_eq!(key("fcall_ro"), (KIND_KEY_COUNT, 2, 1));
        assert_eq!(key("zunion"), (KIND_KEY_COUNT, 1, 1));
        assert_eq!(key("blmpop"), (KIND_KEY_COUNT, 2, 1));
    }

    #[test]
    fn stream_reads_have_their_key_behind_the_keyword() {
        assert_eq!(key("xread"), (KIND_KEYWORD, 1, 0));
        assert_eq!(key("xreadgroup"), (KIND_KEYWORD, 4, 0));
    }

    #[test]
    fn containers_ask_for_their_subcommand() {
        for name in ["object", "memory", "xgroup", "xinfo", "client", "cluster"] {
            assert_eq!(key(name), (KIND_CONTAINER, 0, 0), "{name}");
        }
        assert_eq!(effect(found("client|reply")), EFFECT_CLIENT_REPLY);
        assert_eq!(
            key("config"),
            (KIND_NONE, 0, 0),
            "none of its subcommands has a key"
        );
    }

    #[test]
    fn keyless_commands_are_known_and_unknown_ones_are_not() {
        for name in ["ping", "info", "multi", "exec", "flushall", "publish", "spublish"] {
            assert_eq!(key(name), (KIND_NONE, 0, 0), "{name}");
        }
        for (index, name) in CONFIRMED_NAMES.iter().enumerate() {
            assert_eq!(confirmed_name(found(name)), index as u32 + 1, "{name}");
        }
        assert_eq!(confirmed_name(found("get")), 0);
        for name in ["", "nosuchcommand", "GET", "ge", "gett", "client|nosuch"] {
            assert_eq!(lookup(&pack(name)), None, "{name:?}");
        }
    }

    #[test]
    fn short_names_have_no_byte_but_letters_that_another_becomes_with_the_bit_of_small_ones() {
        let short = TABLE
            .iter()
            .filter(|entry| entry.name[1] == 0 && entry.name[0] != 0);
        let bytes: Vec<u8> = short.flat_map(|entry| entry.name[0].to_le_bytes()).collect();
        assert!(bytes.len() > 500, "{}", bytes.len());
        for byte in bytes {
            assert!(byte.is_ascii_lowercase() || byte & b' ' == 0, "{}", byte as char);
        }
    }

    #[test]
    fn commands_that_change_their_connection_say_so() {
        let effects = [
            ("get", EFFECT_NONE),
            ("subscribe", EFFECT_SUBSCRIBE),
            ("ssubscribe", EFFECT_SUBSCRIBE),
            ("punsubscribe", EFFECT_UNSUBSCRIBE),
            ("monitor", EFFECT_MONITOR),
            ("psync", EFFECT_REPLICATION),
            ("sync", EFFECT_REPLICATION),
            ("hello", EFFECT_HELLO),
            ("replconf", EFFECT_REPLCONF),
            ("cluster|syncslots", EFFECT_REPLICATION),
            ("multi", EFFECT_MULTI),
            ("exec", EFFECT_EXEC),
            ("discard", EFFECT_DISCARD),
            ("quit", EFFECT_QUIT),
            ("reset", EFFECT_RESET),
            ("publish", EFFECT_PUBLISH),
        ];
        for (name, expected) in effects {
            assert_eq!(effect(found(name)), expected, "{name}");
        }
    }

    #[test]
    fn commands_that_may_block_and_reads_that_may_miss_say_so() {
        for (name, flags) in [
            ("get", READS),
            ("mget", READS),
            ("hget", READS),
            ("set", 0),
            ("hgetall", 0),
            ("blpop", BLOCKING),
            ("xread", BLOCKING),
            ("wait", BLOCKING),
        ] {
            assert_eq!(found(name) & (BLOCKING | READS), flags, "{name}");
        }
    }

    #[test]
    fn every_generated_name_is_found_with_its_own_info() {
        assert!(ROWS.len() > 250, "{} rows", ROWS.len());
        for (_, name, info) in ROWS {
            assert!(name.len() <= NAME_BYTES, "{name}");
            assert!(
                name.len() > 1,
                "{name}: the opening of a command looks for no key before its 16th byte"
            );
            assert_eq!(lookup(&pack(name)), Some(*info), "{name}");
        }
    }

    #[test]
    fn no_slot_is_taken_twice() {
        let used = TABLE.iter().filter(|entry| entry.name[0] != 0).count();
        assert_eq!(used, ROWS.len());
    }
}
