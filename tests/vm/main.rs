//! What must hold on a kernel, run inside a virtual machine by `cargo xtask test --vm`: `supported` on those from 6.1 on,
//! `too_old` on 5.10, and `installed` on Debian 12's own, with Debian 12's systemd as the first process. The machine is nobody
//! else's: nothing but our own programs is loaded into its kernel.
#![forbid(unsafe_code)]

mod books;
mod installed;
mod supported;
mod too_old;
