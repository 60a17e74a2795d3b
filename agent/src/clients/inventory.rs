//! Connections added up by library and by user.

use std::collections::HashMap;
use std::sync::Arc;

use agent_common::limits;

use super::{Library, OTHER};
use crate::snapshot::{ConnectionSnapshot, LibrarySnapshot, UserSnapshot};

/// Connections by library and version, the most used first; beyond `room` rows in `(other)`.
#[must_use]
pub fn libraries(connections: &[ConnectionSnapshot], room: usize) -> Vec<LibrarySnapshot> {
    let key = |connection: &ConnectionSnapshot| {
        (
            Arc::clone(&connection.library),
            Arc::clone(&connection.library_version),
        )
    };
    let rows = biggest(connections, key, room, || (OTHER.into(), OTHER.into()));
    rows.into_iter()
        .map(|((library, version), connections)| LibrarySnapshot {
            library: library.to_string(),
            version: version.to_string(),
            connections,
            opened: None,
        })
        .collect()
}

/// Adds what libraries have opened, to their rows or in rows of their own.
pub fn add_opens(rows: &mut Vec<LibrarySnapshot>, opens: Vec<(Library, u64)>) {
    let places = rows.iter().enumerate();
    let places: HashMap<(String, String), usize> = places
        .map(|(place, row)| ((row.library.clone(), row.version.clone()), place))
        .collect();
    for ((library, version), opened) in opens {
        let key = (library.to_string(), version.to_string());
        match places.get(&key).and_then(|place| rows.get_mut(*place)) {
            Some(row) => row.opened = Some(opened),
            None => rows.push(LibrarySnapshot {
                library: key.0,
                version: key.1,
                connections: 0,
                opened: Some(opened),
            }),
        }
    }
}

/// Connections by ACL user, the most used first; beyond [`limits::USERS`] rows in `(other)`.
#[must_use]
pub fn users(connections: &[ConnectionSnapshot]) -> Vec<UserSnapshot> {
    let key = |connection: &ConnectionSnapshot| Arc::clone(&connection.user);
    let rows = biggest(connections, key, limits::USERS, || OTHER.into());
    rows.into_iter()
        .map(|(user, connections)| UserSnapshot {
            user: user.to_string(),
            connections,
        })
        .collect()
}

/// Counts by key; the largest `room` of them, and the rest in one row behind them.
fn biggest<K: Ord + Clone + std::hash::Hash>(
    connections: &[ConnectionSnapshot],
    key: impl Fn(&ConnectionSnapshot) -> K,
    room: usize,
    other: impl Fn() -> K,
) -> Vec<(K, u64)> {
    let mut counts: HashMap<K, u64> = HashMap::new();
    for connection in connections {
        *counts.entry(key(connection)).or_default() += 1;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by(|(left, more), (right, less)| less.cmp(more).then_with(|| left.cmp(right)));
    let rest: u64 = rows.iter().skip(room).map(|(_, count)| count).sum();
    rows.truncate(room);
    if rest != 0 {
        rows.push((other(), rest));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(user: &str, library: &str) -> ConnectionSnapshot {
        ConnectionSnapshot {
            server: "s".into(),
            address: [127, 0, 0, 1].into(),
            port: 1,
            user: user.into(),
            name: "n".into(),
            library: library.into(),
            library_version: "1".into(),
            database: Some(0),
            protocol: 2,
            adopted: false,
            synchronised: true,
        }
    }

    #[test]
    fn the_most_used_come_first_and_none_is_lost() {
        let mut connections = vec![connection("b", "x"), connection("a", "y"), connection("a", "x")];
        let shown = |connections: &[ConnectionSnapshot]| -> Vec<(String, u64)> {
            let rows = users(connections).into_iter();
            rows.map(|row| (row.user, row.connections)).collect()
        };
        assert_eq!(shown(&connections), [("a".into(), 2), ("b".into(), 1)]);
        connections.extend((0..limits::USERS).map(|user| connection(&format!("u{user:05}"), "z")));
        let rows = shown(&connections);
        assert_eq!(rows.len(), limits::USERS + 1);
        assert_eq!(rows.last(), Some(&(OTHER.into(), 2)));
        let sum: u64 = rows.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, connections.len() as u64);
        let versions = |room: usize| -> Vec<(String, u64)> {
            let rows = libraries(&connections, room).into_iter();
            rows.map(|row| (row.library, row.connections)).collect()
        };
        let most = ("z".into(), limits::USERS as u64);
        let (x, y) = (("x".into(), 2), ("y".into(), 1));
        assert_eq!(versions(3), [most.clone(), x, y]);
        let mut rows = libraries(&connections, 2);
        add_opens(
            &mut rows,
            vec![(("x".into(), "1".into()), 7), (("gone".into(), "0".into()), 3)],
        );
        let opened: Vec<_> = rows
            .iter()
            .map(|row| (&*row.library, row.connections, row.opened))
            .collect();
        assert_eq!(
            opened,
            [
                ("z", limits::USERS as u64, None),
                ("x", 2, Some(7)),
                (OTHER, 1, None),
                ("gone", 0, Some(3))
            ]
        );
        assert_eq!(versions(1), [most, (OTHER.into(), 3)]);
    }
}
