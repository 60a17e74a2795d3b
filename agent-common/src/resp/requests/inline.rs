//! Inline commands: people with telnet, health checks, empty lines. A byte a turn: rare, and never long.

use super::{
    super::{Content, Ledger, Segment, command, words::keep},
    Found, NO_ARGUMENT, Requests, TLS_HANDSHAKE, flag, phase,
};
use crate::abi::{Reason, clear_token};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    #[inline(always)]
    pub(super) fn first_inline(&mut self, first: u8) -> bool {
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
    pub(super) fn inline(&mut self) -> Found {
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

    /// A byte inside quotes. Escapes are stepped over, not decoded: a word with one is not read. In single quotes the
    /// only one is that of the quote; another backslash is a byte like any other.
    #[inline(always)]
    pub(super) fn quoted(&mut self, byte: u8) {
        let state = &mut self.connection.requests;
        let double = state.flags & flag::QUOTED != 0;
        let quote = if double { b'"' } else { b'\'' };
        let escaped = state.flags & flag::ESCAPED != 0;
        state.flags &= !flag::ESCAPED;
        if escaped && (double || byte == quote) {
            return;
        }
        if byte == b'\\' {
            state.flags |= flag::ESCAPED | flag::ESCAPES;
        } else if byte == quote {
            state.flags &= !(flag::QUOTED | flag::SINGLE);
        } else {
            self.add_to_word(byte);
        }
    }

    #[inline(always)]
    pub(super) fn add_to_word(&mut self, byte: u8) {
        let state = &mut self.connection.requests;
        let index = state.content_length;
        state.content_length = index.wrapping_add(1);
        if state.argument != state.wanted_argument {
            // Counted, not kept: it may be a password.
            return;
        }
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
    pub(super) fn end_word(&mut self) -> Found {
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
        clear_token(&mut state.carry);
        if state.argument == state.wanted_argument {
            return Found::Word(content);
        }
        state.argument = state.argument.wrapping_add(1);
        Found::Turn(true)
    }

    #[inline(always)]
    pub(super) fn end_line(&mut self) -> bool {
        let state = &mut self.connection.requests;
        state.arguments_left = 0;
        state.since = self.scratch.now;
        state.phase = phase::COMPLETE;
        true
    }
}
