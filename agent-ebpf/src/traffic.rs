//! cgroup_skb: the segments of the servers' connections, through the meter.

use agent_common::{
    abi::{Connection, KeySettings, Loss, Reason, Scratch},
    limits,
    resp::{Payload, Plan, Replies, Requests, Turn},
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
    maps::{SG_SCRATCH_IN, SG_SCRATCH_OUT, SG_SETTINGS},
    packet::{self, FIN, RST, Tcp},
    parking::{Parked, Source},
};

/// A segment on its way to a server.
#[inline(always)]
pub(crate) fn ingress(context: &SkBuffContext) {
    let Some(connection) = connections::of_packet(context) else {
        return;
    };
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

/// What [`take_segment`] returns instead of flags. No segment has all of them.
const UNREADABLE: u8 = u8::MAX;

/// Puts the packet's segment at hand. Returns its TCP flags.
#[inline(never)]
fn take_segment(context: &SkBuffContext, scratch: &mut Scratch) -> u8 {
    let Some(tcp) = packet::tcp(context) else {
        return UNREADABLE;
    };
    scratch.set_segment(&tcp.payload);
    tcp.flags
}

/// A segment on its way from a server.
#[inline(always)]
pub(crate) fn egress(context: &SkBuffContext) {
    let Some(connection) = connections::of_packet(context) else {
        return;
    };
    let Some(tcp) = leaving(context) else {
        return ledger::count_loss(Loss::HeaderUnreadable, 1);
    };
    if tcp.payload.length != 0 {
        let payload = Payload {
            seen_at: departure(context),
            ..tcp.payload
        };
        meter_replies(context, connection, &payload);
    }
    if ends(connection, tcp.flags) {
        connections::ended(connection, By::Server);
        connections::close_reply_books(connection);
    }
}

#[inline(never)]
fn leaving(context: &SkBuffContext) -> Option<Tcp> {
    packet::tcp(context)
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
    if !lock(connection) {
        // This segment will read as a hole, which it is.
        return connection.lose_synchronisation(Reason::Contended);
    }
    run_requests(context, connection, scratch);
    // SAFETY: a cell of the connection's storage; volatile, so that it stays behind the work.
    unsafe { ptr::write_volatile(&raw mut connection.requests.busy, 0) };
}

/// Two CPUs may deliver segments of one connection at once; the state is for one. The other one is done within
/// microseconds, since it runs with softirqs off: a bounded wait keeps the stream whole.
#[inline(always)]
fn lock(connection: &mut Connection) -> bool {
    // SAFETY: a cell of the connection's storage.
    unsafe { atomic::swap(&raw mut connection.requests.busy, 1) == 0 || wait_for_lock(connection) }
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
        let busy = &raw mut (*(*wait).connection).requests.busy;
        if ptr::read_volatile(busy) == 0 && atomic::swap(busy, 1) == 0 {
            (*wait).locked = 1;
            return 1;
        }
    }
    0
}

#[inline(always)]
fn run_requests(context: &SkBuffContext, connection: &mut Connection, scratch: &mut Scratch) {
    let Some(settings) = SG_SETTINGS.get(0) else {
        return;
    };
    let mut work = Work {
        skb: context.as_ptr().cast(),
        connection,
        scratch,
        settings: ptr::from_ref(settings),
    };
    // SAFETY: the callback gets the work and outlives nothing.
    unsafe {
        bpf_loop(
            1 + u32::from(limits::PARKED_SEGMENTS_OF_CONNECTION),
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

/// Handles the segment at hand, and then those parked behind it.
unsafe extern "C" fn segment_step(index: u32, work: *mut Work) -> c_long {
    // SAFETY: `run_requests` passes its work.
    let work = unsafe { &mut *work };
    if index == 0 {
        work.meter().segment.read_packet();
    } else if !unpark(work) {
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
    let mut meter = work.meter();
    if index != 0 {
        meter.segment.leave(meter.scratch.segment_length);
    }
    c_long::from(meter.connection.parked == 0)
}

/// A function of its own: what the verifier learns in it ends with it, and it walks what follows once.
#[inline(never)]
fn begin(work: &mut Work) -> Plan {
    let mut meter = work.meter();
    let segment = meter.scratch.segment();
    meter.begin(&segment)
}

/// Puts the next of the parked segments at hand, if it follows; a function of its own for the same reason.
#[inline(never)]
fn unpark(work: &mut Work) -> bool {
    let mut meter = work.meter();
    let Some(parked) = meter.segment.unpark(meter.connection.requests.next_sequence) else {
        meter.forget_passed();
        return false;
    };
    meter.scratch.set_segment(&parked);
    meter.connection.parked = meter.connection.parked.wrapping_sub(1);
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
    let mut meter = work.meter();
    let mut segment = meter.scratch.segment();
    meter.trim(&mut segment);
    match meter.segment.park(&segment) {
        Parked::In(places) => meter.parked(&segment, places),
        Parked::Already => {}
        Parked::No => meter.give_up_early(&segment),
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
    // SAFETY: the area claimed above; volatile, so that it stays behind the work.
    unsafe { ptr::write_volatile(&raw mut meter.scratch.claimed, 0) };
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
