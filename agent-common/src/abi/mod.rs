//! Structs that cross the kernel boundary or live in kernel maps. Every one is `repr(C)` without implicit padding, its
//! size and alignment asserted here; a changed layout needs a new [`ABI_VERSION`] (a test compares the fingerprint).
//!
//! This is one of the three places where `unsafe` is allowed: unaligned window reads and the volatile cells that two
//! programs share.

mod connection;
mod counters;
mod error_word;
mod event;
mod histogram;
mod identity;
mod parking;
mod reason;
mod runs;
mod spill;
mod window;

pub use connection::{Connection, Mode, ReplyState, RequestState, Shared};
pub use counters::{
    ClientCounters, ClientKey, DeclaredKey, KeySettings, LOSSES, ListenerCounters, ListenerKey, Loss,
    PrefixCounters, PrefixKey, REASON_CELLS, ReplyCounts, RequestCounts, Row, Scope, TenantPrefixKey,
    address_from_words, address_words,
};
pub use error_word::{ERROR_CELLS, ErrorWord};
pub use event::{Event, EventKind, Seed};
pub use histogram::{
    DURATION_BUCKETS, DURATION_ERROR, DURATION_SHIFT, SIZE_BUCKETS, duration_bound, duration_bucket,
    size_bound, size_bucket,
};
pub use identity::{
    CLAIMS, Claim, ClassAddressKey, ClassNameKey, ConnectionRecord, EndedKey, FIELD_DATABASE, IDENTITY_BYTES,
    Identity, NAME_KINDS, NameKey, NameKind,
};
pub use parking::{Handshake, ParkedBytes, ParkedKey, ParkedPlace};
pub use reason::{Direction, REASONS, Reason};
pub use runs::{Commands, Pushed, RUNS, Run, RunKind, RunQueue, Waiting, run_flag};
pub use spill::{SPILLED_RUNS, Spill};
pub(crate) use window::clear_token;
pub use window::{
    CONTENT_BYTES, KNOWN_OPENINGS, KNOWN_PREFIXES, KnownOpening, KnownPrefix, OPENING_WORDS,
    REPLY_TOKEN_BYTES, RepeatedCommand, RepeatedReply, ReplyRun, RequestRun, Scratch, TOKEN_BYTES,
    WINDOW_BYTES, Window,
};

/// Version of everything in this module. The daemon embeds the object that was built from the same tree, so that both
/// sides always agree; the number marks what must not be mixed once state outlives a process.
pub const ABI_VERSION: u32 = 11;

/// Where the programs that are called by others are in their table, `SG_CALLED`.
pub mod called {
    /// `sg_unread`.
    pub const UNREAD: u32 = 0;
    /// `sg_egress`, to go on with.
    pub const EGRESS: u32 = 1;
    /// How many they are.
    pub const PROGRAMS: usize = 2;
}

/// The first `length` bytes of zero-padded words; all of them if they are fewer.
fn head(words: &[u64], length: u32) -> &[u8] {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    bytes.get(..length as usize).unwrap_or(bytes)
}

/// Asserts size and alignment of a boundary struct at compile time.
macro_rules! assert_layout {
    ($($type:ty: $size:literal, $align:literal;)+) => {
        $(const _: () = {
            assert!(size_of::<$type>() == $size);
            assert!(align_of::<$type>() == $align);
        };)+
    };
}

assert_layout! {
    ListenerKey: 32, 8;
    ListenerCounters: 704, 8;
    PrefixKey: 40, 8;
    PrefixCounters: 1856, 8;
    DeclaredKey: 40, 8;
    TenantPrefixKey: 48, 8;
    ClientKey: 20, 4;
    ClientCounters: 16, 8;
    KeySettings: 64, 8;
    Event: 48, 8;
    Seed: 24, 4;
    Window: 576, 8;
    Scratch: 6024, 8;
    RunQueue: 212, 4;
    Spill: 3080, 4;
    ParkedKey: 16, 8;
    Handshake: 40, 8;
    ParkedPlace: 16, 8;
    ParkedBytes: 2816, 8;
    Connection: 440, 8;
    NameKey: 56, 8;
    ClassNameKey: 64, 8;
    ClassAddressKey: 20, 4;
    Claim: 8, 4;
    Identity: 104, 4;
    ConnectionRecord: 64, 8;
    EndedKey: 36, 4;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layout of version 11. When this fails: raise [`ABI_VERSION`] and record the new numbers.
    #[test]
    fn a_changed_layout_has_a_new_version() {
        let layout = [
            size_of::<ListenerKey>(),
            size_of::<ListenerCounters>(),
            size_of::<PrefixKey>(),
            size_of::<PrefixCounters>(),
            size_of::<ClientKey>(),
            size_of::<ClientCounters>(),
            size_of::<KeySettings>(),
            size_of::<Event>(),
            size_of::<Connection>(),
            size_of::<Spill>(),
            size_of::<ConnectionRecord>(),
            size_of::<EndedKey>(),
            REASONS,
            LOSSES,
        ];
        assert_eq!(
            (ABI_VERSION, layout),
            (11, [32, 704, 40, 1856, 20, 16, 64, 48, 440, 3080, 64, 36, 12, 21])
        );
    }
}
