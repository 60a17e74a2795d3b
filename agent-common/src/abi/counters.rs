//! Keys and counters of the kernel maps.

use bytemuck::{Pod, Zeroable};
use core::net::{IpAddr, Ipv6Addr};

use super::{DURATION_BUCKETS, ERROR_CELLS, REASONS, SIZE_BUCKETS};
use crate::limits::{BURST_BUCKETS, LIFETIME_BUCKETS, LISTENERS, SPECIAL_ROWS};

/// What the `scope` of a [`ListenerKey`] is.
#[repr(u16)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A network namespace cookie: how sock_ops finds the listener of a new connection.
    NetworkNamespace = 1,
    /// A cgroup id: how cgroup_skb finds the listener of a connection that it has not met.
    Cgroup = 2,
}

/// A listening address inside a scope.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// Namespace cookie or cgroup id.
    pub scope: u64,
    /// Listening address as four words in network order, IPv4 mapped into IPv6; `::` and `::ffff:0.0.0.0` are the
    /// wildcards.
    pub address: [u32; 4],
    /// Port, host byte order.
    pub port: u16,
    /// [`Scope`].
    pub scope_kind: u16,
    /// Padding.
    pub reserved: u32,
}

/// Cells per direction for unattributed bytes: a power of two, so that a mask proves an index in bounds.
pub const REASON_CELLS: usize = 16;

const _: () = assert!(REASONS <= REASON_CELLS);

/// Everything counted per listening socket, apart from prefixes and clients. All cells only grow, except
/// `burst_window`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ListenerCounters {
    /// Connections established since attach.
    pub opened: u64,
    /// Connections found that existed before.
    pub adopted: u64,
    /// Connections, of both kinds, that left the established state.
    pub closed: u64,
    /// Those of them that the client gave up, or that were cut off, while a command waited for its reply.
    pub closed_waiting: u64,
    /// Those of them that were established since attach, read to their end, and brought no command with a key or a channel.
    pub closed_without_command: u64,
    /// Those of them that the server refused because it had as many clients as it takes.
    pub rejected: u64,
    /// Sum of the lives of those that were established since attach, in units of 2^20 ns.
    pub lifetime_units: u64,
    /// Those by how long they lived: bucket `i` below `2^i` units, the last one open.
    pub lifetimes: [u64; LIFETIME_BUCKETS],
    /// Current 100 ms window: its number in the high 32 bits, its new connections in the low 32.
    pub burst_window: u64,
    /// Ended windows by size: bucket `i` up to `2^i`, the last one open.
    pub burst_windows: [u64; BURST_BUCKETS],
    /// Unattributed payload bytes, by direction and reason.
    pub unattributed: [[u64; REASON_CELLS]; 2],
}

/// Rows of the prefix counters.
#[derive(Debug, Clone, Copy)]
pub struct Row;

impl Row {
    /// Not resolved yet.
    pub const UNKNOWN: u32 = u32::MAX;
    /// Special row `(other)`: beyond the limit of prefixes, or of waiting runs.
    pub const OTHER: u32 = 0;
    /// Special row `(none)`: a key without delimiter.
    pub const NONE: u32 = 1;
    /// Special row `(keyless)`: a command without key.
    pub const KEYLESS: u32 = 2;
    /// Special row `(pubsub)`: channel traffic.
    pub const PUBSUB: u32 = 3;
    /// Special row `(replication)`: replica links.
    pub const REPLICATION: u32 = 4;

