//! State of one connection, held in socket-local storage: it dies with its socket.

use bytemuck::{Pod, Zeroable};
use core::ptr;

use super::{
    RunQueue,
    window::{REPLY_TOKEN_BYTES, TOKEN_BYTES},
};

/// What the stream of a connection is; a value of [`Shared::mode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode;

impl Mode {
    /// Commands and replies.
    pub const NORMAL: u8 = 0;
    /// After PSYNC or SYNC: replication traffic, never parsed.
    pub const REPLICATION: u8 = 1;
    /// Never to be parsed again; the reason is in [`Shared::reason`].
    pub const OPAQUE: u8 = 2;
}

/// The cells that both directions use, and hardly ever write. Each has one rule; all access is volatile.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Shared {
    /// 0: unsynchronised. Otherwise the number of the synchronised stretch; ingress raises it, either direction clears.
    sync: u8,
    /// Why it is unsynchronised: a `Reason`.
    reason: u8,
    /// [`Mode`]. Ingress.
    mode: u8,
    /// Which kinds of channels a RESP2 subscriber has: [`Self::CHANNELS`], [`Self::SHARD_CHANNELS`]. Egress.
    subscribed: u8,
    /// The stretch is on trial: read, but not attributed yet. Ingress.
    trial: u8,
    /// Which commands are answered, as far as CLIENT REPLY and MULTI go; 0 in nearly all connections. Ingress.
    replying: u8,
    /// Not 0: a command with a key or a channel has come. Ingress.
    served: u8,
    /// How often a reply has settled who the client is, wrapping. Egress.
    settlements: u8,
}

macro_rules! volatile_cells {
    ($($field:ident, $set:ident, $type:ty;)+) => {
        $(
            /// Reads the cell.
            #[inline(always)]
            #[must_use]
            pub fn $field(&self) -> $type {
                // SAFETY: a valid reference; volatile because the other direction's program may write it meanwhile.
                unsafe { ptr::read_volatile(&self.$field) }
            }

            /// Writes the cell.
            #[inline(always)]
            pub fn $set(&mut self, value: $type) {
                // SAFETY: a valid reference; volatile because the other direction's program may read it meanwhile.
                unsafe { ptr::write_volatile(&mut self.$field, value) }
            }
        )+
    };
}

impl Shared {
    /// Ordinary channels and patterns, in [`Self::subscribed`].
    pub const CHANNELS: u8 = 1;
    /// Shard channels.
    pub const SHARD_CHANNELS: u8 = 2;

    volatile_cells! {
        sync, set_sync, u8;
        reason, set_reason, u8;
        mode, set_mode, u8;
        subscribed, set_subscribed, u8;
        trial, set_trial, u8;
        replying, set_replying, u8;
        served, set_served, u8;
        settlements, set_settlements, u8;
    }
}

/// The request direction. Written by ingress only.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RequestState {
    /// Bytes of the current argument still to come, with its CRLF.
    pub skip: u64,
    /// Bytes of the current command that are not part of a run yet.
    pub pending: u64,
    // Fields that are set to zero together are not neighbours: the optimiser would make a call of it.
    /// Number of the argument being read; the name is 0.
    pub argument: u32,
    /// Row of the current command; [`super::Row::UNKNOWN`] until its key has been seen.
    pub row: u32,
    /// What the command table says about the current command.
    pub command: u32,
    /// Arguments of the current command still to come.
    pub arguments_left: u32,
    /// What is expected next.
    pub phase: u8,
    /// What the wanted argument is.
    pub wanted: u8,
    /// How many bytes of an unfinished token `carry` holds.
    pub carry_length: u8,
    /// Bit set: sequence known, first frame seen, restart on trial, inside quotes.
    pub flags: u8,
    /// Length of the argument whose content is being read; the word's length in inline commands.
    pub content_length: u32,
    /// Number of the next argument whose content matters.
    pub wanted_argument: u32,
    /// When the last header of the current command so far arrived, in units of 256 ns.
    pub since: u32,
    /// The unfinished token; the current word in inline commands. Zeros behind it.
    pub carry: [u64; TOKEN_BYTES / 8],
}

