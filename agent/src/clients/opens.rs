//! Connections opened by client library and version.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{NONE, OTHER};
use crate::snapshot::Introduction;

/// Name and version.
pub type Library = (Arc<str>, Arc<str>);

/// What each library has opened, by server. Rows are given in the order in which libraries appear, those that opened the most
/// first, and kept: a counter that came and went would say nothing. Bounded by the room for rows.
#[derive(Debug, Default)]
pub struct LibraryOpens {
    servers: BTreeMap<String, Book>,
}

#[derive(Debug, Default)]
struct Book {
    rows: BTreeMap<Library, Row>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// Of connections that ended, and that the kernel has forgotten.
    settled: u64,
    /// What was shown: what is read while connections come and go may be some too few, and no counter goes back.
    shown: u64,
}

impl LibraryOpens {
    /// The kernel forgets so many ended connections.
    pub fn settle(&mut self, server: &str, library: &Library, connections: u64, room: usize) {
        let book = self.servers.entry(server.to_owned()).or_default();
        let row = book.row_for(library, room);
        book.rows.entry(row).or_default().settled += connections;
    }

    /// A server is gone, with all it had counted.
    pub fn forget(&mut self, server: &str) {
        self.servers.remove(server);
    }

    /// What each library has opened, at most `room` of them and `(other)`. `opened` is what the server has had in all; it was
    /// read before `introductions`.
    pub fn rows(
        &mut self,
        server: &str,
        opened: u64,
        introductions: &[Introduction],
        room: usize,
    ) -> Vec<(Library, u64)> {
        let book = self.servers.entry(server.to_owned()).or_default();
        let mut present: BTreeMap<Library, u64> = BTreeMap::new();
        let mut claimed = book.rows.values().map(|row| row.settled).sum::<u64>();
        for said in introductions {
            claimed += said.claimed;
            if said.opened > 0 {
                let library = (Arc::clone(&said.library), Arc::clone(&said.version));
                *present.entry(library).or_default() += said.opened;
            }
        }
        // Those that said nothing at all.
        let silent = opened.saturating_sub(claimed);
        if silent > 0 {
            *present.entry((NONE.into(), NONE.into())).or_default() += silent;
        }
        let mut present: Vec<_> = present.into_iter().collect();
        present.sort_by(|(_, left), (_, right)| right.cmp(left));
        let mut sums: BTreeMap<Library, u64> = BTreeMap::new();
        for (library, opened) in present {
            let row = book.row_for(&library, room);
            book.rows.entry(row.clone()).or_default();
            *sums.entry(row).or_default() += opened;
        }
        let rows = book.rows.iter_mut().map(|(library, row)| {
            let sum = row.settled + sums.get(library).copied().unwrap_or(0);
            row.shown = row.shown.max(sum);
            (library.clone(), row.shown)
        });
        rows.collect()
    }
}

impl Book {
    fn row_for(&self, library: &Library, room: usize) -> Library {
        let other: Library = (OTHER.into(), OTHER.into());
        let named = self.rows.len() - usize::from(self.rows.contains_key(&other));
        if self.rows.contains_key(library) || named < room {
            library.clone()
        } else {
            other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(library: &str, opened: u64, claimed: u64) -> Introduction {
        Introduction {
            address: [10, 0, 0, 1].into(),
            user: "default".into(),
            name: NONE.into(),
            library: library.into(),
            version: "1".into(),
            connections: 0,
            opened,
            claimed,
            introducing: 0,
        }
    }

    fn shown(
        opens: &mut LibraryOpens,
        opened: u64,
        said: &[Introduction],
        room: usize,
    ) -> Vec<(String, u64)> {
        let rows = opens.rows("s", opened, said, room).into_iter();
        rows.map(|((library, _), opened)| (library.to_string(), opened))
            .collect()
    }

    fn rows(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        let rows = expected.iter();
        rows.map(|(library, opened)| ((*library).to_owned(), *opened))
            .collect()
    }

    #[test]
    fn together_they_are_what_the_server_had_but_for_those_that_introduce_themselves() {
        let mut opens = LibraryOpens::default();
        let first = [said("a", 5, 7), said("a", 1, 1), said("b", 2, 2)];
        assert_eq!(
            shown(&mut opens, 20, &first, 9),
            rows(&[("(none)", 10), ("a", 6), ("b", 2)])
        );
        // Two of them have said who they are; one ended while it was read.
        let then = [said("a", 7, 7), said("a", 0, 1), said("b", 2, 2)];
        assert_eq!(
            shown(&mut opens, 20, &then, 9),
            rows(&[("(none)", 10), ("a", 7), ("b", 2)])
        );
    }

    #[test]
    fn what_the_kernel_forgets_stays_counted() {
        let mut opens = LibraryOpens::default();
        shown(&mut opens, 10, &[said("a", 10, 10)], 9);
        opens.settle("s", &("a".into(), "1".into()), 10, 9);
        assert_eq!(shown(&mut opens, 12, &[said("a", 2, 2)], 9), rows(&[("a", 12)]));
        // Less is read than there was: no counter goes back.
        assert_eq!(shown(&mut opens, 12, &[], 9), rows(&[("(none)", 2), ("a", 12)]));
        opens.forget("s");
        assert_eq!(shown(&mut opens, 0, &[], 9), []);
    }

    #[test]
    fn a_row_is_kept_and_whoever_comes_later_is_in_other() {
        let mut opens = LibraryOpens::default();
        let first = [said("small", 1, 1), said("big", 9, 9), said("middle", 5, 5)];
        assert_eq!(
            shown(&mut opens, 15, &first, 2),
            rows(&[("(other)", 1), ("big", 9), ("middle", 5)])
        );
        let later = [said("small", 70, 70), said("big", 9, 9), said("middle", 5, 5)];
        assert_eq!(
            shown(&mut opens, 84, &later, 2),
            rows(&[("(other)", 70), ("big", 9), ("middle", 5)])
        );
        opens.settle("s", &("small".into(), "1".into()), 70, 2);
        assert_eq!(
            shown(&mut opens, 84, &later[1..], 2),
            rows(&[("(other)", 70), ("big", 9), ("middle", 5)])
        );
    }
}
