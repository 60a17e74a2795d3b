//! What nothing gets below: programs that do one thing each of what the meter cannot do without, and let the packet through.
//! `cargo xtask bench floor` attaches them in turns, in the agent's place. No part of the agent.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "the program macros of aya-ebpf write functions that are public, undocumented and take contexts by value"
)]

mod object;

use agent_common::abi::Connection;
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_load_bytes},
    },
    macros::{btf_map, cgroup_skb},
    programs::SkBuffContext,
};
use core::ptr;

/// cgroup_skb: let the packet through.
const ALLOW: i32 = 1;

/// IPv4, and TCP with timestamps: what comes before the payload on loopback.
const HEADERS: u32 = 20 + 32;

/// Bytes of a GET of the benchmark's: all that is looked at of it.
const REQUEST: usize = 36;

/// What is looked at of a reply.
const REPLY: usize = 16;

/// As large as what the agent keeps of a connection.
#[btf_map]
static FLOOR_CONNECTIONS: SkStorage<Connection> = SkStorage::new();

/// Nothing at all: the call itself, and the kernel's clock around it.
#[cgroup_skb]
pub fn floor_nothing(_context: SkBuffContext) -> i32 {
    ALLOW
}

/// The moment of a command.
#[cgroup_skb]
pub fn floor_clock(_context: SkBuffContext) -> i32 {
    clock();
    ALLOW
}

/// The bytes of a command.
#[cgroup_skb]
pub fn floor_request(context: SkBuffContext) -> i32 {
    bytes::<REQUEST>(&context);
    ALLOW
}

/// The bytes of a reply.
#[cgroup_skb]
pub fn floor_reply(context: SkBuffContext) -> i32 {
    bytes::<REPLY>(&context);
    ALLOW
}

/// The connection.
#[cgroup_skb]
pub fn floor_connection(context: SkBuffContext) -> i32 {
    connection(&context);
    ALLOW
}

/// What a command cannot be counted without.
#[cgroup_skb]
pub fn floor_in(context: SkBuffContext) -> i32 {
    connection(&context);
    bytes::<REQUEST>(&context);
    clock();
    ALLOW
}

/// What a reply cannot be counted without: its moment is written on the packet.
#[cgroup_skb]
pub fn floor_out(context: SkBuffContext) -> i32 {
    connection(&context);
    bytes::<REPLY>(&context);
    ALLOW
}

#[inline(always)]
fn clock() {
    // SAFETY: reading the clock has no precondition.
    unsafe { bpf_ktime_get_ns() };
}

#[inline(always)]
fn bytes<const LENGTH: usize>(context: &SkBuffContext) {
    let mut bytes = [0_u8; LENGTH];
    // SAFETY: the helper writes at most the array's size to it. A shorter packet is refused, which is fine here.
    unsafe {
        bpf_skb_load_bytes(
            context.as_ptr(),
            HEADERS,
            bytes.as_mut_ptr().cast(),
            LENGTH as u32,
        )
    };
}

/// Finds what is kept of the packet's connection, and reads a cell of it; made here for the first packet.
#[inline(always)]
fn connection(context: &SkBuffContext) {
    let map = ptr::from_ref(&FLOOR_CONNECTIONS).cast_mut().cast();
    // SAFETY: the context is valid; map and socket are what the helpers want, which the verifier checks.
    unsafe {
        let socket = (*context.skb.skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        let found: *mut Connection = bpf_sk_storage_get(map, socket.cast(), ptr::null_mut(), 0).cast();
        if !found.is_null() {
            ptr::read_volatile(&raw const (*found).state);
            return;
        }
        let socket = bpf_sk_fullsock(socket);
        if !socket.is_null() {
            let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
            bpf_sk_storage_get(map, socket.cast(), ptr::null_mut(), flags);
        }
    }
}