    /// Label values of the special rows, in order.
    pub const LABELS: [&'static str; 5] = ["(other)", "(none)", "(keyless)", "(pubsub)", "(replication)"];

    /// Row of a listener's special row.
    #[inline(always)]
    #[must_use]
    pub const fn special(slot: u32, row: u32) -> u32 {
        slot.wrapping_mul(SPECIAL_ROWS as u32).wrapping_add(row)
    }

    /// Whether it is a listener's special row.
    #[inline(always)]
    #[must_use]
    pub const fn is_special(row: u32) -> bool {
        row < (LISTENERS * SPECIAL_ROWS) as u32
    }

    /// Row of an interned prefix, used for the first time.
    #[inline(always)]
    #[must_use]
    pub const fn interned(id: u32) -> u32 {
        id.wrapping_add((LISTENERS * SPECIAL_ROWS) as u32)
    }

    /// Its counters' place.
    #[inline(always)]
    #[must_use]
    pub const fn index(row: u32) -> u32 {
        row & ((1 << Self::INDEX_BITS) - 1)
    }

    /// How often these counters have had another owner before, modulo [`Self::EPOCHS`]: whoever holds a number of an earlier
    /// owner is told from the one of now, see [`PrefixCounters::epoch`].
    #[inline(always)]
    #[must_use]
    pub const fn epoch(row: u32) -> u32 {
        row >> Self::INDEX_BITS
    }

    /// The number under which these counters go to their next owner.
    #[must_use]
    pub const fn of_next_owner(row: u32) -> u32 {
        let epoch = (Self::epoch(row) + 1) % Self::EPOCHS;
        Self::index(row) | epoch << Self::INDEX_BITS
    }

    const INDEX_BITS: u32 = 14;

    /// Numbers of owners that are told apart.
    pub const EPOCHS: u32 = 64;
}

/// What has a row of its own: a prefix at a listener, of connections of one class; or a special row of such connections.
/// Those of class 0 have their special rows without a key, see [`Row::special`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct PrefixKey {
    /// Kernel slot of the listening socket.
    pub slot: u32,
    /// Low half: length in bytes, or [`Self::SPECIAL`] and the number of a special row. High half: the class of the
    /// connections, 0 for none. In one word, so that keys are compared as quickly as without a class.
    form: u32,
    /// The bytes, zero-padded.
    pub words: [u64; 4],
}

impl PrefixKey {
    /// Bit of [`Self::form`] in special rows.
    const SPECIAL: u32 = 0x8000;

    /// A prefix of `length` bytes, which are zero-padded.
    #[inline(always)]
    #[must_use]
    pub const fn new(slot: u32, class: u16, length: u32, words: [u64; 4]) -> Self {
        Self {
            slot,
            form: length | (class as u32) << 16,
            words,
        }
    }

    /// A special row of connections of a class.
    #[inline(always)]
    #[must_use]
    pub const fn special(slot: u32, class: u16, row: u32) -> Self {
        Self {
            slot,
            form: Self::SPECIAL | row | (class as u32) << 16,
            words: [0; 4],
        }
    }

    /// The row `(other)` of connections of a class (or of none) for prefixes of a tenant, given as its class.
    #[inline(always)]
    #[must_use]
    pub const fn other_of(slot: u32, class: u16, tenant: u16) -> Self {
        Self {
            words: [tenant as u64, 0, 0, 0],
            ..Self::special(slot, class, Row::OTHER)
        }
    }

    /// Of a special row: the tenant whose prefixes are in it, as its class; 0: none.
    #[must_use]
    pub const fn tenant(&self) -> u16 {
        match self.special_row() {
            Some(_) => self.words[0] as u16,
            None => 0,
        }
    }

    /// Class of the connections, 0 for none.
    #[inline(always)]
    #[must_use]
    pub const fn class(&self) -> u16 {
        (self.form >> 16) as u16
    }

    /// Number of the special row that it is, if it is one.
    #[must_use]
    pub const fn special_row(&self) -> Option<u32> {
        if self.form & Self::SPECIAL == 0 {
            None
        } else {
            Some(self.length())
        }
    }

    /// Length of the prefix in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.form & (Self::SPECIAL - 1)
    }

    /// The bytes of the prefix; none of a special row.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self.special_row() {
            Some(_) => &[],
            None => super::head(&self.words, self.length()),
        }
    }

    /// Not 0: the keys differ in more than their words.
    #[inline(always)]
    pub(crate) const fn differs(&self, other: &Self) -> u32 {
        self.slot ^ other.slot | self.form ^ other.form
    }

    /// Slot and form, for a hash.
    #[inline(always)]
    pub(crate) const fn head(&self) -> u64 {
        self.slot as u64 | (self.form as u64) << 32
    }
}

