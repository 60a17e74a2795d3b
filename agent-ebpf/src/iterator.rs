//! What iter/tcp programs are given: each TCP socket of a network namespace, in whatever state.

use aya_ebpf::bindings::seq_file;
use core::{ffi::c_void, ptr};

/// Context of an iter/tcp program (`struct bpf_iter__tcp`, net/ipv4/tcp_ipv4.c, Linux 5.9; each pointer takes eight bytes).
#[repr(C)]
pub struct TcpIterator {
    meta: *mut IteratorMeta,
    socket: *mut c_void,
    uid: u32,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h); its first field is all that is used.
#[repr(C)]
struct IteratorMeta {
    output: *mut seq_file,
}

impl TcpIterator {
    /// The socket at hand, which the kernel holds while the program runs; null at the end.
    #[inline(always)]
    pub(crate) unsafe fn socket(context: *mut Self) -> *mut c_void {
        // SAFETY: the caller passes what the kernel gave it; the verifier checks the access.
        unsafe { ptr::read_volatile(&raw const (*context).socket) }
    }

    /// Where a program writes what the daemon reads.
    #[inline(always)]
    pub(crate) unsafe fn output(context: *mut Self) -> *mut seq_file {
        // SAFETY: the caller passes what the kernel gave it; the verifier checks each access.
        unsafe {
            let meta = ptr::read_volatile(&raw const (*context).meta);
            ptr::read_volatile(&raw const (*meta).output)
        }
    }
}
