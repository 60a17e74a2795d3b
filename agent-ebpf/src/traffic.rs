//! cgroup_skb: the segments of the servers' connections, through the meter.

use agent_common::{
    abi::{Connection, KeySettings, Loss, Reason, Scratch, called},
    limits,
    resp::{Payload, Plan, Replies, Requests, Turn, whole_reply},
};
use aya_ebpf::{
    EbpfContext,
    bindings::__sk_buff,
    helpers::{bpf_ktime_get_ns, generated::bpf_loop},
    programs::SkBuffContext,
};
use core::{
    ffi::{c_long, c_void},
    ptr,
};

use crate::{
    atomic,
    connections::{self, By},
    ledger::{self, Maps},
    maps::{SG_CALLED, SG_SCRATCH_IN, SG_SCRATCH_OUT, SG_SETTINGS},
    packet::{self, FIN, RST},
    parking::{PACKET, Parking, Source},
};

/// A segment on its way to a server.
#[inline(always)]
pub(crate) fn ingress(context: &SkBuffContext) {
    let Some(connection) = connections::of_packet::<true>(context) else {
        return;
    };
    fetch(context, connection);
    let Some(scratch) = SG_SCRATCH_IN.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: ingress runs with softirqs off: nobody else uses this CPU's area.
    let scratch = unsafe { &mut *scratch };
    let flags = take_segment(context, scratch);
    if flags == UNREADABLE {
        return ledger::count_loss(Loss::HeaderUnreadable, 1);
    }
    let Payload { sequence, length, .. } = scratch.segment();
    if length != 0 {
        // SAFETY: reading the clock has no precondition.
        scratch.segment_seen_at = unsafe { bpf_ktime_get_ns() };
        meter_requests(context, connection, scratch);
    }
    // A reset with another sequence number is not obeyed by TCP (RFC 5961).
    let end = sequence.wrapping_add(length);
    if ends(connection, flags) && (flags & RST == 0 || connection.expects(end)) {
        connections::ended(connection, By::Client);
        connections::close_request_books(connection);
    }
}

/// Sends for the line in which the two directions meet, if the packet looks as if it had payload: acknowledgements do not need it.
#[inline(always)]
fn fetch(context: &SkBuffContext, connection: &mut Connection) {
    /// IPv6, TCP with timestamps.
    const HEADERS: u32 = 40 + 32;
    if context.len() > HEADERS {
        connection.runs.fetch();
    }
}

/// What [`take_segment`] returns instead of flags. No segment has all of them.
pub(crate) const UNREADABLE: u8 = u8::MAX;

/// Puts the packet's segment at hand. Returns its TCP flags.
#[inline(always)]
pub(crate) fn take_segment(context: &SkBuffContext, scratch: &mut Scratch) -> u8 {
    let Some(tcp) = packet::tcp(context) else {
        return UNREADABLE;
    };
    scratch.set_segment(&tcp.payload);
    tcp.flags
}

/// A segment on its way from a server.
#[inline(always)]
pub(crate) fn egress(context: &SkBuffContext) {
    let Some(connection) = connections::of_packet::<false>(context) else {
        return;
    };
    fetch(context, connection);
    if connection.marks & Connection::UNREAD != 0 {
        // SAFETY: this program begins again from the start once that one has read what there is. Not to be called costs
        // the connection its synchronisation.
        unsafe { SG_CALLED.tail_call(context, called::UNREAD) };
    }
    let Some(tcp) = packet::tcp(context) else {
        return ledger::count_loss(Loss::HeaderUnreadable, 1);
    };
    if tcp.payload.length != 0 {
        let payload = Payload {
            seen_at: departure(context),
            ..tcp.payload
        };
        if !whole_answer(context, connection, &payload) {
            meter_replies(context, connection, &payload);
        }
    }
    if ends(connection, tcp.flags) {
        connections::ended(connection, By::Server);
        connections::close_reply_books(connection);
    }
}

