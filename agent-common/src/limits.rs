//! Every bound of Stormglass, with its reason. Nothing here grows with traffic.

/// Kernel slots for listening sockets. A host runs tens of servers with one to four listeners each; 512 leaves room
/// for restarts, whose old slots are read out before they are used again.
pub const LISTENERS: usize = 512;

/// Rows of the prefix table that exist once per listener slot: `(other)`, `(none)`, `(keyless)`, `(pubsub)`,
/// `(replication)`, and three in reserve. A power of two, so that slot and row combine by shift.
pub const SPECIAL_ROWS: usize = 8;

/// Key prefixes, over all servers, that get a row of their own. Beyond it they count in `(other)`.
/// DESIGN's default of `limits.prefixes`; the map is sized once, at load.
pub const PREFIXES: usize = 4096;

/// Rows for what connections of a class have beside prefixes (`(none)`, `(keyless)` and their like, per listener and class), and
/// for tenants' prefixes that have no row of their own. Five such rows for four hundred pairs of listener and tenant.
pub const CLASS_ROWS: usize = 2048;

/// Rows that are kept for prefixes of tenants in the rules, over all servers: made-up prefixes cannot take them. Two for each
/// of a thousand tenants; beyond it a tenant's prefixes share a row.
pub const TENANT_ROWS: usize = 2048;

/// Prefixes, with a `*` at their end or without, that the kernel recognises as tenants': ten for each of 1,600.
pub const TENANT_PREFIXES: usize = 16_384;

/// Rows that belong to a key: those of prefixes, of tenants' prefixes, of classes.
pub const KEYED_ROWS: usize = PREFIXES + TENANT_ROWS + CLASS_ROWS;

/// Rows of the prefix counters: the special rows of every slot, then those that belong to a key.
pub const PREFIX_ROWS: usize = LISTENERS * SPECIAL_ROWS + KEYED_ROWS;

/// Users and client names, with a `*` at their end or without, that tenants' rules can name.
pub const CLASS_NAMES: usize = 16_384;

/// Ranges of addresses that tenants' rules can name.
pub const CLASS_ADDRESSES: usize = 16_384;

/// Client addresses, over all servers, that get an entry of their own. Beyond it they count in `(other)`.
pub const CLIENTS: usize = 65_536;

/// Combinations of a client address with what its ended connections had said of themselves, over all servers. As many as
/// addresses: one says the same on all its connections, as a rule.
pub const ENDED: usize = 65_536;

/// For so long a connection without a command for data counts as about to say who it is, in units of 2^20 ns: two seconds.
/// Clients do so in their first milliseconds; those of a storm wait for the server's answer.
pub const INTRODUCTION: u64 = 1_907;

/// Pods of other nodes that the daemon remembers. Larger clusters exist; clients of pods beyond it go by their address.
pub const PODS: usize = 32_768;

/// Longest prefix in bytes: four machine words, compared and hashed as such.
pub const PREFIX_BYTES: usize = 32;

/// Longest command name that the command table knows, container and subcommand joined by `|`: three machine words.
/// Valkey's longest top-level name is 20 bytes (`georadiusbymember_ro`).
pub const NAME_BYTES: usize = 24;

/// Buckets of the accept-burst histogram: 1, 2, 4 ... 16,384 new connections per window and an open end. A host accepts
/// at most some 60,000 connections a second, 6,000 a window.
pub const BURST_BUCKETS: usize = 16;

/// Length of an accept-burst window in nanoseconds: DESIGN's 100 ms.
pub const BURST_WINDOW_NANOSECONDS: u64 = 100_000_000;

/// Buckets of the histogram of lifetimes: 1.05 ms, 2.1 ms ... 26 days and an open end. Pools keep connections for days.
pub const LIFETIME_BUCKETS: usize = 32;

/// Connections from before the agent that one seeding pass takes; more take more passes. At 20 bytes each, about what
/// one server holds at most.
pub const SEEDS: usize = 131_072;

/// Process names whose start is announced: `discovery.processes`, with room.
pub const PROCESS_NAMES: usize = 64;

/// Ring of control-plane events: a thousand of them, far more than servers start at once. A power of two of pages.
pub const EVENT_RING_BYTES: usize = 65_536;

/// Scratch areas per CPU for egress, which may be preempted by softirqs and, on preemptible kernels, by other tasks.
pub const EGRESS_SCRATCH_AREAS: u32 = 4;

/// Most tokens of one segment. A GSO super-segment has up to 64 KiB; the shortest replies (`:1`, CRLF) make 16,384
/// tokens of it, the shortest inline commands a token per byte.
pub const MAX_STEPS: u32 = 65_536;

/// Turns that ingress waits for another CPU to finish with the same connection, of some nanoseconds each: about a
/// millisecond in all. A segment of 64 KiB takes tens of microseconds, and a virtual CPU may be paused while it works; TCP
/// itself waits without a bound for the same CPU, a moment later.
pub const LOCK_TRIES: u32 = 262_144;

/// Payload that one parking place holds: a cell, so many sequence numbers in a row. Somewhat more than a segment of an
/// Ethernet's size; a GSO super-segment lies in several. A power of two.
pub const PARKED_BYTES: usize = 2_048;

/// Parking places, over all connections: 4 MiB of payload. Beyond it a gap costs the connection its synchronisation.
pub const PARKING_PLACES: usize = 2_048;

/// Longest segment that is parked, in bytes: a GSO super-segment.
pub const LONGEST_PARKED: u32 = 64 << 10;

/// Places that one segment can need: it may begin anywhere in a cell.
pub const PLACES_OF_SEGMENT: u32 = LONGEST_PARKED / PARKED_BYTES as u32 + 1;

/// Places of one connection, so that one bad link does not take all: what is in flight when a segment is lost on a
/// network of the usual windows, 440 KiB. Counted in a byte.
pub const PLACES_OF_CONNECTION: u8 = u8::MAX;

/// How long a gap may take to be filled, in nanoseconds: longer than TCP's first three retransmissions. The daemon frees
/// places that are older by [`PARKED_GRACE_NANOSECONDS`]: no program run is still at them then.
pub const PARKED_NANOSECONDS: u64 = 2_000_000_000;

/// See [`PARKED_NANOSECONDS`].
pub const PARKED_GRACE_NANOSECONDS: u64 = 1_000_000_000;

/// Names of clients, over all servers: users, client names, libraries and their versions. Where every connection has a name
/// of its own, those beyond are not kept, counted; the daemon takes away what no connection has any more.
pub const NAMES: usize = 32_768;

/// Most rows of client libraries and their versions per server, most used first: services use a few dozen.
pub const LIBRARIES: usize = 4096;

/// Rows of ACL users per server, most used first.
pub const USERS: usize = 1024;

/// Prefixes without a delimiter that can be declared: every tenant of a large cluster could have one.
pub const DECLARED_PREFIXES: usize = 4096;
