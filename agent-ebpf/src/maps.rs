//! Every map: who writes, who reads, who deletes, and what happens when it is full. Capacities are in `limits`.
//! The daemon reads the counter arrays through shared memory (`BPF_F_MMAPABLE`), without a system call per value.

use agent_common::{
    abi::{
        ClientCounters, ClientKey, Connection, EndedKey, Event, Handshake, Identity, KeySettings, LOSSES,
        ListenerCounters, ListenerKey, NameKey, ParkedBytes, ParkedKey, ParkedPlace, PrefixCounters,
        PrefixKey, Scratch, Seed, Spill, called,
    },
    limits,
};
use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, ProgramArray, Queue, RingBuf, SkStorage},
    macros::btf_map,
};

const MMAPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

/// Programs that others go on with. Written by the daemon as it loads them.
#[btf_map]
pub(crate) static SG_CALLED: ProgramArray<{ called::PROGRAMS }> = ProgramArray::new();

/// State of each connection. Written by the programs; freed by the kernel with its socket. No memory: the connection is
/// not metered, `no_connection_state` counts it.
#[btf_map]
pub(crate) static SG_CONNECTIONS: SkStorage<Connection> = SkStorage::new();

/// Commands that wait beyond what a connection itself has room for. Written by both directions, made by ingress for the first
/// pipeline that needs it; freed by the kernel with its socket. No memory: later replies of that pipeline go to `(other)`,
/// `run_queue_full` counts them.
#[btf_map]
pub(crate) static SG_SPILLED: SkStorage<Spill> = SkStorage::new();

/// What is known of each connection's client. Written by ingress and egress, made by the first command that says something;
/// freed by the kernel with its socket. No memory: nothing is known, `identity_unread` counts it.
#[btf_map]
pub(crate) static SG_IDENTITIES: SkStorage<Identity> = SkStorage::new();

/// Numbers of names. Written by ingress, deleted by the daemon when no connection has them any more. Full: the name is not
/// kept, `name_table_full` counts it.
#[btf_map]
pub(crate) static SG_NAME_TABLE: HashMap<NameKey, u32, { limits::NAMES }, NO_PREALLOC> = HashMap::new();

/// The last number that a name got. Numbers are never used twice: what a connection holds of a deleted name stands for no
/// other. Written by ingress.
#[btf_map]
pub(crate) static SG_LAST_NAME: Array<u64, 1> = Array::new();

/// Listening address to slot. Written by the daemon, and by sock_ops when a watched cgroup's socket begins to listen;
/// deleted by the daemon. Full: the listener is not watched, `no_listener_slot` counts it.
#[btf_map]
pub(crate) static SG_LISTENERS: HashMap<ListenerKey, u32, { limits::LISTENERS * 4 }> = HashMap::new();

/// Bit per TCP port on which a watched server listens. Written by the daemon and by sock_ops: what keeps the packets of
/// other programs in a shared cgroup cheap.
#[btf_map]
pub(crate) static SG_PORTS: Array<u32, 2048, MMAPABLE> = Array::new();

/// Counters per slot. Written by the programs, read and (between two uses of a slot) cleared by the daemon.
#[btf_map]
pub(crate) static SG_SLOTS: Array<ListenerCounters, { limits::LISTENERS }, MMAPABLE> = Array::new();

/// Free slots. Filled by the daemon, taken by sock_ops and the daemon.
#[btf_map]
pub(crate) static SG_FREE_SLOTS: Queue<u32, { limits::LISTENERS }> = Queue::new();

/// Class of users and client names: whole ones, and those that begin with something, for the longest match. Written by the
/// daemon, whenever the configuration changes. Its size is checked with the configuration.
#[btf_map]
pub(crate) static SG_CLASS_NAMES: LpmTrie<ClassName, u32, { limits::CLASS_NAMES }> = LpmTrie::new();

/// What follows the number of bits in [`agent_common::abi::ClassNameKey`].
pub(crate) type ClassName = [u8; size_of::<agent_common::abi::ClassNameKey>() - 4];

/// Class of addresses, by the longest range that one lies in. As [`SG_CLASS_NAMES`].
#[btf_map]
pub(crate) static SG_CLASS_ADDRESSES: LpmTrie<[u8; 16], u32, { limits::CLASS_ADDRESSES }> = LpmTrie::new();

/// Class of names that have one, by their numbers. Written by ingress when a name gets its number, and by the daemon when the
/// configuration changes; deleted by it with the name. Holds as many as there are names.
#[btf_map]
pub(crate) static SG_NAME_CLASSES: HashMap<u32, u32, { limits::NAMES }, NO_PREALLOC> = HashMap::new();

/// Free rows for what connections of a class have beside prefixes. Filled by the daemon, taken by both directions. Empty:
/// `(other)` of all, `class_rows_full` counts it.
#[btf_map]
pub(crate) static SG_FREE_CLASS_ROWS: Queue<u32, { limits::CLASS_ROWS }> = Queue::new();

/// Tenant of prefixes, by the rules: whole ones, and those that begin with something, for the longest match. As
/// [`SG_CLASS_NAMES`]; looked at only where a prefix has no row yet.
#[btf_map]
pub(crate) static SG_TENANT_PREFIXES: LpmTrie<TenantPrefix, u32, { limits::TENANT_PREFIXES }> =
    LpmTrie::new();

