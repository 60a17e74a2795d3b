//! Which prefixes give up their rows when rows run out: rows and their bytes in, a choice out. What becomes of the rows is
//! in [`crate::kernel`].

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use agent_common::abi::PrefixKey;
use anyhow::Result;

use super::watch::Watch;
use crate::{
    kernel::{RowInUse, Supply},
    tenants::{Tenants, client_text},
};

/// How often it is looked whether rows run out.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The supplies whose rows can be taken away.
const SUPPLIES: [Supply; 2] = [Supply::Common, Supply::Tenants];

/// How long a prefix has to be without traffic to be taken for gone.
const IDLE: Duration = Duration::from_secs(300);

/// What is remembered of rows in use, from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Usage(HashMap<u32, Known>);

#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u64,
    /// When they last grew.
    grew: Instant,
}

/// A row in use at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Its number.
    row: u32,
    /// Bytes that it has had.
    bytes: u64,
}

/// A supply of rows.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Rows in all.
    rows: usize,
    /// Rows between two owners.
    resting: usize,
}

impl Usage {
    /// Chooses rows to be taken away: from three quarters full on those that have been idle for minutes; from fifteen
    /// sixteenths on those that moved the least since the last look, and of these those with the least in all. No more than an
    /// eighth of the supply is between two owners at once. `rows` are all that are in use.
    fn choose(&mut self, rows: &[Seen], room: Room, now: Instant) -> Vec<u32> {
        let grown: Vec<(u64, Seen, Instant)> = rows
            .iter()
            .map(|seen| {
                let known = self.0.get(&seen.row).copied();
                let before = known.map_or(0, |known| known.bytes);
                let grew = known
                    .filter(|known| known.bytes == seen.bytes)
                    .map_or(now, |known| known.grew);
                (seen.bytes.saturating_sub(before), *seen, grew)
            })
            .collect();
        for (_, seen, grew) in &grown {
            let known = Known {
                bytes: seen.bytes,
                grew: *grew,
            };
            self.0.insert(seen.row, known);
        }
        let taken = rows.len() + room.resting;
        let most = (room.rows / 8).max(1).saturating_sub(room.resting);
        if taken * 4 < room.rows * 3 {
            return Vec::new();
        }
        let (mut idle, mut busy): (Vec<_>, Vec<_>) = grown
            .into_iter()
            .partition(|(_, _, grew)| now.duration_since(*grew) >= IDLE);
        idle.sort_by_key(|(_, seen, grew)| (*grew, seen.bytes, seen.row));
        busy.sort_by_key(|(grown, seen, _)| (*grown, seen.bytes, seen.row));
        let nearly_full = taken * 16 >= room.rows * 15;
        let smallest = busy.into_iter().filter(|_| nearly_full);
        let chosen: Vec<u32> = idle
            .into_iter()
            .chain(smallest)
            .map(|(_, seen, _)| seen.row)
            .take(most)
            .collect();
        for row in &chosen {
            self.0.remove(row);
        }
        chosen
    }

    /// Forgets rows that are not in use any more.
    fn retain(&mut self, in_use: &HashSet<u32>) {
        self.0.retain(|row, _| in_use.contains(row));
    }
}

impl Watch {
    /// Takes rows away from prefixes where they run out, and goes on with those that were taken away. What a prefix has had
    /// stays with its tenant: it goes to the row `(other)` of that tenant's prefixes.
    pub(super) fn retire_rows(&mut self, tenants: &Tenants, now: Instant) {
        if let Err(error) = self.hand_rows_on(now) {
            tracing::warn!(
                error = format!("{error:#}"),
                "a row is lost until stormglass restarts"
            );
        }
        if now < self.next_retirement {
            return;
        }
        self.next_retirement = now + LOOK_INTERVAL;
        let in_use = self.kernel.rows_in_use();
        let mut retired = Vec::new();
        for (usage, supply) in self.usage.iter_mut().zip(SUPPLIES) {
            let rows: HashMap<u32, RowInUse> = in_use
                .iter()
                .filter(|row| Supply::of(row.row) == supply)
                .map(|row| (row.row, *row))
                .collect();
            let room = Room {
                rows: self.kernel.supply(supply),
                resting: self.kernel.resting(supply),
            };
            let seen: Vec<Seen> = rows.values().map(|row| Seen::from(*row)).collect();
            usage.retain(&rows.keys().copied().collect());
            for row in usage.choose(&seen, room, now) {
                retired.extend(rows.get(&row).copied());
            }
        }
        if retired.is_empty() {
            return;
        }
        let with_place: Vec<(RowInUse, PrefixKey)> = retired
            .into_iter()
            .map(|row| {
                let tenant = tenants.tenant_of_prefix(&client_text(row.key.bytes()));
                let tenant = tenant.map_or(0, |name| self.classes.number_of(name));
                (row, PrefixKey::other_of(row.key.slot, row.key.class(), tenant))
            })
            .collect();
        self.retired += with_place.len() as u64;
        tracing::debug!(
            prefixes = with_place.len(),
            "rows run out: taken away from prefixes"
        );
        if let Err(error) = self.kernel.retire(&with_place, now) {
            tracing::warn!(
                error = format!("{error:#}"),
                "cannot take rows away from prefixes"
            );
        }
    }

