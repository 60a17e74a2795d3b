//! Processes: the start of a server is announced, so that its cgroup is watched before it listens.

use agent_common::abi::{Event, EventKind, Loss};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};

use crate::{
    ledger::count_loss,
    maps::{SG_EVENTS, SG_NAMES},
};

/// A process was executed; its name is the new one already.
#[inline(always)]
pub(crate) fn executed() {
    let Ok(name) = bpf_get_current_comm() else { return };
    if SG_NAMES.get_ptr(&name).is_none() {
        return;
    }
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let event = Event {
        kind: EventKind::Exec as u32,
        pid,
        scope: 0,
        address: [0; 4],
        port: 0,
        slot: 0,
        reserved: 0,
    };
    if SG_EVENTS.output(&event, 0).is_err() {
        count_loss(Loss::EventRingFull, 1);
    }
}