/// When a segment leaves: TCP has written that on it, on the monotonic clock (net/ipv4/tcp_output.c, since Linux 5.18 for
/// every segment with payload).
#[inline(always)]
fn departure(context: &SkBuffContext) -> u64 {
    // SAFETY: the context is valid; the verifier checks the field.
    let written = unsafe { ptr::read_volatile(&raw const (*context.skb.skb).tstamp) };
    if written != 0 {
        return written;
    }
    // SAFETY: reading the clock has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// Whether a segment ends a connection that existed before the agent: those have no socket callbacks, their end is seen
/// in their packets.
#[inline(always)]
fn ends(connection: &Connection, flags: u8) -> bool {
    connection.adopted != 0 && flags & (FIN | RST) != 0
}

#[inline(always)]
fn meter_requests(context: &SkBuffContext, connection: &mut Connection, scratch: &mut Scratch) {
    match lock_and_try(context, connection, scratch) {
        Tried::BUSY => {
            // This segment will read as a hole, which it is.
            return connection.lose_synchronisation(Reason::Contended);
        }
        Tried::DONE => {}
        _ => {
            let first = if connection.marks & Connection::UNREAD == 0 {
                First::PACKET
            } else {
                First::PARKED
            };
            run_requests(context, connection, scratch, first);
        }
    }
    unlock(connection);
}

/// What [`lock_and_try`] comes to: plain numbers, of which the verifier knows nothing more.
struct Tried;

impl Tried {
    /// The connection is locked, and the segment dealt with.
    const DONE: u32 = 0;
    /// It is locked, and the segment is for the meter.
    const LOCKED: u32 = 1;
    /// It is not to be had.
    const BUSY: u32 = 2;
}

/// [`Requests::whole`] around the lock, in a function of its own: what the verifier learns in it ends with it, and it walks what
/// follows once.
#[inline(never)]
fn lock_and_try(context: &SkBuffContext, connection: &mut Connection, scratch: &mut Scratch) -> u32 {
    let Some(settings) = SG_SETTINGS.get(0) else {
        return Tried::BUSY;
    };
    let payload = scratch.segment();
    let mut meter = Requests {
        connection,
        segment: Source {
            skb: context.as_ptr(),
            place: &raw mut scratch.place,
        },
        scratch,
        settings,
        ledger: Maps {
            skb: context.as_ptr().cast(),
        },
    };
    let command = meter.sight(&payload);
    if !lock(meter.connection) {
        meter.forget_whole();
        return Tried::BUSY;
    }
    if meter.take_whole(&payload, &command) {
        Tried::DONE
    } else {
        Tried::LOCKED
    }
}

/// [`whole_reply`] with what the kernel has for it.
#[inline(always)]
fn whole_answer(context: &SkBuffContext, connection: &mut Connection, payload: &Payload) -> bool {
    let mut segment = Source {
        skb: context.as_ptr(),
        place: ptr::null_mut(),
    };
    let mut ledger = Maps {
        skb: context.as_ptr().cast(),
    };
    whole_reply(connection, &mut segment, &mut ledger, payload)
}

/// A segment on its way from a server whose connection has commands that are not read yet: they are read before the answer
/// to them leaves.
#[inline(always)]
pub(crate) fn unread(context: &SkBuffContext) {
    let Some(connection) = connections::of_packet::<false>(context) else {
        return;
    };
    if let Some(scratch) = claim_scratch() {
        if lock(connection) {
            if connection.marks & Connection::UNREAD != 0 {
                // SAFETY: reading the clock has no precondition.
                scratch.segment_seen_at = unsafe { bpf_ktime_get_ns() };
                run_requests(context, connection, scratch, First::PARKED_ALONE);
            }
            unlock(connection);
        }
        give_back(scratch);
    }
    // Whatever became of them: this is for once, and `sg_egress` must not come back.
    connection.marks &= !Connection::UNREAD;
    // SAFETY: nothing is left to be done here.
    unsafe { SG_CALLED.tail_call(context, called::EGRESS) };
}

#[inline(always)]
fn unlock(connection: &mut Connection) {
    // SAFETY: a cell of the connection's storage; volatile, so that it stays behind the work.
    unsafe { ptr::write_volatile(&raw mut connection.busy, 0) };
}

/// Two CPUs may deliver segments of one connection at once; the state is for one. The other one is done within
/// microseconds, since it runs with softirqs off: a bounded wait keeps the stream whole.
#[inline(always)]
fn lock(connection: &mut Connection) -> bool {
    // SAFETY: a cell of the connection's storage.
    unsafe { atomic::swap(&raw mut connection.busy, 1) == 0 || wait_for_lock(connection) }
}

#[inline(never)]
fn wait_for_lock(connection: &mut Connection) -> bool {
    let mut wait = Wait {
        connection,
        locked: 0,
    };
    // SAFETY: the callback gets the wait and outlives nothing.
    unsafe {
        bpf_loop(
            limits::LOCK_TRIES,
            lock_step as *mut c_void,
            (&raw mut wait).cast(),
            0,
        );
    }
    wait.locked != 0
}

struct Wait {
    connection: *mut Connection,
    locked: u64,
}

unsafe extern "C" fn lock_step(_: u32, wait: *mut Wait) -> c_long {
    // SAFETY: `lock` passes its wait, which holds a connection.
    unsafe {
        let busy = &raw mut (*(*wait).connection).busy;
        if ptr::read_volatile(busy) == 0 && atomic::swap(busy, 1) == 0 {
            (*wait).locked = 1;
            return 1;
        }
    }
    0
}

#[inline(always)]
fn run_requests(context: &SkBuffContext, connection: &mut Connection, scratch: &mut Scratch, first: u32) {
    let Some(settings) = SG_SETTINGS.get(0) else {
        return;
    };
    scratch.first = first;
    scratch.packet_seen_at = scratch.segment_seen_at;
    let mut work = Work {
        skb: context.as_ptr().cast(),
        connection,
        scratch,
        settings: ptr::from_ref(settings),
    };
    // SAFETY: the callback gets the work and outlives nothing.
    unsafe {
        bpf_loop(
            2 + u32::from(limits::PLACES_OF_CONNECTION),
            segment_step as *mut c_void,
            (&raw mut work).cast(),
            0,
        );
    }
}

/// What the meter of requests works on, on the stack of the program.
struct Work {
    skb: *mut __sk_buff,
    connection: *mut Connection,
    scratch: *mut Scratch,
    settings: *const KeySettings,
}

/// What of a connection is read first: values of [`Scratch::first`].
struct First;

impl First {
    /// The packet at hand, and then what is parked behind it.
    const PACKET: u32 = 0;
    /// What came with the end of the handshake, then the packet.
    const PARKED: u32 = 1;
    /// The same, and no packet: it is one of the other direction.
    const PARKED_ALONE: u32 = 2;
}

impl Work {
    /// The meter at work on it.
    #[inline(always)]
    fn meter(&mut self) -> Requests<'_, Source, Maps> {
        // SAFETY: what they point to outlives the program's run; each of them is used by one meter at a time.
        unsafe {
            Requests {
                connection: &mut *self.connection,
                scratch: &mut *self.scratch,
                settings: &*self.settings,
                segment: Source {
                    skb: self.skb.cast(),
                    place: &raw mut (*self.scratch).place,
                },
                ledger: Maps { skb: self.skb },
            }
        }
    }
}

