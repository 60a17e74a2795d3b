//! A connection under the meter: segments in, books out. Drives the meter as the kernel programs do, beside a TCP
//! that knows what has arrived.

use std::collections::BTreeMap;

use agent_common::{
    abi::{
        Connection, Direction, KeySettings, KnownOpening, ParkedBytes, ParkedKey, Scratch, WINDOW_BYTES,
        Window,
    },
    limits,
    resp::{HEAD_BYTES, Payload, Plan, Replies, Requests, Segment, whole_reply},
};
use bytemuck::Zeroable;

use crate::{
    books::{Books, Counters},
    fragments::Random,
};

/// Kernel slot of the listening socket of every test.
pub(crate) const SLOT: u32 = 3;

/// Cookie of its connection's socket.
const COOKIE: u64 = 7;

/// A packet in memory: headers that nobody reads, then the payload.
#[derive(Clone)]
struct Packet {
    offset: u32,
    payload: Vec<u8>,
    refuse: bool,
    /// What TCP has received in order before this packet.
    received: u32,
}

impl Segment for &Packet {
    fn load(&mut self, window: &mut Window, tail: u32, offset: u32, length: u32) -> bool {
        assert!(
            tail < 64 && (1..=WINDOW_BYTES as u32).contains(&length),
            "tail {tail}, length {length}"
        );
        let start = offset
            .checked_sub(self.offset)
            .expect("the headers are not payload") as usize;
        let bytes = self
            .payload
            .get(start..start + length as usize)
            .expect("a load beyond the packet");
        !self.refuse && window.copy_behind(tail, bytes)
    }

    fn load_head(&mut self, window: &mut Window, offset: u32, length: u32) -> bool {
        assert!(length <= HEAD_BYTES, "length {length}");
        self.load(window, 0, offset, length)
    }

    fn first_words(&mut self, offset: u32, length: u32) -> Option<[u64; 2]> {
        assert!((1..=16).contains(&length), "length {length}");
        let mut window = Window::zeroed();
        let there = self.load(&mut window, 0, offset, length);
        there.then(|| [window.word::<0>(0), window.word::<8>(0)])
    }

    fn wipe(&mut self, window: &mut Window, length: u32) {
        assert!(length <= WINDOW_BYTES as u32, "length {length}");
        assert!(window.copy_behind(0, &vec![0; length as usize]));
    }

    fn is_awaited(&mut self, sequence: u32) -> bool {
        !is_before(sequence, self.received)
    }
}

/// Order of sequence numbers.
fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) >= 1 << 31
}

/// What TCP has of one direction.
#[derive(Default)]
struct Received {
    /// The first byte that is missing.
    next: u32,
    /// Later segments: start and end.
    early: Vec<(u32, u32)>,
}

impl Received {
    fn take(&mut self, start: u32, end: u32) {
        self.early.push((start, end));
        while let Some(index) = self
            .early
            .iter()
            .position(|(start, _)| !is_before(self.next, *start))
        {
            let (_, end) = self.early.swap_remove(index);
            if is_before(self.next, end) {
                self.next = end;
            }
        }
    }
}

/// One connection.
pub(crate) struct Wire {
    pub(crate) connection: Box<Connection>,
    pub(crate) counters: Counters,
    pub(crate) settings: KeySettings,
    /// The next segment's bytes cannot be copied.
    pub(crate) refuse_loads: bool,
    /// Most tokens that a segment gets.
    pub(crate) max_steps: u32,
    /// Parking places.
    pub(crate) parking_room: usize,
    /// The class that another CPU finds while this one waits for the next segment's connection.
    pub(crate) meanwhile: Option<u16>,
    /// Nothing is dealt with at once: token by token, whatever comes.
    pub(crate) piecewise: bool,
    /// Segments that were dealt with at once, by direction.
    pub(crate) at_once: [u32; 2],
    scratch: Box<Scratch>,
    /// Cells that have places.
    parked: BTreeMap<ParkedKey, Box<ParkedBytes>>,
    received: [Received; 2],
    /// Behind the last byte that was sent.
    sent: [u32; 2],
    /// Behind the last byte that was sent and seen.
    seen: [u32; 2],
    metered: [u64; 2],
    /// The first segment of the direction decides where it begins.
    unmet: [bool; 2],
    noise: Random,
    traps: Vec<u8>,
}

