//! Data that comes with the end of a handshake. Where the client's acknowledgement is lost, or the server's queue of accepted
//! connections was full when it came, the packet that ends the handshake is the client's first command. The hook sees it
//! at the listening socket: TCP makes the connection's own one of this very packet, a moment later in the same run of the
//! softirq (`tcp_v4_rcv` and `tcp_check_req` in net/ipv4), or drops it, and the client sends it again.
//!
//! So what comes is parked under the name of the listening socket, and sock_ops gives it to the connection that follows
//! from it. It is read with the first segment of the connection that passes a hook in either direction: as a rule that is
//! the acknowledgement of this one.

use agent_common::{
    abi::{Connection, Handshake, ParkedKey, Scratch},
    limits::{PARKED_BYTES, PLACES_OF_SEGMENT},
};
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_smp_processor_id, bpf_get_socket_cookie, bpf_loop},
    },
    programs::{SkBuffContext, SockOpsContext},
};
use core::{
    ffi::{c_long, c_void},
    ptr,
};

use crate::{
    maps::{SG_HANDSHAKE, SG_PARKED, SG_SCRATCH_IN},
    packet::{self, SYN},
    parking::Parking,
    traffic::{UNREADABLE, take_segment},
};

/// A packet for a listening socket of a watched port.
#[inline(never)]
pub(crate) fn data_arrived(context: &SkBuffContext, port: u32) {
    let (Some(handshake), Some(scratch)) = (SG_HANDSHAKE.get_ptr_mut(0), SG_SCRATCH_IN.get_ptr_mut(0)) else {
        return;
    };
    // SAFETY: ingress runs with softirqs off: nobody else uses this CPU's areas.
    let (handshake, scratch) = unsafe { (&mut *handshake, &mut *scratch) };
    let flags = take_segment(context, scratch);
    if flags == UNREADABLE || scratch.segment_length == 0 {
        return;
    }
    if flags & SYN != 0 {
        // A SYN is a byte in front of the data that comes with it.
        scratch.segment_sequence = scratch.segment_sequence.wrapping_add(1);
    }
    // SAFETY: reading the clock has no precondition.
    scratch.segment_seen_at = unsafe { bpf_ktime_get_ns() };
    forget(context, handshake);
    if packet::sender(context, &mut handshake.client, &mut handshake.client_port) {
        handshake.port = port as u16;
        keep(context, handshake, scratch);
    }
}

/// Parks the segment at hand.
#[inline(never)]
fn keep(context: &SkBuffContext, handshake: &mut Handshake, scratch: &mut Scratch) {
    let parking = Parking {
        skb: context.as_ptr(),
        handshake: this_cpu(),
    };
    if parking.park(&scratch.segment()).is_some() {
        handshake.listener = parking.socket();
        handshake.sequence = scratch.segment_sequence;
        handshake.length = scratch.segment_length;
    }
}

/// No connection came of what was parked last: TCP has dropped the packet.
#[inline(never)]
fn forget(context: &SkBuffContext, handshake: &mut Handshake) {
    if handshake.length == 0 {
        return;
    }
    let mut cells = Cells {
        next: ParkedKey::of(handshake.listener, this_cpu(), handshake.sequence),
        left: cells_of(handshake),
        moved: 0,
        socket: 0,
        skb: context.as_ptr(),
    };
    handshake.length = 0;
    // SAFETY: the callback gets the cells and outlives nothing.
    unsafe {
        bpf_loop(
            PLACES_OF_SEGMENT,
            forget_step as *mut c_void,
            (&raw mut cells).cast(),
            0,
        );
    }
}

unsafe extern "C" fn forget_step(_: u32, cells: *mut Cells) -> c_long {
    // SAFETY: `forget` passes its cells.
    let cells = unsafe { &mut *cells };
    if cells.left == 0 {
        return 1;
    }
    let parking = Parking {
        skb: cells.skb,
        handshake: 0,
    };
    parking.forget(&cells.next);
    cells.step();
    0
}

