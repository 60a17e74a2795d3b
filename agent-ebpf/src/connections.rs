//! Connections: found, established, ended. Each transition is claimed by compare-and-swap and counted once.

use agent_common::{
    abi::{ClientCounters, ClientKey, Connection, Direction, ListenerCounters, Loss, Reason, Spill},
    limits::{BURST_BUCKETS, BURST_WINDOW_NANOSECONDS, LIFETIME_BUCKETS},
};
use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_LISTEN_CB, bpf_sock,
        bpf_sock_ops,
    },
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_cgroup_id},
    },
    programs::{SkBuffContext, SockOpsContext},
};
use core::ptr;

use crate::{
    atomic, handshakes, identity,
    ledger::{count_loss, count_unattributed},
    listeners,
    maps::{SG_CLIENTS, SG_CONNECTIONS, SG_SLOTS, SG_SPILLED},
};

/// TCP states (include/net/tcp_states.h; stable, exported to user space by sock_diag).
const ESTABLISHED: u32 = 1;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const LISTEN: u32 = 10;

const FILLING: u32 = Connection::FILLING;

/// Who ended a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The server, in order.
    Server,
    /// The client; or either side, by a reset.
    Client,
}

/// What sock_ops tells.
#[inline(always)]
pub(crate) fn socket_event(context: &SockOpsContext) {
    match context.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(context),
        BPF_SOCK_OPS_STATE_CB => state_changed(context),
        BPF_SOCK_OPS_TCP_LISTEN_CB => listeners::listening(context),
        _ => {}
    }
}

/// The connection of a packet, met here for the first time if need be. `None`: not a server's.
#[inline(always)]
pub(crate) fn of_packet<const IN: bool>(context: &SkBuffContext) -> Option<&'static mut Connection> {
    // SAFETY: the context is valid; the verifier checks the field.
    let socket = unsafe { (*context.skb.skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    let connection = storage(socket.cast(), 0);
    if connection.is_null() {
        return met::<IN>(context, socket);
    }
    // SAFETY: storage of a socket that the packet holds.
    let connection = unsafe { &mut *connection };
    let phase = connection.current_phase();
    let filled = phase == Connection::OPEN || phase == Connection::CLOSED;
    filled.then_some(connection)
}

#[inline(always)]
pub(crate) fn storage(socket: *mut core::ffi::c_void, flags: u64) -> *mut Connection {
    let map = ptr::from_ref(&SG_CONNECTIONS).cast_mut().cast();
    // SAFETY: map and socket are what the helper wants; the verifier checks both.
    unsafe { bpf_sk_storage_get(map, socket, ptr::null_mut(), flags).cast() }
}

/// The spill of a packet's connection, null without one.
#[inline(always)]
pub(crate) fn spill_of_packet(skb: *mut __sk_buff, create: bool) -> *mut Spill {
    // SAFETY: the packet is valid; the verifier checks the field.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return ptr::null_mut();
    }
    let map = ptr::from_ref(&SG_SPILLED).cast_mut().cast();
    let flags = if create { BPF_SK_STORAGE_GET_F_CREATE } else { 0 };
    // SAFETY: map and socket are what the helper wants; the verifier checks both.
    unsafe { bpf_sk_storage_get(map, socket.cast(), ptr::null_mut(), u64::from(flags)).cast() }
}

/// A packet of a socket without state: of a listening one, a connection from before the agent, or none of ours.
#[inline(never)]
fn met<const IN: bool>(context: &SkBuffContext, socket: *mut bpf_sock) -> Option<&'static mut Connection> {
    // SAFETY: not null; the helper returns null for sockets that are none yet.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    if socket.is_null() {
        return None;
    }
    // SAFETY: a full socket; the verifier checks the fields.
    let (port, state) = unsafe { ((*socket).src_port, (*socket).state) };
    if !listeners::port_watched(port) {
        return None;
    }
    if state == ESTABLISHED {
        return adopt(context, socket);
    }
    if IN && state == LISTEN {
        handshakes::data_arrived(context, port);
    }
    None
}