/// Bytes of stale windows to choose from.
const TRAP_BYTES: usize = 4_096;

impl Wire {
    /// A connection seen from its first byte, whose sequence numbers begin at `first_in` and `first_out`.
    pub(crate) fn with_sequences(first_in: u32, first_out: u32) -> Self {
        let mut wire = Self::zeroed([first_in, first_out]);
        wire.connection.begin_at_start(first_in, first_out);
        wire
    }

    /// A connection seen from its first byte.
    pub(crate) fn from_start() -> Self {
        Self::with_sequences(0x1234_5678, 0x0bad_cafe)
    }

    /// A connection that has had its first command: who begins with something else may be no client at all.
    pub(crate) fn begun() -> Self {
        let mut wire = Self::from_start();
        wire.request("*1\r\n$4\r\nPING\r\n");
        wire.reply("+PONG\r\n");
        wire.at_once = [0; 2];
        wire
    }

    /// A connection that was there before the meter.
    pub(crate) fn mid_stream() -> Self {
        let mut wire = Self::zeroed([77, 88]);
        wire.connection.begin_mid_stream();
        wire.unmet = [true; 2];
        wire
    }

    fn zeroed(next: [u32; 2]) -> Self {
        let mut connection = Box::new(Connection::zeroed());
        connection.slot = SLOT;
        let mut noise = Random::new(7);
        let kinds = b"\r\n\r\n$*:+-0123456789:: \xff\0s";
        let traps = (0..TRAP_BYTES).map(|_| kinds[noise.below(kinds.len())]).collect();
        Self {
            connection,
            counters: Counters::default(),
            settings: KeySettings::new(b":", 1, 32),
            refuse_loads: false,
            max_steps: limits::MAX_STEPS,
            parking_room: limits::PARKING_PLACES,
            meanwhile: None,
            piecewise: false,
            at_once: [0; 2],
            scratch: Box::new(Scratch::zeroed()),
            parked: BTreeMap::new(),
            received: next.map(|next| Received {
                next,
                early: Vec::new(),
            }),
            sent: next,
            seen: next,
            metered: [0; 2],
            unmet: [false; 2],
            noise,
            traps,
        }
    }

    /// The next segment in order.
    pub(crate) fn send(&mut self, direction: Direction, bytes: &[u8]) {
        self.segment(direction, self.sent(direction), bytes);
    }

    /// The next bytes from the client.
    pub(crate) fn request(&mut self, bytes: impl AsRef<[u8]>) {
        self.send(Direction::In, bytes.as_ref());
    }

    /// The next bytes from the server.
    pub(crate) fn reply(&mut self, bytes: impl AsRef<[u8]>) {
        self.send(Direction::Out, bytes.as_ref());
    }

    /// Bytes that TCP receives in order, but the meter never sees.
    pub(crate) fn lose(&mut self, direction: Direction, length: u32) {
        let start = self.sent(direction);
        let end = start.wrapping_add(length);
        self.sent[direction as usize] = end;
        self.received[direction as usize].take(start, end);
    }

    /// Bytes that are sent in order but are lost on their way: TCP waits for them.
    pub(crate) fn skip(&mut self, direction: Direction, length: u32) {
        let sent = &mut self.sent[direction as usize];
        *sent = sent.wrapping_add(length);
    }

    /// Sequence number behind the last byte that was sent.
    pub(crate) fn sent(&self, direction: Direction) -> u32 {
        self.sent[direction as usize]
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.counters.now += milliseconds * 1_000_000;
    }

