//! Whose a connection is by its user, client name or address, and the rows of such connections.

use agent_common::{
    abi::{ClassAddressKey, ClassNameKey, Connection, Loss, NameKind, PrefixKey, Row, TenantPrefixKey},
    limits::SPECIAL_ROWS,
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    btf_maps::Queue,
    helpers::generated::bpf_map_lookup_elem,
};
use core::{ffi::c_void, ptr};

use crate::{
    identity,
    ledger::count_loss,
    maps::{
        SG_CLASS_ADDRESSES, SG_CLASS_NAMES, SG_FREE_CLASS_ROWS, SG_FREE_ROWS, SG_FREE_TENANT_ROWS,
        SG_NAME_CLASSES, SG_PREFIXES, SG_SCRATCH_IN, SG_SETTINGS, SG_TENANT_PREFIXES,
    },
};

/// The class that the connection has, found anew where a reload has made that void.
#[inline(always)]
pub(crate) fn known(skb: *mut __sk_buff, connection: &Connection) -> u16 {
    let Some(settings) = SG_SETTINGS.get(0) else {
        return 0;
    };
    if connection.is_class_stale(settings) {
        return sg_classify(skb, connection) as u16;
    }
    // SAFETY: a valid reference; volatile because ingress writes it.
    unsafe { ptr::read_volatile(&raw const connection.class) }
}

/// The class of a connection by its user, else its client name, else its address. A global function: the verifier checks
/// it once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sg_classify(skb: *mut __sk_buff, connection: *const Connection) -> u32 {
    if connection.is_null() {
        return 0;
    }
    let Some(settings) = SG_SETTINGS.get(0) else {
        return 0;
    };
    // SAFETY: not null; the verifier checks each caller's.
    let connection = unsafe { &*connection };
    let mut names = [0; 2];
    // Who came before the agent may have named any user.
    let mut user_known = connection.adopted == 0;
    let identity = identity::of_packet(skb, false);
    if !identity.is_null() {
        // SAFETY: storage of the socket that the packet holds; volatile because egress writes it.
        let settled = unsafe {
            names[0] = ptr::read_volatile(&raw const (*identity).names[NameKind::User as usize]);
            names[1] = ptr::read_volatile(&raw const (*identity).names[NameKind::Client as usize]);
            (*identity).settled_fields
        };
        user_known |= settled & 1 << NameKind::User as u32 != 0;
    }
    let [user, client] = names;
    let mut class = 0;
    if user != 0 {
        class = of_name(user);
    } else if user_known {
        class = settings.default_class;
    }
    if class == 0 && client != 0 {
        class = of_name(client);
    }
    if class == 0 {
        class = of_address(&connection.client);
    }
    class
}

#[inline(always)]
fn of_name(number: u32) -> u32 {
    match SG_NAME_CLASSES.get_ptr(&number) {
        // SAFETY: a cell of the map's value.
        Some(class) => unsafe { ptr::read_volatile(class) },
        None => 0,
    }
}

#[inline(always)]
fn of_address(address: &[u32; 4]) -> u32 {
    let key = ClassAddressKey {
        bits: 128,
        address: *address,
    };
    longest(
        ptr::from_ref(&SG_CLASS_ADDRESSES).cast_mut().cast(),
        ptr::from_ref(&key).cast(),
    )
}

/// Notes the class of a name that has just got its number. `key` must lie in a map's value: it is too large for the stack.
#[inline(always)]
pub(crate) fn note_name(number: u32, key: &ClassNameKey) {
    let class = longest(
        ptr::from_ref(&SG_CLASS_NAMES).cast_mut().cast(),
        ptr::from_ref(key).cast(),
    );
    if class != 0 && SG_NAME_CLASSES.insert(&number, &class, 0).is_err() {
        // It holds as many names as their table.
        count_loss(Loss::MapFailure, 1);
    }
}

/// What a trie has for the longest of its keys that this one begins with; 0: none.
#[inline(always)]
fn longest(map: *mut c_void, key: *const c_void) -> u32 {
    // SAFETY: the callers' map and key belong together; the verifier checks both.
    let found: *const u32 = unsafe { bpf_map_lookup_elem(map, key).cast() };
    if found.is_null() {
        return 0;
    }
    // SAFETY: a cell of the map's value, which the daemon may replace.
    unsafe { ptr::read_volatile(found) }
}