/// A connection from before the agent, if it is a watched server's. Its socket is a full one.
#[inline(never)]
fn adopt(context: &SkBuffContext, socket: *mut bpf_sock) -> Option<&'static mut Connection> {
    // SAFETY: a full socket; the verifier checks the fields.
    let (port, client_port) = unsafe { ((*socket).src_port, u16::from_be((*socket).dst_port)) };
    // SAFETY: the context is valid.
    let cgroup = unsafe { bpf_skb_cgroup_id(context.skb.skb) };
    // SAFETY: a full socket.
    let (local, remote) = unsafe { listeners::addresses(socket) };
    let slot = listeners::in_cgroup(cgroup, &local, port as u16)?;
    let connection = storage(socket.cast(), u64::from(BPF_SK_STORAGE_GET_F_CREATE));
    if connection.is_null() {
        count_loss(Loss::NoConnectionState, 1);
        return None;
    }
    // SAFETY: storage of a socket that the packet holds.
    let connection = unsafe { &mut *connection };
    fill_adopted(connection, slot, &remote, client_port);
    Some(connection)
}

/// Fills in a connection from before the agent, unless somebody else does.
#[inline(always)]
pub(crate) fn fill_adopted(connection: &mut Connection, slot: u32, remote: &[u32; 4], port: u16) {
    // SAFETY: a cell of the storage.
    if unsafe { atomic::compare_swap(&raw mut connection.state, 0, FILLING) } != 0 {
        return;
    }
    connection.slot = slot;
    connection.client = *remote;
    connection.client_port = port;
    connection.begin_mid_stream();
    connection.marks = if count_client(slot, remote, 0) {
        Connection::CLIENT_LISTED
    } else {
        0
    };
    if let Some(counters) = SG_SLOTS.get_ptr_mut(slot) {
        // SAFETY: a cell of the map's value.
        unsafe { atomic::add(&raw mut (*counters).adopted, 1) };
    }
    // SAFETY: a cell of the storage; volatile, so that it stays behind the filling.
    unsafe { ptr::write_volatile(&raw mut connection.state, Connection::OPEN) };
}

/// A server's socket has completed a handshake.
#[inline(always)]
fn established(context: &SockOpsContext) {
    let Some(slot) = listeners::of_new_connection(context) else {
        return;
    };
    // SAFETY: the context is valid; the verifier checks the field.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return;
    }
    let connection = storage(socket.cast(), u64::from(BPF_SK_STORAGE_GET_F_CREATE));
    if connection.is_null() {
        return count_loss(Loss::NoConnectionState, 1);
    }
    // SAFETY: storage of a socket that is being established.
    let connection = unsafe { &mut *connection };
    // SAFETY: a cell of the storage. With several agents' cgroups nested, the program runs twice: once is enough.
    if unsafe { atomic::compare_swap(&raw mut connection.state, 0, FILLING) } != 0 {
        return;
    }
    // SAFETY: the context is valid.
    let (next_in, next_out, remote, port) = unsafe {
        let ops = context.ops;
        let remote = listeners::remote_address(ops);
        (
            // Volatile: they are neighbours where they go to, and would be read as one word, which the verifier refuses.
            ptr::read_volatile(&raw const (*ops).rcv_nxt),
            ptr::read_volatile(&raw const (*ops).snd_nxt),
            remote,
            u32::from_be((*ops).remote_port),
        )
    };
    connection.slot = slot;
    connection.client = remote;
    connection.client_port = port as u16;
    connection.begin_at_start(next_in, next_out);
    connection.marks = if count_client(slot, &remote, 1) {
        Connection::CLIENT_LISTED
    } else {
        0
    };
    handshakes::take_over(context, connection);
    if let Some(counters) = SG_SLOTS.get_ptr_mut(slot) {
        // SAFETY: cells of the map's value.
        unsafe {
            atomic::add(&raw mut (*counters).opened, 1);
            count_burst(counters);
        }
    }
    // SAFETY: reading the clock has no precondition.
    let open = connection.established_at(unsafe { bpf_ktime_get_ns() });
    // SAFETY: a cell of the storage; volatile, so that it stays behind the filling.
    unsafe { ptr::write_volatile(&raw mut connection.state, open) };
    let flags = context.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    if context.set_cb_flags(flags as i32).is_err() {
        // Without the callback its end is seen in its packets, as with connections from before the agent.
        connection.adopted = 1;
    }
}

