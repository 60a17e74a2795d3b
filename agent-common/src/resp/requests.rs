//! The request direction: commands as arrays of bulk strings or inline lines, and where their first key is.

use super::{
    Content, Fresh, Header, Ledger, Payload, Plan, Segment, command, fresh, header, moment, prefix,
    words::{equal_bytes, first_marked, keep, lower, repeat},
};
use crate::{
    abi::{
        CONTENT_BYTES, Connection, Direction, KeySettings, Loss, Mode, PrefixKey, Reason, Row, RunKind,
        Scratch, TOKEN_BYTES,
    },
    limits::{NAME_BYTES, PARKED_SEGMENTS_OF_CONNECTION},
};

/// [`crate::abi::RequestState::phase`]: what is expected next.
mod phase {
    /// A new command.
    pub(super) const COMMAND: u8 = 0;
    /// The header of an argument.
    pub(super) const ARGUMENT: u8 = 1;
    /// The head of an argument that matters.
    pub(super) const CONTENT: u8 = 2;
    /// A byte of an inline command.
    pub(super) const INLINE: u8 = 3;
    /// Nothing: a whole command that changes how the connection goes on is to be dealt with.
    pub(super) const EFFECT: u8 = 4;
    /// No command any more: the connection's mode has changed.
    pub(super) const DIVERTED: u8 = 5;
}

/// [`crate::abi::RequestState::wanted`]: what the wanted argument is.
mod wanted {
    pub(super) const NAME: u8 = 0;
    pub(super) const KEY: u8 = 1;
    pub(super) const KEY_COUNT: u8 = 2;
    pub(super) const KEYWORD: u8 = 3;
    pub(super) const SUBCOMMAND: u8 = 4;
}

/// [`crate::abi::RequestState::flags`].
mod flag {
    /// `next_sequence` is valid.
    pub(super) const SEQUENCE: u8 = 1;
    /// The first command of the connection has been seen.
    pub(super) const STARTED: u8 = 2;
    /// A restart is on trial: only a known command name makes it good.
    pub(super) const TRIAL: u8 = 4;
    /// Inside double quotes of an inline command.
    pub(super) const QUOTED: u8 = 8;
    /// Inside single quotes.
    pub(super) const SINGLE: u8 = 16;
    /// Behind a backslash inside quotes.
    pub(super) const ESCAPED: u8 = 32;
    /// The word began with a quote: it is one even when it is empty.
    pub(super) const WORD: u8 = 64;
    /// The word holds escapes.
    pub(super) const ESCAPES: u8 = 128;
    /// Everything about the word at hand.
    pub(super) const QUOTING: u8 = QUOTED | SINGLE | ESCAPED | WORD | ESCAPES;
}

/// How long the server must have been silent at a restart point, in units of 2^20 ns: more than one of them.
const QUIET: u32 = 2;

/// No argument is wanted any more.
const NO_ARGUMENT: u32 = u32::MAX;

/// Valkey refuses longer multibulk requests (`INT_MAX` in networking.c, `processMultibulkBuffer`).
const MAX_ARGUMENTS: i64 = i32::MAX as i64;

/// Names that tell more than others where a connection is met in mid-stream.
const PING: [u64; 3] = command::pack("ping");
const REPLCONF: [u64; 3] = command::pack("replconf");

/// First byte of a TLS handshake record (RFC 8446, 5.1); no command begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// The request meter at work on one segment.
pub struct Requests<'a, S, L> {
    /// The connection.
    pub connection: &'a mut Connection,
    /// Scratch of this program run.
    pub scratch: &'a mut Scratch,
    /// How keys are cut.
    pub settings: &'a KeySettings,
    /// The bytes.
    pub segment: S,
    /// The results.
    pub ledger: L,
}

impl Connection {
    /// Makes zeroed storage a connection that was seen from its first byte: both sequence numbers are known.
    #[inline(always)]
    pub fn begin_at_start(&mut self, next_in: u32, next_out: u32) {
        self.begin();
        self.requests.next_sequence = next_in;
        self.requests.flags = flag::SEQUENCE;
        self.replies.next_sequence = next_out;
        self.replies.flags = flag::SEQUENCE;
        self.stretches = 1;
        self.replies.stretch = 1;
        self.shared.set_sync(1);
    }

    /// Makes zeroed storage a connection that is met in mid-stream.
    #[inline(always)]
    pub fn begin_mid_stream(&mut self) {
        self.begin();
        self.adopted = 1;
        self.shared.set_reason(Reason::MidStream as u32);
    }

    #[inline(always)]
    fn begin(&mut self) {
        self.requests.row = Row::UNKNOWN;
        self.requests.last_row = Row::UNKNOWN;
        self.replies.row = Row::UNKNOWN;
    }

