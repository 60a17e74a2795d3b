//! Listening sockets: which slot a connection or a packet belongs to.

use agent_common::abi::{Event, EventKind, ListenerKey, Loss, Scope};
use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, bpf_sock, bpf_sock_ops},
    helpers::generated::bpf_get_netns_cookie,
    programs::SockOpsContext,
};
use core::ptr;

use crate::{
    ledger::count_loss,
    maps::{SG_EVENTS, SG_FREE_SLOTS, SG_LISTENERS, SG_PORTS},
};

const AF_INET: u32 = 2;

/// `::ffff:0.0.0.0`: listens on every IPv4 address.
const ANY_V4: [u32; 4] = [0, 0, MAPPED, 0];
/// `::`: listens on every address.
const ANY: [u32; 4] = [0; 4];

/// Third word of an IPv4 address mapped into IPv6, in network order.
const MAPPED: u32 = 0xffff_u32.to_be();

/// Whether any watched server of this host listens on the port.
#[inline(always)]
pub(crate) fn port_watched(port: u32) -> bool {
    match SG_PORTS.get(port >> 5) {
        Some(bits) => bits >> (port & 31) & 1 != 0,
        None => false,
    }
}

/// Slot of the listener that accepted a new connection.
#[inline(always)]
pub(crate) fn of_new_connection(context: &SockOpsContext) -> Option<u32> {
    let port = context.local_port();
    if !port_watched(port) {
        return None;
    }
    // SAFETY: the context is valid.
    let (scope, local) = unsafe { (bpf_get_netns_cookie(context.as_ptr()), local_address(context.ops)) };
    look_up(scope, Scope::NetworkNamespace, &local, port as u16)
}

/// Slot of the listener in a cgroup that a socket with this local address came from.
#[inline(always)]
pub(crate) fn in_cgroup(cgroup: u64, local: &[u32; 4], port: u16) -> Option<u32> {
    look_up(cgroup, Scope::Cgroup, local, port)
}

/// The exact address first, then the wildcard of its family, then the dual-stack one.
#[inline(always)]
fn look_up(scope: u64, kind: Scope, local: &[u32; 4], port: u16) -> Option<u32> {
    let mut key = ListenerKey {
        scope,
        address: *local,
        port,
        scope_kind: kind as u16,
        reserved: 0,
    };
    if let Some(slot) = SG_LISTENERS.get_ptr(&key) {
        // SAFETY: written once, when the entry was made.
        return Some(unsafe { *slot });
    }
    key.address = ANY_V4;
    if is_v4(local)
        && let Some(slot) = SG_LISTENERS.get_ptr(&key)
    {
        // SAFETY: as above.
        return Some(unsafe { *slot });
    }
    key.address = ANY;
    // SAFETY: as above.
    SG_LISTENERS.get_ptr(&key).map(|slot| unsafe { *slot })
}

#[inline(always)]
fn is_v4(address: &[u32; 4]) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == MAPPED
}

/// A socket of a watched cgroup began to listen: registers it at once, so that its first connection is counted, and
/// tells the daemon, which finds out whose it is.
#[inline(always)]
pub(crate) fn listening(context: &SockOpsContext) {
    // SAFETY: the context is valid.
    let (scope, address) = unsafe { (bpf_get_netns_cookie(context.as_ptr()), local_address(context.ops)) };
    let port = context.local_port();
    let key = ListenerKey {
        scope,
        address,
        port: port as u16,
        scope_kind: Scope::NetworkNamespace as u16,
        reserved: 0,
    };
    if SG_LISTENERS.get_ptr(&key).is_some() {
        // A server that came back on the address where it was: its slot goes on.
        return announce(EventKind::Listen, scope, &address, port, u32::MAX);
    }
    let Ok(Some(slot)) = SG_FREE_SLOTS.pop() else {
        return count_loss(Loss::NoListenerSlot, 1);
    };
    if SG_LISTENERS.insert(&key, &slot, u64::from(BPF_NOEXIST)).is_err() {
        if SG_FREE_SLOTS.push(slot, 0).is_err() {
            count_loss(Loss::MapFailure, 1);
        }
        return;
    }
    watch_port(port);
    announce(EventKind::Listen, scope, &address, port, slot);
}

