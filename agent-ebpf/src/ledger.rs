//! The meter's results, into the maps.

use agent_common::{
    abi::{
        Commands, Connection, DURATION_BUCKETS, DeclaredKey, Direction, ERROR_CELLS, ErrorWord, Identity,
        Loss, NameKey, PrefixCounters, PrefixKey, Pushed, REASON_CELLS, Reason, ReplyCounts, RequestCounts,
        Row, SIZE_BUCKETS, Spill, Waiting,
    },
    limits::PREFIX_BYTES,
    resp::{Ledger, spill},
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_map_lookup_elem};
use core::ptr;

use crate::{
    atomic, classes, connections, identity,
    maps::{SG_DECLARED, SG_LOSSES, SG_PREFIXES, SG_ROWS, SG_SLOTS},
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

/// The maps as a [`Ledger`], for the connection of a packet.
pub(crate) struct Maps {
    /// The packet.
    pub(crate) skb: *mut __sk_buff,
}

/// The counters of a row. One that has another owner by now is that of nobody: its prefix was retired while something still
/// waited, for long, or while this program was at work.
#[inline(always)]
fn counters_of(slot: u32, row: u32, direction: Direction) -> Option<*mut PrefixCounters> {
    let counters = SG_ROWS.get_ptr_mut(Row::index(row))?;
    // SAFETY: cells of the map's value; volatile because the daemon writes them.
    let epoch = unsafe {
        match direction {
            Direction::In => ptr::read_volatile(&raw const (*counters).epoch_in),
            Direction::Out => ptr::read_volatile(&raw const (*counters).epoch_out),
        }
    };
    if epoch == u64::from(Row::epoch(row)) {
        return Some(counters);
    }
    count_loss(Loss::RowGone, 1);
    SG_ROWS.get_ptr_mut(Row::special(slot, Row::OTHER))
}

impl Ledger for Maps {
    #[inline(always)]
    fn row(&mut self, key: &PrefixKey) -> u32 {
        if let Some(row) = SG_PREFIXES.get_ptr(key) {
            // SAFETY: written once, when the entry was made.
            return unsafe { *row };
        }
        classes::sg_new_row(key)
    }

    #[inline(always)]
    fn special(&mut self, direction: Direction, row: u32, class: u16) -> u32 {
        match direction {
            Direction::In => classes::sg_special_row_in(row, u32::from(class)),
            Direction::Out => classes::sg_special_row_out(row, u32::from(class)),
        }
    }

    #[inline(always)]
    fn class(&mut self, connection: &Connection) -> u16 {
        classes::sg_classify(self.skb, connection) as u16
    }

    #[inline(always)]
    fn known_class(&mut self, connection: &Connection) -> u16 {
        classes::known(self.skb, connection)
    }

    #[inline(always)]
    fn declared(&mut self, words: &[u64; 4], length: u32) -> u32 {
        let length = if length < PREFIX_BYTES as u32 {
            length
        } else {
            PREFIX_BYTES as u32
        };
        declared(&DeclaredKey::new(*words, length))
    }

    #[inline(always)]
    fn requests(&mut self, slot: u32, row: u32, counts: &RequestCounts) {
        let Some(counters) = counters_of(slot, row, Direction::In) else {
            return count_loss(Loss::MapFailure, 1);
        };
        // SAFETY: cells of the map's value.
        unsafe {
            atomic::add(&raw mut (*counters).bytes_in, counts.bytes);
            if counts.commands != 0 {
                let cells = (&raw mut (*counters).request_sizes).cast();
                add_to_bucket::<SIZE_BUCKETS>(cells, counts.size_bucket, counts.commands);
            }
        }
    }

    #[inline(always)]
    fn replies(&mut self, slot: u32, row: u32, counts: &ReplyCounts) {
        let Some(counters) = counters_of(slot, row, Direction::Out) else {
            return count_loss(Loss::MapFailure, 1);
        };
        // SAFETY: a cell of the map's value.
        unsafe { atomic::add(&raw mut (*counters).bytes_out, counts.bytes) };
        // SAFETY: the same value.
        unsafe { count_replies(counters, counts) };
    }

    #[inline(always)]
    fn error(&mut self, slot: u32, row: u32, word: ErrorWord) {
        let Some(counters) = counters_of(slot, row, Direction::Out) else {
            return count_loss(Loss::MapFailure, 1);
        };
        // SAFETY: cells of the map's value.
        unsafe {
            let cells = (&raw mut (*counters).errors).cast();
            add_to_bucket::<ERROR_CELLS>(cells, word as u32, 1);
        }
    }

    #[inline(always)]
    fn unattributed(&mut self, slot: u32, direction: Direction, reason: Reason, bytes: u64) {
        count_unattributed(slot, direction, reason, bytes);
    }

    #[inline(always)]
    fn name(&mut self, _key: &NameKey) -> u32 {
        // The meter keeps it in the scratch.
        identity::number()
    }

    #[inline(always)]
    fn identity(&mut self, create: bool) -> Option<&mut Identity> {
        let identity = identity::of_packet(self.skb, create);
        if identity.is_null() {
            None
        } else {
            // SAFETY: storage of the socket that the packet holds.
            Some(unsafe { &mut *identity })
        }
    }

    #[inline(always)]
    fn spill(&mut self, create: bool) -> Option<&mut Spill> {
        let spill = connections::spill_of_packet(self.skb, create);
        if spill.is_null() {
            None
        } else {
            // SAFETY: storage of the socket that the packet holds.
            Some(unsafe { &mut *spill })
        }
    }

    #[inline(always)]
    fn push_beyond(&mut self, connection: &mut Connection, commands: &Commands) -> Pushed {
        let Commands { tag, since, count } = *commands;
        Pushed::from_number(sg_push_beyond(self.skb, connection, tag, since, count))
    }

    #[inline(always)]
    fn front_of_spill(&mut self, connection: &mut Connection) -> Waiting {
        Waiting::from_word(sg_front_of_spill(self.skb, connection))
    }

    #[inline(always)]
    fn loss(&mut self, loss: Loss, count: u32) {
        count_loss(loss, count);
    }
}

/// [`spill::push_beyond`], as a global function: the verifier checks it once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_push_beyond(
    skb: *mut __sk_buff,
    connection: *mut Connection,
    tag: u32,
    since: u32,
    count: u32,
) -> u32 {
    if connection.is_null() {
        return Pushed::Not as u32;
    }
    // SAFETY: the verifier knows its size by its type, and checks each caller's.
    let connection = unsafe { &mut *connection };
    spill::push_beyond(&mut Maps { skb }, connection, &Commands { tag, since, count }) as u32
}

