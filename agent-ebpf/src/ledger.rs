//! The meter's results, into the maps.

use agent_common::{
    abi::{Direction, Loss, PrefixKey, REASON_CELLS, Reason, Row},
    resp::Ledger,
};
use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};

use crate::{
    atomic,
    maps::{SG_FREE_ROWS, SG_LOSSES, SG_PREFIXES, SG_ROWS, SG_SLOTS},
};

/// Counts a loss.
#[inline(always)]
pub(crate) fn count_loss(loss: Loss, count: u32) {
    if let Some(cell) = SG_LOSSES.get_ptr_mut(loss as u32) {
        // SAFETY: a cell of the map's value.
        unsafe { atomic::add(cell, u64::from(count)) }
    }
}

/// Counts payload bytes that belong to no prefix.
#[inline(always)]
pub(crate) fn count_unattributed(slot: u32, direction: Direction, reason: Reason, bytes: u64) {
    let Some(counters) = SG_SLOTS.get_ptr_mut(slot) else {
        return count_loss(Loss::MapFailure, 1);
    };
    let index = atomic::masked::<{ 2 * REASON_CELLS - 1 }>(index_of(direction, reason));
    // SAFETY: the mask keeps the index inside both rows of cells.
    let cell = unsafe { (&raw mut (*counters).unattributed).cast::<u64>().add(index) };
    // SAFETY: a cell of the map's value.
    unsafe { atomic::add(cell, bytes) }
}

#[inline(always)]
const fn index_of(direction: Direction, reason: Reason) -> usize {
    direction as usize * REASON_CELLS + reason as usize
}

/// The maps as a [`Ledger`].
pub(crate) struct Maps;

impl Ledger for Maps {
    #[inline(always)]
    fn row(&mut self, key: &PrefixKey) -> u32 {
        if let Some(id) = SG_PREFIXES.get_ptr(key) {
            // SAFETY: written once, when the entry was made.
            return Row::interned(unsafe { *id });
        }
        new_row(key)
    }

    #[inline(always)]
    fn requests(&mut self, row: u32, commands: u32, bytes: u64) {
        let Some(counters) = SG_ROWS.get_ptr_mut(row) else {
            return count_loss(Loss::MapFailure, 1);
        };
        // SAFETY: cells of the map's value.
        unsafe {
            if commands != 0 {
                atomic::add(&raw mut (*counters).commands, u64::from(commands));
            }
            atomic::add(&raw mut (*counters).bytes_in, bytes);
        }
    }

    #[inline(always)]
    fn replies(&mut self, row: u32, bytes: u64) {
        let Some(counters) = SG_ROWS.get_ptr_mut(row) else {
            return count_loss(Loss::MapFailure, 1);
        };
        // SAFETY: a cell of the map's value.
        unsafe { atomic::add(&raw mut (*counters).bytes_out, bytes) }
    }

    #[inline(always)]
    fn unattributed(&mut self, slot: u32, direction: Direction, reason: Reason, bytes: u64) {
        count_unattributed(slot, direction, reason, bytes);
    }

    #[inline(always)]
    fn loss(&mut self, loss: Loss, count: u32) {
        count_loss(loss, count);
    }

    #[inline(always)]
    fn now(&mut self) -> u64 {
        // SAFETY: reading the clock has no precondition.
        unsafe { bpf_ktime_get_ns() }
    }
}

/// Gives a prefix that has not been seen before a row of its own.
#[inline(never)]
fn new_row(key: &PrefixKey) -> u32 {
    let other = Row::special(key.slot, Row::OTHER);
    let Ok(Some(id)) = SG_FREE_ROWS.pop() else {
        count_loss(Loss::PrefixTableFull, 1);
        return other;
    };
    if SG_PREFIXES.insert(key, &id, u64::from(BPF_NOEXIST)).is_ok() {
        return Row::interned(id);
    }
    // Another CPU was faster, or the map is full.
    if SG_FREE_ROWS.push(id, 0).is_err() {
        count_loss(Loss::MapFailure, 1);
    }
    match SG_PREFIXES.get_ptr(key) {
        // SAFETY: written once, when the entry was made.
        Some(id) => Row::interned(unsafe { *id }),
        None => {
            count_loss(Loss::PrefixTableFull, 1);
            other
        }
    }
}
