//! What must hold on a kernel, run inside a virtual machine by `cargo xtask test --vm`: `supported` on those from 6.1 on,
//! `too_old` on 5.10. The machine is nobody else's: nothing but our own programs is loaded into its kernel.
#![forbid(unsafe_code)]

mod books;
mod supported;
mod too_old;
