//! What the connections of each address have said of themselves: those established now, and those that ended.

use std::collections::HashMap;

use agent_common::abi::{ConnectionRecord, EndedKey, NameKind, address_from_words};

use super::Names;
use crate::snapshot::Introduction;

/// What the kernel was asked, in this order: connections that end while it answers are in the second reading of those that
/// ended if they are not in the first.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Connections that ended.
    pub before: Vec<(EndedKey, u64)>,
    /// Connections established now.
    pub records: Vec<ConnectionRecord>,
    /// Connections that ended, once more.
    pub after: Vec<(EndedKey, u64)>,
}

/// Connections of one address that said the same.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    connections: u64,
    /// Of these, those that were seen to be established, and have had the time to say more.
    settled: u64,
    introducing: u64,
    before: u64,
    after: u64,
}

impl Heard {
    /// The numbers of all names in it; 0 is among them.
    pub fn names(&self) -> impl Iterator<Item = u32> {
        let ended = self.before.iter().chain(&self.after);
        let ended = ended.flat_map(|(key, _)| key.names);
        ended.chain(self.records.iter().flat_map(|record| record.names))
    }

    /// Who has said what, each with the slot that it is at; those that said nothing and have had the time are left out.
    pub fn introductions(&self, names: &Names) -> impl Iterator<Item = (u32, Introduction)> {
        let sums = self.sums().into_iter();
        let said_or_saying = sums.filter(|(key, sums)| key.names != [0; 4] || sums.introducing > 0);
        said_or_saying.map(|(key, sums)| {
            let is_unnamed = key.names == [0; 4];
            let name = |kind: NameKind| names.text(kind, key.names[kind as usize]);
            let introduction = Introduction {
                address: address_from_words(key.client),
                user: name(NameKind::User),
                name: name(NameKind::Client),
                library: name(NameKind::Library),
                version: name(NameKind::LibraryVersion),
                connections: sums.connections,
                // Of those that said nothing, the kernel counts no ended ones.
                opened: if is_unnamed { 0 } else { sums.before + sums.settled },
                claimed: if is_unnamed {
                    sums.introducing
                } else {
                    sums.after + sums.settled + sums.introducing
                },
                introducing: sums.introducing,
            };
            (key.slot, introduction)
        })
    }

    fn sums(&self) -> HashMap<EndedKey, Sums> {
        let mut all: HashMap<EndedKey, Sums> = HashMap::new();
        for (key, ended) in &self.before {
            all.entry(*key).or_default().before += ended;
        }
        for (key, ended) in &self.after {
            all.entry(*key).or_default().after += ended;
        }
        for record in &self.records {
            let key = EndedKey {
                slot: record.slot,
                client: record.client,
                names: record.names,
            };
            let sums = all.entry(key).or_default();
            sums.connections += 1;
            if record.flags & ConnectionRecord::ADOPTED != 0 {
                continue;
            }
            if record.flags & ConnectionRecord::INTRODUCING != 0 {
                sums.introducing += 1;
            } else {
                sums.settled += 1;
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use agent_common::abi::{NameKey, address_words};
    use bytemuck::Zeroable as _;

    use super::*;

    fn ended(names: [u32; 4], count: u64) -> (EndedKey, u64) {
        let key = EndedKey {
            slot: 3,
            client: address_words([10, 0, 0, 1].into()),
            names,
        };
        (key, count)
    }

    fn record(names: [u32; 4], flags: u32) -> ConnectionRecord {
        ConnectionRecord {
            slot: 3,
            client: address_words([10, 0, 0, 1].into()),
            names,
            flags,
            ..ConnectionRecord::zeroed()
        }
    }

    fn names() -> Names {
        let key = |kind: NameKind, text: &str| {
            let mut key = NameKey::zeroed();
            key.kind = kind as u32;
            key.length = text.len() as u32;
            bytemuck::cast_slice_mut(&mut key.words)[..text.len()].copy_from_slice(text.as_bytes());
            key
        };
        let mut names = Names::default();
        names.replace(&[
            (1, key(NameKind::User, "svc")),
            (2, key(NameKind::Library, "lib")),
        ]);
        names
    }

    /// User, library, connections, opened, claimed, introducing.
    fn shown(heard: &Heard) -> Vec<(String, String, [u64; 4])> {
        let names = names();
        let introductions = heard.introductions(&names);
        let rows = introductions.map(|(slot, said)| {
            assert_eq!((slot, said.address), (3, [10, 0, 0, 1].into()));
            let numbers = [said.connections, said.opened, said.claimed, said.introducing];
            (said.user.to_string(), said.library.to_string(), numbers)
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        rows
    }

    #[test]
    fn what_ended_and_what_is_open_are_opened_together_once_they_have_had_the_time_to_say_who_they_are() {
        let (svc, lib) = ([1, 0, 2, 0], [0, 0, 2, 0]);
        let heard = Heard {
            before: vec![ended(svc, 10)],
            records: vec![
                record(svc, 0),
                record(svc, ConnectionRecord::INTRODUCING),
                record(svc, ConnectionRecord::ADOPTED),
                record(lib, ConnectionRecord::INTRODUCING),
                record([0; 4], ConnectionRecord::INTRODUCING),
                record([0; 4], 0),
            ],
            // Some ended meanwhile.
            after: vec![ended(svc, 12), ended(lib, 1)],
        };
        assert_eq!(
            shown(&heard),
            [
                ("default".into(), "(none)".into(), [2, 0, 1, 1]),
                ("default".into(), "lib".into(), [1, 0, 2, 1]),
                ("svc".into(), "lib".into(), [3, 11, 14, 1]),
            ]
        );
    }

    #[test]
    fn who_says_nothing_is_left_out_once_there_was_time() {
        let heard = Heard {
            records: vec![record([0; 4], 0), record([0; 4], ConnectionRecord::ADOPTED)],
            ..Heard::default()
        };
        assert_eq!(shown(&heard), []);
    }
}
