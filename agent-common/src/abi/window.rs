//! The window through which the meter sees a segment, and the scratch of one program run.

use bytemuck::{Pod, Zeroable};
use core::ptr;

use super::{ClassNameKey, NameKey, PrefixKey, TenantPrefixKey};

/// Bytes that the window can hold for parsing; a power of two, so that masking an index proves it in bounds.
pub const WINDOW_BYTES: usize = 512;

/// Most bytes of one token (a header line, or the part of an argument that matters). What is left of a token at the
/// end of a segment is carried over to the next one.
pub const TOKEN_BYTES: usize = 48;

/// Most bytes of one token of a reply that has to be whole: a header line, the word of an error, the name of a confirmed
/// pub/sub command with its header.
pub const REPLY_TOKEN_BYTES: usize = 24;

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
    pub fn set_token<const WORDS: usize>(&mut self, token: &[u64; WORDS]) {
        const { assert!(WORDS <= TOKEN_BYTES / 8) };
        let start = self.bytes.as_mut_ptr().cast::<u64>();
        let mut index = 0;
        while index < WORDS {
            // SAFETY: at most six words from the start of `bytes` (which is aligned to 8) are inside it.
            unsafe { start.add(index).write(token[index].to_le()) };
            index += 1;
        }
    }

    /// How many bytes [`Self::wipe_start`] overwrites.
    pub(crate) const START_BYTES: u32 = 64;

    /// Overwrites the first bytes with zeros, by stores: for the short segments of single commands that is quicker than a
    /// call.
    #[inline(always)]
    pub(crate) fn wipe_start(&mut self) {
        let start = self.bytes.as_mut_ptr().cast::<u64>();
        let mut index = 0;
        while index < Self::START_BYTES as usize / 8 {
            // SAFETY: inside `bytes`, which is aligned to 8; volatile, so that it does not become a call of memset.
            unsafe { ptr::write_volatile(start.add(index), 0) };
            index += 1;
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

/// Overwrites a token with zeros, word by word: what the optimiser makes of an assignment is a loop over bytes in the
/// kernel.
#[inline(always)]
pub(crate) fn clear_token<const WORDS: usize>(token: &mut [u64; WORDS]) {
    let mut index = 0;
    while index < WORDS {
        // SAFETY: an element of the array.
        unsafe { ptr::write_volatile(token.as_mut_ptr().add(index), 0) };
        index += 1;
    }
}

/// Prefixes whose rows a CPU remembers; a power of two.
pub const KNOWN_PREFIXES: usize = 16;

/// A prefix and its row, remembered by one CPU.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct KnownPrefix {
    /// The prefix; length 0 in an empty entry.
    pub key: PrefixKey,
    /// Its row.
    pub row: u32,
    /// [`super::KeySettings::generation`] in which it was found.
    pub generation: u32,
}

/// Openings that a CPU remembers; a power of two.
pub const KNOWN_OPENINGS: usize = 64;

/// Words of an opening.
pub const OPENING_WORDS: usize = 5;

/// The opening of a command that was a segment, up to the delimiter behind its key's prefix, and what it stands for, remembered
/// by one CPU. As long as a line of the cache.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct KnownOpening {
    /// The bytes, zeros behind them.
    pub words: [u64; OPENING_WORDS],
    /// Slot of the listener in the low half, class of the connection in the high one.
    pub owner: u64,
    /// [`super::KeySettings::generation`] in which it was found.
    pub generation: u32,
    /// Row of the prefix, and what answers the command, as [`super::Commands::tag`]; 0 in an empty entry.
    pub tag: u32,
    /// Bytes up to the end of the key, with its CRLF.
    pub key_end: u32,
    /// Arguments, with the name.
    pub arguments: u32,
}

const _: () = assert!(size_of::<KnownOpening>() == 64);

/// What each of a pipeline's commands looks like, as long as they are alike: begun with the same opening, and as long as one another.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RepeatedCommand {
    /// The opening, zeros behind it.
    pub opening: [u64; OPENING_WORDS],
    /// Which bits of the third to the fifth word belong to it.
    pub masks: [u64; OPENING_WORDS - 2],
    /// Header of the last argument, zeros behind it; 0 if that is the key.
    pub header: u64,
    /// Which bits of a word belong to it.
    pub header_mask: u64,
    /// Bytes up to it.
    pub header_at: u32,
    /// Bytes of the command; [`Self::NONE`]: they are not alike.
    pub length: u32,
    /// Bytes of the ordinary command before.
    pub previous: u32,
    /// Padding.
    pub reserved: u32,
}

impl RepeatedCommand {
    /// [`Self::length`] of no command: it never is at hand.
    pub const NONE: u32 = u32::MAX;
}

/// Commands of one kind that follow one another, on their way to the ledger and to the queue of commands that wait.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RequestRun {
    /// Bytes.
    pub bytes: u64,
    /// Their row; [`super::Row::UNKNOWN`] in an empty run.
    pub row: u32,
    /// [`super::RunKind`].
    pub kind: u32,
    /// [`super::run_flag`]s.
    pub flags: u32,
    /// When their last headers arrived, in units of 256 ns.
    pub since: u32,
    /// Their bucket of sizes.
    pub size_bucket: u32,
    /// Commands received whole.
    pub commands: u32,
    /// Replies or confirmations to come.
    pub answers: u32,
    /// Padding.
    pub reserved: u32,
}