/// A connection changed its TCP state.
#[inline(always)]
fn state_changed(context: &SockOpsContext) {
    // SAFETY: the context is valid; the verifier checks the fields.
    let (socket, new) = unsafe { ((*context.ops).__bindgen_anon_2.sk, state_argument(context.ops)) };
    if socket.is_null() {
        return;
    }
    let connection = storage(socket.cast(), 0);
    if connection.is_null() {
        return;
    }
    // SAFETY: storage of a socket that the callback holds.
    let connection = unsafe { &mut *connection };
    if new != ESTABLISHED {
        // A server that closes in order sends its FIN first.
        let by = if new == CLOSE_WAIT || new == CLOSE {
            By::Client
        } else {
            By::Server
        };
        if ended(connection, by) && connection.adopted == 0 {
            identity::count_ended(socket.cast(), connection);
        }
    }
    if new == CLOSE {
        close_books(connection);
    }
}

/// New state of a state callback.
#[inline(always)]
unsafe fn state_argument(ops: *mut bpf_sock_ops) -> u32 {
    // SAFETY: the caller's context is valid; volatile keeps the access as wide as the verifier allows.
    unsafe { ptr::read_volatile(&raw const (*ops).__bindgen_anon_1.args[1]) }
}

/// The connection no longer counts as established. Returns whether it did until now.
#[inline(always)]
pub(crate) fn ended(connection: &mut Connection, by: By) -> bool {
    // SAFETY: a cell of the storage.
    let open = unsafe { ptr::read_volatile(&raw const connection.state) };
    if Connection::phase(open) != Connection::OPEN {
        return false;
    }
    let closed = open ^ Connection::OPEN ^ Connection::CLOSED;
    // SAFETY: a cell of the storage.
    if unsafe { atomic::compare_swap(&raw mut connection.state, open, closed) } != open {
        return false;
    }
    count_end(connection, by);
    if connection.marks & Connection::CLIENT_LISTED == 0 {
        return true;
    }
    let key = ClientKey {
        slot: connection.slot,
        address: connection.client,
    };
    match SG_CLIENTS.get_ptr_mut(&key) {
        // SAFETY: a cell of the map's value; adding -1 takes one away.
        Some(client) => unsafe { atomic::add(&raw mut (*client).open, u64::MAX) },
        None => count_loss(Loss::ClientEntryMissing, 1),
    }
    true
}

/// Counts a connection that has ended, and how. A function of its own: the verifier walks it once in each program.
#[inline(never)]
fn count_end(connection: &Connection, by: By) {
    let Some(counters) = SG_SLOTS.get_ptr_mut(connection.slot) else {
        return;
    };
    // SAFETY: cells of the map's value.
    unsafe {
        atomic::add(&raw mut (*counters).closed, 1);
        if connection.is_refused() {
            atomic::add(&raw mut (*counters).rejected, 1);
        }
        if by == By::Client && connection.is_awaited() {
            atomic::add(&raw mut (*counters).closed_waiting, 1);
        }
        if connection.adopted != 0 {
            return;
        }
        if connection.is_unserved() {
            atomic::add(&raw mut (*counters).closed_without_command, 1);
        }
        let age = connection.age(bpf_ktime_get_ns());
        atomic::add(&raw mut (*counters).lifetime_units, age);
        let cells = (&raw mut (*counters).lifetimes).cast::<u64>();
        atomic::add(cells.add(lifetime_bucket(age)), 1);
    }
}

/// Bits that the age has, the last bucket for more.
#[inline(always)]
fn lifetime_bucket(age: u64) -> usize {
    let mut bucket = 0;
    while bucket < LIFETIME_BUCKETS - 1 && age >> bucket != 0 {
        bucket += 1;
    }
    atomic::masked::<{ LIFETIME_BUCKETS - 1 }>(bucket)
}

