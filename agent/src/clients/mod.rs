//! Who the clients are, by what they have said of themselves: names for the numbers that the kernel keeps, and the inventory
//! of users and libraries, established and opened. Pure: records in, rows out.
//!
//! In place of a name stands `(none)` where the client said none, [`UNKNOWN`] where the connection is older than the agent
//! and has said nothing since, [`FORGOTTEN`] where the name is gone from the kernel's table. A client that calls itself so is
//! written otherwise: `\x28none)`.
#![forbid(unsafe_code)]

mod introductions;
mod inventory;
mod opens;

pub use introductions::Heard;
pub use inventory::{add_opens, libraries, users};
pub use opens::{Library, LibraryOpens};

use std::{collections::HashMap, sync::Arc};

use agent_common::abi::{ConnectionRecord, FIELD_DATABASE, NameKey, NameKind, address_from_words};

use crate::snapshot::ConnectionSnapshot;
pub use crate::tenants::OTHER;
use crate::tenants::client_text;

/// The client has given no such name.
pub const NONE: &str = "(none)";

/// What the client said was before the agent's time.
pub const UNKNOWN: &str = "(unknown)";

/// The name was taken from the kernel's table at the moment in which a client took it up again.
pub const FORGOTTEN: &str = "(forgotten)";

/// The user of a connection that has named none (Valkey's documentation of ACL).
pub const DEFAULT_USER: &str = "default";

/// Names by number.
#[derive(Debug, Default)]
pub struct Names {
    by_number: HashMap<u32, Arc<str>>,
    constants: Constants,
}

/// The texts that stand for no name, made once.
#[derive(Debug)]
struct Constants {
    none: Arc<str>,
    unknown: Arc<str>,
    forgotten: Arc<str>,
    default_user: Arc<str>,
}

impl Default for Constants {
    fn default() -> Self {
        Self {
            none: NONE.into(),
            unknown: UNKNOWN.into(),
            forgotten: FORGOTTEN.into(),
            default_user: DEFAULT_USER.into(),
        }
    }
}

impl Names {
    /// Whether all of these numbers are known.
    #[must_use]
    pub fn cover(&self, mut numbers: impl Iterator<Item = u32>) -> bool {
        numbers.all(|number| number == 0 || self.by_number.contains_key(&number))
    }

    /// Takes up the kernel's table as it is now.
    pub fn replace(&mut self, names: &[(u32, NameKey)]) {
        self.by_number = names
            .iter()
            .map(|(number, key)| (*number, client_text(key.bytes()).into()))
            .collect();
    }

    /// A connection in words.
    #[must_use]
    pub fn connection(&self, server: &Arc<str>, record: &ConnectionRecord) -> ConnectionSnapshot {
        let name = |kind: NameKind| self.name(record, kind);
        ConnectionSnapshot {
            server: Arc::clone(server),
            address: address_from_words(record.client),
            port: record.port as u16,
            user: name(NameKind::User),
            name: name(NameKind::Client),
            library: name(NameKind::Library),
            library_version: name(NameKind::LibraryVersion),
            database: is_known(record, FIELD_DATABASE).then_some(record.database),
            protocol: if record.flags & ConnectionRecord::RESP3 == 0 {
                2
            } else {
                3
            },
            adopted: record.flags & ConnectionRecord::ADOPTED != 0,
            synchronised: record.flags & ConnectionRecord::SYNCHRONISED != 0,
        }
    }

    fn name(&self, record: &ConnectionRecord, kind: NameKind) -> Arc<str> {
        if is_known(record, kind as u32) {
            self.text(kind, record.names[kind as usize])
        } else {
            Arc::clone(&self.constants.unknown)
        }
    }

    /// A name by its number; 0: the client has said none.
    #[must_use]
    pub fn text(&self, kind: NameKind, number: u32) -> Arc<str> {
        let constants = &self.constants;
        let text = match number {
            0 if kind == NameKind::User => &constants.default_user,
            0 => &constants.none,
            number => self.by_number.get(&number).unwrap_or(&constants.forgotten),
        };
        Arc::clone(text)
    }
}

/// A connection that was seen from its first byte has said what it has said.
fn is_known(record: &ConnectionRecord, field: u32) -> bool {
    record.flags & ConnectionRecord::ADOPTED == 0 || record.settled_fields & 1 << field != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    fn key(kind: NameKind, text: &str) -> NameKey {
        let mut key = NameKey::zeroed();
        key.kind = kind as u32;
        key.length = text.len() as u32;
        bytemuck::cast_slice_mut(&mut key.words)[..text.len()].copy_from_slice(text.as_bytes());
        key
    }

    fn names() -> Names {
        let mut names = Names::default();
        names.replace(&[
            (1, key(NameKind::User, "checkout-svc")),
            (2, key(NameKind::Client, "(none)")),
            (3, key(NameKind::Library, "valkey-py")),
        ]);
        names
    }

    fn texts(record: &ConnectionRecord) -> [String; 4] {
        let connection = names().connection(&"s".into(), record);
        [
            connection.user,
            connection.name,
            connection.library,
            connection.library_version,
        ]
        .map(|text| text.to_string())
    }

    #[test]
    fn a_connection_is_known_by_what_it_said() {
        let mut record = ConnectionRecord::zeroed();
        assert_eq!(texts(&record), [DEFAULT_USER, NONE, NONE, NONE]);
        record.names = [1, 2, 3, 99];
        assert_eq!(
            texts(&record),
            ["checkout-svc", "\\x28none)", "valkey-py", FORGOTTEN]
        );
        assert!(!names().cover(record.names.into_iter()));
        record.names[3] = 0;
        assert!(names().cover(record.names.into_iter()));
    }

    #[test]
    fn of_a_connection_from_before_the_agent_only_what_it_said_since_is_known() {
        let mut record = ConnectionRecord::zeroed();
        record.flags = ConnectionRecord::ADOPTED;
        record.names = [0, 2, 0, 0];
        record.settled_fields = 1 << NameKind::Client as u32;
        assert_eq!(texts(&record), [UNKNOWN, "\\x28none)", UNKNOWN, UNKNOWN]);
        let connection = names().connection(&"s".into(), &record);
        assert_eq!(connection.database, None);
        record.settled_fields |= 1 << FIELD_DATABASE;
        assert_eq!(names().connection(&"s".into(), &record).database, Some(0));
    }
}
