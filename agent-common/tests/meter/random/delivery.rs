//! How TCP brings a conversation to the meter: cut anywhere, both directions interleaved, with duplicates, overlaps,
//! early segments, and segments that the meter never sees.

use std::collections::BTreeMap;

use agent_common::{
    abi::Direction::{self, In, Out},
    limits,
};

use super::{Conversation, Stream, choices::Choices, gaps};
use crate::{
    books::{Books, Details},
    capture::notation,
    fragments::Random,
    wire::Wire,
};

/// Segments that may be early at once.
const EARLY: usize = 12;

/// Bytes that may be early at once: what the parking places of a connection hold, wherever the pieces begin. One more segment has to fit
/// when it comes, and two cells are not whole.
const EARLY_BYTES: usize =
    (limits::PLACES_OF_CONNECTION as usize - limits::PLACES_OF_SEGMENT as usize - 2) * limits::PARKED_BYTES;

/// Longest segment: GRO and TSO make none longer.
const SEGMENT_BYTES: usize = 65_500;

/// Most segments of one direction, roughly: a long conversation is not cut into single bytes.
const SEGMENTS: usize = 600;

/// What TCP does. The simplest one, [`Style::default`], does nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Style {
    /// Longest piece: an index of [`PIECES`].
    piece: usize,
    /// Of so many segments, one is repeated, begins too early, or comes early; 0: none.
    repeats: usize,
    overlaps: usize,
    early: usize,
    /// Of so many chances to miss the inside of a string, one is taken; 0: none.
    missed_payload: usize,
    /// Of so many segments, one is never seen; 0: none.
    losses: usize,
    /// Which direction goes first when both can: 0 the server, 1 the client, else by chance.
    turn: usize,
    /// So many commands are always on their way, each message in a segment of its own; 0: as many as may be.
    lag: usize,
    /// Sequence numbers at which both directions begin.
    start: [u32; 2],
    seed: u64,
}

const PIECES: &[usize] = &[SEGMENT_BYTES, 1, 4, 20, 60, 600, 6_000];

impl Style {
    /// What a script says about it: everything that must change nothing.
    pub(crate) fn harmless(choices: &mut Choices<'_>) -> Self {
        const RATES: &[usize] = &[0, 0, 0, 2, 5, 20];
        Self {
            piece: choices.below(PIECES.len() + 1),
            repeats: choices.pick(RATES),
            overlaps: choices.pick(RATES),
            early: choices.pick(RATES),
            missed_payload: choices.pick(&[0, 0, 1, 3]),
            losses: 0,
            turn: choices.below(3),
            lag: choices.pick(&[0, 0, 0, 1, 2, 3, 5]),
            start: [start(choices), start(choices)],
            seed: choices.word(),
        }
    }

    /// The same with losses.
    pub(crate) fn lossy(choices: &mut Choices<'_>) -> Self {
        let losses = choices.pick(&[8, 3, 20, 60, 200]);
        Self {
            losses,
            ..Self::harmless(choices)
        }
    }

    /// The same, and every byte is seen.
    pub(crate) fn seen_whole(self) -> Self {
        Self {
            losses: 0,
            missed_payload: 0,
            ..self
        }
    }

    /// A connection that the meter has seen from the start. One in four has no memory for a spill: by a number that is
    /// drawn anyway, so that the fuzzer's corpus keeps its meaning.
    pub(crate) fn wire(&self) -> Wire {
        let mut wire = Wire::with_sequences(self.start[0], self.start[1]);
        wire.counters.spills = self.start[0] & 6 != 4;
        wire
    }
}

/// A first sequence number: shortly before they wrap, or any.
fn start(choices: &mut Choices<'_>) -> u32 {
    let word = choices.word() as u32;
    if word.is_multiple_of(2) {
        0_u32.wrapping_sub(word >> 20)
    } else {
        word
    }
}

