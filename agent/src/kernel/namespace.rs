//! Facts of network namespaces that no safe library offers.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// Cookie of the network namespace that a socket belongs to (`SO_NETNS_COOKIE`, Linux 5.14).
///
/// # Errors
///
/// The system call's; `ENOPROTOOPT` on kernels before 5.14.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    socket_option(socket, libc::SO_NETNS_COOKIE)
}

fn socket_option(socket: BorrowedFd<'_>, option: i32) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}
