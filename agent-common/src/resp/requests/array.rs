//! Commands as arrays of bulk strings.

use super::{
    super::{Header, Ledger, Segment, header, header::short},
    Found, MAX_ARGUMENTS, NO_ARGUMENT, Requests, flag,
    identity::needed_of_name,
    needed_of, phase, wanted,
};
use crate::abi::{Reason, TOKEN_BYTES};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// Goes on in a command that is an array, to the next argument that matters.
    #[inline(always)]
    pub(super) fn array(&mut self, available: u32) -> Found {
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
        if available < self.needed() {
            return Found::Turn(self.carry(available));
        }
        Found::Argument
    }

    /// The argument has been understood.
    #[inline(always)]
    pub(super) fn end_content(&mut self, length: u32) -> bool {
        let state = &mut self.connection.requests;
        if state.phase == phase::INLINE {
            state.argument = state.argument.wrapping_add(1);
            return true;
        }
        state.phase = phase::ARGUMENT;
        let mut skip = u64::from(length).wrapping_add(2);
        if state.arguments_left == 2 && state.wanted_argument == NO_ARGUMENT {
            // The last argument, if it is short: what SET has.
            let at = self.scratch.position.wrapping_add(skip as u32);
            let left = self.scratch.fill.wrapping_sub(self.scratch.position);
            let head = self.scratch.window.word::<0>(at);
            if let Some((value, header)) = short(head) {
                let value_at = skip.wrapping_add(u64::from(header));
                if head & 0xff == u64::from(b'$') && value_at <= u64::from(left) {
                    skip = value_at.wrapping_add(value as u64).wrapping_add(2);
                    state.since = self.scratch.now;
                    state.argument = state.argument.wrapping_add(1);
                    state.arguments_left = 1;
                }
            }
        }
        state.skip = skip;
        self.next_argument()
    }

    /// Bytes left in the window.
    #[inline(always)]
    pub(super) fn left(&self) -> u32 {
        self.scratch.fill.wrapping_sub(self.scratch.position)
    }

    /// Start of a command: `*<arguments>` or an inline line. `None`: the name's header can be read at once.
    #[inline(always)]
    pub(super) fn command(&mut self, available: u32) -> Option<bool> {
        let first = self.scratch.window.byte(self.scratch.position);
        if first == b'\n' && self.connection.requests.flags & flag::TRIAL == 0 {
            self.consume(1);
            self.connection.requests.flags |= flag::STARTED;
            self.start_command(0, phase::COMPLETE);
            return Some(true);
        }
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
            self.start_command(0, phase::COMPLETE);
            return Some(true);
        }
        self.start_command(value as u32, phase::ARGUMENT);
        (self.left() < TOKEN_BYTES as u32).then_some(true)
    }

    #[inline(always)]
    pub(super) fn start_command(&mut self, arguments: u32, next: u8) {
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
    pub(super) fn argument(&mut self, available: u32) -> Option<bool> {
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
        let now = self.scratch.now;
        let state = &mut self.connection.requests;
        state.since = now;
        if state.argument != state.wanted_argument {
            state.skip = (value as u64).wrapping_add(2);
            return Some(self.next_argument());
        }
        if value > i64::from(u32::MAX) {
            return Some(self.lose(Reason::ProtocolError));
        }
        state.content_length = value as u32;
        state.phase = phase::CONTENT;
        (available.wrapping_sub(length) < self.needed()).then_some(true)
    }

    /// How much of the argument at hand must be there before it is looked at.
    #[inline(always)]
    fn needed(&self) -> u32 {
        let state = &self.connection.requests;
        if matches!(state.wanted, wanted::USER..=wanted::NOBODY) {
            needed_of_name(state.content_length)
        } else {
            needed_of(state.content_length)
        }
    }

    /// The argument at hand is done but for its bytes.
    #[inline(always)]
    pub(super) fn next_argument(&mut self) -> bool {
        let state = &mut self.connection.requests;
        state.argument = state.argument.wrapping_add(1);
        state.arguments_left = state.arguments_left.wrapping_sub(1);
        self.skip()
    }

    /// Jumps over payload. Returns whether the segment goes on behind it.
    #[inline(always)]
    pub(super) fn skip(&mut self) -> bool {
        let jumped = self.scratch.jump(self.connection.requests.skip);
        self.account(jumped);
        let state = &mut self.connection.requests;
        state.skip = state.skip.wrapping_sub(jumped);
        if state.skip != 0 {
            return false;
        }
        if state.arguments_left == 0 {
            state.phase = phase::COMPLETE;
        }
        true
    }
}