    /// A segment with a sequence number of its own.
    pub(crate) fn segment(&mut self, direction: Direction, sequence: u32, bytes: &[u8]) {
        let end = sequence.wrapping_add(bytes.len() as u32);
        for last in [
            &mut self.sent[direction as usize],
            &mut self.seen[direction as usize],
        ] {
            if is_before(*last, end) {
                *last = end;
            }
        }
        let offset = 40 + self.noise.below(80) as u32;
        let payload = Payload {
            sequence,
            offset,
            length: bytes.len() as u32,
            seen_at: self.counters.now,
        };
        let received = self.received[direction as usize].next;
        let packet = Packet {
            offset,
            payload: bytes.to_vec(),
            refuse: self.refuse_loads,
            received,
        };
        let unmet = std::mem::take(&mut self.unmet[direction as usize]);
        let before = if unmet { sequence } else { self.next(direction) };
        match direction {
            Direction::In => self.deliver(packet, payload),
            Direction::Out => self.meter_replies(&packet, &payload),
        }
        self.received[direction as usize].take(sequence, end);
        let progress = self.next(direction).wrapping_sub(before);
        assert!(progress < 1 << 31, "the meter went back");
        self.metered[direction as usize] += u64::from(progress);
        self.balance();
    }

    /// Sequence number that the meter expects.
    fn next(&self, direction: Direction) -> u32 {
        match direction {
            Direction::In => self.connection.next_in,
            Direction::Out => self.connection.next_out,
        }
    }

    /// A segment of requests, and then what is parked behind it.
    fn deliver(&mut self, packet: Packet, payload: Payload) {
        let (mut packet, mut payload) = (packet, payload);
        if self.try_at_once(&packet, &payload) {
            return;
        }
        for _ in 0..=limits::PLACES_OF_CONNECTION {
            self.meter_requests(&packet, &payload);
            if self.connection.parked != 0 {
                self.meter(&packet).forget_passed();
            }
            if self.connection.parked == 0 {
                // What the meter has given up or passed is not taken up any more; the daemon frees such places.
                self.parked.clear();
                return;
            }
            match self.unpark(&packet) {
                Some(next) => (packet, payload) = next,
                None => return,
            }
        }
    }

    /// What is parked from the next byte on, as far as its cell goes.
    fn unpark(&mut self, before: &Packet) -> Option<(Packet, Payload)> {
        let sequence = self.connection.next_in;
        let key = ParkedKey::of(COOKIE, 0, sequence);
        let place = self.parked.get_mut(&key)?;
        let offset = ParkedKey::offset(sequence);
        let end = place.take(offset);
        if end == offset {
            return None;
        }
        let bytes = place.bytes[..end as usize].to_vec();
        let payload = Payload {
            sequence,
            offset,
            length: end - offset,
            seen_at: self.counters.now,
        };
        let packet = Packet {
            offset: 0,
            payload: bytes,
            refuse: false,
            received: before.received,
        };
        let places = u8::from(place.is_empty());
        if places != 0 {
            self.parked.remove(&key);
        }
        self.meter(&packet).unparked(places);
        Some((packet, payload))
    }

    fn meter<'a>(&'a mut self, packet: &'a Packet) -> Requests<'a, &'a Packet, &'a mut Counters> {
        Requests {
            connection: &mut self.connection,
            scratch: &mut self.scratch,
            settings: &self.settings,
            segment: packet,
            ledger: &mut self.counters,
        }
    }

    /// Whether a packet of requests was dealt with at once. What is parked is not tried.
    fn try_at_once(&mut self, packet: &Packet, payload: &Payload) -> bool {
        self.scramble();
        let (class, piecewise) = (self.meanwhile.take(), self.piecewise);
        let mut meter = self.meter(packet);
        let done = payload.length != 0 && !piecewise && {
            let command = meter.sight(payload);
            if let Some(class) = class {
                meter.connection.class = class;
            }
            meter.take_whole(payload, &command)
        };
        self.at_once[Direction::In as usize] += u32::from(done);
        done
    }

    fn meter_requests(&mut self, packet: &Packet, payload: &Payload) {
        self.scramble();
        let max_steps = self.max_steps;
        let mut meter = self.meter(packet);
        match meter.begin(payload) {
            Plan::Read => {
                for _ in 0..max_steps {
                    if !meter.step() {
                        break;
                    }
                }
                meter.end();
            }
            Plan::Park => self.park(packet, payload),
            Plan::Done => {}
        }
    }