/// The same for [`spill::front_of_spill`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_front_of_spill(skb: *mut __sk_buff, connection: *mut Connection) -> u64 {
    if connection.is_null() {
        return 0;
    }
    // SAFETY: as above.
    let connection = unsafe { &mut *connection };
    spill::front_of_spill(&mut Maps { skb }, connection).word()
}

/// Adds what is known of replies beside their bytes. `counters` must point to a valid row.
#[inline(always)]
unsafe fn count_replies(counters: *mut PrefixCounters, counts: &ReplyCounts) {
    // SAFETY: cells of the map's value.
    unsafe {
        if counts.replies != 0 {
            let cells = (&raw mut (*counters).reply_sizes).cast();
            add_to_bucket::<SIZE_BUCKETS>(cells, counts.size_bucket, counts.replies);
        }
        if counts.timed != 0 {
            let cells = (&raw mut (*counters).durations).cast();
            add_to_bucket::<DURATION_BUCKETS>(cells, counts.duration_bucket, counts.timed);
            atomic::add(&raw mut (*counters).duration_units, counts.duration_units);
        }
        if counts.hits != 0 {
            atomic::add(&raw mut (*counters).hits, u64::from(counts.hits));
        }
        if counts.misses != 0 {
            atomic::add(&raw mut (*counters).misses, u64::from(counts.misses));
        }
    }
}

/// Adds to a cell of an array of `CELLS`, a power of two.
#[inline(always)]
unsafe fn add_to_bucket<const CELLS: usize>(cells: *mut u64, bucket: u32, count: u32) {
    const { assert!(CELLS.is_power_of_two()) };
    let index = if CELLS == DURATION_BUCKETS {
        atomic::masked::<{ DURATION_BUCKETS - 1 }>(bucket as usize)
    } else {
        atomic::masked::<{ SIZE_BUCKETS - 1 }>(bucket as usize)
    };
    // SAFETY: the mask keeps the index inside the array.
    unsafe { atomic::add(cells.add(index), u64::from(count)) }
}

const _: () = assert!(SIZE_BUCKETS == ERROR_CELLS);

/// Length of the longest declared prefix of a key.
#[inline(never)]
fn declared(key: &DeclaredKey) -> u32 {
    let map = ptr::from_ref(&SG_DECLARED).cast_mut().cast();
    // SAFETY: map and key are what the helper wants; the verifier checks both.
    let found: *const u32 = unsafe { bpf_map_lookup_elem(map, ptr::from_ref(key).cast()).cast() };
    if found.is_null() {
        return 0;
    }
    // SAFETY: written once, when the entry was made.
    unsafe { *found }
}
