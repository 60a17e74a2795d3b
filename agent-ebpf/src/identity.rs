//! Who the clients are: names and their numbers, and the iterator by which the daemon reads them of all connections.

use agent_common::abi::{ClassNameKey, Connection, ConnectionRecord, EndedKey, Identity, Loss, NAME_KINDS};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, seq_file},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_socket_cookie, bpf_seq_write, bpf_sk_storage_get},
    },
};
use core::{ffi::c_void, ptr};

use crate::{
    atomic, classes, connections,
    iterator::TcpIterator,
    ledger::count_loss,
    maps::{SG_ENDED, SG_IDENTITIES, SG_LAST_NAME, SG_NAME_TABLE, SG_SCRATCH_IN},
};

/// Number of the name in this CPU's scratch; a new one where it has none. 0: there is no room. Taken from there because
/// on 6.1 a map's key must lie on the stack, where it is too large, or in a map's value, which the scratch is no longer
/// where a global function is given it.
#[inline(never)]
pub(crate) fn number() -> u32 {
    let Some(scratch) = SG_SCRATCH_IN.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: ingress runs with softirqs off: nobody else uses this CPU's area.
    let key = unsafe { &(*scratch).name };
    if let Some(number) = SG_NAME_TABLE.get_ptr(key) {
        // SAFETY: written once, when the entry was made.
        return unsafe { *number };
    }
    let Some(last) = SG_LAST_NAME.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a cell of the map's value.
    let number = unsafe { atomic::fetch_add(last, 1) }.wrapping_add(1) as u32;
    // Before the name can be found: who finds it finds its class.
    // SAFETY: as above.
    unsafe {
        let class_name = &raw mut (*scratch).class_name;
        *class_name = ClassNameKey::whole(key);
        classes::note_name(number, &*class_name);
    }
    if SG_NAME_TABLE.insert(key, &number, u64::from(BPF_NOEXIST)).is_ok() {
        return number;
    }
    // Another CPU was faster, or the map is full.
    match SG_NAME_TABLE.get_ptr(key) {
        // SAFETY: as above.
        Some(number) => unsafe { *number },
        None => {
            count_loss(Loss::NameTableFull, 1);
            0
        }
    }
}

/// What is known of the client of a packet's connection.
#[inline(never)]
pub(crate) fn of_packet(skb: *mut __sk_buff, create: bool) -> *mut Identity {
    // SAFETY: the packet is valid; the verifier checks the field.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return ptr::null_mut();
    }
    of_socket(
        socket.cast(),
        if create {
            u64::from(BPF_SK_STORAGE_GET_F_CREATE)
        } else {
            0
        },
    )
}

#[inline(always)]
fn of_socket(socket: *mut c_void, flags: u64) -> *mut Identity {
    let map = ptr::from_ref(&SG_IDENTITIES).cast_mut().cast();
    // SAFETY: map and socket are what the helper wants; the verifier checks both.
    unsafe { bpf_sk_storage_get(map, socket, ptr::null_mut(), flags).cast() }
}

/// A connection has ended: it counts for what it had said of itself, if it had.
#[inline(never)]
pub(crate) fn count_ended(socket: *mut c_void, connection: &Connection) {
    let identity = of_socket(socket, 0);
    if identity.is_null() {
        return;
    }
    let key = EndedKey {
        slot: connection.slot,
        client: connection.client,
        // SAFETY: storage of a socket that the callback holds; volatile because egress may write it meanwhile.
        names: unsafe { ptr::read_volatile(&raw const (*identity).names) },
    };
    let [user, client, library, version] = key.names;
    if user | client | library | version == 0 {
        return;
    }
    if !add_ended(&key) && SG_ENDED.insert(&key, &1, u64::from(BPF_NOEXIST)).is_err() && !add_ended(&key) {
        count_loss(Loss::EndedTableFull, 1);
    }
}

#[inline(always)]
fn add_ended(key: &EndedKey) -> bool {
    let Some(count) = SG_ENDED.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a cell of the map's value.
    unsafe { atomic::add(count, 1) };
    true
}

/// Runs for each TCP socket of a network namespace, and writes a record of those that are connections of a server.
#[unsafe(link_section = "iter/tcp")]
#[unsafe(no_mangle)]
pub extern "C" fn sg_list(context: *mut TcpIterator) -> i32 {
    // SAFETY: the kernel passes this context.
    let (output, socket) = unsafe { (TcpIterator::output(context), TcpIterator::socket(context)) };
    if socket.is_null() {
        return 0;
    }
    let connection = connections::storage(socket, 0);
    if !connection.is_null() {
        // SAFETY: storage of a socket that the iterator holds.
        unsafe { list(output, socket, &*connection) };
    }
    0
}

#[inline(always)]
unsafe fn list(output: *mut seq_file, socket: *mut c_void, connection: &Connection) {
    if connection.current_phase() != Connection::OPEN {
        return;
    }
    let mut flags = 0;
    if connection.adopted != 0 {
        flags |= ConnectionRecord::ADOPTED;
    }
    if connection.shared.sync() != 0 && connection.shared.trial() == 0 {
        flags |= ConnectionRecord::SYNCHRONISED;
    }
    if connection.speaks_resp3() {
        flags |= ConnectionRecord::RESP3;
    }
    if connection.is_introducing(
        // SAFETY: reading the clock has no precondition.
        unsafe { bpf_ktime_get_ns() },
    ) {
        flags |= ConnectionRecord::INTRODUCING;
    }
    let mut record = ConnectionRecord {
        slot: connection.slot,
        client: connection.client,
        port: u32::from(connection.client_port),
        names: [0; NAME_KINDS],
        database: 0,
        settled_fields: 0,
        flags,
        reserved: 0,
        // SAFETY: a socket that the iterator holds.
        cookie: unsafe { bpf_get_socket_cookie(socket) },
    };
    let identity = of_socket(socket, 0);
    if !identity.is_null() {
        // SAFETY: storage of a socket that the iterator holds.
        unsafe {
            record.names = (*identity).names;
            record.database = (*identity).database;
            record.settled_fields = (*identity).settled_fields;
        }
    }
    // SAFETY: the helper reads as many bytes as the record has. A full buffer is made larger by the kernel, and the program
    // runs again.
    unsafe {
        bpf_seq_write(
            output,
            (&raw const record).cast_mut().cast(),
            size_of::<ConnectionRecord>() as u32,
        )
    };
}
