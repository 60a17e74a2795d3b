//! Structs that cross the kernel boundary or live in kernel maps. Every one is `repr(C)` without implicit padding, its
//! size and alignment asserted here; a changed layout needs a new [`ABI_VERSION`] (a test compares the fingerprint).
//!
//! This is one of the three places where `unsafe` is allowed: unaligned window reads and the volatile cells that two
//! programs share.

mod connection;
mod counters;
mod event;
mod parking;
mod reason;
mod runs;
mod window;

pub use connection::{Connection, Mode, ReplyState, RequestState, Shared};
pub use counters::{
    ClientCounters, ClientKey, KeySettings, LOSSES, ListenerCounters, ListenerKey, Loss, PrefixCounters,
    PrefixKey, REASON_CELLS, Row, Scope, address_from_words, address_words,
};
pub use event::{Event, EventKind, Seed};
pub use parking::{ParkedBytes, ParkedKey, ParkedPlace};
pub use reason::{Direction, REASONS, Reason};
pub use runs::{RUNS, Run, RunKind, RunQueue};
pub use window::{CONTENT_BYTES, Scratch, TOKEN_BYTES, WINDOW_BYTES, Window};

/// Version of everything in this module. The daemon embeds the object that was built from the same tree, so that both
/// sides always agree; the number marks what must not be mixed once state outlives a process.
pub const ABI_VERSION: u32 = 1;

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
    ListenerCounters: 416, 8;
    PrefixKey: 40, 8;
    PrefixCounters: 24, 8;
    ClientKey: 20, 4;
    ClientCounters: 16, 8;
    KeySettings: 48, 8;
    Event: 48, 8;
    Seed: 20, 4;
    Window: 576, 8;
    Scratch: 656, 8;
    RunQueue: 152, 4;
    ParkedKey: 16, 8;
    ParkedPlace: 16, 8;
    ParkedBytes: 66048, 1;
    Connection: 440, 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layout of version 1. When this fails: raise [`ABI_VERSION`] and record the new numbers.
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
            REASONS,
            LOSSES,
        ];
        assert_eq!(
            (ABI_VERSION, layout),
            (1, [32, 416, 40, 24, 20, 16, 48, 48, 440, 11, 13])
        );
    }
}
