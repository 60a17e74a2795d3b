//! Segments that came before the one they follow: on loopback when a sender changes its CPU, on a network after a loss.
//! TCP keeps them until the gap is filled, and so must the meter, which sees each segment once.

use bytemuck::{Pod, Zeroable};

use super::WINDOW_BYTES;
use crate::limits::PARKED_BYTES;

/// Which segment is parked.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct ParkedKey {
    /// Cookie of the connection's socket.
    pub socket: u64,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Padding.
    pub reserved: u32,
}

/// Where a parked segment is.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct ParkedPlace {
    /// When it was parked, on the monotonic clock in nanoseconds.
    pub parked_at: u64,
    /// Index of its bytes.
    pub place: u32,
    /// Length in bytes.
    pub length: u32,
}

/// The payload of a parked segment. The daemon never reads it.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct ParkedBytes {
    /// The bytes, and room for a window read at any of them.
    pub bytes: [u8; PARKED_BYTES + WINDOW_BYTES],
}