    /// Nothing in either direction is attributed until a safe restart point.
    #[inline(always)]
    pub fn lose_synchronisation(&mut self, reason: Reason) {
        self.shared.set_reason(reason as u32);
        self.shared.set_sync(0);
    }

    /// Whether a segment with this sequence number is the next one, as far as is known.
    #[inline(always)]
    #[must_use]
    pub fn expects(&self, sequence: u32) -> bool {
        self.requests.flags & flag::SEQUENCE == 0 || self.requests.next_sequence == sequence
    }

    /// Bytes received that are part of an unfinished command of unknown row, for the books at the end.
    #[inline(always)]
    #[must_use]
    pub fn unfinished_request_bytes(&self) -> u64 {
        self.requests
            .pending
            .wrapping_add(u64::from(self.requests.carry_length))
    }

    /// Bytes sent that are an unfinished token of a reply.
    #[inline(always)]
    #[must_use]
    pub fn unfinished_reply_bytes(&self) -> u64 {
        u64::from(self.replies.carry_length)
    }
}

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// Takes up a segment.
    #[inline(always)]
    pub fn begin(&mut self, payload: &Payload) -> Plan {
        let state = &mut self.connection.requests;
        if state.flags & flag::SEQUENCE == 0 {
            state.flags |= flag::SEQUENCE;
            state.next_sequence = payload.sequence;
            // Nothing has been seen of the client: as far as is known, the server spoke last.
            self.connection.shared.set_last_direction(Direction::Out as u32);
        }
        let state = &self.connection.requests;
        let Some(new) = fresh(state.next_sequence, payload) else {
            return Plan::Done;
        };
        if new.hole != 0 && self.can_wait(&new) {
            return Plan::Park;
        }
        self.take(payload, &new)
    }

    /// A segment that came early was parked.
    #[inline(always)]
    pub fn parked(&mut self, payload: &Payload) {
        let end = payload.sequence.wrapping_add(payload.length);
        if self.connection.parked == 0 || end.wrapping_sub(self.connection.requests.parked_end) < 1 << 31 {
            self.connection.requests.parked_end = end;
        }
        self.connection.parked = self.connection.parked.wrapping_add(1);
    }

    /// A segment that came early could not be parked.
    #[inline(always)]
    pub fn give_up_early(&mut self, payload: &Payload) {
        self.forget_command();
        self.connection.lose_synchronisation(Reason::Hole);
        if let Some(new) = fresh(self.connection.requests.next_sequence, payload) {
            self.take(payload, &new);
        }
    }

    /// Whether a segment behind a hole can be parked: the bytes before it matter, and they are still to come.
    #[inline(always)]
    fn can_wait(&mut self, new: &Fresh) -> bool {
        let shared = &self.connection.shared;
        shared.sync() != 0
            && shared.mode() != Mode::REPLICATION
            && shared.mode() != Mode::OPAQUE
            && self.connection.requests.skip < u64::from(new.hole)
            && self.connection.parked < PARKED_SEGMENTS_OF_CONNECTION
            && self.segment.is_awaited(self.connection.requests.next_sequence)
    }

    #[inline(always)]
    fn take(&mut self, payload: &Payload, new: &Fresh) -> Plan {
        self.connection.requests.next_sequence = payload.sequence.wrapping_add(payload.length);
        let answered = self.connection.shared.last_direction() == Direction::Out as u32;
        self.connection.shared.set_last_direction(Direction::In as u32);
        self.scratch.run_row = Row::UNKNOWN;
        self.scratch.run_commands = 0;
        self.scratch.run_bytes = 0;

        let mode = self.connection.shared.mode();
        if mode == Mode::REPLICATION {
            let row = Row::special(self.connection.slot, Row::REPLICATION);
            self.ledger
                .requests(row, 0, u64::from(new.hole).wrapping_add(u64::from(new.length)));
            return Plan::Done;
        }
        if mode == Mode::OPAQUE || !self.synchronised(new, answered) {
            let parked = self.forget_parked();
            self.unattributed(
                u64::from(new.hole)
                    .wrapping_add(u64::from(new.length))
                    .wrapping_add(parked),
            );
            return Plan::Done;
        }
        let state = &mut self.connection.requests;
        self.scratch.enter(new, &state.carry, state.carry_length);
        state.carry_length = 0;
        if state.row != Row::UNKNOWN {
            self.scratch.run_row = state.row;
        }
        Plan::Read
    }

    /// What is parked lies behind the next byte by now: bytes with other boundaries have filled the gap.
    #[inline(always)]
    pub fn forget_passed(&mut self) {
        let state = &self.connection.requests;
        if state.next_sequence.wrapping_sub(state.parked_end) < 1 << 31 {
            self.connection.parked = 0;
        }
    }

    /// Nothing that is parked will be read. Returns how many bytes that is, holes included.
    #[inline(always)]
    fn forget_parked(&mut self) -> u64 {
        if self.connection.parked == 0 {
            return 0;
        }
        self.connection.parked = 0;
        let state = &mut self.connection.requests;
        let beyond = state.parked_end.wrapping_sub(state.next_sequence);
        if beyond >= 1 << 31 {
            return 0;
        }
        state.next_sequence = state.parked_end;
        u64::from(beyond)
    }

    /// Whether the segment can be parsed: in step, or at a point where a restart may be tried.
    #[inline(always)]
    fn synchronised(&mut self, new: &Fresh, answered: bool) -> bool {
        if self.connection.shared.sync() != 0 {
            if new.hole == 0 {
                if answered && self.connection.shared.trial() != 0 && self.is_settled() {
                    self.connection.shared.set_trial(0);
                }
                return true;
            }
            if self.connection.requests.skip >= u64::from(new.hole) {
                self.skip_hole(u64::from(new.hole));
                return true;
            }
            self.forget_command();
            let started = self.connection.requests.flags & flag::STARTED != 0;
            self.connection
                .lose_synchronisation(if started { Reason::Hole } else { Reason::Handshake });
            return false;
        }
        self.forget_command();
        // The server spoke last, and some time ago, and this segment follows without a gap: a new command may begin
        // here. Its name decides, and then a stretch on trial.
        let candidate = answered && new.hole == 0 && self.is_quiet();
        if candidate {
            self.connection.requests.flags |= flag::TRIAL | flag::STARTED;
        }
        candidate
    }

    /// Whether a stretch on trial is in step: every command in it has had its reply, both directions are between two
    /// messages, and the server has had the time to send what it might still owe from before.
    #[inline(always)]
    fn is_settled(&mut self) -> bool {
        let (requests, replies) = (&self.connection.requests, &self.connection.replies);
        let between = requests.phase == phase::COMMAND
            && requests.carry_length == 0
            && replies.carry_length == 0
            && replies.skip == 0
            && replies.elements == 0;
        between && self.connection.runs.is_drained() && self.is_quiet()
    }

    /// Whether the server has been silent for a millisecond or two.
    #[inline(always)]
    fn is_quiet(&mut self) -> bool {
        let now = moment(self.ledger.now());
        now.wrapping_sub(self.connection.shared.spoke_at()) >= QUIET
    }

    /// The hole is payload that would not have been looked at: TCP delivers it later, the meter does not need it.
    #[inline(always)]
    fn skip_hole(&mut self, hole: u64) {
        let state = &mut self.connection.requests;
        state.skip = state.skip.wrapping_sub(hole);
        if state.row != Row::UNKNOWN {
            self.scratch.run_row = state.row;
        }
        let over = state.skip == 0 && state.arguments_left == 0;
        self.account(hole);
        if over {
            self.finish_command();
        }
    }

    /// What was read of a command is not going to be continued: its bytes are unattributed.
    #[inline(always)]
    fn forget_command(&mut self) {
        let state = &mut self.connection.requests;
        let bytes = state.pending.wrapping_add(u64::from(state.carry_length));
        state.pending = 0;
        state.carry_length = 0;
        state.skip = 0;
        state.arguments_left = 0;
        state.row = Row::UNKNOWN;
        state.phase = phase::COMMAND;
        state.flags &= !(flag::TRIAL | flag::QUOTING);
        if bytes != 0 {
            self.unattributed(bytes);
        }
    }

    /// Handles one token. Returns whether there may be another.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        if self.connection.requests.skip != 0 {
            return self.skip();
        }
        if self.connection.requests.phase == phase::EFFECT {
            return self.finish_with_effect();
        }
        let Some(available) = self.scratch.available(&mut self.segment) else {
            return self.lose(Reason::LoadFailed);
        };
        if available == 0 {
            return false;
        }
        if self.connection.requests.phase == phase::DIVERTED {
            return self.divert();
        }
        let inline = self.connection.requests.phase == phase::INLINE;
        let found = if inline {
            self.inline()
        } else {
            self.array(available)
        };
        // One place understands what either form of command says: the verifier walks each copy of code on its own.
        match found {
            Found::Content(content) => self.understand(&content) && self.end_content(inline, content.length),
            Found::Turn(again) => again,
        }
    }

    /// Goes on in a command that is an array, to the next argument that matters.
    #[inline(always)]
    fn array(&mut self, available: u32) -> Found {
        let phase = self.connection.requests.phase;
        let mut available = available;
        if phase == phase::COMMAND {
            if let Some(again) = self.command(available) {
                return Found::Turn(again);
            }
            available = self.left();
        }
        if phase != phase::CONTENT {
            if let Some(again) = self.argument(available) {
                return Found::Turn(again);
            }
            available = self.left();
        }
        let length = self.connection.requests.content_length;
        if available < needed_of(length) {
            return Found::Turn(self.carry(available));
        }
        Found::Content(Content::read(&self.scratch.window, self.scratch.position, length))
    }

    /// The argument has been understood.
    #[inline(always)]
    fn end_content(&mut self, inline: bool, length: u32) -> bool {
        let state = &mut self.connection.requests;
        if inline {
            state.argument = state.argument.wrapping_add(1);
            return true;
        }
        state.phase = phase::ARGUMENT;
        state.skip = u64::from(length).wrapping_add(2);
        self.next_argument()
    }

    /// Bytes left in the window.
    #[inline(always)]
    fn left(&self) -> u32 {
        self.scratch.fill.wrapping_sub(self.scratch.position)
    }

    /// Ends the segment: writes the open run to the ledger.
    #[inline(always)]
    pub fn end(&mut self) {
        if self.scratch.lost == 0 && self.scratch.remaining() != 0 {
            self.lose(Reason::StepLimit);
        }
        self.flush();
        if self.scratch.lost != 0 {
            // The run before the loss was still in step; from here on nothing is.
            self.connection.shared.set_sync(0);
        }
    }

    /// Start of a command: `*<arguments>` or an inline line. `None`: the name's header can be read at once.
    #[inline(always)]
    fn command(&mut self, available: u32) -> Option<bool> {
        let first = self.scratch.window.byte(self.scratch.position);
        if first != b'*' {
            return Some(self.first_inline(first));
        }
        let (value, length) = match header(&self.scratch.window, self.scratch.position, available) {
            Header::Line { value, length } => (value, length),
            Header::Cut => return Some(self.carry(available)),
            Header::Bad => return Some(self.lose(Reason::ProtocolError)),
        };
        if value > MAX_ARGUMENTS {
            return Some(self.lose(Reason::ProtocolError));
        }
        if value <= 0 && self.connection.requests.flags & flag::TRIAL != 0 {
            return Some(self.lose_trial());
        }
        self.consume(length);
        self.connection.requests.flags |= flag::STARTED;
        if value <= 0 {
            // Valkey ignores an empty array: no command, no reply.
            self.resolve(Row::special(self.connection.slot, Row::KEYLESS));
            self.connection.requests.row = Row::UNKNOWN;
            return Some(true);
        }
        self.start_command(value as u32, phase::ARGUMENT);
        (self.left() < TOKEN_BYTES as u32).then_some(true)
    }

    #[inline(always)]
    fn start_command(&mut self, arguments: u32, next: u8) {
        let state = &mut self.connection.requests;
        state.arguments_left = arguments;
        state.argument = 0;
        state.wanted_argument = 0;
        state.wanted = wanted::NAME;
        state.content_length = 0;
        state.command = 0;
        state.phase = next;
    }

    /// Header of an argument. `None`: its content matters, and can be looked at at once.
    #[inline(always)]
    fn argument(&mut self, available: u32) -> Option<bool> {
        if self.scratch.window.byte(self.scratch.position) != b'$' {
            return Some(self.lose(Reason::ProtocolError));
        }
        let (value, length) = match header(&self.scratch.window, self.scratch.position, available) {
            Header::Line { value, length } => (value, length),
            Header::Cut => return Some(self.carry(available)),
            Header::Bad => return Some(self.lose(Reason::ProtocolError)),
        };
        if value < 0 {
            return Some(self.lose(Reason::ProtocolError));
        }
        self.consume(length);
        let state = &mut self.connection.requests;
        if state.argument != state.wanted_argument {
            state.skip = (value as u64).wrapping_add(2);
            return Some(self.next_argument());
        }
        if value > i64::from(u32::MAX) {
            return Some(self.lose(Reason::ProtocolError));
        }
        state.content_length = value as u32;
        state.phase = phase::CONTENT;
        (available.wrapping_sub(length) < needed_of(value as u32)).then_some(true)
    }

    /// The argument at hand is done but for its bytes.
    #[inline(always)]
    fn next_argument(&mut self) -> bool {
        let state = &mut self.connection.requests;
        state.argument = state.argument.wrapping_add(1);
        state.arguments_left = state.arguments_left.wrapping_sub(1);
        self.skip()
    }

    /// Jumps over payload. Returns whether the segment goes on behind it.
    #[inline(always)]
    fn skip(&mut self) -> bool {
        let jumped = self.scratch.jump(self.connection.requests.skip);
        self.account(jumped);
        let state = &mut self.connection.requests;
        state.skip = state.skip.wrapping_sub(jumped);
        if state.skip != 0 {
            return false;
        }
        if state.arguments_left == 0 {
            self.finish_command();
        }
        true
    }

    /// What a wanted argument says. Returns false when the meter gives up.
    #[inline(always)]
    fn understand(&mut self, content: &Content) -> bool {
        match self.connection.requests.wanted {
            wanted::NAME => return self.name(content),
            wanted::KEY => self.key(content),
            wanted::KEY_COUNT => self.key_count(content),
            wanted::KEYWORD => self.keyword(content),
            _ => self.subcommand(content),
        }
        true
    }

    #[inline(always)]
    fn name(&mut self, content: &Content) -> bool {
        let name = [
            lower(content.words[0]),
            lower(content.words[1]),
            lower(content.words[2]),
        ];
        let known = if content.length as usize <= NAME_BYTES {
            self.look_up(&name)
        } else {
            None
        };
        if self.connection.requests.flags & flag::TRIAL != 0 && !self.restart(&name, known) {
            return false;
        }
        let state = &mut self.connection.requests;
        let Some(info) = known else {
            state.wanted = wanted::KEY;
            state.wanted_argument = 1;
            self.ledger.loss(Loss::UnknownCommand, 1);
            return true;
        };
        state.command = info;
        state.container = name[0];
        self.want(info);
        true
    }

    /// The trial's name has been read. Returns whether it makes the restart good.
    #[inline(always)]
    fn restart(&mut self, name: &[u64; 3], known: Option<u32>) -> bool {
        let Some(info) = known else {
            return self.lose_trial();
        };
        // A RESP2 subscriber sends these as well, and its next messages would be taken for their replies.
        let effect = command::effect(info);
        if name[0] == PING[0] || effect == command::EFFECT_QUIT || effect == command::EFFECT_RESET {
            return self.lose_trial();
        }
        self.connection.requests.flags &= !flag::TRIAL;
        if name[0] == REPLCONF[0] {
            // A replica acknowledges what it has received: nobody answers it.
            self.resolve(Row::special(self.connection.slot, Row::REPLICATION));
            self.connection.shared.set_mode(Mode::REPLICATION);
            return self.divert();
        }
        self.connection.runs.restart_producer();
        self.connection.stretches = self.connection.stretches.wrapping_add(1) | 1;
        self.connection.shared.set_trial(1);
        self.connection
            .shared
            .set_sync(u32::from(self.connection.stretches));
        true
    }

    /// Looks a name up, with the last answer of this CPU at hand.
    #[inline(always)]
    fn look_up(&mut self, name: &[u64; 3]) -> Option<u32> {
        let scratch = &mut *self.scratch;
        if scratch.name[0] == name[0]
            && scratch.name[1] == name[1]
            && scratch.name[2] == name[2]
            && name[0] != 0
        {
            return Some(scratch.name_info);
        }
        let info = command::lookup(name)?;
        scratch.name = *name;
        scratch.name_info = info;
        Some(info)
    }

    /// Sets up the search for the first key.
    #[inline(always)]
    fn want(&mut self, info: u32) {
        let slot = self.connection.slot;
        let state = &mut self.connection.requests;
        state.wanted_argument = command::argument(info);
        match command::kind(info) {
            command::KIND_KEY => state.wanted = wanted::KEY,
            command::KIND_KEY_COUNT => state.wanted = wanted::KEY_COUNT,
            command::KIND_KEYWORD => state.wanted = wanted::KEYWORD,
            command::KIND_CONTAINER => {
                state.wanted = wanted::SUBCOMMAND;
                state.wanted_argument = 1;
            }
            _ => {
                state.wanted_argument = NO_ARGUMENT;
                let row = match command::effect(info) {
                    command::EFFECT_SUBSCRIBE | command::EFFECT_UNSUBSCRIBE | command::EFFECT_PUBLISH => {
                        Row::PUBSUB
                    }
                    command::EFFECT_REPLICATION => Row::REPLICATION,
                    _ => Row::KEYLESS,
                };
                self.resolve(Row::special(slot, row));
            }
        }
    }

    #[inline(always)]
    fn subcommand(&mut self, content: &Content) {
        let container = self.connection.requests.container;
        let zero = equal_bytes(container, 0);
        let length = if zero == 0 { 8 } else { first_marked(zero) };
        let mut known = None;
        if length < 7 && length.wrapping_add(1).wrapping_add(content.length) <= NAME_BYTES as u32 {
            let shift = length.wrapping_add(1).wrapping_mul(8) & 63;
            let back = 64_u32.wrapping_sub(shift) & 63;
            let words = [
                lower(content.words[0]),
                lower(content.words[1]),
                lower(content.words[2]),
            ];
            let bar = u64::from(b'|') << (length.wrapping_mul(8) & 63);
            let joined = [
                container | bar | words[0] << shift,
                words[0] >> back | words[1] << shift,
                words[1] >> back | words[2] << shift,
            ];
            known = command::lookup(&joined);
        }
        let info = known.unwrap_or(0);
        self.connection.requests.command = info;
        if command::kind(info) == command::KIND_CONTAINER {
            // A table that nests containers is wrong; read no further.
            return self.resolve(Row::special(self.connection.slot, Row::KEYLESS));
        }
        self.want(info);
    }

    #[inline(always)]
    fn key_count(&mut self, content: &Content) {
        let zeros = keep([repeat(b'0'), 0, 0, 0], content.length);
        if content.length <= 8 && content.words[0] == zeros[0] {
            self.connection.requests.wanted_argument = NO_ARGUMENT;
            return self.resolve(Row::special(self.connection.slot, Row::KEYLESS));
        }
        let state = &mut self.connection.requests;
        state.wanted = wanted::KEY;
        state.wanted_argument = state.argument.wrapping_add(command::offset(state.command));
    }

    #[inline(always)]
    fn keyword(&mut self, content: &Content) {
        const STREAMS: u64 = u64::from_le_bytes(*b"streams\0");
        let state = &mut self.connection.requests;
        if content.length == 7 && lower(content.words[0]) == STREAMS {
            state.wanted = wanted::KEY;
        }
        state.wanted_argument = state.argument.wrapping_add(1);
    }

    #[inline(always)]
    fn key(&mut self, content: &Content) {
        self.connection.requests.wanted_argument = NO_ARGUMENT;
        let length = prefix(content, self.settings);
        // On trial nothing is attributed, and no prefix is made known.
        if length == 0 || self.connection.shared.trial() != 0 {
            return self.resolve(Row::special(self.connection.slot, Row::NONE));
        }
        let words = keep(content.words, length);
        let state = &mut self.connection.requests;
        let known = state.last_row != Row::UNKNOWN
            && state.last_prefix_length == length
            && state.last_prefix[0] == words[0]
            && state.last_prefix[1] == words[1]
            && state.last_prefix[2] == words[2]
            && state.last_prefix[3] == words[3];
        if !known {
            state.last_prefix = words;
            state.last_prefix_length = length;
            let key = PrefixKey {
                slot: self.connection.slot,
                length,
                words,
            };
            self.connection.requests.last_row = self.ledger.row(&key);
        }
        let row = self.connection.requests.last_row;
        self.resolve(row);
    }

    /// The current command belongs to `row`.
    #[inline(always)]
    fn resolve(&mut self, row: u32) {
        if self.scratch.run_row != row {
            self.flush();
            self.scratch.run_row = row;
        }
        let state = &mut self.connection.requests;
        state.row = row;
        self.scratch.run_bytes = self.scratch.run_bytes.wrapping_add(state.pending);
        state.pending = 0;
    }

    /// The last byte of a command has been seen.
    #[inline(always)]
    fn finish_command(&mut self) {
        if self.connection.requests.row == Row::UNKNOWN {
            self.resolve(Row::special(self.connection.slot, Row::KEYLESS));
        }
        let state = &mut self.connection.requests;
        state.row = Row::UNKNOWN;
        if command::effect(state.command) == 0 {
            state.phase = phase::COMMAND;
            self.scratch.run_commands = self.scratch.run_commands.wrapping_add(1);
        } else {
            // A turn of its own, so that the program contains it once.
            state.phase = phase::EFFECT;
        }
    }

    /// A command that changes how the connection is to be read is complete.
    #[inline(always)]
    fn finish_with_effect(&mut self) -> bool {
        let state = &mut self.connection.requests;
        state.phase = phase::COMMAND;
        let channels = state.argument.wrapping_sub(1);
        let (kind, answers) = match command::effect(state.command) {
            command::EFFECT_SUBSCRIBE | command::EFFECT_UNSUBSCRIBE if channels > 1 => {
                (RunKind::ConfirmMany, channels)
            }
            command::EFFECT_UNSUBSCRIBE if channels == 0 => (RunKind::ConfirmAll, 1),
            command::EFFECT_SUBSCRIBE | command::EFFECT_UNSUBSCRIBE => (RunKind::Confirm, 1),
            command::EFFECT_RESET => (RunKind::Reset, 1),
            _ => (RunKind::Reply, 1),
        };
        if kind == RunKind::Reply {
            self.scratch.run_commands = self.scratch.run_commands.wrapping_add(1);
            self.change_mode();
            return true;
        }
        self.flush();
        self.scratch.run_commands = 1;
        self.flush_as(kind, answers);
        true
    }

    #[inline(always)]
    fn change_mode(&mut self) {
        let shared = &mut self.connection.shared;
        match command::effect(self.connection.requests.command) {
            command::EFFECT_MONITOR => shared.set_mode(Mode::MONITOR),
            command::EFFECT_REPLICATION => {
                shared.set_mode(Mode::REPLICATION);
                self.connection.requests.phase = phase::DIVERTED;
            }
            command::EFFECT_CLIENT_REPLY => {
                shared.set_reason(Reason::ClientReply as u32);
                shared.set_mode(Mode::OPAQUE);
                self.connection.requests.phase = phase::DIVERTED;
            }
            _ => {}
        }
    }

    /// What follows in the segment in which the mode changed.
    #[inline(always)]
    fn divert(&mut self) -> bool {
        let rest = self.scratch.remaining();
        self.scratch.position = 0;
        self.scratch.fill = 0;
        self.scratch.next = self.scratch.end;
        if self.connection.shared.mode() == Mode::REPLICATION {
            self.ledger
                .requests(Row::special(self.connection.slot, Row::REPLICATION), 0, rest);
        } else {
            self.unattributed(rest);
        }
        false
    }

    /// Writes the run to the ledger, and to the queue of commands that wait for one reply each.
    #[inline(always)]
    fn flush(&mut self) {
        self.flush_as(RunKind::Reply, self.scratch.run_commands);
    }

    /// The same for commands that are answered in another way.
    #[inline(always)]
    fn flush_as(&mut self, kind: RunKind, answers: u32) {
        let scratch = &mut *self.scratch;
        let (row, commands, bytes) = (scratch.run_row, scratch.run_commands, scratch.run_bytes);
        if commands == 0 && bytes == 0 {
            return;
        }
        scratch.run_commands = 0;
        scratch.run_bytes = 0;
        if self.connection.shared.trial() == 0 {
            self.ledger.requests(row, commands, bytes);
        } else {
            self.unattributed(bytes);
        }
        if commands != 0 {
            let overflow = Row::special(self.connection.slot, Row::OTHER);
            if !self.connection.runs.push(row, kind, answers, overflow) {
                self.ledger.loss(Loss::RunQueueFull, commands);
            }
        }
    }

    /// Consumes `length` bytes of the window.
    #[inline(always)]
    fn consume(&mut self, length: u32) {
        self.scratch.position = self.scratch.position.wrapping_add(length);
        self.account(u64::from(length));
    }

    /// Counts bytes of the current command.
    #[inline(always)]
    fn account(&mut self, bytes: u64) {
        let state = &mut self.connection.requests;
        if state.row == Row::UNKNOWN {
            state.pending = state.pending.wrapping_add(bytes);
        } else {
            self.scratch.run_bytes = self.scratch.run_bytes.wrapping_add(bytes);
        }
    }

    /// The segment ends within a token: keeps it for the next one.
    #[inline(always)]
    fn carry(&mut self, available: u32) -> bool {
        if self.connection.requests.flags & flag::TRIAL != 0 {
            return self.lose_trial();
        }
        self.connection.requests.carry = self.scratch.window.token(self.scratch.position);
        self.connection.requests.carry_length = available as u8;
        self.scratch.position = self.scratch.fill;
        false
    }

    /// The trial restart was none.
    #[inline(always)]
    fn lose_trial(&mut self) -> bool {
        self.give_up();
        false
    }

    /// Gives up on the connection until a safe restart point.
    #[inline(always)]
    fn lose(&mut self, reason: Reason) -> bool {
        if self.connection.requests.flags & flag::TRIAL == 0 {
            self.connection.shared.set_reason(reason as u32);
        }
        if matches!(reason, Reason::Tls) {
            self.connection.shared.set_mode(Mode::OPAQUE);
        }
        self.give_up();
        false
    }

    /// Everything of this segment that is not in a run is unattributed, and so is what follows.
    #[inline(always)]
    fn give_up(&mut self) {
        let remaining = self.scratch.remaining();
        self.scratch.lost = 1;
        self.scratch.position = 0;
        self.scratch.fill = 0;
        self.scratch.next = self.scratch.end;
        self.connection.requests.carry_length = 0;
        self.forget_command();
        if remaining != 0 {
            self.unattributed(remaining);
        }
    }

    #[inline(always)]
    fn unattributed(&mut self, bytes: u64) {
        let reason = reason_from(self.connection.shared.reason());
        self.ledger
            .unattributed(self.connection.slot, Direction::In, reason, bytes);
    }
}

