//! The reply direction: RESP2 and RESP3 values, matched in order to the commands that wait.

use super::{
    Header, Ledger, Payload, Segment, fresh, header, moment,
    words::{equal_bytes, first_marked, repeat},
};
use crate::abi::{Connection, Direction, Mode, Reason, Row, RunKind, Scratch, TOKEN_BYTES};

/// [`crate::abi::ReplyState::phase`]: what is expected next.
mod phase {
    /// A type byte.
    pub(super) const VALUE: u8 = 0;
    /// The rest of a line.
    pub(super) const LINE: u8 = 1;
}

/// [`crate::abi::ReplyState::flags`].
mod flag {
    /// `next_sequence` is valid.
    pub(super) const SEQUENCE: u8 = 1;
    /// The last frame of pub/sub was a push: RESP3, which knows no subscribed mode.
    pub(super) const PUSHES: u8 = 2;
    /// The [`RunKind::ConfirmAll`](crate::abi::RunKind::ConfirmAll) at the front has got a confirmation.
    pub(super) const CONFIRMED: u8 = 4;
}

/// Flag of a connection whose next sequence number is known.
pub(super) const SEQUENCE_KNOWN: u8 = flag::SEQUENCE;

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
            state.next_sequence = payload.sequence;
        }
        let Some(new) = fresh(state.next_sequence, payload) else {
            return false;
        };
        state.next_sequence = payload.sequence.wrapping_add(payload.length);
        self.connection.shared.set_last_direction(Direction::Out as u32);
        self.scratch.run_row = Row::UNKNOWN;
        self.scratch.run_bytes = 0;

        let bytes = u64::from(new.hole).wrapping_add(u64::from(new.length));
        let mode = self.connection.shared.mode();
        if mode == Mode::REPLICATION {
            self.ledger
                .replies(Row::special(self.connection.slot, Row::REPLICATION), bytes);
            return false;
        }
        let stretch = self.connection.shared.sync();
        if stretch == 0 || self.connection.shared.trial() != 0 {
            let now = moment(self.ledger.now());
            self.connection.shared.set_spoke_at(now);
        }
        if mode == Mode::OPAQUE || stretch == 0 {
            self.forget_reply();
            self.unattributed(bytes);
            return false;
        }
        if stretch != self.connection.replies.stretch {
            self.forget_reply();
            self.connection.replies.stretch = stretch;
            self.connection.replies.flags &= !flag::CONFIRMED;
            self.connection.shared.set_subscribed(0);
            self.connection.runs.restart_consumer();
        }
        if new.hole != 0 && !self.skip_hole(u64::from(new.hole)) {
            self.connection.lose_synchronisation(Reason::Hole);
            self.forget_reply();
            self.unattributed(bytes);
            return false;
        }
        let state = &mut self.connection.replies;
        self.scratch.enter(&new, &state.carry, state.carry_length);
        state.carry_length = 0;
        if state.row != Row::UNKNOWN {
            self.scratch.run_row = state.row;
        }
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
        self.scratch.run_row = state.row;
        self.scratch.run_bytes = hole;
        if state.skip == 0 {
            self.end_value();
        }
        true
    }

    /// Handles one token. Returns whether there may be another.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        if self.connection.replies.skip != 0 {
            return self.skip();
        }
        let Some(available) = self.scratch.available(&mut self.segment) else {
            return self.lose(Reason::LoadFailed);
        };
        if available == 0 {
            return false;
        }
        if self.connection.replies.phase == phase::LINE {
            return self.line(available);
        }
        if self.connection.replies.elements == 0 && !self.start_reply(available) {
            return false;
        }
        self.value(available)
    }

    /// Ends the segment: writes the open run to the ledger.
    #[inline(always)]
    pub fn end(&mut self) {
        if self.scratch.lost == 0 && self.scratch.remaining() != 0 {
            self.lose(Reason::StepLimit);
        }
        self.flush();
        if self.scratch.lost != 0 {
            self.connection.shared.set_sync(0);
        }
    }

    /// First byte of a reply: finds the command that it answers. Returns false when the segment is done with.
    #[inline(always)]
    fn start_reply(&mut self, available: u32) -> bool {
        let first = self.scratch.window.byte(self.scratch.position);
        if first == b'>' {
            self.connection.replies.flags |= flag::PUSHES;
            return self.start_unasked(Row::PUBSUB, unasked::OPEN);
        }
        if first == b'+' && self.connection.shared.mode() == Mode::MONITOR {
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
                front,
                Some((_, RunKind::Confirm | RunKind::ConfirmMany | RunKind::ConfirmAll))
            );
            if awaited || self.connection.shared.subscribed() != 0 {
                self.connection.replies.flags &= !flag::PUSHES;
                return self.start_unasked(Row::PUBSUB, unasked::OPEN);
            }
        }
        let Some((row, kind)) = front else {
            return self.lose(Reason::UnexpectedReply);
        };
        if matches!(kind, RunKind::Reset) && first == b'+' {
            self.connection.shared.set_subscribed(0);
        }
        let several = matches!(kind, RunKind::ConfirmMany);
        if several {
            // An error, or QUEUED: one reply for all channels.
            self.connection.runs.drop_front_run();
        }
        self.start_elements(row, if several { unasked::YES } else { unasked::NO });
        true
    }

    /// The command that a reply beginning with `first` can answer.
    #[inline(always)]
    fn answerable(&mut self, first: u8) -> Option<(u32, RunKind)> {
        if first != b'*' || self.connection.shared.subscribed() == 0 {
            self.drop_confirmed();
        }
        self.connection.runs.front()
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
        self.start_elements(Row::special(self.connection.slot, row), unasked);
        true
    }

    #[inline(always)]
    fn start_elements(&mut self, row: u32, unasked: u8) {
        if self.scratch.run_row != row {
            self.flush();
            self.scratch.run_row = row;
        }
        let state = &mut self.connection.replies;
        state.row = row;
        state.elements = 1;
        state.unasked = unasked;
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
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {
                self.connection.replies.phase = phase::LINE;
                self.line(available)
            }
            kind @ (b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|') => self.sized(kind, available),
            _ => self.lose(Reason::ProtocolError),
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
            self.tell_apart(kind, value);
        }
        self.scratch.position = self.scratch.position.wrapping_add(length);
        self.account(u64::from(length));
        let state = &mut self.connection.replies;
        if value < 0 {
            return self.end_value();
        }
        let value = value as u64;
        match kind {
            b'$' | b'=' | b'!' => {
                state.skip = value.wrapping_add(2);
                return self.skip();
            }
            b'%' => state.elements = state.elements.wrapping_add(value.wrapping_mul(2)),
            // An attribute stands before the value it describes.
            b'|' => state.elements = state.elements.wrapping_add(value.wrapping_mul(2)).wrapping_add(1),
            _ => state.elements = state.elements.wrapping_add(value),
        }
        self.end_value()
    }

    /// What a frame of pub/sub with so many elements is. Two in an array of RESP2: the answer to PING.
    #[inline(always)]
    fn tell_apart(&mut self, kind: u8, elements: i64) {
        let state = &mut self.connection.replies;
        state.unasked = if elements == 3 {
            unasked::THREE
        } else {
            unasked::YES
        };
        if elements == 2 && kind == b'*' {
            self.drop_confirmed();
            if let Some((row, _)) = self.connection.runs.front() {
                self.start_elements(row, unasked::NO);
            }
        }
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
        if self.connection.replies.flags & flag::PUSHES == 0 {
            self.connection.shared.set_subscribed(u32::from(left != 0));
        }
        match self.connection.runs.front() {
            // Nobody asked: the server moved a shard channel away.
            None | Some((_, RunKind::Reply | RunKind::Reset)) => {}
            Some((_, RunKind::ConfirmAll)) if left != 0 => self.connection.replies.flags |= flag::CONFIRMED,
            Some(_) => {
                self.connection.replies.flags &= !flag::CONFIRMED;
                self.connection.runs.pop();
            }
        }
        self.end_value()
    }

    /// The rest of a line, to its LF.
    #[inline(always)]
    fn line(&mut self, available: u32) -> bool {
        let token = self.scratch.window.token(self.scratch.position);
        let mut end = TOKEN_BYTES as u32;
        let mut index = TOKEN_BYTES / 8;
        while index > 0 {
            index -= 1;
            let mask = equal_bytes(token[index], repeat(b'\n'));
            if mask != 0 {
                end = first_marked(mask).wrapping_add(index as u32 * 8);
            }
        }
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
        let jumped = self.scratch.jump(self.connection.replies.skip);
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
            state.row = Row::UNKNOWN;
            if state.unasked == unasked::NO {
                self.connection.runs.pop();
            }
        }
        true
    }

    #[inline(always)]
    fn account(&mut self, bytes: u64) {
        self.scratch.run_bytes = self.scratch.run_bytes.wrapping_add(bytes);
    }

    #[inline(always)]
    fn flush(&mut self) {
        let (row, bytes) = (self.scratch.run_row, self.scratch.run_bytes);
        if bytes == 0 {
            return;
        }
        self.scratch.run_bytes = 0;
        if self.connection.shared.trial() == 0 {
            self.ledger.replies(row, bytes);
        } else {
            self.unattributed(bytes);
        }
    }

    /// The segment ends within a token: keeps it for the next one.
    #[inline(always)]
    fn carry(&mut self, available: u32) -> bool {
        self.connection.replies.carry = self.scratch.window.token(self.scratch.position);
        self.connection.replies.carry_length = available as u8;
        self.scratch.position = self.scratch.fill;
        false
    }

    /// Gives up on the connection until a safe restart point.
    #[inline(always)]
    fn lose(&mut self, reason: Reason) -> bool {
        let remaining = self.scratch.remaining();
        self.connection.shared.set_reason(reason as u32);
        self.scratch.lost = 1;
        self.scratch.position = 0;
        self.scratch.fill = 0;
        self.scratch.next = self.scratch.end;
        self.connection.replies.carry_length = 0;
        self.forget_reply();
        if remaining != 0 {
            self.unattributed(remaining);
        }
        false
    }

    /// What was read of a reply is not going to be continued.
    #[inline(always)]
    fn forget_reply(&mut self) {
        let state = &mut self.connection.replies;
        let carried = u64::from(state.carry_length);
        state.carry_length = 0;
        state.skip = 0;
        state.elements = 0;
        state.row = Row::UNKNOWN;
        state.phase = phase::VALUE;
        if carried != 0 {
            self.unattributed(carried);
        }
    }

    #[inline(always)]
    fn unattributed(&mut self, bytes: u64) {
        let reason = Reason::from_number(self.connection.shared.reason());
        self.ledger
            .unattributed(self.connection.slot, Direction::Out, reason, bytes);
    }
}