const _: () = assert!(LIFETIME_BUCKETS.is_power_of_two());

/// Bytes of an unfinished command or reply will never be attributed.
#[inline(always)]
fn close_books(connection: &mut Connection) {
    close_request_books(connection);
    close_reply_books(connection);
}

/// The same for commands alone: the client has sent its last byte.
#[inline(always)]
pub(crate) fn close_request_books(connection: &mut Connection) {
    let bytes = connection.unfinished_request_bytes();
    if bytes != 0 {
        connection.marks &= Connection::CLIENT_LISTED;
        connection.requests.pending = 0;
        connection.requests.carry_length = 0;
        count_unattributed(connection.slot, Direction::In, Reason::Incomplete, bytes);
    }
}

/// The same for replies alone: the server has sent its last byte.
#[inline(always)]
pub(crate) fn close_reply_books(connection: &mut Connection) {
    let bytes = connection.unfinished_reply_bytes();
    if bytes != 0 {
        connection.replies.carry_length = 0;
        count_unattributed(connection.slot, Direction::Out, Reason::Incomplete, bytes);
    }
}

/// Counts a connection of a client; `opened` is 0 for one from before the agent. Returns whether the client has an
/// entry.
#[inline(always)]
fn count_client(slot: u32, address: &[u32; 4], opened: u64) -> bool {
    let key = ClientKey {
        slot,
        address: *address,
    };
    if add_to_client(&key, opened) {
        return true;
    }
    let first = ClientCounters { opened, open: 1 };
    if SG_CLIENTS.insert(&key, &first, u64::from(BPF_NOEXIST)).is_ok() || add_to_client(&key, opened) {
        return true;
    }
    count_loss(Loss::ClientTableFull, 1);
    false
}

#[inline(always)]
fn add_to_client(key: &ClientKey, opened: u64) -> bool {
    let Some(client) = SG_CLIENTS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: cells of the map's value.
    unsafe {
        atomic::add(&raw mut (*client).opened, opened);
        atomic::add(&raw mut (*client).open, 1);
    }
    true
}

/// Adds a connection to the current 100 ms window, and a window that has ended to the histogram.
#[inline(always)]
unsafe fn count_burst(counters: *mut ListenerCounters) {
    const TRIES: u32 = 8;
    // SAFETY: reading the clock has no precondition.
    let window = unsafe { bpf_ktime_get_ns() } / BURST_WINDOW_NANOSECONDS;
    let mut tries = 0;
    while tries < TRIES {
        // SAFETY: a cell of the map's value.
        let cell = unsafe { &raw mut (*counters).burst_window };
        // SAFETY: as above.
        let old = unsafe { ptr::read_volatile(cell) };
        let same = old >> 32 == window & 0xffff_ffff;
        let new = if same {
            old.wrapping_add(1)
        } else {
            window << 32 | 1
        };
        // SAFETY: as above.
        if unsafe { atomic::compare_swap_u64(cell, old, new) } == old {
            if !same && old as u32 != 0 {
                // SAFETY: the caller's counters.
                unsafe { count_window(counters, old as u32) };
            }
            return;
        }
        tries += 1;
    }
    count_loss(Loss::BurstContended, 1);
}

/// Adds a window of `connections` to the histogram.
#[inline(always)]
unsafe fn count_window(counters: *mut ListenerCounters, connections: u32) {
    let mut bucket = 0;
    let mut bound = 1;
    while bucket < BURST_BUCKETS - 1 && connections > bound {
        bucket += 1;
        bound <<= 1;
    }
    // SAFETY: the bucket is in range; the mask shows it to the verifier.
    unsafe {
        let cell = (&raw mut (*counters).burst_windows)
            .cast::<u64>()
            .add(bucket & (BURST_BUCKETS - 1));
        atomic::add(cell, 1);
    }
}

const _: () = assert!(BURST_BUCKETS.is_power_of_two());