/// What follows the number of bits in [`agent_common::abi::TenantPrefixKey`].
pub(crate) type TenantPrefix = [u8; size_of::<agent_common::abi::TenantPrefixKey>() - 4];

/// Free rows for prefixes of tenants. Filled by the daemon, taken by ingress. Empty: one of [`SG_FREE_CLASS_ROWS`] for all that
/// the tenant has further, `tenant_rows_full` counts it.
#[btf_map]
pub(crate) static SG_FREE_TENANT_ROWS: Queue<u32, { limits::TENANT_ROWS }> = Queue::new();

/// Prefix to number of its row. Written by ingress, deleted by the daemon with its slot, or when its row is needed
/// more elsewhere. Full: the free rows run out first, see [`SG_FREE_ROWS`].
#[btf_map]
pub(crate) static SG_PREFIXES: HashMap<PrefixKey, u32, { limits::KEYED_ROWS }> = HashMap::new();

/// Counters per row. Written by the programs, read and (between two uses of a row) cleared by the daemon.
#[btf_map]
pub(crate) static SG_ROWS: Array<PrefixCounters, { limits::PREFIX_ROWS }, MMAPABLE> = Array::new();

/// Free rows, as many as the configuration allows. Filled by the daemon, taken by ingress. Empty: `(other)`, counted.
#[btf_map]
pub(crate) static SG_FREE_ROWS: Queue<u32, { limits::PREFIXES }> = Queue::new();

/// Declared prefixes without a delimiter, for the longest that a key begins with; the value is its length in bytes.
/// Written by the daemon, whenever the configuration changes. Its size is checked with the configuration.
#[btf_map]
pub(crate) static SG_DECLARED: LpmTrie<Declared, u32, { limits::DECLARED_PREFIXES }> = LpmTrie::new();

/// What follows the number of bits in [`agent_common::abi::DeclaredKey`].
pub(crate) type Declared = [u8; size_of::<agent_common::abi::DeclaredKey>() - 4];

/// Connections per client address. Written by the programs, deleted by the daemon when idle for long. Full: `(other)`,
/// counted.
#[btf_map]
pub(crate) static SG_CLIENTS: HashMap<ClientKey, ClientCounters, { limits::CLIENTS }, NO_PREALLOC> =
    HashMap::new();

/// Connections that ended, by address and what they had said of themselves; those that had said nothing are not here. Written by
/// `sg_sockets`, deleted by the daemon with the client, or with a name. Full: `ended_table_full`.
#[btf_map]
pub(crate) static SG_ENDED: HashMap<EndedKey, u64, { limits::ENDED }, NO_PREALLOC> = HashMap::new();

/// Sockets that existed before the agent, by cookie. Written by the daemon before it runs the seeding iterator, and
/// emptied by it afterwards.
#[btf_map]
pub(crate) static SG_SEEDS: HashMap<u64, Seed, { limits::SEEDS }, NO_PREALLOC> = HashMap::new();

/// How keys are cut. Written by the daemon, whenever the configuration changes.
#[btf_map]
pub(crate) static SG_SETTINGS: Array<KeySettings, 1> = Array::new();

/// Losses by reason. Written by the programs.
#[btf_map]
pub(crate) static SG_LOSSES: Array<u64, { LOSSES }, MMAPABLE> = Array::new();

/// Names of processes whose start is announced. Written by the daemon.
#[btf_map]
pub(crate) static SG_NAMES: HashMap<[u8; 16], u32, { limits::PROCESS_NAMES }> = HashMap::new();

/// Announcements to the daemon. Full: `event_ring_full` counts it, and the periodic scan finds the server.
#[btf_map]
pub(crate) static SG_EVENTS: RingBuf<Event, { limits::EVENT_RING_BYTES }> = RingBuf::new();

/// Scratch of ingress: it runs with softirqs off, so that one area per CPU is never used twice at once.
#[btf_map]
pub(crate) static SG_SCRATCH_IN: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Scratch of egress: it runs in process context too and may be preempted, so that an area is claimed for each run.
#[btf_map]
pub(crate) static SG_SCRATCH_OUT: PerCpuArray<Scratch, { limits::EGRESS_SCRATCH_AREAS as usize }> =
    PerCpuArray::new();

/// Segments that came early: which place holds which cell of their bytes. Written and deleted by ingress; what a connection
/// left behind when it ended is deleted by the daemon.
#[btf_map]
pub(crate) static SG_PARKED: HashMap<ParkedKey, ParkedPlace, { limits::PARKING_PLACES }> = HashMap::new();

/// What came with the end of a handshake whose connection has no socket yet. Written by ingress and sock_ops, on the CPU at
/// work on it.
#[btf_map]
pub(crate) static SG_HANDSHAKE: PerCpuArray<Handshake, 1> = PerCpuArray::new();

/// The places: their bytes. Written and read by ingress, by nobody else.
#[btf_map]
pub(crate) static SG_PARKING: Array<ParkedBytes, { limits::PARKING_PLACES }> = Array::new();

/// Free places. Filled by the daemon, taken and returned by ingress. Empty: the connection loses its synchronisation,
/// `parking_full` counts it.
#[btf_map]
pub(crate) static SG_FREE_PLACES: Queue<u32, { limits::PARKING_PLACES }> = Queue::new();
