//! Rows: which prefixes are tenants', and how a row goes from one owner to the next.
//!
//! A retired prefix loses its key at once; whoever meets it next gives it another row. Its counters rest until what was on its
//! way has come, then its row gets another number ([`Row::epoch`]), under which nothing from before can count, then a next
//! owner.

use std::{
    collections::BTreeMap,
    mem::offset_of,
    time::{Duration, Instant},
};

use agent_common::{
    abi::{PrefixCounters, PrefixKey, Row, TenantPrefixKey},
    limits::{self, PREFIX_BYTES},
};
use anyhow::{Context as _, Result};
use aya::maps::{
    MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};

use super::{Kernel, Raw, classes::bring_in_line, slots::ignore_missing};
use crate::{config::NamePattern, tenants::PrefixTable};

/// How long the counters of a retired prefix rest: until nearly all replies that it waited for have been sent.
const REST: Duration = Duration::from_secs(60);

/// How long after its row has another number: a program that looked at the old one is at work for microseconds.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Which words of a row say whose it is.
const EPOCHS: [usize; 2] = [
    offset_of!(PrefixCounters, epoch_in) / 8,
    offset_of!(PrefixCounters, epoch_out) / 8,
];

/// What follows the number of bits in a [`TenantPrefixKey`].
type Data = [u8; size_of::<TenantPrefixKey>() - 4];

/// Which supply a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Supply {
    /// For any prefix.
    Common,
    /// For prefixes of tenants in the rules.
    Tenants,
    /// For what connections of a class have beside prefixes; these are never retired.
    Classes,
}

impl Supply {
    /// Each of them, in the order of their rows.
    pub const ALL: [Self; 3] = [Self::Common, Self::Tenants, Self::Classes];

    /// Where a row comes from, and goes back to.
    #[must_use]
    pub fn of(row: u32) -> Self {
        let index = (Row::index(row) as usize).saturating_sub(limits::LISTENERS * limits::SPECIAL_ROWS);
        if index < limits::PREFIXES {
            Self::Common
        } else if index < limits::PREFIXES + limits::TENANT_ROWS {
            Self::Tenants
        } else {
            Self::Classes
        }
    }
}

/// A row in use.
#[derive(Debug, Clone, Copy)]
pub struct RowInUse {
    /// Its owner.
    pub key: PrefixKey,
    /// Its number.
    pub row: u32,
    /// Bytes in and out that it has had.
    pub bytes: u64,
}

/// A row between two owners.
#[derive(Debug)]
struct Resting {
    /// Where its counters belong now: a row `(other)`.
    goes_to: PrefixKey,
    row: u32,
    since: Instant,
    renumbered: bool,
}

/// Rows between two owners, and the tenants' prefixes.
pub(super) struct Rows {
    resting: Vec<Resting>,
    trie: LpmTrie<MapData, Data, u32>,
    known: BTreeMap<NamePattern, u32>,
}

impl Rows {
    /// Takes over the map, which is empty.
    pub(super) const fn new(trie: LpmTrie<MapData, Data, u32>) -> Self {
        Self {
            resting: Vec::new(),
            trie,
            known: BTreeMap::new(),
        }
    }
}

impl Kernel {
    /// Which prefixes are tenants' from now on: in force with [`Self::set_classes`], which makes the programs look again.
    ///
    /// # Errors
    ///
    /// When a map cannot be written: the kernel needs memory. The table before can be set again.
    pub fn set_tenant_prefixes(&mut self, table: &PrefixTable) -> Result<()> {
        let Rows { trie, known, .. } = &mut self.rows_in_motion;
        bring_in_line(known, &table.0, limits::TENANT_PREFIXES, |node, value| {
            let key = prefix_key(node);
            match value {
                Some(value) => trie.insert(&key, value, 0),
                None => trie.remove(&key),
            }
            .context("cannot write the prefixes of tenants")
        })
    }

    /// The counters of a row.
    #[must_use]
    pub fn row(&self, row: u32) -> PrefixCounters {
        PrefixCounters {
            epoch_in: 0,
            epoch_out: 0,
            ..self.rows.get(Row::index(row) as usize)
        }
    }

    /// Bytes in and out of a row.
    pub(super) fn bytes_of_row(&self, row: u32) -> (u64, u64) {
        const BYTES_IN: usize = offset_of!(PrefixCounters, bytes_in) / 8;
        const BYTES_OUT: usize = offset_of!(PrefixCounters, bytes_out) / 8;
        let word = |offset| self.rows.word_of(Row::index(row) as usize, offset);
        (word(BYTES_IN), word(BYTES_OUT))
    }

    /// Rows of prefixes, without special ones.
    #[must_use]
    pub fn rows_in_use(&self) -> Vec<RowInUse> {
        let owners = self.owners_of_rows().into_iter();
        let prefixes = owners.filter(|(key, _)| key.special_row().is_none());
        prefixes
            .map(|(key, row)| RowInUse {
                key,
                row,
                bytes: {
                    let (bytes_in, bytes_out) = self.bytes_of_row(row);
                    bytes_in.saturating_add(bytes_out)
                },
            })
            .collect()
    }

    /// How many rows of a supply are between two owners.
    #[must_use]
    pub fn resting(&self, supply: Supply) -> usize {
        let resting = self.rows_in_motion.resting.iter();
        resting
            .filter(|resting| Supply::of(resting.row) == supply)
            .count()
    }

    /// Rows that a supply has in all.
    #[must_use]
    pub const fn supply(&self, supply: Supply) -> usize {
        match supply {
            Supply::Common => self.capacity.prefixes as usize,
            Supply::Tenants => limits::TENANT_ROWS,
            Supply::Classes => limits::CLASS_ROWS,
        }
    }

