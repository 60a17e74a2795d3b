//! cgroup_skb: the segments of the servers' connections, through the meter.

use agent_common::{
    abi::{Connection, Loss, Reason, Scratch},
    limits,
    resp::{Payload, Replies, Requests},
};
use aya_ebpf::{EbpfContext, helpers::generated::bpf_loop, programs::SkBuffContext};
use core::ffi::{c_long, c_void};

use crate::{
    atomic, connections,
    ledger::{self, Maps},
    maps::{SG_SCRATCH_IN, SG_SCRATCH_OUT, SG_SETTINGS},
    packet::{self, FIN, Packet, RST, Tcp},
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
        meter_requests(context, connection, &tcp.payload);
    }
    close_adopted(connection, &tcp);
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
        meter_replies(context, connection, &tcp.payload);
    }
    close_adopted(connection, &tcp);
}

/// Connections that existed before the agent have no socket callbacks: their end is seen in their packets.
#[inline(always)]
fn close_adopted(connection: &mut Connection, tcp: &Tcp) {
    if connection.adopted != 0 && tcp.flags & (FIN | RST) != 0 {
        connections::ended(connection);
    }
}

#[inline(always)]
fn meter_requests(context: &SkBuffContext, connection: &mut Connection, payload: &Payload) {
    // Two CPUs may deliver segments of one connection at once; the state is for one.
    // SAFETY: a cell of the connection's storage.
    if unsafe { atomic::swap(&raw mut connection.requests.busy, 1) } != 0 {
        // This segment will read as a hole, which it is.
        return connection.lose_synchronisation(Reason::Contended);
    }
    run_requests(context, connection, payload);
    // SAFETY: as above; volatile, so that it stays behind the work.
    unsafe { core::ptr::write_volatile(&raw mut connection.requests.busy, 0) };
}

#[inline(always)]
fn run_requests(context: &SkBuffContext, connection: &mut Connection, payload: &Payload) {
    let Some(scratch) = SG_SCRATCH_IN.get_ptr_mut(0) else {
        return;
    };
    let Some(settings) = SG_SETTINGS.get(0) else {
        return;
    };
    let mut meter = Requests {
        connection,
        // SAFETY: ingress runs with softirqs off: nobody else uses this CPU's area.
        scratch: unsafe { &mut *scratch },
        settings,
        segment: Packet {
            skb: context.as_ptr(),
        },
        ledger: Maps,
    };
    if !meter.begin(payload) {
        return;
    }
    // SAFETY: the callback gets the meter and outlives nothing.
    unsafe {
        bpf_loop(
            limits::MAX_STEPS,
            requests_step as *mut c_void,
            (&raw mut meter).cast(),
            0,
        );
    }
    meter.end();
}

unsafe extern "C" fn requests_step(_: u32, meter: *mut Requests<'_, Packet, Maps>) -> c_long {
    // SAFETY: `run_requests` passes its meter.
    let meter = unsafe { &mut *meter };
    c_long::from(!meter.step())
}

#[inline(always)]
fn meter_replies(context: &SkBuffContext, connection: &mut Connection, payload: &Payload) {
    let Some(scratch) = claim_scratch() else {
        ledger::count_loss(Loss::ScratchBusy, 1);
        return;
    };
    let mut meter = Replies {
        connection,
        scratch,
        segment: Packet {
            skb: context.as_ptr(),
        },
        ledger: Maps,
    };
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

unsafe extern "C" fn replies_step(_: u32, meter: *mut Replies<'_, Packet, Maps>) -> c_long {
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