/// The reply direction. Written by egress only.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct ReplyState {
    /// Bytes of the current string still to come, with its CRLF.
    pub skip: u64,
    /// Row of the current reply; [`super::Row::UNKNOWN`] between replies.
    pub row: u32,
    /// Elements of the current reply still to come. A counter is enough: nesting only adds elements.
    pub elements: u32,
    /// The stretch of [`Shared::sync`] that this state belongs to.
    pub stretch: u8,
    /// The current reply tells hits from misses.
    pub reads: u8,
    /// Which name of [`super::run_flag::CONFIRMED_NAMES`] the current frame of pub/sub has, counted from 1.
    pub name: u8,
    /// What is expected next.
    pub phase: u8,
    /// The current reply answers no command.
    pub unasked: u8,
    /// How many bytes of an unfinished token `carry` holds.
    pub carry_length: u8,
    /// Bit set: sequence known, RESP3, confirmed, no channel named, monitor, refused.
    pub flags: u8,
    /// Padding.
    pub reserved: u8,
    /// The unfinished token. Zeros behind it.
    pub carry: [u64; REPLY_TOKEN_BYTES / 8],
}

/// One connection of a server.
///
/// Its two directions run on two CPUs more often than not, so that a line of the cache which both write moves from one to the
/// other with every segment. What they hardly ever write comes first, with the pointer that the kernel looks at on its way
/// here (`struct bpf_local_storage_data`); then the one line in which they meet, with all else that a segment needs which is one message
/// from its first byte to its last; then what is the one's or the other's.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Connection {
    /// Kernel slot of the listening socket.
    pub slot: u32,
    /// In its low two bits: 0: storage just created; [`Self::OPEN`]; [`Self::CLOSED`]; [`Self::FILLING`]. Claimed by
    /// compare-and-swap, so that each transition is counted once. Above them when it was established, in units of 2^20 ns;
    /// what does not fit is in `opened_epoch`. 0 in one from before the agent.
    pub state: u32,
    /// Client address; IPv4 mapped into IPv6.
    pub client: [u32; 4],
    /// Bit set: [`Self::CLIENT_LISTED`], [`Self::UNREAD`]. Written where it is filled in, and by who holds
    /// [`Self::busy`].
    pub marks: u8,
    /// Established before the agent attached.
    pub adopted: u8,
    /// Synchronised stretches so far, odd and wrapping. Ingress.
    pub stretches: u8,
    /// Segments that came early and are kept until those before them arrive. Ingress.
    pub parked: u8,
    /// Port of the client, host byte order.
    pub client_port: u16,
    /// Whose it is by its user, client name or address; 0: nobody's. Found anew at a segment of the client when one of the
    /// next two cells is behind. Ingress; egress reads it.
    pub class: u16,
    /// The low half of [`super::KeySettings::class_generation`] for which the class was found. Ingress.
    pub class_generation: u16,
    /// [`Shared::settlements`] after which the class was found. Ingress.
    pub class_settlements: u8,
    /// The bits of when it was established that `state` has no room for.
    pub opened_epoch: u8,
    /// Cells of both directions.
    pub shared: Shared,
    /// Sequence number behind the last byte of the segments that came early. Ingress.
    pub parked_end: u32,
    /// Name of a container command, while its subcommand is awaited; argument of CLIENT REPLY. Ingress.
    pub word: u64,
    /// Set while a program works on the requests. Here, so that to set it brings the line that is needed next.
    pub busy: u32,
    /// Sequence number of the client's next new byte. Ingress.
    pub next_in: u32,
    /// The same of the server's. Egress.
    pub next_out: u32,
    /// When the server spoke last, in units of 2^20 ns. Egress; ingress reads it.
    spoke_at: u32,
    /// Bytes of the current command that earlier segments brought; stays at its highest value. Ingress.
    pub size_in: u32,
    /// The same of the current reply. Egress.
    pub size_out: u32,
    /// Not 0: ingress is between two commands, with nothing to be remembered of any, and has begun with its first. Ingress.
    pub rests_in: u8,
    /// The stretch of [`Shared::sync`] in which egress is between two replies, with nothing to be remembered of any; else 0. Egress.
    pub rests_out: u8,
    /// Padding.
    pub reserved: u16,
    /// Commands waiting for replies. Both.
    pub runs: RunQueue,
    /// Ingress.
    pub requests: RequestState,
    /// Egress.
    pub replies: ReplyState,
}