const _: () = assert!(crate::limits::PREFIX_BYTES < PrefixKey::SPECIAL as usize);

/// Counters of one row. All cells only grow.
///
/// First what ingress writes, then what egress does: they run on two CPUs more often than not, and share no line of the cache
/// here. Each finds the number of the owner in its own.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct PrefixCounters {
    /// [`Row::epoch`] of the owner, for ingress. Written by the daemon between two owners; no count.
    pub epoch_in: u64,
    /// Bytes of commands.
    pub bytes_in: u64,
    /// Commands received whole, by size in bytes: see [`super::size_bucket`]. The last two cells, of more than a GiB, lie in the
    /// first line of egress.
    pub request_sizes: [u64; SIZE_BUCKETS],
    /// [`Row::epoch`] of the owner, for egress.
    pub epoch_out: u64,
    /// Bytes of replies and of pushed messages.
    pub bytes_out: u64,
    /// Sum of all durations, in units of 256 ns.
    pub duration_units: u64,
    /// Values that reads found.
    pub hits: u64,
    /// Nil replies of reads.
    pub misses: u64,
    /// Replies and pushed messages sent whole, by size in bytes.
    pub reply_sizes: [u64; SIZE_BUCKETS],
    /// Answered commands by the time from their last header to their reply: see [`super::duration_bucket`].
    pub durations: [u64; DURATION_BUCKETS],
    /// Error replies by [`super::ErrorWord`].
    pub errors: [u64; ERROR_CELLS],
    /// Padding, to whole lines.
    pub reserved: u64,
}

const _: () = assert!(size_of::<PrefixCounters>().is_multiple_of(64));

impl PrefixCounters {
    /// Commands received whole.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.request_sizes.iter().sum()
    }

    /// Adds the cells of another row.
    pub fn add(&mut self, other: &Self) {
        let cells: &mut [u64] = bytemuck::cast_slice_mut(core::slice::from_mut(self));
        let others: &[u64] = bytemuck::cast_slice(core::slice::from_ref(other));
        for (cell, other) in cells.iter_mut().zip(others) {
            *cell = cell.wrapping_add(*other);
        }
    }
}

impl Default for PrefixCounters {
    fn default() -> Self {
        Self::zeroed()
    }
}

/// Commands of one row and size, on their way into its counters.
#[derive(Debug, Clone, Copy)]
pub struct RequestCounts {
    /// Commands received whole.
    pub commands: u32,
    /// Their bucket of sizes.
    pub size_bucket: u32,
    /// Bytes.
    pub bytes: u64,
}

/// Replies of one row, size and duration, on their way into its counters.
#[derive(Debug, Clone, Copy)]
pub struct ReplyCounts {
    /// Replies sent whole.
    pub replies: u32,
    /// Their bucket of sizes.
    pub size_bucket: u32,
    /// How many of them have a duration.
    pub timed: u32,
    /// Their bucket of durations.
    pub duration_bucket: u32,
    /// Sum of their durations, in units of 256 ns.
    pub duration_units: u64,
    /// Bytes.
    pub bytes: u64,
    /// Values that reads found.
    pub hits: u32,
    /// Nil replies of reads.
    pub misses: u32,
}

/// A client address at a listener.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Kernel slot of the listening socket.
    pub slot: u32,
    /// Address as four words in network order, IPv4 mapped into IPv6.
    pub address: [u32; 4],
}

/// Connections of one client address.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ClientCounters {
    /// Established since attach (high 32 bits would not fit a storm-proof count: a whole word).
    pub opened: u64,
    /// Established now, adopted ones included.
    pub open: u64,
}

