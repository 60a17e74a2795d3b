//! What both sides of the kernel boundary share: the structs that cross it ([`abi`]), every bound ([`limits`]) and the
//! RESP meter ([`resp`]). `no_std`, no allocation, no panic: the same source runs in the kernel and in host tests.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod limits;
pub mod resp;
