//! The reply direction: RESP2 and RESP3 values, matched in order to the commands that wait.

mod repeated;
mod whole;

pub use whole::whole_reply;

use super::{
    Header, Ledger, NARROW, Payload, Segment, WIDE,
    error_words::{DECISIVE_BYTES, error_word, is_refusal},
    fresh, header, moment,
    requests::added,
    tick,
    words::{equal_bytes, first_marked, keep, repeat},
};
use crate::abi::{
    Connection, DURATION_BUCKETS, Direction, ErrorWord, Mode, Reason, ReplyCounts, ReplyRun, Row, RunKind,
    Scratch, Shared, TOKEN_BYTES, Waiting, clear_token, duration_bucket, run_flag, size_bucket,
};

/// [`crate::abi::ReplyState::phase`]: what is expected next.
mod phase {
    /// A type byte.
    pub(super) const VALUE: u8 = 0;
    /// The rest of a line.
    pub(super) const LINE: u8 = 1;
    /// Nothing: the reply is complete.
    pub(super) const COMPLETE: u8 = 2;
}

/// [`crate::abi::ReplyState::flags`].
mod flag {
    /// [`Connection::next_out`] is valid.
    pub(super) const SEQUENCE: u8 = 1;
    /// The connection speaks RESP3, as a push or HELLO has shown: messages are pushes, an array answers a command.
    pub(super) const PUSHES: u8 = 2;
    /// The [`RunKind::ConfirmAll`](crate::abi::RunKind::ConfirmAll) at the front has got a confirmation.
    pub(super) const CONFIRMED: u8 = 4;
    /// The frame of pub/sub at hand names no channel.
    pub(super) const NO_CHANNEL: u8 = 8;
    /// After MONITOR: lines that no command asked for.
    pub(super) const MONITORS: u8 = 16;
    /// The server has said that it takes no more clients, and nothing before it.
    pub(super) const REFUSED: u8 = 32;
    /// The last value was long: the header of the next is read alone.
    pub(super) const LONG: u8 = 64;
}

/// Flag of a connection whose next sequence number is known.
pub(super) const SEQUENCE_KNOWN: u8 = flag::SEQUENCE;

/// Flag of a connection that speaks RESP3.
pub(super) const PUSHES: u8 = flag::PUSHES;

/// Flag of a connection that the server refused.
pub(super) const REFUSED: u8 = flag::REFUSED;

/// How much of a value has to lie behind what was loaded of it for it to be long.
const LONG_REST: u64 = 256;

/// Nil in RESP2.
const NIL: u64 = u64::from_le_bytes(*b"$-1\r\n\0\0\0");

/// [`Scratch::duration`] of a reply that has none, or whose duration is counted.
const UNTIMED: u32 = u32::MAX;

/// [`crate::abi::ReplyState::unasked`]: whether the current reply answers a command.
mod unasked {
    /// It answers the oldest one that waits.
    pub(super) const NO: u8 = 0;
    /// It answers none.
    pub(super) const YES: u8 = 1;
    /// A push, or an array in subscribed mode: its length will tell what it can be.
    pub(super) const OPEN: u8 = 2;
    /// Three elements: a message if the last one is a string, a confirmation if it is a number.
    pub(super) const THREE: u8 = 3;
}

/// The reply meter at work on one segment.
pub struct Replies<'a, S, L> {
    /// The connection.
    pub connection: &'a mut Connection,
    /// Scratch of this program run.
    pub scratch: &'a mut Scratch,
    /// The bytes.
    pub segment: S,
    /// The results.
    pub ledger: L,
}

