//! Stormglass' kernel programs. Each entry point is a shell: it calls one function and lets the traffic through,
//! whatever that function found. What the bytes mean is decided in `agent-common`, which is tested on the host.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "the program macros of aya-ebpf write functions that are public, undocumented and take contexts by value"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or value given away is copied once more on a stack of 512 bytes"
)]

mod atomic;
mod classes;
mod connections;
mod handshakes;
mod identity;
mod iterator;
mod ledger;
mod listeners;
mod maps;
mod object;
mod packet;
mod parking;
mod processes;
mod seed;
mod traffic;

use aya_ebpf::{
    macros::{cgroup_skb, raw_tracepoint, sock_ops},
    programs::{RawTracePointContext, SkBuffContext, SockOpsContext},
};

/// cgroup_skb: let the packet through.
const ALLOW: i32 = 1;

/// Segments on their way to a server.
#[cgroup_skb(ingress)]
pub fn sg_ingress(context: SkBuffContext) -> i32 {
    traffic::ingress(&context);
    ALLOW
}

/// Segments on their way from a server.
#[cgroup_skb(egress)]
pub fn sg_egress(context: SkBuffContext) -> i32 {
    traffic::egress(&context);
    ALLOW
}

/// What a segment from a server goes by on its way to [`sg_egress`] where commands of its connection are not read yet. A
/// program of its own: the meter of commands and the one of replies need the stack for themselves.
#[cgroup_skb(egress)]
pub fn sg_unread(context: SkBuffContext) -> i32 {
    traffic::unread(&context);
    ALLOW
}

/// Sockets that begin to listen; connections that are established or end.
#[sock_ops]
pub fn sg_sockets(context: SockOpsContext) -> u32 {
    connections::socket_event(&context);
    1
}

/// Server processes that start.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sg_exec(_context: RawTracePointContext) -> i32 {
    processes::executed();
    0
}
