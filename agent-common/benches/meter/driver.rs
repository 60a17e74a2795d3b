//! Drives the meter as the kernel programs do, with as little as possible around it.

use std::hint::black_box;

use agent_common::{
    abi::{
        Connection, Direction, ErrorWord, Identity, KeySettings, Loss, NameKey, PrefixKey, Reason,
        ReplyCounts, RequestCounts, Row, Scratch, Spill, WINDOW_BYTES, Window,
    },
    limits,
    resp::{Ledger, Payload, Plan, Replies, Requests, Segment, whole_reply},
};
use bytemuck::Zeroable;

use crate::streams::Conversation;

/// What one segment carries at most on a loopback interface, headers left out.
const SEGMENT_BYTES: usize = 65_483;

/// The meter with its per-CPU scratch and its maps.
pub(crate) struct Driver {
    scratch: Box<Scratch>,
    settings: KeySettings,
    counts: Counts,
}

/// Sums that say whether the meter did its work.
pub(crate) struct Counts {
    /// Of both directions, in rows or not.
    pub(crate) bytes: u64,
    pub(crate) unattributed: u64,
    pub(crate) commands: u64,
    losses: u32,
    errors: u32,
    /// Prefixes by row: few, so that looking one up costs about what the kernel's hash does.
    prefixes: Vec<PrefixKey>,
    now: u64,
    identity: Identity,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            bytes: 0,
            unattributed: 0,
            commands: 0,
            losses: 0,
            errors: 0,
            prefixes: Vec::new(),
            now: 0,
            identity: Identity::zeroed(),
        }
    }
}

impl Counts {
    /// A microsecond passes.
    fn tick(&mut self) -> u64 {
        self.now += 1_000;
        self.now
    }
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self {
            scratch: Box::new(Scratch::zeroed()),
            settings: KeySettings::new(b":", 1, 32),
            counts: Counts::default(),
        }
    }

    /// Meters each conversation on a new connection.
    pub(crate) fn run(&mut self, conversations: &[Conversation]) -> &Counts {
        self.counts = Counts::default();
        for conversation in conversations {
            self.converse(conversation);
        }
        &self.counts
    }

    fn converse(&mut self, conversation: &Conversation) {
        let mut connection = Connection::zeroed();
        if conversation.mid_stream {
            connection.begin_mid_stream();
        } else {
            connection.begin_at_start(0, 0);
        }
        let mut sequences = [0_u32; 2];
        for (direction, bytes) in &conversation.turns {
            for segment in bytes.chunks(SEGMENT_BYTES) {
                let sequence = &mut sequences[*direction as usize];
                let payload = Payload {
                    sequence: *sequence,
                    offset: 0,
                    length: segment.len() as u32,
                    seen_at: self.counts.tick(),
                };
                match direction {
                    Direction::In => self.requests(&mut connection, segment, &payload),
                    Direction::Out => self.replies(&mut connection, segment, &payload),
                }
                *sequence = sequence.wrapping_add(payload.length);
            }
        }
        let unfinished = connection.unfinished_request_bytes() + connection.unfinished_reply_bytes();
        self.counts.bytes += unfinished;
    }

    fn requests(&mut self, connection: &mut Connection, segment: &[u8], payload: &Payload) {
        let mut meter = Requests {
            connection,
            scratch: &mut self.scratch,
            settings: &self.settings,
            segment: Bytes(segment),
            ledger: &mut self.counts,
        };
        if meter.whole(payload) {
            return;
        }
        if meter.begin(payload) == Plan::Read {
            for _ in 0..limits::MAX_STEPS {
                if !meter.step() {
                    break;
                }
            }
            meter.end();
        }
    }

    fn replies(&mut self, connection: &mut Connection, segment: &[u8], payload: &Payload) {
        if whole_reply(connection, &mut Bytes(segment), &mut &mut self.counts, payload) {
            return;
        }
        let mut meter = Replies {
            connection,
            scratch: &mut self.scratch,
            segment: Bytes(segment),
            ledger: &mut self.counts,
        };
        if meter.begin(payload) {
            for _ in 0..limits::MAX_STEPS {
                if !meter.step() {
                    break;
                }
            }
            meter.end();
        }
    }
}

/// A segment without headers.
struct Bytes<'a>(&'a [u8]);

impl Segment for Bytes<'_> {
    fn load(&mut self, window: &mut Window, tail: u32, offset: u32, length: u32) -> bool {
        self.0
            .get(offset as usize..(offset + length) as usize)
            .is_some_and(|bytes| window.copy_behind(tail, bytes))
    }

    fn load_head(&mut self, window: &mut Window, offset: u32, length: u32) -> bool {
        self.load(window, 0, offset, length)
    }

    fn first_words(&mut self, offset: u32, length: u32) -> Option<[u64; 2]> {
        let bytes = self.0.get(offset as usize..(offset + length) as usize)?;
        let mut words = [0; 16];
        words[..bytes.len()].copy_from_slice(bytes);
        Some([0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|byte| words[at + byte]))))
    }

    fn wipe(&mut self, window: &mut Window, length: u32) {
        window.copy_behind(0, &[0; WINDOW_BYTES][..length as usize]);
    }

    /// Segments come in order here.
    fn is_awaited(&mut self, _sequence: u32) -> bool {
        false
    }
}

impl Ledger for &mut Counts {
    fn row(&mut self, key: &PrefixKey) -> u32 {
        let known = self.prefixes.iter().position(|known| known == key);
        let row = known.unwrap_or_else(|| {
            self.prefixes.push(*key);
            self.prefixes.len() - 1
        });
        Row::interned(row as u32)
    }

    fn special(&mut self, _direction: Direction, row: u32, _class: u16) -> u32 {
        row
    }

    fn class(&mut self, _connection: &Connection) -> u16 {
        0
    }

    fn known_class(&mut self, _connection: &Connection) -> u16 {
        0
    }

    fn declared(&mut self, _words: &[u64; 4], _length: u32) -> u32 {
        0
    }

    fn requests(&mut self, _slot: u32, _row: u32, counts: &RequestCounts) {
        // All of them are made, whatever is added up here.
        black_box(counts);
        self.commands += u64::from(counts.commands);
        self.bytes += counts.bytes;
    }

    fn replies(&mut self, _slot: u32, _row: u32, counts: &ReplyCounts) {
        black_box(counts);
        self.bytes += counts.bytes;
    }

    fn error(&mut self, _slot: u32, _row: u32, _word: ErrorWord) {
        self.errors += 1;
    }

    fn unattributed(&mut self, _slot: u32, _direction: Direction, _reason: Reason, bytes: u64) {
        self.bytes += bytes;
        self.unattributed += bytes;
    }

    fn name(&mut self, key: &NameKey) -> u32 {
        key.length
    }

    fn identity(&mut self, _create: bool) -> Option<&mut Identity> {
        Some(&mut self.identity)
    }

    fn spill(&mut self, _create: bool) -> Option<&mut Spill> {
        None
    }

    fn loss(&mut self, _loss: Loss, count: u32) {
        self.losses += count;
    }
}
