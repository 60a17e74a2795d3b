//! The window through which the meter sees a segment, and the scratch of one program run.

use bytemuck::{Pod, Zeroable};

/// Bytes that the window can hold for parsing; a power of two, so that masking an index proves it in bounds.
pub const WINDOW_BYTES: usize = 512;

/// Most bytes of one token (a header line, or the part of an argument that matters). What is left of a token at the
/// end of a segment is carried over to the next one.
pub const TOKEN_BYTES: usize = 48;

/// Most bytes of an argument that are looked at: a prefix and the delimiter behind it.
pub const CONTENT_BYTES: u32 = 33;

/// Bytes behind the window proper: a token starting at its last byte is read in whole words.
const SLACK: usize = 64;

const MASK: usize = WINDOW_BYTES - 1;

/// Bytes of a segment, copied out of the packet. Bytes behind those loaded are stale: every reader compares what it
/// found with how much is there.
#[repr(C, align(8))]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Window {
    bytes: [u8; WINDOW_BYTES + SLACK],
}

impl Window {
    /// Byte at index `at` (taken modulo the window).
    #[inline(always)]
    #[must_use]
    pub fn byte(&self, at: u32) -> u8 {
        let index = at as usize & MASK;
        // SAFETY: `index` is below WINDOW_BYTES.
        unsafe { *self.bytes.as_ptr().add(index) }
    }

    /// Eight bytes from index `at + AHEAD` as a little-endian word; `at` is taken modulo the window.
    #[inline(always)]
    #[must_use]
    pub fn word<const AHEAD: usize>(&self, at: u32) -> u64 {
        const { assert!(AHEAD + 8 <= SLACK) };
        let index = (at as usize & MASK) + AHEAD;
        // SAFETY: `index + 8` is at most WINDOW_BYTES - 1 + SLACK, inside `bytes`; the read needs no alignment.
        let word = unsafe { self.bytes.as_ptr().add(index).cast::<u64>().read_unaligned() };
        u64::from_le(word)
    }

    /// The first token of the window, from index `at`, as words.
    #[inline(always)]
    #[must_use]
    pub fn token(&self, at: u32) -> [u64; TOKEN_BYTES / 8] {
        [
            self.word::<0>(at),
            self.word::<8>(at),
            self.word::<16>(at),
            self.word::<24>(at),
            self.word::<32>(at),
            self.word::<40>(at),
        ]
    }

    /// Writes a token to the start of the window.
    #[inline(always)]
    pub fn set_token(&mut self, token: &[u64; TOKEN_BYTES / 8]) {
        let start = self.bytes.as_mut_ptr().cast::<u64>();
        // SAFETY: six words from the start of `bytes` (which is aligned to 8) are inside it.
        unsafe {
            start.write(token[0].to_le());
            start.add(1).write(token[1].to_le());
            start.add(2).write(token[2].to_le());
            start.add(3).write(token[3].to_le());
            start.add(4).write(token[4].to_le());
            start.add(5).write(token[5].to_le());
        }
    }

    /// Where a load of up to [`WINDOW_BYTES`] bytes behind a tail of fewer than 64 bytes goes.
    #[inline(always)]
    pub fn behind(&mut self, tail: u32) -> *mut u8 {
        // SAFETY: at most 63 bytes into `bytes`.
        unsafe { self.bytes.as_mut_ptr().add(tail as usize & 63) }
    }

    /// Copies `bytes` behind a tail of fewer than 64 bytes: what the kernel's load helper does, for host tests.
    pub fn copy_behind(&mut self, tail: u32, bytes: &[u8]) -> bool {
        let start = tail as usize & 63;
        match self.bytes.get_mut(start..start + bytes.len()) {
            Some(target) => {
                target.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}

/// What one program run needs beside the connection: too big for the BPF stack, and the verifier would follow every
/// value there. One per CPU for ingress; egress claims one of a few, because it may be preempted.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Scratch {
    /// The bytes being parsed.
    pub window: Window,
    /// Index of the next unread byte in the window.
    pub position: u32,
    /// How many bytes of the window are valid.
    pub fill: u32,
    /// Offset in the packet of the first byte that has not been loaded or jumped over.
    pub next: u32,
    /// Offset in the packet behind the last payload byte.
    pub end: u32,
    /// Row of the run being added up.
    pub run_row: u32,
    /// Commands of the run.
    pub run_commands: u32,
    /// Bytes of the run.
    pub run_bytes: u64,
    /// Name of the command looked up last on this CPU, lower case.
    pub name: [u64; 3],
    /// What the command table says about it.
    pub name_info: u32,
    /// Why the meter gave up in this segment: [`super::Reason`] + 1, or 0.
    pub lost: u32,
    /// Claimed by a running program (egress only).
    pub claimed: u32,
    /// Parked segment that is read; `u32::MAX`: the packet.
    pub place: u32,
    /// Padding.
    pub reserved_2: u64,
}