/// Brings bytes of both directions to the meter.
pub(crate) struct Delivery<'a> {
    wire: &'a mut Wire,
    streams: [&'a Stream; 2],
    style: Style,
    random: Random,
    /// Sequence numbers of the streams' first bytes.
    base: [u32; 2],
    /// What has been done.
    log: Vec<Event>,
    /// How far the meter has seen each stream.
    sight: [usize; 2],
    /// How far each stream has been cut.
    cut: [usize; 2],
    /// Pieces of requests that are cut but not sent.
    held: Vec<(usize, usize)>,
    /// Where pieces begin that were sent before one in front of them.
    ahead: Vec<usize>,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(wire: &'a mut Wire, conversation: &'a Conversation, style: &Style) -> Self {
        let streams = [&conversation.requests, &conversation.replies];
        let base = Direction::ALL.map(|direction| wire.sent(direction));
        Self {
            wire,
            streams,
            style: style.clone(),
            random: Random::new(style.seed),
            base,
            log: Vec::new(),
            sight: [0; 2],
            cut: [0; 2],
            held: Vec::new(),
            ahead: Vec::new(),
        }
    }

    /// What has been counted so far.
    pub(crate) fn books(&self) -> Books {
        self.wire.books()
    }

    /// What has been counted beside the books.
    pub(crate) fn details(&self) -> BTreeMap<String, Details> {
        self.wire.counters.all_details()
    }

    /// Where the streams have been brought to.
    pub(crate) fn done(&self) -> [usize; 2] {
        self.cut
    }

    /// What has happened on the way, in the notation of the captures.
    pub(crate) fn story(&self) -> String {
        let lines = self.log.iter().map(|event| event.line(self.streams));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Brings everything up to the given ends; stops where what is left waits for what is behind them.
    pub(crate) fn run(&mut self, style: &Style, ends: [usize; 2]) {
        self.style = style.clone();
        loop {
            let received = self.received();
            let limits = [self.cut[1], received];
            let open: Vec<Direction> = Direction::ALL
                .into_iter()
                .filter(|direction| {
                    let index = *direction as usize;
                    let limit = self.streams[index].limit(self.cut[index], limits[index]);
                    limit.min(ends[index]) > self.cut[index]
                })
                .collect();
            let early = self.cut[0] - received;
            let room = self.ahead.len() < EARLY && early + SEGMENT_BYTES <= EARLY_BYTES;
            let sends = !open.is_empty() && (self.held.is_empty() || room && !self.chance(3));
            if sends {
                let direction = match (&open[..], self.style.turn) {
                    ([one], _) => *one,
                    _ if self.style.lag != 0 => self.lagging(),
                    (_, 0) => Out,
                    (_, 1) => In,
                    _ => open[self.random.below(2)],
                };
                self.piece(direction, limits[direction as usize], ends[direction as usize]);
            } else if self.held.is_empty() {
                return;
            } else {
                let index = if room {
                    self.random.below(self.held.len())
                } else {
                    0
                };
                self.release(index);
            }
        }
    }

    /// Whose turn it is while a number of commands wait.
    fn lagging(&self) -> Direction {
        let [asked, answered] = [0, 1].map(|index| self.streams[index].begun_before(self.cut[index]));
        if asked < answered + self.style.lag {
            In
        } else {
            Out
        }
    }

    /// What the server has received without a gap.
    fn received(&self) -> usize {
        self.held
            .iter()
            .map(|(start, _)| *start)
            .min()
            .unwrap_or(self.cut[0])
    }

    /// The next piece of a direction, in one of the ways that the style knows.
    fn piece(&mut self, direction: Direction, done: usize, end: usize) {
        let index = direction as usize;
        let stream = self.streams[index];
        let start = self.cut[index];
        let pause = stream.pause(start);
        if pause != 0 && self.held.is_empty() {
            self.log.push(Event::Silence(pause));
            self.wire.wait(pause);
        }
        let mut limit = stream.limit(start, done).min(end);
        if self.style.lag != 0 {
            limit = limit.min(stream.begun(start + 1));
        }
        let most = (limit - start).min(SEGMENT_BYTES);
        let class = match self.style.piece {
            mixed if mixed == PIECES.len() => 1 + self.random.below(PIECES.len() - 1),
            class => class,
        };
        let longest = PIECES[class].max(stream.bytes.len() / SEGMENTS);
        let length = if longest >= most {
            most
        } else {
            1 + self.random.below(longest)
        };
        let end = start + length;
        self.cut[index] = end;
        if self.held.is_empty() {
            if self.chance(self.style.losses) {
                return self.lose(direction, start, end);
            }
            let missed = self.missed_payload(direction, start, end);
            if missed > start {
                self.cut[index] = missed;
                return self.lose(direction, start, missed);
            }
        }
        // Behind bytes that the meter has missed it cannot know that TCP waits for others.
        let in_sight = self.sight[index] == start || self.style.losses != 0;
        if direction == In && in_sight && self.chance(self.style.early) {
            return self.held.push((start, end));
        }
        if !self.held.is_empty() {
            if direction == In {
                self.ahead.push(start);
            }
            return self.send(direction, start, end);
        }
        let overlaps = self.sight[index] == start || !gaps::SUBSCRIPTION_SEEN_TOO_LATE;
        let earlier = if overlaps && self.chance(self.style.overlaps) {
            self.random.below(start.min(200) + 1)
        } else {
            0
        };
        let start = start.saturating_sub(earlier.min(SEGMENT_BYTES - length));
        self.send(direction, start, end);
        if self.chance(self.style.repeats) {
            self.repeat(direction, end);
        }
    }

    /// Where a hole may end that begins at `start` and costs nothing. The last byte of a string is seen: what follows the
    /// message in the other direction may come before anything else shows that it is whole.
    fn missed_payload(&mut self, direction: Direction, start: usize, end: usize) -> usize {
        match self.streams[direction as usize].payload_end(start) {
            Some(payload) if self.chance(self.style.missed_payload) => end.min(payload - 1),
            _ => start,
        }
    }

    /// A piece that was held back comes.
    fn release(&mut self, index: usize) {
        let (start, end) = self.held.remove(index);
        self.send(In, start, end);
        self.ahead.push(start);
        let received = self.received();
        self.ahead.retain(|start| *start > received);
    }

    /// Something that has been sent already, or a keep-alive.
    fn repeat(&mut self, direction: Direction, end: usize) {
        if self.random.below(4) == 0 {
            let sequence = self.base[direction as usize]
                .wrapping_add(end as u32)
                .wrapping_sub(1);
            return self
                .wire
                .segment(direction, sequence, &[self.random.word() as u8]);
        }
        let start = end - 1 - self.random.below(end.min(2_000));
        let length = 1 + self.random.below(end - start);
        self.send(direction, start, start + length);
    }

    fn lose(&mut self, direction: Direction, start: usize, end: usize) {
        self.log.push(Event::Missed(direction, start, end));
        self.wire.lose(direction, (end - start) as u32);
    }

    fn send(&mut self, direction: Direction, start: usize, end: usize) {
        let index = direction as usize;
        let sequence = self.base[index].wrapping_add(start as u32);
        self.log.push(Event::Segment(direction, start, end));
        self.sight[index] = self.sight[index].max(end);
        let in_step = self.wire.connection.shared.sync() != 0;
        self.wire
            .segment(direction, sequence, &self.streams[index].bytes[start..end]);
        if in_step && self.wire.connection.shared.sync() == 0 {
            self.log.push(Event::Lost);
        }
    }

    fn chance(&mut self, of: usize) -> bool {
        of != 0 && self.random.below(of) == 0
    }
}

/// Something on the way.
#[derive(Debug, Clone, Copy)]
enum Event {
    Segment(Direction, usize, usize),
    /// The meter does not see it.
    Missed(Direction, usize, usize),
    /// Milliseconds.
    Silence(u64),
    /// The meter has lost its synchronisation.
    Lost,
}

impl Event {
    fn line(self, streams: [&Stream; 2]) -> String {
        match self {
            Self::Segment(direction, start, end) => {
                let mark = if direction == In { '>' } else { '<' };
                let bytes = &streams[direction as usize].bytes[start..end];
                format!("{mark} {}", notation(bytes))
            }
            Self::Missed(direction, start, end) => {
                let segment = Self::Segment(direction, start, end).line(streams);
                format!("# missed, from {start} on: {segment}")
            }
            Self::Lost => "# here the meter is out of step".to_owned(),
            Self::Silence(milliseconds) => format!("# {milliseconds} ms of silence"),
        }
    }
}
