//! cgroup_skb: the segments of the servers' connections, through the meter.

use agent_common::{
    abi::{Connection, Loss, Reason, Scratch},
    limits,
    resp::{Payload, Plan, Replies, Requests},
};
use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_ktime_get_ns, generated::bpf_loop},
    programs::SkBuffContext,
};
use core::ffi::{c_long, c_void};

use crate::{
    atomic, connections,
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
    let Some(tcp) = packet::tcp(context) else {
        return ledger::count_loss(Loss::HeaderUnreadable, 1);
    };
    if tcp.payload.length != 0 {
        let payload = Payload {
            // SAFETY: reading the clock has no precondition.
            seen_at: unsafe { bpf_ktime_get_ns() },
            ..tcp.payload
        };
        meter_requests(context, connection, &payload);
    }
    // A reset with another sequence number is not obeyed by TCP (RFC 5961).
    let end = tcp.payload.sequence.wrapping_add(tcp.payload.length);
    if ends(connection, &tcp) && (tcp.flags & RST == 0 || connection.expects(end)) {
        connections::ended(connection);
        connections::close_request_books(connection);
    }
}

/// A segment on its way from a server.
#[inline(always)]
pub(crate) fn egress(context: &SkBuffContext) {
    let Some(connection) = connections::of_packet(context) else {
        return;
    };
    let Some(tcp) = packet::tcp(context) else {
        return ledger::count_loss(Loss::HeaderUnreadable, 1);
    };
    if tcp.payload.length != 0 {
        let payload = Payload {
            seen_at: departure(context),
            ..tcp.payload
        };
        meter_replies(context, connection, &payload);
    }
    if ends(connection, &tcp) {
        connections::ended(connection);
        connections::close_reply_books(connection);
    }
}

/// When a segment leaves: TCP has written that on it, on the monotonic clock (net/ipv4/tcp_output.c, since Linux 5.18 for
/// every segment with payload).
#[inline(always)]
fn departure(context: &SkBuffContext) -> u64 {
    // SAFETY: the context is valid; the verifier checks the field.
    let written = unsafe { core::ptr::read_volatile(&raw const (*context.skb.skb).tstamp) };
    if written != 0 {
        return written;
    }
    // SAFETY: reading the clock has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// Whether a segment ends a connection that existed before the agent: those have no socket callbacks, their end is seen
/// in their packets.
#[inline(always)]
fn ends(connection: &Connection, tcp: &Tcp) -> bool {
    connection.adopted != 0 && tcp.flags & (FIN | RST) != 0
}

#[inline(always)]
fn meter_requests(context: &SkBuffContext, connection: &mut Connection, payload: &Payload) {
    if !lock(connection) {
        // This segment will read as a hole, which it is.
        return connection.lose_synchronisation(Reason::Contended);
    }
    run_requests(context, connection, payload);
    // SAFETY: a cell of the connection's storage; volatile, so that it stays behind the work.
    unsafe { core::ptr::write_volatile(&raw mut connection.requests.busy, 0) };
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
        if core::ptr::read_volatile(busy) == 0 && atomic::swap(busy, 1) == 0 {
            (*wait).locked = 1;
            return 1;
        }
    }
    0
}

#[inline(always)]
fn run_requests(context: &SkBuffContext, connection: &mut Connection, payload: &Payload) {
    let Some(scratch) = SG_SCRATCH_IN.get_ptr_mut(0) else {
        return;
    };
    let Some(settings) = SG_SETTINGS.get(0) else {
        return;
    };
    let source = Source {
        skb: context.as_ptr(),
        // SAFETY: a cell of this CPU's scratch.
        place: unsafe { &raw mut (*scratch).place },
    };
    let mut delivery = Delivery {
        meter: Requests {
            connection,
            // SAFETY: ingress runs with softirqs off: nobody else uses this CPU's area.
            scratch: unsafe { &mut *scratch },
            settings,
            segment: source,
            ledger: Maps,
        },
        payload: *payload,
    };
    // SAFETY: the callback gets the delivery and outlives nothing.
    unsafe {
        bpf_loop(
            1 + u32::from(limits::PARKED_SEGMENTS_OF_CONNECTION),
            segment_step as *mut c_void,
            (&raw mut delivery).cast(),
            0,
        );
    }
}

/// A segment, and then those parked behind it.
struct Delivery<'a> {
    meter: Requests<'a, Source, Maps>,
    payload: Payload,
}

unsafe extern "C" fn segment_step(index: u32, delivery: *mut Delivery<'_>) -> c_long {
    // SAFETY: `run_requests` passes its delivery.
    let Delivery { meter, payload } = unsafe { &mut *delivery };
    if index == 0 {
        meter.segment.read_packet();
    } else {
        match meter.segment.unpark(meter.connection.requests.next_sequence) {
            Some(parked) => *payload = parked,
            None => {
                meter.forget_passed();
                return 1;
            }
        }
        meter.connection.parked = meter.connection.parked.wrapping_sub(1);
    }
    match begin(meter, payload) {
        Plan::Read => {
            let inner: *mut Requests<'_, Source, Maps> = meter;
            // SAFETY: the callback gets the meter and outlives nothing.
            unsafe {
                bpf_loop(limits::MAX_STEPS, requests_step as *mut c_void, inner.cast(), 0);
            }
            meter.end();
        }
        Plan::Park => park(meter, payload),
        Plan::Done => {}
    }
    if index != 0 {
        meter.segment.leave(payload.length);
    }
    c_long::from(meter.connection.parked == 0)
}

/// A function of its own: what the verifier learns in it ends with it, and it walks what follows once.
#[inline(never)]
fn begin(meter: &mut Requests<'_, Source, Maps>, payload: &Payload) -> Plan {
    meter.begin(payload)
}

/// Keeps a segment that came early; a function of its own for the same reason.
#[inline(never)]
fn park(meter: &mut Requests<'_, Source, Maps>, payload: &Payload) {
    let mut payload = *payload;
    // What the verifier learns of the length would distinguish the ways back from here.
    payload.length = meter.scratch.forget(payload.length);
    meter.trim(&mut payload);
    match meter.segment.park(&payload) {
        Parked::In(places) => meter.parked(&payload, places),
        Parked::Already => {}
        Parked::No => meter.give_up_early(&payload),
    }
}

unsafe extern "C" fn requests_step(_: u32, meter: *mut Requests<'_, Source, Maps>) -> c_long {
    // SAFETY: `segment_step` passes its meter.
    let meter = unsafe { &mut *meter };
    c_long::from(!meter.step())
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
        ledger: Maps,
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
    unsafe { core::ptr::write_volatile(&raw mut meter.scratch.claimed, 0) };
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
