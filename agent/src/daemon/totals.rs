//! Sums over the slots of a server, those of its earlier lives included.

use std::collections::BTreeMap;

use agent_common::{
    abi::{
        ClientCounters, ClientKey, Direction, ListenerCounters, PrefixCounters, PrefixKey, REASON_CELLS,
        Reason, Row, address_from_words,
    },
    limits::{self, BURST_BUCKETS, BURST_WINDOW_NANOSECONDS},
};

use crate::{
    kernel::Readings,
    snapshot::{BurstHistogram, ClientSnapshot, Ends, PrefixSnapshot},
    tenants::{Classes, printable},
};

/// What a scrape finds in the maps, by slot.
#[derive(Debug, Default)]
pub(super) struct BySlot<'a> {
    prefixes: BTreeMap<u32, Vec<&'a (PrefixKey, u32)>>,
    clients: BTreeMap<u32, Vec<&'a (ClientKey, ClientCounters)>>,
}

impl<'a> BySlot<'a> {
    pub(super) fn new(readings: &'a Readings) -> Self {
        let mut sorted = Self::default();
        for entry in &readings.prefixes {
            sorted.prefixes.entry(entry.0.slot).or_default().push(entry);
        }
        for entry in &readings.clients {
            sorted.clients.entry(entry.0.slot).or_default().push(entry);
        }
        sorted
    }
}

impl<'a> BySlot<'a> {
    /// Prefixes of a slot, with the numbers of their rows.
    pub(super) fn prefixes_of(&self, slot: u32) -> impl Iterator<Item = &'a (PrefixKey, u32)> {
        self.prefixes.get(&slot).into_iter().flatten().copied()
    }

    /// Clients of a slot, with how many connections each has opened.
    pub(super) fn opens_of(&self, slot: u32) -> Vec<(ClientKey, u64)> {
        let clients = self.clients.get(&slot).into_iter().flatten();
        clients.map(|(key, client)| (*key, client.opened)).collect()
    }
}

/// Everything counted for a server. Adding up is all it does.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    /// Connections established since the agent watches.
    pub(super) opened: u64,
    /// Connections from before it.
    pub(super) adopted: u64,
    /// Connections of both kinds that ended.
    pub(super) closed: u64,
    ends: Ends,
    burst: BurstHistogram,
    /// In boxes, since a tree moves what it holds: a row is two kilobytes.
    rows: BTreeMap<RowAt, Box<PrefixCounters>>,
    /// Clients of each slot, in no order: [`Self::clients`] adds them up.
    clients: Vec<ClientSnapshot>,
    unattributed: [[u64; REASON_CELLS]; 2],
}

/// What a row of the prefix counters is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RowAt {
    prefix: Prefix,
    /// Class of the connections.
    class: u16,
    /// Of `(other)`: the class of the tenant whose prefixes are in it.
    tenant: u16,
}

/// Special rows are not prefixes that look like them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Prefix {
    Special(usize),
    Key(Vec<u8>),
}

impl Totals {
    /// Adds a slot, but for its prefixes. `window` is the number of the current 100 ms window.
    pub(super) fn add_slot(
        &mut self,
        slot: u32,
        counters: &ListenerCounters,
        special_rows: &[PrefixCounters],
        by_slot: &BySlot<'_>,
        window: u64,
    ) {
        self.opened += counters.opened;
        self.adopted += counters.adopted;
        self.closed += counters.closed;
        self.ends.add(counters);
        self.add_burst(counters, window);
        for (sums, reasons) in self.unattributed.iter_mut().zip(&counters.unattributed) {
            for (sum, bytes) in sums.iter_mut().zip(reasons) {
                *sum += bytes;
            }
        }
        for (row, counters) in special_rows.iter().enumerate() {
            self.add_row(Prefix::Special(row), (0, 0), counters);
        }
        for (key, client) in by_slot.clients.get(&slot).into_iter().flatten() {
            self.clients.push(ClientSnapshot {
                address: Some(address_from_words(key.address)),
                connections: client.open,
                opened: client.opened,
            });
        }
    }

    /// Adds the row of a prefix, or a special one that has a key.
    pub(super) fn add_prefix(&mut self, key: &PrefixKey, counters: &PrefixCounters) {
        let prefix = match key.special_row() {
            Some(row) => Prefix::Special(row as usize),
            None => Prefix::Key(key.bytes().to_vec()),
        };
        self.add_row(prefix, (key.class(), key.tenant()), counters);
    }