    fn hand_rows_on(&mut self, now: Instant) -> Result<()> {
        for (other, counters) in self.kernel.hand_on(now)? {
            let mut servers = self.servers.values_mut();
            // Those of strangers are nobody's.
            if let Some(server) = servers.find(|server| server.slots().any(|slot| slot == other.slot)) {
                server.earlier.add_retired(&other, &counters);
            }
        }
        Ok(())
    }
}

impl From<RowInUse> for Seen {
    fn from(RowInUse { row, bytes, .. }: RowInUse) -> Self {
        Self { row, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: u32, bytes: impl Fn(u32) -> u64) -> Vec<Seen> {
        (0..count)
            .map(|row| Seen {
                row,
                bytes: bytes(row),
            })
            .collect()
    }

    const NONE: [u32; 0] = [];
    const ROOM: Room = Room {
        rows: 160,
        resting: 0,
    };

    #[test]
    fn while_there_is_room_nobody_goes() {
        let (mut usage, start) = (Usage::default(), Instant::now());
        for minute in 0..60 {
            let now = start + Duration::from_secs(60 * minute);
            assert_eq!(usage.choose(&rows(119, |_| 1), ROOM, now), NONE);
        }
    }

    #[test]
    fn the_idle_go_first_when_room_runs_short_those_idle_longest_before_others() {
        let (mut usage, start) = (Usage::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        usage.choose(&rows(120, |_| 1), ROOM, at(0));
        let grown = |row| if row < 100 { 2 } else { 1 };
        assert_eq!(usage.choose(&rows(120, grown), ROOM, at(200)), NONE);
        assert_eq!(usage.choose(&rows(120, grown), ROOM, at(299)), NONE);
        assert_eq!(
            usage.choose(&rows(120, grown), ROOM, at(300)),
            (100..120).collect::<Vec<_>>()
        );
        assert_eq!(
            usage.choose(&rows(100, grown), ROOM, at(900)),
            NONE,
            "there is room again"
        );
    }

    #[test]
    fn when_nearly_full_those_that_moved_the_least_go_an_eighth_at_once() {
        let (mut usage, now) = (Usage::default(), Instant::now());
        let large = rows(150, |row| 1_000_000 - u64::from(row));
        assert_eq!(
            usage.choose(&large, ROOM, now),
            (130..150).rev().collect::<Vec<_>>()
        );
        // What is large of old and still now goes before what is small and moves.
        let mut usage = Usage::default();
        usage.choose(&rows(100, |row| if row < 50 { 1_000 } else { 0 }), ROOM, now);
        let moved = rows(150, |row| if row < 50 { 1_000 } else { u64::from(row) });
        let gone = usage.choose(&moved, ROOM, now + Duration::from_secs(10));
        assert!(gone.len() == 20 && gone.iter().all(|row| *row < 50), "{gone:?}");
    }

    #[test]
    fn what_is_between_two_owners_counts_as_taken_and_bounds_what_goes() {
        let (mut usage, now) = (Usage::default(), Instant::now());
        let room = |resting| Room { rows: 160, resting };
        assert_eq!(usage.choose(&rows(140, |_| 1), room(15), now).len(), 5);
        assert_eq!(usage.choose(&rows(140, |_| 1), room(20), now), NONE);
    }
}