    /// Takes rows away from prefixes; what each has had, and what still comes, belongs to the row `(other)` named beside it.
    ///
    /// # Errors
    ///
    /// When a map cannot be written, which no running kernel does.
    pub fn retire(&mut self, retired: &[(RowInUse, PrefixKey)], now: Instant) -> Result<()> {
        for (in_use, goes_to) in retired {
            ignore_missing(self.prefixes.remove(&Raw(in_use.key)))?;
            self.rows_in_motion.resting.push(Resting {
                goes_to: *goes_to,
                row: in_use.row,
                since: now,
                renumbered: false,
            });
        }
        self.forget_known_prefixes()
    }

    /// Goes on with the rows between two owners. Returns what those had that are free now, and where it belongs: nowhere else
    /// is it counted any more.
    ///
    /// # Errors
    ///
    /// When a map cannot be written, which no running kernel does.
    pub fn hand_on(&mut self, now: Instant) -> Result<Vec<(PrefixKey, PrefixCounters)>> {
        let mut left = Vec::new();
        let mut resting = std::mem::take(&mut self.rows_in_motion.resting);
        let mut stay = Vec::with_capacity(resting.len());
        for mut rests in resting.drain(..) {
            let (row, rested) = (rests.row, now.duration_since(rests.since));
            if rests.renumbered && rested >= LAST_LOOK {
                left.push((rests.goes_to, self.row(row)));
                self.clear_row(row);
                self.free_row(Row::of_next_owner(row))
                    .context("cannot return a row")?;
                continue;
            }
            if !rests.renumbered && rested >= REST {
                self.renumber(Row::of_next_owner(row));
                rests.renumbered = true;
                rests.since = now;
            }
            stay.push(rests);
        }
        self.rows_in_motion.resting = stay;
        Ok(left)
    }

    /// Rows of retired prefixes that are on their way, each with the row `(other)` that it is part of.
    pub(super) fn rows_in_motion(&self) -> impl Iterator<Item = (PrefixKey, u32)> + '_ {
        let resting = self.rows_in_motion.resting.iter();
        resting.map(|resting| (resting.goes_to, resting.row))
    }

    /// Frees what rests of a slot that has been read out, and has no connection left.
    pub(super) fn drop_in_motion(&mut self, slot: u32) -> Result<()> {
        let resting = std::mem::take(&mut self.rows_in_motion.resting);
        let (of_slot, stay): (Vec<_>, Vec<_>) = resting
            .into_iter()
            .partition(|resting| resting.goes_to.slot == slot);
        self.rows_in_motion.resting = stay;
        for resting in of_slot {
            self.release_row(resting.row)?;
        }
        Ok(())
    }

    /// Clears a row and makes it free, under its next number.
    pub(super) fn release_row(&mut self, row: u32) -> Result<()> {
        let next = Row::of_next_owner(row);
        self.renumber(next);
        self.clear_row(row);
        self.free_row(next).context("cannot return a row")
    }

    fn renumber(&self, row: u32) {
        for word in EPOCHS {
            self.rows
                .set_word_of(Row::index(row) as usize, word, u64::from(Row::epoch(row)));
        }
    }

    /// Clears all but the number: under none can anything count meanwhile.
    fn clear_row(&self, row: u32) {
        for offset in (0..size_of::<PrefixCounters>() / 8).filter(|offset| !EPOCHS.contains(offset)) {
            self.rows.set_word_of(Row::index(row) as usize, offset, 0);
        }
    }

    /// Puts a row into the list that it is taken from.
    pub(super) fn free_row(&mut self, row: u32) -> Result<(), MapError> {
        match Supply::of(row) {
            Supply::Common => self.free_rows.push(row, 0),
            Supply::Tenants => self.free_tenant_rows.push(row, 0),
            Supply::Classes => self.free_class_rows.push(row, 0),
        }
    }
}

fn prefix_key(node: &NamePattern) -> Key<Data> {
    let bytes = node.bytes();
    let length = bytes.len().min(PREFIX_BYTES);
    let mut words = [0; 4];
    bytemuck::cast_slice_mut(&mut words)[..length].copy_from_slice(&bytes[..length]);
    let key = match node {
        NamePattern::Whole(_) => TenantPrefixKey::whole(words, length as u32),
        NamePattern::Beginning(_) => TenantPrefixKey::beginning(words, length as u32),
    };
    let mut data: Data = [0; size_of::<Data>()];
    data.copy_from_slice(&bytemuck::bytes_of(&key)[4..]);
    Key::new(key.bits, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_goes_back_to_where_it_came_from_whatever_its_number() {
        let last = |rows: usize| Row::interned(rows as u32 - 1);
        let prefixes = limits::PREFIXES;
        for (row, supply) in [
            (Row::interned(0), Supply::Common),
            (last(prefixes), Supply::Common),
            (last(prefixes + 1), Supply::Tenants),
            (last(prefixes + limits::TENANT_ROWS), Supply::Tenants),
            (last(prefixes + limits::TENANT_ROWS + 1), Supply::Classes),
            (
                last(prefixes + limits::TENANT_ROWS + limits::CLASS_ROWS),
                Supply::Classes,
            ),
        ] {
            let mut number = row;
            for _ in 0..Row::EPOCHS {
                assert_eq!((Supply::of(number), Row::index(number)), (supply, row), "{row}");
                let next = Row::of_next_owner(number);
                assert_ne!(next, number);
                number = next;
            }
            assert_eq!(number, row, "numbers come round");
        }
        assert_eq!(
            last(prefixes + limits::TENANT_ROWS + limits::CLASS_ROWS) as usize,
            limits::PREFIX_ROWS - 1
        );
    }
}