/// Handles the segment at hand, and then what is parked behind it.
unsafe extern "C" fn segment_step(index: u32, work: *mut Work) -> c_long {
    // SAFETY: `run_requests` passes its work.
    let work = unsafe { &mut *work };
    let mut meter = work.meter();
    if index == 0 && meter.scratch.first == First::PACKET {
        meter.segment.read_packet();
    } else if !next(work) {
        return 1;
    }
    match begin(work) {
        Plan::Read => {
            let inner: *mut Work = work;
            // SAFETY: the callback gets the work and outlives nothing.
            unsafe {
                bpf_loop(limits::MAX_STEPS, requests_step as *mut c_void, inner.cast(), 0);
            }
            end(work);
        }
        Plan::Park => park(work),
        Plan::Done => {}
    }
    let skb = work.skb.cast();
    let mut meter = work.meter();
    if meter.scratch.place != PACKET {
        if meter.scratch.places != 0 {
            parking(skb).free(meter.scratch.place);
        }
        meter.segment.read_packet();
    }
    if meter.connection.parked != 0 {
        meter.forget_passed();
    }
    c_long::from(meter.connection.parked == 0 && meter.scratch.first != First::PARKED)
}

/// The parking of a connection.
#[inline(always)]
fn parking(skb: *mut c_void) -> Parking {
    Parking { skb, handshake: 0 }
}

/// A function of its own: what the verifier learns in it ends with it, and it walks what follows once.
#[inline(never)]
fn begin(work: &mut Work) -> Plan {
    let mut meter = work.meter();
    let segment = meter.scratch.segment();
    meter.begin(&segment)
}