    /// Adds what a retired prefix has had to the row `(other)` that it belongs to now.
    pub(super) fn add_retired(&mut self, other: &PrefixKey, counters: &PrefixCounters) {
        let row = Prefix::Special(Row::OTHER as usize);
        self.add_row(row, (other.class(), other.tenant()), counters);
    }

    fn add_row(&mut self, prefix: Prefix, (class, tenant): (u16, u16), counters: &PrefixCounters) {
        self.rows
            .entry(RowAt {
                prefix,
                class,
                tenant,
            })
            .or_default()
            .add(counters);
    }

    /// Windows that have ended, the current one if it has.
    fn add_burst(&mut self, counters: &ListenerCounters, window: u64) {
        for (sum, windows) in self.burst.windows.iter_mut().zip(&counters.burst_windows) {
            *sum += windows;
        }
        let (number, connections) = (counters.burst_window >> 32, counters.burst_window & 0xffff_ffff);
        self.burst.connections += counters.opened;
        if connections == 0 {
            return;
        }
        if number == window & 0xffff_ffff {
            self.burst.connections = self.burst.connections.saturating_sub(connections);
        } else {
            self.burst.windows[bucket(connections)] += 1;
        }
    }

    /// Connections established now.
    pub(super) fn connections(&self) -> u64 {
        (self.opened + self.adopted).saturating_sub(self.closed)
    }

    /// Bytes in and out, unattributed ones included.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let [unattributed_in, unattributed_out] =
            self.unattributed.map(|reasons| reasons.iter().sum::<u64>());
        let rows = self.rows.values();
        rows.fold((unattributed_in, unattributed_out), |sums, row| {
            (sums.0 + row.bytes_in, sums.1 + row.bytes_out)
        })
    }

    /// Makes the sums fit to be kept: clients of a slot that was freed have no connections any more, and prefixes beyond
    /// what the kernel can hold at once go to `(other)`.
    pub(super) fn settle(&mut self) {
        self.clients.clear();
        while self.rows.len() > limits::KEYED_ROWS {
            // Special rows stand in front.
            let Some((RowAt { prefix, class, .. }, counters)) = self.rows.pop_last() else {
                return;
            };
            let other = Prefix::Special(Row::OTHER as usize);
            // That of a class is the last to go.
            let class = if prefix == other { 0 } else { class };
            self.add_row(other, (class, 0), &counters);
        }
    }

    /// How connections ended.
    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    pub(super) fn burst(&self) -> BurstHistogram {
        self.burst
    }

    /// Rows with traffic, special ones always.
    pub(super) fn into_prefixes(self, classes: &Classes) -> Vec<PrefixSnapshot> {
        self.rows
            .into_iter()
            .map(
                |(
                    RowAt {
                        prefix,
                        class,
                        tenant,
                    },
                    counters,
                )| PrefixSnapshot {
                    class: classes.name(class),
                    tenant: classes.name(tenant),
                    prefix: match prefix {
                        Prefix::Special(row) => (*Row::LABELS.get(row).unwrap_or(&"(other)")).to_owned(),
                        Prefix::Key(ref bytes) => printable(bytes),
                    },
                    special: matches!(prefix, Prefix::Special(_)),
                    counters: *counters,
                },
            )
            .collect()
    }

    /// Clients with an entry, and the row `(other)` if there are others. They are moved, and sorted rather than put into a map: there
    /// may be tens of thousands.
    pub(super) fn clients(&mut self) -> Vec<ClientSnapshot> {
        let mut clients = std::mem::take(&mut self.clients);
        clients.sort_unstable_by_key(|client| client.address);
        clients.dedup_by(|later, first| {
            let is_same = later.address == first.address;
            if is_same {
                first.connections += later.connections;
                first.opened += later.opened;
            }
            is_same
        });
        let mut other = (self.connections(), self.opened);
        for client in &clients {
            other = (
                other.0.saturating_sub(client.connections),
                other.1.saturating_sub(client.opened),
            );
        }
        if other != (0, 0) {
            let other = ClientSnapshot {
                address: None,
                connections: other.0,
                opened: other.1,
            };
            clients.insert(0, other);
        }
        clients
    }

    /// Reasons that occurred.
    pub(super) fn unattributed(&self) -> Vec<(Direction, Reason, u64)> {
        let mut found = Vec::new();
        for direction in Direction::ALL {
            for reason in Reason::ALL {
                let bytes = self.unattributed[direction as usize][*reason as usize];
                if bytes != 0 {
                    found.push((direction, *reason, bytes));
                }
            }
        }
        found
    }
}