    /// Keeps an early segment, byte by byte.
    fn park(&mut self, packet: &Packet, payload: &Payload) {
        let mut places = 0;
        for (sequence, byte) in (payload.sequence..=u32::MAX)
            .chain(0..=u32::MAX)
            .zip(&packet.payload)
        {
            let key = ParkedKey::of(COOKIE, 0, sequence);
            if !self.parked.contains_key(&key) {
                if self.parked.len() >= self.parking_room {
                    return self.meter(packet).give_up_early(payload);
                }
                self.parked.insert(key, Box::new(ParkedBytes::zeroed()));
                places += 1;
            }
            let place = self.parked.get_mut(&key).expect("it was made above");
            let offset = ParkedKey::offset(sequence);
            place.bytes[offset as usize] = *byte;
            place.add(offset, offset + 1);
        }
        self.meter(packet).parked(payload, places);
    }

    fn meter_replies(&mut self, mut packet: &Packet, payload: &Payload) {
        self.scramble();
        let mut counters = &mut self.counters;
        let connection = &mut self.connection;
        let at_once = payload.length != 0 && !self.piecewise;
        if at_once && whole_reply(connection, &mut packet, &mut counters, payload) {
            self.at_once[Direction::Out as usize] += 1;
            return;
        }
        let mut meter = Replies {
            connection: &mut self.connection,
            scratch: &mut self.scratch,
            segment: packet,
            ledger: &mut self.counters,
        };
        if meter.begin(payload) {
            for _ in 0..self.max_steps {
                if !meter.step() {
                    break;
                }
            }
            meter.end();
        }
    }

    /// Other connections use the scratch between two segments: what they leave must not matter.
    fn scramble(&mut self) {
        let start = self.noise.below(TRAP_BYTES - size_of::<Window>());
        let traps = &self.traps[start..start + size_of::<Window>()];
        assert!(self.scratch.window.copy_behind(0, traps));
        let scratch = &mut self.scratch;
        scratch.position = self.noise.below(512) as u32;
        scratch.fill = self.noise.below(512) as u32;
        scratch.next = self.noise.below(65_536) as u32;
        scratch.end = self.noise.below(65_536) as u32;
        scratch.dirty = self.noise.below(512) as u32;
        scratch.requests.row = self.noise.below(1_000) as u32;
        scratch.requests.commands = self.noise.below(9) as u32;
        scratch.requests.bytes = self.noise.below(999) as u64;
        scratch.replies.row = self.noise.below(1_000) as u32;
        scratch.replies.bytes = self.noise.below(999) as u64;
        scratch.pending = self.noise.below(999) as u64;
        scratch.duration = self.noise.below(999) as u32;
        scratch.hits = self.noise.below(9) as u32;
        scratch.misses = self.noise.below(9) as u32;
        scratch.lost = 1;
    }

    /// Whether the meter has left nothing in the window, apart from what lay there before.
    pub(crate) fn window_is_clean(&self) -> bool {
        let window = bytemuck::bytes_of(&self.scratch.window);
        let dirty = self.scratch.dirty as usize;
        window[..dirty].iter().all(|byte| *byte == 0)
    }

    /// What the last segment left in the scratch.
    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// What is remembered of commands' beginnings.
    pub(crate) fn openings(&mut self) -> &mut [KnownOpening] {
        &mut self.scratch.openings
    }

    /// What was counted, with what is unfinished.
    pub(crate) fn books(&self) -> Books {
        let mut books = self.counters.books();
        let unfinished = Direction::ALL.map(|direction| (direction, self.unfinished(direction)));
        books.unfinished = unfinished.into_iter().filter(|(_, bytes)| *bytes != 0).collect();
        books
    }

    /// Bytes of a command or token whose end has not come.
    fn unfinished(&self, direction: Direction) -> u64 {
        match direction {
            Direction::In => self.connection.unfinished_request_bytes(),
            Direction::Out => self.connection.unfinished_reply_bytes(),
        }
    }

    /// Every byte that the meter has moved on by is in the books exactly once, and it moves on by all there are.
    #[track_caller]
    fn balance(&self) {
        for direction in Direction::ALL {
            let metered = self.metered[direction as usize];
            let counted = self.counters.counted(direction) + self.unfinished(direction);
            assert_eq!(
                counted,
                metered,
                "{direction:?}: counted, metered; {:?}",
                self.books()
            );
        }
        if self.connection.parked == 0 && !self.unmet[0] {
            assert_eq!(self.next(Direction::In), self.seen[0], "the meter lost its place");
        }
    }
}