/// Where a line of the cache begins in a value of socket storage: the pointer before it takes 8 bytes of the first.
const fn begins_line(offset: usize) -> bool {
    (offset + 8).is_multiple_of(64)
}

const _: () = {
    use core::mem::offset_of;
    assert!(begins_line(offset_of!(Connection, busy)));
    // What a segment that is one message needs: the first run is the only one of a client that waits for each reply.
    assert!(offset_of!(Connection, runs) + RunQueue::FIRST_RUN_END <= offset_of!(Connection, busy) + 64);
    // With the kernel's 72 bytes before it as much as its allocator gives at once.
    assert!(size_of::<Connection>() + 72 == 512);
};

impl Connection {
    /// In [`Self::marks`]: the client has an entry of its own in the client table.
    pub const CLIENT_LISTED: u8 = 1;
    /// In [`Self::marks`]: data that came with the end of the handshake is parked and not read yet.
    pub const UNREAD: u8 = 2;

    /// [`Self::state`] of a connection that counts as established.
    pub const OPEN: u32 = 1;
    /// [`Self::state`] of one that has ended.
    pub const CLOSED: u32 = 2;
    /// [`Self::state`] while its first user fills it in.
    pub const FILLING: u32 = 3;

    const PHASES: u32 = 3;
    /// Bits of the moment beside the phase.
    const MOMENT_BITS: u32 = u32::BITS - 2;
    /// Moments wrap after 2^38 units of 2^20 ns, nine years.
    const MOMENTS: u64 = (1 << (Self::MOMENT_BITS + u8::BITS)) - 1;

    /// The phase of a value of [`Self::state`].
    #[inline(always)]
    #[must_use]
    pub const fn phase(state: u32) -> u32 {
        state & Self::PHASES
    }

    /// The phase that it is in.
    #[inline(always)]
    #[must_use]
    pub fn current_phase(&self) -> u32 {
        // SAFETY: a valid reference; volatile because another CPU may write it meanwhile.
        Self::phase(unsafe { ptr::read_volatile(&raw const self.state) })
    }

    /// When the server spoke last, in units of 2^20 ns.
    #[inline(always)]
    #[must_use]
    pub fn spoke_at(&self) -> u32 {
        // SAFETY: a valid reference; volatile because egress may write it meanwhile.
        unsafe { ptr::read_volatile(&raw const self.spoke_at) }
    }

    /// The server speaks.
    #[inline(always)]
    pub fn set_spoke_at(&mut self, moment: u32) {
        // SAFETY: a valid reference; volatile because ingress may read it meanwhile.
        unsafe { ptr::write_volatile(&raw mut self.spoke_at, moment) };
    }

    /// The value of `state` for a connection that is established at this moment of the monotonic clock; the rest of the
    /// moment is kept at once.
    #[inline(always)]
    #[must_use]
    pub fn established_at(&mut self, nanoseconds: u64) -> u32 {
        let moment = nanoseconds >> 20;
        self.opened_epoch = (moment >> Self::MOMENT_BITS) as u8;
        (moment as u32) << 2 | Self::OPEN
    }

    /// How long it has been established, in units of 2^20 ns.
    #[inline(always)]
    #[must_use]
    pub fn age(&self, nanoseconds: u64) -> u64 {
        // SAFETY: a valid reference; volatile because another CPU may write it meanwhile.
        let state = unsafe { ptr::read_volatile(&raw const self.state) };
        let opened = u64::from(state >> 2) | u64::from(self.opened_epoch) << Self::MOMENT_BITS;
        (nanoseconds >> 20).wrapping_sub(opened) & Self::MOMENTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_connection_is_exact_for_years() {
        const DAY: u64 = 86_400_000_000_000;
        for opened in [0, 1 << 20, 13 * DAY, 400 * DAY, 3_000 * DAY] {
            for age in [0, 1, 1_000, 1 << 24, 1 << 31, 1 << 37] {
                let mut connection = Connection::zeroed();
                connection.state = connection.established_at(opened);
                assert_eq!(connection.current_phase(), Connection::OPEN);
                assert_eq!(connection.age(opened + (age << 20)), age, "{opened}");
                connection.state = connection.state & !Connection::PHASES | Connection::CLOSED;
                assert_eq!(connection.age(opened + (age << 20)), age, "{opened}");
            }
        }
    }
}
