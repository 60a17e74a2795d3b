//! Listeners, their slots, and everything counted per slot.

use std::collections::{BTreeSet, HashMap as StdHashMap};

use agent_common::{
    abi::{ClientCounters, ClientKey, ListenerCounters, ListenerKey, Loss, PrefixCounters, PrefixKey, Row},
    limits,
};
use anyhow::{Context as _, Result};
use aya::maps::MapError;

use super::{Kernel, Raw, Supply, batch, load::PORT_WORDS};

/// Everything the maps hold at one moment.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// Interned prefixes, and special rows that have a key, with the numbers of their rows. A key may be there several times.
    pub prefixes: Vec<(PrefixKey, u32)>,
    /// How many rows of each [`Supply`] have an owner.
    pub rows_in_use: [usize; Supply::ALL.len()],
    /// Client addresses with their counters.
    pub clients: Vec<(ClientKey, ClientCounters)>,
}

impl Kernel {
    /// Takes a free slot. `None`: all are in use.
    pub fn take_slot(&mut self) -> Option<u32> {
        self.free_slots.pop(0).ok()
    }

    /// Registers a listening address under a slot. Returns the slot that it has: another one if it was registered
    /// already.
    ///
    /// # Errors
    ///
    /// When the map is full.
    pub fn add_listener(&mut self, key: ListenerKey, slot: u32) -> Result<u32> {
        const BPF_NOEXIST: u64 = 1;
        match self.listeners.insert(Raw(key), slot, BPF_NOEXIST) {
            Ok(()) => Ok(slot),
            Err(error) => match self.listeners.get(&Raw(key), 0) {
                Ok(existing) => Ok(existing),
                Err(_) => Err(error).context("cannot register a listening socket"),
            },
        }
    }

    /// The slot of a listening address.
    #[must_use]
    pub fn listener(&self, key: &ListenerKey) -> Option<u32> {
        self.listeners.get(&Raw(*key), 0).ok()
    }

    /// Forgets a listening address. Its connections keep their slot.
    pub fn remove_listener(&mut self, key: &ListenerKey) {
        if let Err(error) = self.listeners.remove(&Raw(*key)) {
            tracing::debug!(%error, "removing a listener that is not registered");
        }
    }

    /// Every registered listening address with its slot.
    #[must_use]
    pub fn listeners(&self) -> Vec<(ListenerKey, u32)> {
        self.listeners
            .iter()
            .filter_map(Result::ok)
            .map(|(key, slot)| (key.0, slot))
            .collect()
    }

    /// Makes the watched ports exactly these.
    pub fn set_ports(&self, ports: &BTreeSet<u16>) {
        let mut words = vec![0_u32; PORT_WORDS];
        for port in ports {
            words[usize::from(*port) / 32] |= 1 << (port % 32);
        }
        for (index, word) in words.into_iter().enumerate() {
            self.ports.set_bits(index, word);
        }
    }

    /// Counters of a slot.
    #[must_use]
    pub fn counters(&self, slot: u32) -> ListenerCounters {
        self.slots.get(slot as usize)
    }

    /// Counters of a slot's special rows, in the order of [`Row::LABELS`].
    #[must_use]
    pub fn special_rows(&self, slot: u32) -> [PrefixCounters; Row::LABELS.len()] {
        std::array::from_fn(|row| self.rows.get(Row::special(slot, row as u32) as usize))
    }

    /// Every prefix of all slots with its counters, one after the other: a row is two kilobytes.
    pub fn each_prefix(&self, visit: &mut dyn FnMut(PrefixKey, &PrefixCounters)) {
        for (key, row) in self.owners_of_rows() {
            visit(key, &self.row(row));
        }
    }

    /// Prefixes and clients of all slots.
    #[must_use]
    pub fn readings(&self) -> Readings {
        let mut prefixes = self.owners_of_rows();
        let mut rows_in_use = [0; Supply::ALL.len()];
        for (_, row) in &prefixes {
            rows_in_use[Supply::of(*row) as usize] += 1;
        }
        prefixes.extend(self.rows_in_motion());
        Readings {
            prefixes,
            rows_in_use,
            clients: self.clients(),
        }
    }

    /// Clients of all slots.
    #[must_use]
    pub fn clients(&self) -> Vec<(ClientKey, ClientCounters)> {
        batch::entries(&self.clients)
    }

    /// Keys with the numbers of their rows.
    pub(super) fn owners_of_rows(&self) -> Vec<(PrefixKey, u32)> {
        batch::entries(&self.prefixes)
    }

    /// Bytes in and out of the interned prefixes, by slot.
    #[must_use]
    pub fn prefix_bytes(&self) -> StdHashMap<u32, (u64, u64)> {
        let mut sums: StdHashMap<u32, (u64, u64)> = StdHashMap::new();
        for (key, row) in self.owners_of_rows().into_iter().chain(self.rows_in_motion()) {
            let (bytes_in, bytes_out) = self.bytes_of_row(row);
            let sum = sums.entry(key.slot).or_default();
            *sum = (sum.0 + bytes_in, sum.1 + bytes_out);
        }
        sums
    }

    /// Clears a slot whose connections have all ended, with its prefixes and clients, and makes it free again.
    ///
    /// # Errors
    ///
    /// When a map cannot be written, which no running kernel does.
    pub fn release_slot(&mut self, slot: u32) -> Result<()> {
        let mut prefixes = self.owners_of_rows();
        prefixes.retain(|(key, _)| key.slot == slot);
        for (key, _) in &prefixes {
            ignore_missing(self.prefixes.remove(&Raw(*key)))?;
        }
        self.forget_known_prefixes()?;
        for (_, row) in prefixes {
            self.release_row(row)?;
        }
        self.drop_in_motion(slot)?;
        let mut clients = self.clients();
        clients.retain(|(key, _)| key.slot == slot);
        for (key, _) in clients {
            ignore_missing(self.clients.remove(&Raw(key)))?;
        }
        for row in 0..limits::SPECIAL_ROWS as u32 {
            self.rows.clear(Row::special(slot, row) as usize);
        }
        self.slots.clear(slot as usize);
        self.free_slots.push(slot, 0).context("cannot return a slot")
    }

    /// Removes clients that have no connection and opened none since the last call; `idle` is what that one returned
    /// first. Second come those that were removed, with how many connections each had opened.
    pub fn sweep_clients(
        &mut self,
        idle: &StdHashMap<ClientKey, u64>,
    ) -> (StdHashMap<ClientKey, u64>, Vec<(ClientKey, u64)>) {
        let mut still_idle = StdHashMap::new();
        let mut gone = Vec::new();
        for (key, client) in self.clients().into_iter().filter(|(_, client)| client.open == 0) {
            if idle.get(&key) != Some(&client.opened) {
                still_idle.insert(key, client.opened);
            } else if let Err(error) = self.clients.remove(&Raw(key)) {
                tracing::debug!(%error, "removing a client that is gone");
            } else {
                gone.push((key, client.opened));
            }
        }
        (still_idle, gone)
    }

    /// Losses by reason.
    #[must_use]
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        Loss::ALL
            .iter()
            .map(|loss| (loss.label(), self.losses.get(*loss as usize)))
            .collect()
    }
}

pub(super) fn ignore_missing(result: Result<(), MapError>) -> Result<()> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(error) => Err(error).context("cannot clear a slot"),
    }
}
