//! The snapshot: the maps' counters, added up per server.

use std::{collections::BTreeMap, time::Instant};

use nix::time::{ClockId, clock_gettime};

use super::{
    rates::Bytes,
    totals::{BySlot, Totals, window_at},
    watch::{Server, Watch},
};
use crate::{
    kernel::Readings,
    snapshot::{AcceptQueue, ServerSnapshot, Snapshot},
    tenants::Classes,
    valkey::{FoundServer, ServerFacts},
};

impl Watch {
    /// The numbers of this moment.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let readings = self.kernel.readings();
        let mut servers = self.server_snapshots(&readings, Server::is_shown);
        let heard = self.add_identities(&mut servers);
        let slots_in_use = self.slots_in_use();
        Snapshot {
            servers,
            unheard: !heard,
            dropped: self.losses(),
            maps: self.kernel.map_usage(&readings, slots_in_use),
            programs: self.kernel.program_usage(),
        }
    }

    /// What the kernel lost, and what the daemon did.
    fn losses(&self) -> Vec<(&'static str, u64)> {
        let mut losses = self.kernel.losses();
        losses.push(("survey_failed", self.surveys.failed()));
        losses.push(("prefix_retired", self.retired));
        losses
    }

    /// What every server has counted that may be seen again, those that are stopped included.
    pub(super) fn everything_counted(&mut self) -> Vec<ServerSnapshot> {
        let readings = self.kernel.readings();
        self.server_snapshots(&readings, |_| true)
    }

    /// The same, with what workloads go by.
    pub(super) fn everything_of_workloads(&mut self) -> Vec<ServerSnapshot> {
        let mut servers = self.everything_counted();
        let mut introductions = self.introductions_of_workloads();
        for server in &mut servers {
            server.introductions = introductions.remove(server.label.as_str()).unwrap_or_default();
        }
        servers
    }

    fn server_snapshots(&mut self, readings: &Readings, which: fn(&Server) -> bool) -> Vec<ServerSnapshot> {
        let by_slot = BySlot::new(readings);
        let window = current_window();
        let queues = self.accept_queues();
        let mut facts = self.facts();
        let now = Instant::now();
        let chosen = self.servers.iter().filter(|(_, server)| which(server));
        let snapshots = chosen.map(|(label, server)| {
            let mut totals = server.earlier.clone();
            for slot in server.slots() {
                self.add_slot(&mut totals, slot, &by_slot, window);
            }
            ServerSnapshot {
                facts: facts.remove(label).unwrap_or_default(),
                rate: self.rates.of(label, now, totals.bytes()),
                ..server_snapshot(
                    label,
                    totals,
                    queues.get(label).copied().unwrap_or_default(),
                    &self.classes,
                )
            }
        });
        snapshots.collect()
    }

    /// Adds what a slot has counted.
    pub(super) fn add_slot(&self, totals: &mut Totals, slot: u32, by_slot: &BySlot<'_>, window: u64) {
        let counters = self.kernel.counters(slot);
        totals.add_slot(slot, &counters, &self.kernel.special_rows(slot), by_slot, window);
        for (key, row) in by_slot.prefixes_of(slot) {
            totals.add_prefix(key, &self.kernel.row(*row));
        }
    }

    /// Writes down what each server has counted, every few seconds.
    pub(super) fn note_rates(&mut self, now: Instant) {
        if !self.rates.are_due(now) {
            return;
        }
        let of_prefixes = self.kernel.prefix_bytes();
        let live = self.servers.iter().filter(|(_, server)| server.is_live());
        let sums = live.map(|(label, server)| {
            let mut sums = server.earlier.bytes();
            for slot in server.slots() {
                let mut totals = Totals::default();
                self.add_slot(&mut totals, slot, &BySlot::default(), 0);
                let of_slot = [
                    totals.bytes(),
                    of_prefixes.get(&slot).copied().unwrap_or_default(),
                ];
                sums = of_slot.into_iter().fold(sums, add);
            }
            (label.clone(), sums)
        });
        let sums = sums.collect();
        self.rates.note(now, sums);
    }

    /// What is known of the processes, by label.
    pub(super) fn facts(&mut self) -> BTreeMap<String, ServerFacts> {
        let root = self.host.cgroups().root().to_owned();
        let live: Vec<(&String, &FoundServer)> = self
            .servers
            .iter()
            .filter_map(|(label, server)| Some((label, server.found.as_ref()?)))
            .collect();
        let facts: Vec<(String, ServerFacts)> = live
            .into_iter()
            .map(|(label, found)| {
                let read = self.inventory.facts(found);
                (label.clone(), ServerFacts::new(found, &read, &root))
            })
            .collect();
        facts
            .into_iter()
            .map(|(label, facts)| (label, self.add_pod(facts)))
            .collect()
    }
}

fn add(sum: Bytes, further: Bytes) -> Bytes {
    (sum.0 + further.0, sum.1 + further.1)
}

/// Number of the current 100 ms window.
pub(super) fn current_window() -> u64 {
    window_at(monotonic_nanoseconds())
}

/// The clock that the kernel programs use.
pub(super) fn monotonic_nanoseconds() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs()
    })
}

fn server_snapshot(
    label: &str,
    mut totals: Totals,
    accept_queue: AcceptQueue,
    classes: &Classes,
) -> ServerSnapshot {
    ServerSnapshot {
        label: label.to_owned(),
        connections: totals.connections(),
        opened: totals.opened,
        closed: totals.closed,
        ends: totals.ends(),
        accept_burst: totals.burst(),
        accept_queue,
        clients: totals.clients(),
        unattributed: totals.unattributed(),
        prefixes: totals.into_prefixes(classes),
        ..ServerSnapshot::default()
    }
}