/// Replies of one kind that follow one another, on their way to the ledger.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct ReplyRun {
    /// Bytes.
    pub bytes: u64,
    /// Sum of their durations, in units of 256 ns.
    pub duration_units: u64,
    /// Their row; [`super::Row::UNKNOWN`] in an empty run.
    pub row: u32,
    /// Their bucket of sizes.
    pub size_bucket: u32,
    /// Their bucket of durations; [`super::DURATION_BUCKETS`]: none has a duration.
    pub duration_bucket: u32,
    /// Replies sent whole.
    pub replies: u32,
    /// How many of them have a duration.
    pub timed: u32,
    /// Values that reads found.
    pub hits: u32,
    /// Nil replies of reads.
    pub misses: u32,
    /// Padding.
    pub reserved: u32,
}

/// What each of a pipeline's replies looks like, as long as they are alike: begun with the same header, and as long as one another.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RepeatedReply {
    /// The header, or all of a short reply; zeros behind it.
    pub head: u64,
    /// Which bits of a word belong to it.
    pub mask: u64,
    /// Bytes of the reply; [`Self::NONE`]: they are not alike.
    pub length: u32,
    /// Bytes of the reply before.
    pub previous: u32,
    /// What the commands have in common that are answered like this, as [`super::Commands::tag`].
    pub tag: u32,
    /// When their last headers arrived, in units of 256 ns.
    pub since: u32,
    /// Whether replies like this have a duration.
    pub timed: u32,
    /// That duration, or 0; in units of 256 ns.
    pub duration: u32,
    /// Values that each of them shows found.
    pub hits: u32,
    /// The same for nil.
    pub misses: u32,
}

impl RepeatedReply {
    /// [`Self::length`] of no reply: it never is at hand.
    pub const NONE: u32 = u32::MAX;
}

/// What one program run needs beside the connection: too big for the BPF stack, and the verifier would follow every
/// value there. One per CPU for ingress; egress claims one of a few, because it may be preempted.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Scratch {
    /// The bytes being parsed; zeros between two program runs.
    pub window: Window,
    /// Index of the next unread byte in the window.
    pub position: u32,
    /// How many bytes of the window are valid.
    pub fill: u32,
    /// Offset in the packet of the first byte that has not been loaded or jumped over.
    pub next: u32,
    /// Offset in the packet behind the last payload byte.
    pub end: u32,
    /// How much of the window may have been written to.
    pub dirty: u32,
    /// When the segment was seen, in units of 256 ns.
    pub now: u32,
    /// See [`Scratch::forget`].
    forgotten: u32,
    /// Not 0: the meter gave up in this segment.
    pub lost: u32,
    /// How many bytes the next load brings at most (egress only).
    pub chunk: u32,
    /// Parking places that are free once the segment at hand has been read (ingress only).
    pub places: u32,
    /// Claimed by a running program (egress only).
    pub claimed: u32,
    /// Sequence number of the segment at hand (ingress only, as the next three: what the verifier knows of a value on the
    /// stack would distinguish the ways on from there).
    pub segment_sequence: u32,
    /// Offset of its payload in the packet.
    pub segment_offset: u32,
    /// Length of its payload.
    pub segment_length: u32,
    /// Parking place that is read; `u32::MAX`: the packet.
    pub place: u32,
    /// Duration of the command whose reply is read, in units of 256 ns; `u32::MAX`: it has none, or is counted.
    pub duration: u32,
    /// Values that the reply being read has shown found.
    pub hits: u32,
    /// The same for nil.
    pub misses: u32,
    /// When the segment at hand was seen, in nanoseconds.
    pub segment_seen_at: u64,
    /// When the packet was seen with which this run began, in nanoseconds (ingress only).
    pub packet_seen_at: u64,
    /// What is read first: the packet, or what is parked (ingress only).
    pub first: u32,
    /// Padding.
    pub reserved: u32,
    /// Bytes of the reply being read that are not part of a run yet.
    pub pending: u64,
    /// The run of commands being added up (ingress only).
    pub requests: RequestRun,
    /// What the run's commands look like (ingress only).
    pub repeated: RepeatedCommand,
    /// The run of replies being added up (egress only).
    pub replies: ReplyRun,
    /// What the run's replies look like (egress only).
    pub repeated_reply: RepeatedReply,
    /// The name being looked up (ingress only): too large for the stack.
    pub name: NameKey,
    /// The same as its class is looked up.
    pub class_name: ClassNameKey,
    /// A prefix as its tenant is looked up (ingress only).
    pub tenant_prefix: TenantPrefixKey,
    /// A prefix that gets a row (ingress only).
    pub new_row: PrefixKey,
    /// A row of a class that is looked up (ingress only): the stack has no room for it.
    pub special_row: PrefixKey,
    /// Rows of prefixes seen lately (ingress only).
    pub known: [KnownPrefix; KNOWN_PREFIXES],
    /// Openings of commands seen lately (ingress only).
    pub openings: [KnownOpening; KNOWN_OPENINGS],
}

impl Scratch {
    /// Returns `value` as if nothing were known of it. The verifier follows each way that leads to a place on its own as
    /// long as it knows more of some value on one of them; where it cannot, they are one.
    #[inline(always)]
    #[must_use]
    pub fn forget(&mut self, value: u32) -> u32 {
        let cell = &raw mut self.forgotten;
        // SAFETY: a valid reference; volatile because the optimiser must not see through it.
        unsafe {
            ptr::write_volatile(cell, value);
            ptr::read_volatile(cell)
        }
    }
}

impl ReplyRun {
    /// Empties the run; its row and buckets stay. Word by word, as in `clear_token`.
    #[inline(always)]
    pub fn clear(&mut self) {
        // SAFETY: valid references.
        unsafe {
            ptr::write_volatile(&raw mut self.bytes, 0);
            ptr::write_volatile(&raw mut self.duration_units, 0);
            ptr::write_volatile(&raw mut self.replies, 0);
            ptr::write_volatile(&raw mut self.timed, 0);
            ptr::write_volatile(&raw mut self.hits, 0);
            ptr::write_volatile(&raw mut self.misses, 0);
        }
    }
}