/// Gives a connection that is being established what came with its handshake, if anything did.
#[inline(always)]
pub(crate) fn take_over(context: &SockOpsContext, connection: &mut Connection) {
    if let Some(handshake) = SG_HANDSHAKE.get_ptr_mut(0) {
        // SAFETY: sock_ops runs here with softirqs off, as ingress did.
        let handshake = unsafe { &mut *handshake };
        if handshake.length != 0 {
            take(context, connection, handshake);
        }
    }
}

#[inline(never)]
fn take(context: &SockOpsContext, connection: &mut Connection, handshake: &mut Handshake) {
    let same = handshake.client_port == connection.client_port
        && u32::from(handshake.port) == context.local_port()
        && handshake.client[0] == connection.client[0]
        && handshake.client[1] == connection.client[1]
        && handshake.client[2] == connection.client[2]
        && handshake.client[3] == connection.client[3]
        && handshake.sequence.wrapping_sub(connection.next_in) < 1 << 31;
    if !same {
        return;
    }
    let mut cells = Cells {
        next: ParkedKey::of(handshake.listener, this_cpu(), handshake.sequence),
        left: cells_of(handshake),
        moved: 0,
        // SAFETY: the context is valid.
        socket: unsafe { bpf_get_socket_cookie(context.as_ptr()) },
        skb: ptr::null_mut(),
    };
    let end = handshake.sequence.wrapping_add(handshake.length);
    handshake.length = 0;
    // SAFETY: the callback gets the cells and outlives nothing.
    unsafe {
        bpf_loop(
            PLACES_OF_SEGMENT,
            move_step as *mut c_void,
            (&raw mut cells).cast(),
            0,
        );
    }
    connection.parked = cells.moved as u8;
    connection.parked_end = end;
    connection.marks |= Connection::UNREAD;
}

unsafe extern "C" fn move_step(_: u32, cells: *mut Cells) -> c_long {
    // SAFETY: `take` passes its cells.
    let cells = unsafe { &mut *cells };
    if cells.left == 0 {
        return 1;
    }
    // SAFETY: an entry of the map.
    if let Some(kept) = SG_PARKED.get_ptr(&cells.next).map(|kept| unsafe { *kept }) {
        let key = ParkedKey {
            socket: cells.socket,
            handshake: 0,
            ..cells.next
        };
        // Two entries stand for one place for a moment. Where there is no room for the second, the daemon frees the first.
        if SG_PARKED.insert(&key, &kept, u64::from(BPF_NOEXIST)).is_ok() {
            cells.moved = cells.moved.wrapping_add(1);
            // It cannot fail: who else removes entries does so when they are old.
            let _ = SG_PARKED.remove(&cells.next);
        }
    }
    cells.step();
    0
}

/// Cells on their way from one name to another, or out.
struct Cells {
    /// The next one.
    next: ParkedKey,
    /// How many are left.
    left: u32,
    /// How many have a place under the new name.
    moved: u32,
    /// Cookie of the connection's socket.
    socket: u64,
    /// The packet at hand.
    skb: *mut c_void,
}

impl Cells {
    #[inline(always)]
    fn step(&mut self) {
        self.next.sequence = self.next.sequence.wrapping_add(PARKED_BYTES as u32);
        self.left = self.left.wrapping_sub(1);
    }
}

/// In how many cells it lies.
#[inline(always)]
fn cells_of(handshake: &Handshake) -> u32 {
    let end = ParkedKey::offset(handshake.sequence).wrapping_add(handshake.length);
    end.wrapping_add(PARKED_BYTES as u32 - 1) / PARKED_BYTES as u32
}

/// [`ParkedKey::handshake`] of what comes on this CPU.
#[inline(always)]
fn this_cpu() -> u32 {
    // SAFETY: it has no precondition.
    unsafe { bpf_get_smp_processor_id() }.wrapping_add(1)
}