/// How prefixes are cut from keys.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct KeySettings {
    /// Up to four delimiters, each repeated eight times; unused ones repeat the first.
    pub delimiters: [u64; 4],
    /// How many of them differ.
    pub delimiter_count: u32,
    /// How many delimiters deep the prefix goes.
    pub depth: u32,
    /// Longest prefix in bytes.
    pub max_prefix_bytes: u32,
    /// Not 0: a key that begins with a hash tag is cut inside it.
    pub hash_tags: u32,
    /// Not 0: some prefixes without a delimiter are declared, see [`DeclaredKey`].
    pub declared: u32,
    /// Raised whenever rows have been taken away from prefixes, or prefixes are cut otherwise: what the programs remember of them is
    /// void then.
    pub generation: u32,
    /// Raised whenever the rules change by which connections have classes: those that they have are void then. Never 0, which
    /// new connections have.
    pub class_generation: u32,
    /// Class of the user that a connection has before it names one.
    pub default_class: u32,
}

/// A declared prefix in the trie that finds the longest one.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct DeclaredKey {
    /// How much of what follows is compared, in bits: 32 for the padding, and 8 per byte.
    pub bits: u32,
    /// Padding; keeps the words aligned.
    pub reserved: u32,
    /// The bytes, zero-padded.
    pub words: [u64; 4],
}

impl DeclaredKey {
    /// The key that stands for, or looks up, the first `length` bytes (at most 32) of `words`.
    #[inline(always)]
    #[must_use]
    pub const fn new(words: [u64; 4], length: u32) -> Self {
        Self {
            bits: length.wrapping_mul(8).wrapping_add(32),
            reserved: 0,
            words,
        }
    }
}

/// A prefix in the trie that finds the tenant of prefixes: whole, or the beginning of others.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct TenantPrefixKey {
    /// How much of what follows is compared, in bits.
    pub bits: u32,
    /// Padding; keeps the words aligned.
    pub reserved: u32,
    /// The bytes, zero-padded.
    pub words: [u64; 4],
    /// Length in bytes: behind them, so that a whole prefix is more than its beginning.
    pub length: u32,
    /// Padding.
    pub behind: u32,
}

impl TenantPrefixKey {
    /// Flag of the trie's values, beside the tenant's class: another rule may come first, and only the daemon can tell.
    pub const UNSURE: u32 = 1 << 16;

    /// The key that looks up, or stands for, this prefix alone.
    #[inline(always)]
    #[must_use]
    pub const fn whole(words: [u64; 4], length: u32) -> Self {
        Self {
            bits: 32 + 8 * 32 + 32,
            reserved: 0,
            words,
            length,
            behind: 0,
        }
    }

    /// The key that stands for all prefixes that begin with these bytes, the last of which is not zero.
    #[must_use]
    pub const fn beginning(words: [u64; 4], length: u32) -> Self {
        Self {
            bits: 32 + 8 * length,
            ..Self::whole(words, length)
        }
    }
}

impl KeySettings {
    /// Settings from a delimiter set (1 to 4 bytes; more are ignored, none means `:`).
    #[must_use]
    pub fn new(delimiters: &[u8], depth: u32, max_prefix_bytes: u32) -> Self {
        let first = delimiters.first().copied().unwrap_or(b':');
        let mut words = [u64::from(first) * 0x0101_0101_0101_0101; 4];
        for (word, byte) in words.iter_mut().zip(delimiters) {
            *word = u64::from(*byte) * 0x0101_0101_0101_0101;
        }
        let delimiter_count = delimiters.len().clamp(1, 4) as u32;
        Self {
            delimiters: words,
            delimiter_count,
            depth,
            max_prefix_bytes,
            hash_tags: 1,
            declared: 0,
            generation: 0,
            class_generation: 1,
            default_class: 0,
        }
    }
}