/// The row of a special row of connections of a class, for egress; a new one where there is none. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sg_special_row_out(row: u32, class: u32) -> u32 {
    let key = special(row, class);
    special_row(&key)
}

/// The same for ingress, whose stack is full: 512 bytes for all functions that wait for one another, each rounded up to 32. The
/// key lies in the scratch.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sg_special_row_in(row: u32, class: u32) -> u32 {
    let Some(scratch) = SG_SCRATCH_IN.get_ptr_mut(0) else {
        return row;
    };
    // SAFETY: ingress runs with softirqs off: nobody else uses this CPU's area.
    let key = unsafe { &mut (*scratch).special_row };
    *key = special(row, class);
    special_row(key)
}

#[inline(always)]
fn special(row: u32, class: u32) -> PrefixKey {
    let specials = SPECIAL_ROWS as u32;
    PrefixKey::special(row / specials, class as u16, row % specials)
}

#[inline(always)]
fn special_row(key: &PrefixKey) -> u32 {
    match row_of_class(key) {
        Row::UNKNOWN => Row::special(key.slot, Row::OTHER),
        row => row,
    }
}

/// The row of connections of a class, or of a tenant's prefixes, by its key; [`Row::UNKNOWN`]: there is none left.
#[inline(always)]
fn row_of_class(key: &PrefixKey) -> u32 {
    if let Some(row) = SG_PREFIXES.get_ptr(key) {
        // SAFETY: written once, when the entry was made.
        return unsafe { *row };
    }
    let row = take(key, &SG_FREE_CLASS_ROWS);
    if row == Row::UNKNOWN {
        count_loss(Loss::ClassRowsFull, 1);
    }
    row
}

/// Makes a free row that of a key, unless another CPU was faster: then it goes back to where it was taken from.
/// [`Row::UNKNOWN`]: there is none left.
#[inline(always)]
fn take<const ROWS: usize>(key: &PrefixKey, free: &Queue<u32, ROWS>) -> u32 {
    let Ok(Some(row)) = free.pop() else {
        return Row::UNKNOWN;
    };
    if SG_PREFIXES.insert(key, &row, u64::from(BPF_NOEXIST)).is_ok() {
        return row;
    }
    if free.push(row, 0).is_err() {
        count_loss(Loss::MapFailure, 1);
    }
    match SG_PREFIXES.get_ptr(key) {
        // SAFETY: written once, when the entry was made.
        Some(row) => unsafe { *row },
        None => {
            count_loss(Loss::MapFailure, 1);
            Row::UNKNOWN
        }
    }
}

/// Gives a prefix that has no row one of its own, if there is one left for it: prefixes of tenants have a supply that made-up
/// ones cannot exhaust. A global function, as above. Ingress alone calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sg_new_row(key: *const PrefixKey) -> u32 {
    if key.is_null() {
        return 0;
    }
    let Some(scratch) = SG_SCRATCH_IN.get_ptr_mut(0) else {
        return 0;
    };
    // Too large for the stack, and on 6.1 what a global function is given is no key of a map.
    // SAFETY: ingress runs with softirqs off: nobody else uses this CPU's area. `key` is not null, and the verifier checks
    // each caller's.
    let (key, shared, lookup) = unsafe {
        (*scratch).new_row = *key;
        (
            &(*scratch).new_row,
            &mut (*scratch).special_row,
            &mut (*scratch).tenant_prefix,
        )
    };
    *lookup = TenantPrefixKey::whole(key.words, key.length());
    let other = Row::special(key.slot, Row::OTHER);
    let found = longest(
        ptr::from_ref(&SG_TENANT_PREFIXES).cast_mut().cast(),
        ptr::from_ref(lookup).cast(),
    );
    let row = if found == 0 {
        take(key, &SG_FREE_ROWS)
    } else {
        take(key, &SG_FREE_TENANT_ROWS)
    };
    if row != Row::UNKNOWN {
        return row;
    }
    if found == 0 {
        count_loss(Loss::PrefixTableFull, 1);
        return other;
    }
    count_loss(Loss::TenantRowsFull, 1);
    if found & TenantPrefixKey::UNSURE != 0 {
        return other;
    }
    *shared = PrefixKey::other_of(key.slot, key.class(), found as u16);
    special_row(shared)
}
