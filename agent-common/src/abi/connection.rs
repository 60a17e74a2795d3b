//! State of one connection, held in socket-local storage: it dies with its socket.

use bytemuck::{Pod, Zeroable};
use core::ptr;

use super::{RunQueue, window::TOKEN_BYTES};

/// What the stream of a connection is; a value of [`Shared::mode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode;

impl Mode {
    /// Commands and replies.
    pub const NORMAL: u32 = 0;
    /// After MONITOR: lines that no command asked for.
    pub const MONITOR: u32 = 1;
    /// After PSYNC or SYNC: replication traffic, never parsed.
    pub const REPLICATION: u32 = 2;
    /// Never to be parsed again; the reason is in [`Shared::reason`].
    pub const OPAQUE: u32 = 3;
}

/// The cells that both directions use. Each is one word with one rule; all access is volatile.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Shared {
    /// 0: unsynchronised. Otherwise the number of the synchronised stretch; ingress raises it, either direction clears.
    sync: u32,
    /// Why it is unsynchronised: a `Reason`.
    reason: u32,
    /// [`Mode`]. Ingress.
    mode: u32,
    /// Which direction sent data last: a `Direction`. Both.
    last_direction: u32,
    /// A RESP2 subscriber. Egress.
    subscribed: u32,
    /// The stretch is on trial: read, but not attributed yet. Ingress.
    trial: u32,
    /// When the server spoke last, in units of 2^20 ns; kept only out of synchronisation and on trial. Egress.
    spoke_at: u32,
}

macro_rules! volatile_cells {
    ($($field:ident, $set:ident;)+) => {
        $(
            /// Reads the cell.
            #[inline(always)]
            #[must_use]
            pub fn $field(&self) -> u32 {
                // SAFETY: a valid reference; volatile because the other direction's program may write it meanwhile.
                unsafe { ptr::read_volatile(&self.$field) }
            }

            /// Writes the cell.
            #[inline(always)]
            pub fn $set(&mut self, value: u32) {
                // SAFETY: a valid reference; volatile because the other direction's program may read it meanwhile.
                unsafe { ptr::write_volatile(&mut self.$field, value) }
            }
        )+
    };
}

impl Shared {
    volatile_cells! {
        sync, set_sync;
        reason, set_reason;
        mode, set_mode;
        last_direction, set_last_direction;
        subscribed, set_subscribed;
        trial, set_trial;
        spoke_at, set_spoke_at;
    }
}

/// The request direction. Written by ingress only.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RequestState {
    /// Bytes of the current argument still to come, with its CRLF.
    pub skip: u64,
    /// Bytes of the current command whose row is not known yet.
    pub pending: u64,
    /// Name of a container command, while its subcommand is awaited.
    pub container: u64,
    /// Prefix resolved last, zero-padded, and its length: most connections serve one tenant.
    pub last_prefix: [u64; 4],
    /// Length of `last_prefix` in bytes.
    pub last_prefix_length: u32,
    /// Row of `last_prefix`; [`super::Row::UNKNOWN`] at first.
    pub last_row: u32,
    /// Sequence number of the next new byte.
    pub next_sequence: u32,
    /// Set while a program works on this direction.
    pub busy: u32,
    /// Arguments of the current command still to come.
    pub arguments_left: u32,
    /// Number of the argument being read; the name is 0.
    pub argument: u32,
    /// Length of the argument whose content is being read; the word's length in inline commands.
    pub content_length: u32,
    /// Number of the next argument whose content matters.
    pub wanted_argument: u32,
    /// Row of the current command; [`super::Row::UNKNOWN`] until its key has been seen.
    pub row: u32,
    /// What the command table says about the current command.
    pub command: u32,
    /// What is expected next.
    pub phase: u8,
    /// What the wanted argument is.
    pub wanted: u8,
    /// How many bytes of an unfinished token `carry` holds.
    pub carry_length: u8,
    /// Bit set: sequence known, first frame seen, restart on trial, inside quotes.
    pub flags: u8,
    /// Sequence number behind the last byte of the segments that came early.
    pub parked_end: u32,
    /// The unfinished token; the current word in inline commands.
    pub carry: [u64; TOKEN_BYTES / 8],
}

/// The reply direction. Written by egress only.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct ReplyState {
    /// Bytes of the current string still to come, with its CRLF.
    pub skip: u64,
    /// Elements of the current reply still to come. A counter is enough: nesting only adds elements.
    pub elements: u64,
    /// Row of the current reply; [`super::Row::UNKNOWN`] between replies.
    pub row: u32,
    /// Sequence number of the next new byte.
    pub next_sequence: u32,
    /// The stretch of [`Shared::sync`] that this state belongs to.
    pub stretch: u32,
    /// What is expected next.
    pub phase: u8,
    /// The current reply answers no command.
    pub unasked: u8,
    /// How many bytes of an unfinished token `carry` holds.
    pub carry_length: u8,
    /// Bit set: sequence known.
    pub flags: u8,
    /// The unfinished token.
    pub carry: [u64; TOKEN_BYTES / 8],
}

/// One connection of a server.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Connection {
    /// Kernel slot of the listening socket.
    pub slot: u32,
    /// 0: storage just created; [`Self::OPEN`]; [`Self::CLOSED`]. Claimed by compare-and-swap, so that each transition
    /// is counted once.
    pub state: u32,
    /// Client address; IPv4 mapped into IPv6.
    pub client: [u32; 4],
    /// The client has an entry of its own in the client table.
    pub client_listed: u8,
    /// Established before the agent attached.
    pub adopted: u8,
    /// Synchronised stretches so far, odd and wrapping. Ingress.
    pub stretches: u8,
    /// Segments that came early and are kept until those before them arrive. Ingress.
    pub parked: u8,
    /// Cells of both directions.
    pub shared: Shared,
    /// Commands waiting for replies.
    pub runs: RunQueue,
    /// Ingress.
    pub requests: RequestState,
    /// Egress.
    pub replies: ReplyState,
}

impl Connection {
    /// [`Self::state`] of a connection that counts as established.
    pub const OPEN: u32 = 1;
    /// [`Self::state`] of one that has ended.
    pub const CLOSED: u32 = 2;
}