/// Puts what is read next at hand; a function of its own for the same reason.
#[inline(never)]
fn next(work: &mut Work) -> bool {
    let skb = work.skb;
    let mut meter = work.meter();
    let sequence = meter.connection.next_in;
    if let Some(unparked) = parking(skb.cast()).unpark(sequence, meter.scratch.packet_seen_at) {
        meter.scratch.set_segment(&unparked.payload);
        meter.scratch.places = unparked.places;
        meter.segment.set_place(unparked.place);
        meter.unparked(unparked.places as u8);
        return true;
    }
    meter.connection.marks &= !Connection::UNREAD;
    if meter.scratch.first != First::PARKED {
        return false;
    }
    // What came with the handshake has been read: now the packet.
    meter.segment.read_packet();
    meter.scratch.first = First::PACKET;
    take_segment(&SkBuffContext::new(skb), meter.scratch);
    meter.scratch.segment_seen_at = meter.scratch.packet_seen_at;
    true
}

/// A function of its own: what it has on the stack is not there while the steps run.
#[inline(never)]
fn end(work: &mut Work) {
    work.meter().end();
}

/// Keeps a segment that came early; a function of its own for the same reason.
#[inline(never)]
fn park(work: &mut Work) {
    let parking = parking(work.skb.cast());
    let mut meter = work.meter();
    let segment = meter.scratch.segment();
    match parking.park(&segment) {
        Some(places) => meter.parked(&segment, places),
        None => meter.give_up_early(&segment),
    }
}

unsafe extern "C" fn requests_step(_: u32, work: *mut Work) -> c_long {
    // SAFETY: `segment_step` passes its work.
    let work = unsafe { &mut *work };
    match work.meter().quick() {
        Turn::Again => 0,
        Turn::Done => 1,
        Turn::Slow => {
            let again = sg_slow_request(work.skb, work.connection, work.scratch, work.settings);
            // A callback returns 0 or 1: the verifier wants to see it.
            (atomic::masked::<1>(again as usize) ^ 1) as c_long
        }
    }
}

/// The slow half of a step. A global function: the verifier checks it once, on its own, and not again for whatever it
/// knows at each place that calls it. Such a function gets each pointer as an argument, and may be given null.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_slow_request(
    skb: *mut __sk_buff,
    connection: *mut Connection,
    scratch: *mut Scratch,
    settings: *const KeySettings,
) -> u32 {
    if connection.is_null() || scratch.is_null() || settings.is_null() {
        return 0;
    }
    // The verifier knows their sizes by their types, and checks each caller's.
    let mut work = Work {
        skb,
        connection,
        scratch,
        settings,
    };
    u32::from(work.meter().slow())
}

#[inline(always)]
fn meter_replies(context: &SkBuffContext, connection: &mut Connection, payload: &Payload) {
    let Some(scratch) = claim_scratch() else {
        ledger::count_loss(Loss::ScratchBusy, 1);
        return;
    };
    let place = &raw mut scratch.place;
    let mut meter = Replies {
        connection,
        scratch,
        segment: Source {
            skb: context.as_ptr(),
            place,
        },
        ledger: Maps {
            skb: context.as_ptr().cast(),
        },
    };
    meter.segment.read_packet();
    if meter.begin(payload) {
        // SAFETY: the callback gets the meter and outlives nothing.
        unsafe {
            bpf_loop(
                limits::MAX_STEPS,
                replies_step as *mut c_void,
                (&raw mut meter).cast(),
                0,
            );
        }
        meter.end();
    }
    give_back(meter.scratch);
}

/// Gives back a scratch area that was claimed.
#[inline(always)]
fn give_back(scratch: &mut Scratch) {
    // SAFETY: a valid reference; volatile, so that it stays behind the work.
    unsafe { ptr::write_volatile(&raw mut scratch.claimed, 0) };
}

unsafe extern "C" fn replies_step(_: u32, meter: *mut Replies<'_, Source, Maps>) -> c_long {
    // SAFETY: `meter_replies` passes its meter.
    let meter = unsafe { &mut *meter };
    c_long::from(!meter.step())
}

/// Claims one of this CPU's scratch areas.
#[inline(always)]
fn claim_scratch() -> Option<&'static mut Scratch> {
    let mut index = 0;
    while index < limits::EGRESS_SCRATCH_AREAS {
        if let Some(scratch) = SG_SCRATCH_OUT.get_ptr_mut(index) {
            // SAFETY: a cell of the map's value; whoever finds 0 owns the area until it writes 0 again.
            if unsafe { atomic::swap(&raw mut (*scratch).claimed, 1) } == 0 {
                // SAFETY: owned, see above.
                return Some(unsafe { &mut *scratch });
            }
        }
        index += 1;
    }
    None
}