/// Inline commands: people with telnet, health checks, empty lines. A byte a turn: rare, and never long.
impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    #[inline(always)]
    fn first_inline(&mut self, first: u8) -> bool {
        if self.connection.requests.flags & flag::TRIAL != 0 {
            return self.lose_trial();
        }
        if first == TLS_HANDSHAKE && self.connection.requests.flags & flag::STARTED == 0 {
            return self.lose(Reason::Tls);
        }
        self.connection.requests.flags |= flag::STARTED;
        // The arguments of a line cannot be counted ahead: the line's end finishes the command.
        self.start_command(u32::MAX, phase::INLINE);
        true
    }

    #[inline(always)]
    fn inline(&mut self) -> Found {
        let byte = self.scratch.window.byte(self.scratch.position);
        let state = &mut self.connection.requests;
        let quotes = state.flags & (flag::QUOTED | flag::SINGLE) != 0;
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | 0) && !quotes;
        if (blank || byte == b'\n') && (state.content_length != 0 || state.flags & flag::WORD != 0) {
            // The byte behind a word is read again in the next turn.
            return self.end_word();
        }
        let quoted = quotes && byte != b'\n';
        self.consume(1);
        let state = &mut self.connection.requests;
        if byte == b'\n' {
            return Found::Turn(self.end_line());
        }
        if blank || state.wanted_argument == NO_ARGUMENT && command::effect(state.command) == 0 {
            return Found::Turn(true);
        }
        if quoted {
            self.quoted(byte);
        } else if byte == b'"' {
            state.flags |= flag::QUOTED | flag::WORD;
        } else if byte == b'\'' {
            state.flags |= flag::SINGLE | flag::WORD;
        } else {
            self.add_to_word(byte);
        }
        Found::Turn(true)
    }

    /// A byte inside quotes. Escapes are stepped over, not decoded: a word with one is not read.
    #[inline(always)]
    fn quoted(&mut self, byte: u8) {
        let state = &mut self.connection.requests;
        let quote = if state.flags & flag::QUOTED != 0 {
            b'"'
        } else {
            b'\''
        };
        if state.flags & flag::ESCAPED != 0 {
            state.flags &= !flag::ESCAPED;
        } else if byte == b'\\' {
            state.flags |= flag::ESCAPED | flag::ESCAPES;
        } else if byte == quote {
            state.flags &= !(flag::QUOTED | flag::SINGLE);
        } else {
            self.add_to_word(byte);
        }
    }

    #[inline(always)]
    fn add_to_word(&mut self, byte: u8) {
        let state = &mut self.connection.requests;
        let index = state.content_length;
        state.content_length = index.wrapping_add(1);
        let bits = u64::from(byte) << (index & 7).wrapping_mul(8);
        match index >> 3 {
            0 => state.carry[0] = if index == 0 { bits } else { state.carry[0] | bits },
            1 => state.carry[1] = if index == 8 { bits } else { state.carry[1] | bits },
            2 => state.carry[2] = if index == 16 { bits } else { state.carry[2] | bits },
            3 => state.carry[3] = if index == 24 { bits } else { state.carry[3] | bits },
            4 => state.carry[4] = if index == 32 { bits } else { state.carry[4] | bits },
            _ => {}
        }
    }

    #[inline(always)]
    fn end_word(&mut self) -> Found {
        let state = &mut self.connection.requests;
        // A word with escapes reads as an empty one: no known name, and a key without delimiter.
        let length = if state.flags & flag::ESCAPES == 0 {
            state.content_length
        } else {
            0
        };
        state.flags &= !flag::QUOTING;
        let words = [state.carry[0], state.carry[1], state.carry[2], state.carry[3]];
        let content = Content {
            words: keep(words, length),
            next: if length > 32 { state.carry[4] as u8 } else { 0 },
            length,
        };
        state.content_length = 0;
        if state.argument == state.wanted_argument {
            return Found::Content(content);
        }
        state.argument = state.argument.wrapping_add(1);
        Found::Turn(true)
    }

    #[inline(always)]
    fn end_line(&mut self) -> bool {
        self.connection.requests.arguments_left = 0;
        if self.connection.requests.argument == 0 {
            // An empty line is no command: Valkey does not answer it.
            self.resolve(Row::special(self.connection.slot, Row::KEYLESS));
            self.connection.requests.row = Row::UNKNOWN;
            self.connection.requests.phase = phase::COMMAND;
            return true;
        }
        self.finish_command();
        true
    }
}

/// What a turn has found.
enum Found {
    /// An argument that matters.
    Content(Content),
    /// None: whether there may be another turn.
    Turn(bool),
}

/// How much of an argument of `length` bytes must be there before it is looked at.
#[inline(always)]
const fn needed_of(length: u32) -> u32 {
    if length < CONTENT_BYTES {
        length
    } else {
        CONTENT_BYTES
    }
}

/// The reason stored in a connection; anything out of range (it cannot be) reads as mid-stream.
#[inline(always)]
pub(super) fn reason_from(value: u32) -> Reason {
    match value {
        1 => Reason::Hole,
        2 => Reason::ProtocolError,
        3 => Reason::UnexpectedReply,
        4 => Reason::Incomplete,
        5 => Reason::Tls,
        6 => Reason::ClientReply,
        7 => Reason::Contended,
        8 => Reason::StepLimit,
        9 => Reason::LoadFailed,
        10 => Reason::Handshake,
        _ => Reason::MidStream,
    }
}
