//! iter/tcp: gives the connections that existed before the agent their state, so that the gauges are true from the
//! first scrape. The daemon names them by socket cookie; the program needs no offset of any kernel structure.

use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, helpers::generated::bpf_get_socket_cookie};
use core::ffi::c_void;

use crate::{connections, iterator::TcpIterator, maps::SG_SEEDS};

/// Runs for each TCP socket of a network namespace.
#[unsafe(link_section = "iter/tcp")]
#[unsafe(no_mangle)]
pub extern "C" fn sg_seed(context: *mut TcpIterator) -> i32 {
    // SAFETY: the kernel passes this context.
    let socket = unsafe { TcpIterator::socket(context) };
    if !socket.is_null() {
        seed(socket);
    }
    0
}

#[inline(always)]
fn seed(socket: *mut c_void) {
    // SAFETY: a socket that the iterator holds.
    let cookie = unsafe { bpf_get_socket_cookie(socket) };
    let Some(seed) = SG_SEEDS.get_ptr(&cookie) else {
        return;
    };
    // SAFETY: the daemon does not write entries while the iterator runs.
    let (slot, client, port) = unsafe { ((*seed).slot, (*seed).client, (*seed).port) };
    let connection = connections::storage(socket, u64::from(BPF_SK_STORAGE_GET_F_CREATE));
    if connection.is_null() {
        return;
    }
    // SAFETY: storage of a socket that the iterator holds.
    connections::fill_adopted(unsafe { &mut *connection }, slot, &client, port);
}