#[inline(always)]
fn watch_port(port: u32) {
    if let Some(bits) = SG_PORTS.get_ptr_mut(port >> 5) {
        // SAFETY: a cell of the map's value. A bit lost to a race with another port of the same word is set again by
        // the daemon when it handles the event.
        unsafe { ptr::write_volatile(bits, ptr::read_volatile(bits) | 1 << (port & 31)) };
    }
}

#[inline(always)]
fn announce(kind: EventKind, scope: u64, address: &[u32; 4], port: u32, slot: u32) {
    let event = Event {
        kind: kind as u32,
        pid: 0,
        scope,
        address: *address,
        port,
        slot,
        reserved: 0,
    };
    if SG_EVENTS.output(&event, 0).is_err() {
        count_loss(Loss::EventRingFull, 1);
    }
}

/// Local and remote address of a socket, IPv4 mapped into IPv6.
///
/// Here and below both families' fields are read before one is chosen: a load in a branch of its own is merged with its
/// neighbour by the optimiser into arithmetic on the context pointer, which the verifier forbids.
#[inline(always)]
pub(crate) unsafe fn addresses(socket: *mut bpf_sock) -> ([u32; 4], [u32; 4]) {
    // SAFETY: the caller's socket is a full one; volatile keeps each access as wide as the verifier allows.
    unsafe {
        let family = ptr::read_volatile(&raw const (*socket).family);
        let local_v4 = ptr::read_volatile(&raw const (*socket).src_ip4);
        let remote_v4 = ptr::read_volatile(&raw const (*socket).dst_ip4);
        let local_v6 = words(&raw const (*socket).src_ip6);
        let remote_v6 = words(&raw const (*socket).dst_ip6);
        (
            choose(family, local_v4, local_v6),
            choose(family, remote_v4, remote_v6),
        )
    }
}

/// Remote address of a sock_ops context.
#[inline(always)]
pub(crate) unsafe fn remote_address(ops: *mut bpf_sock_ops) -> [u32; 4] {
    // SAFETY: the caller's context is valid; volatile keeps each access as wide as the verifier allows.
    unsafe {
        let family = ptr::read_volatile(&raw const (*ops).family);
        let v4 = ptr::read_volatile(&raw const (*ops).remote_ip4);
        choose(family, v4, words(&raw const (*ops).remote_ip6))
    }
}

/// Local address of a sock_ops context.
#[inline(always)]
unsafe fn local_address(ops: *mut bpf_sock_ops) -> [u32; 4] {
    // SAFETY: as in [`remote_address`].
    unsafe {
        let family = ptr::read_volatile(&raw const (*ops).family);
        let v4 = ptr::read_volatile(&raw const (*ops).local_ip4);
        choose(family, v4, words(&raw const (*ops).local_ip6))
    }
}

/// An IPv4 address mapped into IPv6.
#[inline(always)]
pub(crate) fn mapped(address: u32) -> [u32; 4] {
    [0, 0, MAPPED, address]
}

#[inline(always)]
fn choose(family: u32, v4: u32, v6: [u32; 4]) -> [u32; 4] {
    if family == AF_INET { mapped(v4) } else { v6 }
}

#[inline(always)]
unsafe fn words(address: *const [u32; 4]) -> [u32; 4] {
    let address = address.cast::<u32>();
    // SAFETY: four words at the caller's pointer; volatile keeps them four accesses.
    unsafe {
        [
            ptr::read_volatile(address),
            ptr::read_volatile(address.add(1)),
            ptr::read_volatile(address.add(2)),
            ptr::read_volatile(address.add(3)),
        ]
    }
}