/// Declares [`Loss`] once: variant, label, meaning.
macro_rules! losses {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $label:literal;)+) => {
        /// Something the kernel programs could not do or keep. Label `reason` of `stormglass_dropped_total`.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Loss {
            $($(#[doc = $doc])+ $variant = $value,)+
        }

        impl Loss {
            /// Every loss, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Value of the label `reason`.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// What it means, in one sentence, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+),)+
                }
            }
        }
    };
}

losses! {
    /// Replies went to the row `(other)` because too many commands of one connection, of changing rows, waited for them.
    RunQueueFull = 0, "run_queue_full";
    /// A prefix went to the row `(other)` because the prefix table is full.
    PrefixTableFull = 1, "prefix_table_full";
    /// A client address went to `(other)` because the client table is full.
    ClientTableFull = 2, "client_table_full";
    /// A connection's client had lost its entry by the time it closed.
    ClientEntryMissing = 3, "client_entry_missing";
    /// A new connection got no state: the kernel had no memory for it.
    NoConnectionState = 4, "no_connection_state";
    /// A packet's headers could not be read.
    HeaderUnreadable = 5, "header_unreadable";
    /// An egress program found every scratch area of its CPU in use.
    ScratchBusy = 6, "scratch_busy";
    /// A listening socket or a new process could not be announced: the event ring is full.
    EventRingFull = 7, "event_ring_full";
    /// A listening socket got no slot: all are in use.
    NoListenerSlot = 8, "no_listener_slot";
    /// A map operation failed that cannot fail by design.
    MapFailure = 9, "map_failure";
    /// A command that the command table does not know was taken to have its first key as first argument.
    UnknownCommand = 10, "unknown_command";
    /// An accept-burst window was closed by two CPUs at once and one of them gave up.
    BurstContended = 11, "burst_contended";
    /// A segment that came early could not be parked: every place is taken. Its connection lost its synchronisation.
    ParkingFull = 12, "parking_full";
    /// A command's duration was measured from an earlier one of its row or not at all, and it is no hit: too many waited.
    CoarseReply = 13, "coarse_reply";
    /// A name of a client (user, client name, library) was not kept: the table of names is full.
    NameTableFull = 14, "name_table_full";
    /// A name of a client was longer than is kept: its beginning is.
    NameCut = 15, "name_cut";
    /// What a client said of itself was not followed: inline, inside MULTI, with replies off, or too much at once.
    IdentityUnread = 16, "identity_unread";
    /// Bytes of connections of a tenant (by user, client name or address) went to the row `(other)`: rows for them ran out.
    ClassRowsFull = 17, "class_rows_full";
    /// A prefix of a tenant in the rules had no row of its own left: it counts for its tenant all the same.
    TenantRowsFull = 18, "tenant_rows_full";
    /// Something that waited for long, or was at hand, belonged to a prefix whose row has another owner by now: `(other)`.
    RowGone = 19, "row_gone";
    /// What a connection had said of itself when it ended was not kept: its opening counts for nobody's library, and for the
    /// workload of its address.
    EndedTableFull = 20, "ended_table_full";
}

/// Number of [`Loss`]es.
pub const LOSSES: usize = Loss::ALL.len();

const _: () = {
    let mut index = 0;
    while index < LOSSES {
        assert!(Loss::ALL[index] as usize == index, "losses are numbered in order");
        index += 1;
    }
};

/// An address as the boundary has it: four words in network order, IPv4 mapped into IPv6.
#[must_use]
pub fn address_words(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    bytemuck::cast(octets)
}

/// The reverse of [`address_words`]; mapped IPv4 addresses come out as IPv4.
#[must_use]
pub fn address_from_words(words: [u32; 4]) -> IpAddr {
    Ipv6Addr::from(bytemuck::cast::<_, [u8; 16]>(words)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_boundary() {
        for text in ["127.0.0.1", "0.0.0.0", "::", "::1", "2001:db8::17"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_from_words(address_words(address)), address);
        }
        assert_eq!(address_words("127.0.0.1".parse().unwrap())[2], 0xffff_u32.to_be());
    }
}