impl<S: Segment, L: Ledger> Replies<'_, S, L> {
    /// Takes up a segment. Returns whether [`Self::step`] is to be called, until it returns false, and then
    /// [`Self::end`].
    #[inline(always)]
    pub fn begin(&mut self, payload: &Payload) -> bool {
        let state = &mut self.connection.replies;
        if state.flags & flag::SEQUENCE == 0 {
            state.flags |= flag::SEQUENCE;
            self.connection.next_out = payload.sequence;
        }
        let Some(new) = fresh(self.connection.next_out, payload) else {
            return false;
        };
        self.connection.next_out = payload.sequence.wrapping_add(payload.length);
        self.connection.runs.set_last_direction(Direction::Out);
        self.scratch.now = tick(payload.seen_at);
        self.scratch.pending = 0;
        self.scratch.hits = 0;
        self.scratch.misses = 0;
        self.scratch.duration = UNTIMED;
        self.scratch.replies.row = Row::UNKNOWN;
        self.scratch.replies.clear();
        self.scratch.repeated_reply.forget();

        let bytes = u64::from(new.hole).wrapping_add(u64::from(new.length));
        let mode = self.connection.shared.mode();
        if mode == Mode::REPLICATION {
            let row = self.of_class(Row::special(self.connection.slot, Row::REPLICATION));
            self.ledger.replies(self.connection.slot, row, &only_bytes(bytes));
            return false;
        }
        let stretch = self.connection.shared.sync();
        self.connection.set_spoke_at(moment(payload.seen_at));
        if mode == Mode::OPAQUE || stretch == 0 {
            self.forget_reply(bytes);
            return false;
        }
        if stretch != self.connection.replies.stretch {
            self.forget_reply(0);
            self.connection.replies.stretch = stretch;
            self.connection.replies.flags &= !(flag::CONFIRMED | flag::MONITORS | flag::PUSHES);
            self.connection.shared.set_subscribed(0);
            self.connection.runs.restart_consumer();
        }
        if new.hole != 0 && !self.skip_hole(u64::from(new.hole)) {
            self.connection.lose_synchronisation(Reason::Hole);
            self.forget_reply(bytes);
            return false;
        }
        let state = &mut self.connection.replies;
        self.scratch.enter(&new, &mut state.carry, state.carry_length);
        state.carry_length = 0;
        // Without a branch: one way for the verifier.
        let long = u32::from(state.flags & flag::LONG);
        self.scratch.chunk = WIDE.wrapping_sub(long.wrapping_mul((WIDE - NARROW) / flag::LONG as u32));
        state.flags &= !flag::LONG;
        self.scratch.dirty = self.scratch.fill;
        self.connection.rests_out = 0;
        true
    }

    /// Segments leave the host in order: a hole means that the agent missed one. Inside a string it costs nothing.
    #[inline(always)]
    fn skip_hole(&mut self, hole: u64) -> bool {
        let state = &mut self.connection.replies;
        if state.skip < hole {
            return false;
        }
        state.skip = state.skip.wrapping_sub(hole);
        self.scratch.pending = hole;
        if state.skip == 0 {
            self.end_value();
        }
        true
    }

    /// Handles one token. Returns whether there may be another.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        let again = if self.connection.replies.phase == phase::COMPLETE {
            true
        } else if self.connection.replies.skip != 0 {
            self.skip()
        } else {
            self.token()
        };
        // One place for whatever completes a reply: the verifier walks each copy of code on its own.
        if self.connection.replies.phase == phase::COMPLETE {
            self.complete();
        }
        again
    }

    #[inline(always)]
    fn token(&mut self) -> bool {
        let chunk = self.scratch.chunk;
        let Some(available) = self.scratch.available_in_chunks(&mut self.segment, chunk) else {
            return self.lose(Reason::LoadFailed);
        };
        self.scratch.chunk = WIDE;
        // At least the largest fill so far, and below the power of two above it: without a branch.
        self.scratch.dirty |= self.scratch.fill;
        if available == 0 {
            return false;
        }
        if self.connection.replies.phase == phase::LINE {
            return self.line(available);
        }
        if self.connection.replies.elements == 0 {
            if self.repeated() {
                return !self.scratch.is_read();
            }
            if !self.start_reply(available) {
                return false;
            }
        }
        self.value(available)
    }

    /// Ends the segment: writes the open run and the open reply's bytes to the ledger.
    #[inline(always)]
    pub fn end(&mut self) {
        if self.scratch.lost == 0 && self.scratch.remaining() != 0 {
            self.lose(Reason::StepLimit);
        }
        let state = &mut self.connection.replies;
        let bytes = self.scratch.pending;
        // Without bytes, too: of a reply whose first token is cut the moment is known now, and now alone.
        if state.row != Row::UNKNOWN && (bytes != 0 || self.scratch.duration != UNTIMED) {
            let row = state.row;
            self.connection.size_out = added(self.connection.size_out, bytes);
            self.fold(row, 0, 0);
        }
        self.flush();
        if self.scratch.lost != 0 {
            self.forget_reply(self.scratch.remaining());
            self.connection.shared.set_sync(0);
        }
        self.connection.rests_out = if self.is_at_rest() {
            self.connection.replies.stretch
        } else {
            0
        };
        self.scratch.wipe(&mut self.segment);
        // A short reply may be all in there.
        self.scratch.repeated_reply.head = 0;
    }

    /// Whether it is between two replies, about which there is nothing special. Inside of one, elements are missing.
    #[inline(always)]
    fn is_at_rest(&self) -> bool {
        let state = &self.connection.replies;
        let open = state.flags & !(flag::PUSHES | flag::LONG) ^ flag::SEQUENCE | state.carry_length;
        u32::from(open) | state.elements == 0
    }

    /// First byte of a reply: finds the command that it answers. Returns false when the segment is done with.
    #[inline(always)]
    fn start_reply(&mut self, available: u32) -> bool {
        let first = self.scratch.window.byte(self.scratch.position);
        if first == b'-'
            && self.connection.runs.is_unanswered()
            && is_refusal(&self.scratch.window, self.scratch.position)
        {
            self.connection.replies.flags |= flag::REFUSED;
        }
        if first == b'>' {
            self.connection.replies.flags |= flag::PUSHES;
            return self.start_unasked(Row::PUBSUB, unasked::OPEN);
        }
        if first == b'+' && self.connection.replies.flags & flag::MONITORS != 0 {
            if available < 2 {
                return self.carry(available);
            }
            // The lines of MONITOR begin with a time, no reply in words does.
            if self
                .scratch
                .window
                .byte(self.scratch.position.wrapping_add(1))
                .is_ascii_digit()
            {
                return self.start_unasked(Row::KEYLESS, unasked::YES);
            }
        }
        let front = self.answerable(first);
        if first == b'*' {
            let awaited = matches!(
                front.kind,
                RunKind::Confirm | RunKind::ConfirmMany | RunKind::ConfirmAll
            );
            if awaited || self.is_subscriber() {
                return self.start_unasked(Row::PUBSUB, unasked::OPEN);
            }
        }
        if matches!(front.kind, RunKind::Nobody) {
            return self.lose(Reason::UnexpectedReply);
        }
        self.note(front.kind, first);
        let several = matches!(front.kind, RunKind::ConfirmMany);
        if several {
            // An error, or QUEUED: one reply for all channels.
            self.drop_front_run();
        }
        self.start_answer(&front, if several { unasked::YES } else { unasked::NO });
        true
    }

    /// Whether an array may be a message: RESP2, and something is subscribed to.
    #[inline(always)]
    fn is_subscriber(&self) -> bool {
        self.connection.shared.subscribed() != 0 && self.connection.replies.flags & flag::PUSHES == 0
    }

    /// What the first byte of a reply says about those after it.
    #[inline(always)]
    fn note(&mut self, kind: RunKind, first: u8) {
        let state = &mut self.connection.replies;
        match (kind, first) {
            (RunKind::Reset, b'+') => {
                // RESET also goes back to RESP2.
                state.flags &= !(flag::MONITORS | flag::PUSHES);
                self.connection.shared.set_subscribed(0);
                if let Some(identity) = self.ledger.identity(false) {
                    identity.reset();
                    self.connection.count_settlement();
                }
            }
            (RunKind::Monitor, b'+') => state.flags |= flag::MONITORS,
            (RunKind::Hello, b'%') => state.flags |= flag::PUSHES,
            (RunKind::Hello, b'*') => state.flags &= !flag::PUSHES,
            _ => {}
        }
    }

    /// First byte of the reply to a command.
    #[inline(always)]
    fn start_answer(&mut self, waiting: &Waiting, unasked: u8) {
        self.start_elements(waiting.row, unasked);
        if waiting.flags & run_flag::NAME == run_flag::IDENTIFIES {
            self.settle_identity();
        }
        self.connection.replies.reads = u8::from(waiting.flags & run_flag::READS != 0);
        if waiting.flags & run_flag::UNTIMED == 0 {
            self.scratch.duration = self.scratch.now.wrapping_sub(waiting.since);
        }
    }

    /// The reply of a command that said who the client is: an error refuses it.
    #[inline(always)]
    fn settle_identity(&mut self) {
        let accepted = self.scratch.window.byte(self.scratch.position) != b'-';
        let stretch = self.connection.replies.stretch;
        if let Some(identity) = self.ledger.identity(false) {
            identity.settle(accepted, stretch);
            self.connection.count_settlement();
        }
    }

    /// The command that a reply beginning with `first` can answer.
    #[inline(always)]
    fn answerable(&mut self, first: u8) -> Waiting {
        if first != b'*' || !self.is_subscriber() {
            self.drop_confirmed();
        }
        let front = self.front();
        if matches!(front.kind, RunKind::Monitor) && self.connection.replies.flags & flag::MONITORS != 0 {
            // Where MONITOR is in force already, the server does not answer it.
            self.drop_front_run();
            return self.front();
        }
        front
    }

    /// The oldest command that waits.
    #[inline(always)]
    fn front(&mut self) -> Waiting {
        let front = self.connection.runs.front();
        if matches!(front.kind, RunKind::Spilled) {
            return self.ledger.front_of_spill(self.connection);
        }
        front
    }

    /// The whole oldest run needs no reply.
    #[inline(always)]
    fn drop_front_run(&mut self) {
        if !self.connection.runs.is_at_spill() {
            self.connection.runs.drop_front_run();
        } else if let Some(spill) = self.ledger.spill(false) {
            self.connection.runs.drop_front_run_of_spill(spill);
        }
    }

    /// UNSUBSCRIBE without channels has been confirmed, and what comes is no confirmation: it is over.
    #[inline(always)]
    fn drop_confirmed(&mut self) {
        if self.connection.replies.flags & flag::CONFIRMED != 0 {
            self.connection.replies.flags &= !flag::CONFIRMED;
            self.connection.runs.pop();
        }
    }

    #[inline(always)]
    fn start_unasked(&mut self, row: u32, unasked: u8) -> bool {
        let row = self.of_class(Row::special(self.connection.slot, row));
        self.start_elements(row, unasked);
        true
    }

    /// The row that has what nobody asked for.
    #[inline(always)]
    fn of_class(&mut self, row: u32) -> u32 {
        let class = self.ledger.known_class(self.connection);
        if class == 0 {
            return row;
        }
        self.ledger.special(Direction::Out, row, class)
    }

    #[inline(always)]
    fn start_elements(&mut self, row: u32, unasked: u8) {
        let state = &mut self.connection.replies;
        state.row = row;
        state.elements = 1;
        state.unasked = unasked;
        state.reads = 0;
    }

    /// One value, or the header of an aggregate.
    #[inline(always)]
    fn value(&mut self, available: u32) -> bool {
        match self.scratch.window.byte(self.scratch.position) {
            b':' if self.connection.replies.unasked == unasked::THREE
                && self.connection.replies.elements == 1 =>
            {
                self.confirmation(available)
            }
            first @ (b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(') => {
                if first == b'-' && !self.error(available) {
                    return self.carry(available);
                }
                match first {
                    b'_' => self.note_nil(),
                    b'-' => {}
                    _ => self.count_value(false),
                }
                self.connection.replies.phase = phase::LINE;
                self.line(available)
            }
            kind @ (b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|') => self.sized(kind, available),
            _ => self.lose(Reason::ProtocolError),
        }
    }

    /// An error, alone or inside an array. Returns false when more of it is needed to know its word.
    #[inline(always)]
    fn error(&mut self, available: u32) -> bool {
        let at = self.scratch.position;
        if available < DECISIVE_BYTES && line_end(self.scratch.window.token(at)) >= available {
            return false;
        }
        let word = error_word(&self.scratch.window, at);
        self.count_error(word);
        if matches!(word, ErrorWord::WrongType) {
            // There is something, of another type: a hit in the server's own statistics, too.
            self.count_value(false);
        }
        true
    }

    #[inline(always)]
    fn count_error(&mut self, word: ErrorWord) {
        if self.connection.shared.trial() == 0 {
            self.ledger
                .error(self.connection.slot, self.connection.replies.row, word);
        }
    }

    /// Nil: a miss in the reply to a read; in a confirmation, that no channel was left to unsubscribe from.
    #[inline(always)]
    fn note_nil(&mut self) {
        self.count_value(true);
        let state = &mut self.connection.replies;
        if state.unasked == unasked::THREE && state.elements == 2 {
            state.flags |= flag::NO_CHANNEL;
        }
    }

    /// A value that is no aggregate, or nil, in the reply to a read.
    #[inline(always)]
    fn count_value(&mut self, nil: bool) {
        let reads = u32::from(self.connection.replies.reads);
        if nil {
            self.scratch.misses = self.scratch.misses.wrapping_add(reads);
        } else {
            self.scratch.hits = self.scratch.hits.wrapping_add(reads);
        }
    }

    /// A value that begins with a length.
    #[inline(always)]
    fn sized(&mut self, kind: u8, available: u32) -> bool {
        let (value, length) = match header(&self.scratch.window, self.scratch.position, available) {
            Header::Line { value, length } => (value, length),
            Header::Cut => return self.carry(available),
            Header::Bad => return self.lose(Reason::ProtocolError),
        };
        if self.connection.replies.unasked == unasked::OPEN {
            if !self.tell_apart(kind, value) {
                return false;
            }
        } else if self.connection.replies.unasked == unasked::THREE
            && self.connection.replies.elements == 3
            && !self.tell_name(available, length, value)
        {
            return self.carry(available);
        }
        self.scratch.position = self.scratch.position.wrapping_add(length);
        self.account(u64::from(length));
        if value < 0 {
            self.note_nil();
            return self.end_value();
        }
        let value = value as u64;
        if kind == b'!' {
            // Valkey 9.1 sends none of its own errors like this.
            self.count_error(ErrorWord::Other);
        }
        if matches!(kind, b'$' | b'=' | b'!') {
            self.count_value(false);
            self.connection.replies.skip = value.wrapping_add(2);
            return self.skip();
        }
        // A map has two elements per entry; an attribute, too, and stands before the value it describes.
        let pairs = matches!(kind, b'%' | b'|');
        let elements = if pairs { value.wrapping_mul(2) } else { value };
        let state = &mut self.connection.replies;
        let elements = elements
            .wrapping_add(u64::from(kind == b'|'))
            .wrapping_add(u64::from(state.elements));
        if elements > u64::from(u32::MAX) {
            return self.lose(Reason::ProtocolError);
        }
        state.elements = elements as u32;
        self.end_value()
    }

    /// What a frame of pub/sub with so many elements is. Two in an array of RESP2: the answer to PING. Returns false when
    /// nobody asked for that.
    #[inline(always)]
    fn tell_apart(&mut self, kind: u8, elements: i64) -> bool {
        let state = &mut self.connection.replies;
        state.unasked = if elements == 3 {
            unasked::THREE
        } else {
            unasked::YES
        };
        if elements != 2 || kind != b'*' {
            return true;
        }
        self.drop_confirmed();
        let front = self.front();
        if matches!(front.kind, RunKind::Nobody) {
            return self.lose(Reason::UnexpectedReply);
        }
        self.start_answer(&front, unasked::NO);
        true
    }

    /// The name in front of a frame of three, `length` bytes behind a header. Returns false when more of it is needed.
    #[inline(always)]
    fn tell_name(&mut self, available: u32, header: u32, length: i64) -> bool {
        let at = self.scratch.position.wrapping_add(header);
        let state = &mut self.connection.replies;
        state.flags &= !flag::NO_CHANNEL;
        state.name = 0;
        if !(9..=12).contains(&length) {
            // A message, or something else that confirms nothing.
            return true;
        }
        if available < header.wrapping_add(3) {
            return false;
        }
        let letter = |index: u32| self.scratch.window.byte(at.wrapping_add(index));
        state.name = confirmed_name([letter(0), letter(1), letter(2)]);
        true
    }

    /// The number at the end of a confirmation: how many subscriptions there are now. Zero ends subscribed mode.
    #[inline(always)]
    fn confirmation(&mut self, available: u32) -> bool {
        let (left, length) = match header(&self.scratch.window, self.scratch.position, available) {
            Header::Line { value, length } => (value, length),
            Header::Cut => return self.carry(available),
            Header::Bad => return self.lose(Reason::ProtocolError),
        };
        self.scratch.position = self.scratch.position.wrapping_add(length);
        self.account(u64::from(length));
        let name = self.connection.replies.name;
        if name != 0 {
            self.set_subscribed(name, left != 0);
            self.confirm(name, left != 0);
        }
        self.end_value()
    }

    /// Finds the command that a confirmation under this name confirms, if one does. There may be none: a server that gives
    /// a slot away ends the subscriptions to its channels unasked.
    #[inline(always)]
    fn confirm(&mut self, name: u8, more: bool) {
        let state = &self.connection.replies;
        let (confirmed, alone) = (
            state.flags & flag::CONFIRMED != 0,
            state.flags & flag::NO_CHANNEL != 0,
        );
        let front = self.front();
        if confirmed && (alone || name_of(&front) != name) {
            // The one that had some confirmations has had all of them.
            self.drop_confirmed();
        }
        let front = self.front();
        if name_of(&front) != name || matches!(front.kind, RunKind::Reply) {
            return;
        }
        if matches!(front.kind, RunKind::ConfirmAll) && more && !alone {
            self.connection.replies.flags |= flag::CONFIRMED;
            return;
        }
        self.connection.replies.flags &= !flag::CONFIRMED;
        self.connection.runs.pop();
    }

    /// Whether there are subscriptions of the kind that a name is about.
    #[inline(always)]
    fn set_subscribed(&mut self, name: u8, any: bool) {
        let kind = if name.is_multiple_of(3) {
            Shared::SHARD_CHANNELS
        } else {
            Shared::CHANNELS
        };
        let before = self.connection.shared.subscribed();
        self.connection
            .shared
            .set_subscribed(if any { before | kind } else { before & !kind });
    }

    /// The rest of a line, to its LF.
    #[inline(always)]
    fn line(&mut self, available: u32) -> bool {
        let end = line_end(self.scratch.window.token(self.scratch.position));
        let ended = end < TOKEN_BYTES as u32 && end < available;
        let seen = if available < TOKEN_BYTES as u32 {
            available
        } else {
            TOKEN_BYTES as u32
        };
        let length = if ended { end.wrapping_add(1) } else { seen };
        self.scratch.position = self.scratch.position.wrapping_add(length);
        self.account(u64::from(length));
        if !ended {
            return true;
        }
        self.connection.replies.phase = phase::VALUE;
        self.end_value()
    }

    /// Jumps over a string. Returns whether the segment goes on behind it.
    #[inline(always)]
    fn skip(&mut self) -> bool {
        let skip = self.connection.replies.skip;
        if skip >= LONG_REST.wrapping_add(u64::from(self.scratch.fill.wrapping_sub(self.scratch.position))) {
            self.scratch.chunk = NARROW;
            self.connection.replies.flags |= flag::LONG;
        }
        let jumped = self.scratch.jump(skip);
        self.account(jumped);
        let state = &mut self.connection.replies;
        state.skip = state.skip.wrapping_sub(jumped);
        if state.skip != 0 {
            return false;
        }
        self.end_value()
    }

    /// A value or an aggregate's header is complete.
    #[inline(always)]
    fn end_value(&mut self) -> bool {
        let state = &mut self.connection.replies;
        state.elements = state.elements.wrapping_sub(1);
        if state.elements == 0 {
            state.phase = phase::COMPLETE;
        }
        true
    }

    /// The last byte of a reply has been seen.
    #[inline(always)]
    fn complete(&mut self) {
        let state = &mut self.connection.replies;
        state.phase = phase::VALUE;
        let row = state.row;
        let bucket = size_bucket(added(self.connection.size_out, self.scratch.pending));
        state.row = Row::UNKNOWN;
        self.connection.size_out = 0;
        let answers = state.unasked == unasked::NO;
        let length = self.scratch.pending as u32;
        self.fold(row, bucket, 1);
        if answers {
            self.expect_repeated(length);
            self.connection.runs.pop();
        }
    }

    /// Adds what has been read of a reply to the run, or begins a new run with it.
    #[inline(always)]
    fn fold(&mut self, row: u32, size_bucket: u32, replies: u32) {
        let duration = self.scratch.duration;
        let timed = u32::from(duration != UNTIMED);
        let (bucket, units) = if timed != 0 {
            (duration_bucket(duration), duration)
        } else {
            (DURATION_BUCKETS as u32, 0)
        };
        let bucket = self.scratch.forget(bucket);
        let run = &self.scratch.replies;
        if run.row != row || run.size_bucket != size_bucket || run.duration_bucket != bucket {
            self.flush();
            self.scratch.repeated_reply.forget();
            let run = &mut self.scratch.replies;
            run.row = row;
            run.size_bucket = size_bucket;
            run.duration_bucket = bucket;
        }
        let scratch = &mut *self.scratch;
        let run = &mut scratch.replies;
        run.bytes = run.bytes.wrapping_add(scratch.pending);
        run.duration_units = run.duration_units.wrapping_add(u64::from(units));
        run.replies = run.replies.wrapping_add(replies);
        run.timed = run.timed.wrapping_add(timed);
        run.hits = run.hits.wrapping_add(scratch.hits);
        run.misses = run.misses.wrapping_add(scratch.misses);
        scratch.pending = 0;
        scratch.hits = 0;
        scratch.misses = 0;
        scratch.duration = UNTIMED;
    }

    #[inline(always)]
    fn account(&mut self, bytes: u64) {
        self.scratch.pending = self.scratch.pending.wrapping_add(bytes);
    }

    #[inline(never)]
    fn flush(&mut self) {
        let run = self.scratch.replies;
        if run.bytes | u64::from(run.timed) == 0 {
            return;
        }
        self.scratch.replies.clear();
        if self.connection.shared.trial() == 0 {
            self.ledger.replies(self.connection.slot, run.row, &counts(&run));
        } else {
            self.unattributed(run.bytes);
        }
    }

    /// The segment ends within a token: keeps it for the next one.
    #[inline(always)]
    fn carry(&mut self, available: u32) -> bool {
        let [first, second, third, ..] = self.scratch.window.token(self.scratch.position);
        // With its range known the optimiser would drop the mask by which older verifiers see that it is in bounds.
        let length = self.scratch.forget(available);
        let [first, second, third, _] = keep([first, second, third, 0], length);
        self.connection.replies.carry = [first, second, third];
        self.connection.replies.carry_length = available as u8;
        self.scratch.position = self.scratch.fill;
        false
    }

    /// Gives up on the connection until a safe restart point.
    #[inline(always)]
    fn lose(&mut self, reason: Reason) -> bool {
        self.connection.shared.set_reason(reason as u8);
        self.scratch.lost = 1;
        false
    }

    /// What was read of a reply is not going to be continued: what is carried of it, and `more`, is unattributed.
    #[inline(always)]
    fn forget_reply(&mut self, more: u64) {
        let state = &mut self.connection.replies;
        let bytes = more.wrapping_add(u64::from(state.carry_length));
        state.carry_length = 0;
        clear_token(&mut state.carry);
        state.skip = 0;
        self.connection.size_out = 0;
        state.elements = 0;
        state.row = Row::UNKNOWN;
        state.phase = phase::VALUE;
        if bytes != 0 {
            self.unattributed(bytes);
        }
    }

    #[inline(always)]
    fn unattributed(&mut self, bytes: u64) {
        let reason = Reason::from_number(u32::from(self.connection.shared.reason()));
        self.ledger
            .unattributed(self.connection.slot, Direction::Out, reason, bytes);
    }
}

/// The number in [`run_flag::CONFIRMED_NAMES`], counted from 1, of a name with these first letters; 0 for none.
#[inline(always)]
const fn confirmed_name(letters: [u8; 3]) -> u8 {
    match letters {
        [b's', b'u', b'b'] => 1,
        [b'p', b's', _] => 2,
        [b's', b's', _] => 3,
        [b'u', b'n', _] => 4,
        [b'p', b'u', _] => 5,
        [b's', b'u', b'n'] => 6,
        _ => 0,
    }
}

/// The name that confirms the command which waits.
#[inline(always)]
const fn name_of(waiting: &Waiting) -> u8 {
    (waiting.flags >> run_flag::NAME_SHIFT & 7) as u8
}

/// Index of the LF in a token; at least [`TOKEN_BYTES`] without one.
#[inline(always)]
fn line_end(token: [u64; TOKEN_BYTES / 8]) -> u32 {
    const LF: u64 = repeat(b'\n');
    let mask = equal_bytes(token[0], LF);
    if mask != 0 {
        // Nearly every line: a status, a number.
        return first_marked(mask);
    }
    let mut end = TOKEN_BYTES as u32;
    let mut index = TOKEN_BYTES / 8;
    while index > 1 {
        index -= 1;
        let mask = equal_bytes(token[index], LF);
        if mask != 0 {
            end = first_marked(mask).wrapping_add(index as u32 * 8);
        }
    }
    end
}

#[inline(always)]
fn counts(run: &ReplyRun) -> ReplyCounts {
    ReplyCounts {
        replies: run.replies,
        size_bucket: run.size_bucket,
        timed: run.timed,
        duration_bucket: run.duration_bucket,
        duration_units: run.duration_units,
        bytes: run.bytes,
        hits: run.hits,
        misses: run.misses,
    }
}

#[inline(always)]
const fn only_bytes(bytes: u64) -> ReplyCounts {
    ReplyCounts {
        replies: 0,
        size_bucket: 0,
        timed: 0,
        duration_bucket: 0,
        duration_units: 0,
        bytes,
        hits: 0,
        misses: 0,
    }
}