/// The kernel's rule (`count_window` of the connection program), for the window that it has not closed yet.
fn bucket(connections: u64) -> usize {
    (u64::BITS - connections.saturating_sub(1).leading_zeros()).min(BURST_BUCKETS as u32 - 1) as usize
}

/// Number of the 100 ms window at `nanoseconds` of the monotonic clock.
pub(super) fn window_at(nanoseconds: u64) -> u64 {
    nanoseconds / BURST_WINDOW_NANOSECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    #[test]
    fn buckets_are_powers_of_two() {
        let expected = [
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 2),
            (5, 3),
            (16_384, 14),
            (16_385, 15),
            (u64::MAX, 15),
        ];
        for (connections, index) in expected {
            assert_eq!(bucket(connections), index, "{connections}");
        }
    }

    #[test]
    fn the_current_window_counts_once_it_has_ended() {
        let mut counters = ListenerCounters::zeroed();
        counters.opened = 30;
        counters.burst_windows[4] = 2;
        counters.burst_window = 7 << 32 | 5;
        let mut during = Totals::default();
        during.add_slot(0, &counters, &[], &BySlot::default(), 7);
        assert_eq!((during.burst.windows[3], during.burst.connections), (0, 25));
        let mut after = Totals::default();
        after.add_slot(0, &counters, &[], &BySlot::default(), 8);
        assert_eq!(
            (
                after.burst.windows[3],
                after.burst.windows[4],
                after.burst.connections
            ),
            (1, 2, 30)
        );
    }

    #[test]
    fn all_bytes_are_rows_of_both_kinds_and_what_belongs_to_none() {
        let mut counters = ListenerCounters::zeroed();
        (counters.unattributed[0][1], counters.unattributed[1][2]) = (1, 2);
        let row = |bytes_in, bytes_out| PrefixCounters {
            bytes_in,
            bytes_out,
            ..PrefixCounters::default()
        };
        let key = PrefixKey::new(3, 0, 1, [97, 0, 0, 0]);
        let mut totals = Totals::default();
        totals.add_slot(3, &counters, &[row(10, 20)], &BySlot::default(), 0);
        totals.add_prefix(&key, &row(100, 200));
        assert_eq!(totals.bytes(), (111, 222));
    }

    #[test]
    fn clients_beyond_the_table_are_the_difference() {
        let mut counters = ListenerCounters::zeroed();
        (counters.opened, counters.adopted, counters.closed) = (10, 2, 3);
        let key = ClientKey {
            slot: 1,
            address: agent_common::abi::address_words("10.0.0.1".parse().unwrap()),
        };
        let readings = Readings {
            clients: vec![(key, ClientCounters { opened: 6, open: 5 })],
            ..Readings::default()
        };
        let mut totals = Totals::default();
        totals.add_slot(1, &counters, &[], &BySlot::new(&readings), 0);
        let clients = totals.clients();
        assert_eq!(clients.len(), 2);
        assert_eq!(
            (clients[0].address, clients[0].connections, clients[0].opened),
            (None, 4, 4)
        );
        assert_eq!((clients[1].connections, clients[1].opened), (5, 6));
    }

    #[test]
    fn a_client_of_two_listeners_is_one_and_clients_are_in_order() {
        let key = |slot, address: &str| ClientKey {
            slot,
            address: agent_common::abi::address_words(address.parse().unwrap()),
        };
        let counters = |opened, open| ClientCounters { opened, open };
        let readings = Readings {
            clients: vec![
                (key(1, "10.0.0.2"), counters(1, 1)),
                (key(1, "10.0.0.1"), counters(2, 1)),
                (key(2, "10.0.0.1"), counters(3, 2)),
            ],
            ..Readings::default()
        };
        let mut listener = ListenerCounters::zeroed();
        (listener.opened, listener.closed) = (3, 1);
        let mut totals = Totals::default();
        for slot in [1, 2] {
            totals.add_slot(slot, &listener, &[], &BySlot::new(&readings), 0);
        }
        let client = |address: &str, connections, opened| ClientSnapshot {
            address: Some(address.parse().unwrap()),
            connections,
            opened,
        };
        let expected = [client("10.0.0.1", 3, 5), client("10.0.0.2", 1, 1)];
        assert_eq!(totals.clients(), expected);
    }
}
