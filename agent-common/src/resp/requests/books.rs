//! Runs of commands and their bytes, and what becomes of those that belong to no row.

use super::{
    super::{Ledger, Segment, command},
    Requests, flag, phase,
};
use crate::abi::{Direction, Loss, Mode, Reason, Row, RunKind};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// The current command belongs to `row`.
    #[inline(always)]
    pub(super) fn resolve(&mut self, row: u32) {
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
    pub(super) fn finish_command(&mut self) {
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
    pub(super) fn finish_with_effect(&mut self) -> bool {
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
    pub(super) fn change_mode(&mut self) {
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
    pub(super) fn divert(&mut self) -> bool {
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
    pub(super) fn flush(&mut self) {
        self.flush_as(RunKind::Reply, self.scratch.run_commands);
    }

    /// The same for commands that are answered in another way.
    #[inline(always)]
    pub(super) fn flush_as(&mut self, kind: RunKind, answers: u32) {
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
    pub(super) fn consume(&mut self, length: u32) {
        self.scratch.position = self.scratch.position.wrapping_add(length);
        self.account(u64::from(length));
    }

    /// Counts bytes of the current command.
    #[inline(always)]
    pub(super) fn account(&mut self, bytes: u64) {
        let state = &mut self.connection.requests;
        if state.row == Row::UNKNOWN {
            state.pending = state.pending.wrapping_add(bytes);
        } else {
            self.scratch.run_bytes = self.scratch.run_bytes.wrapping_add(bytes);
        }
    }

    /// The segment ends within a token: keeps it for the next one.
    #[inline(always)]
    pub(super) fn carry(&mut self, available: u32) -> bool {
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
    pub(super) fn lose_trial(&mut self) -> bool {
        self.give_up();
        false
    }

    /// Gives up on the connection until a safe restart point.
    #[inline(always)]
    pub(super) fn lose(&mut self, reason: Reason) -> bool {
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
    pub(super) fn give_up(&mut self) {
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
    pub(super) fn unattributed(&mut self, bytes: u64) {
        let reason = Reason::from_number(self.connection.shared.reason());
        self.ledger
            .unattributed(self.connection.slot, Direction::In, reason, bytes);
    }
}
