//! Complete commands, runs of them, and what becomes of bytes that belong to no row.

use super::{
    super::{
        Ledger, Segment, command,
        words::{keep_token, rarely},
    },
    BLOCKS, Requests, added, flag, phase, replying,
};
use crate::abi::{
    Commands, Direction, Loss, Mode, Pushed, Reason, RequestCounts, Row, RunKind, run_flag, size_bucket,
};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// The last byte of a command has been seen. Returns whether the segment goes on behind it.
    #[inline(always)]
    pub(super) fn complete(&mut self) -> bool {
        let slot = self.connection.slot;
        let state = &mut self.connection.requests;
        state.phase = phase::COMMAND;
        if state.row == Row::UNKNOWN {
            state.row = Row::special(slot, Row::KEYLESS);
        }
        let effect = command::effect(state.command);
        let mut answer = Answer {
            kind: RunKind::Reply,
            count: 1,
            flags: 0,
        };
        if effect | u32::from(self.connection.shared.replying()) != 0 || state.argument == 0 {
            answer = self.effect(effect);
        }
        let kind = self.scratch.forget(answer.kind as u32);
        let count = self.scratch.forget(answer.count);
        self.fold(kind, count, answer.flags);
        if effect == command::EFFECT_NONE {
            return true;
        }
        // It waits for its reply from here on, not from the end of the segment on: if it cannot, nothing behind it is read.
        self.flush();
        self.change_mode(effect) && self.scratch.lost == 0
    }

    /// How a command that is more than a question is answered, and what it does to those after it.
    #[inline(always)]
    fn effect(&mut self, effect: u32) -> Answer {
        let state = &self.connection.requests;
        let mut replying = self.connection.shared.replying();
        let silent = replying & (replying::OFF | replying::SKIP) != 0;
        replying &= !replying::SKIP;
        let mut answer = Answer {
            kind: if silent { RunKind::Silent } else { RunKind::Reply },
            count: u32::from(!silent),
            flags: 0,
        };
        if state.argument == 0 {
            // An empty line or array is no command.
            answer = Answer {
                kind: RunKind::Silent,
                count: 0,
                flags: 0,
            };
        }
        match effect {
            command::EFFECT_SUBSCRIBE | command::EFFECT_UNSUBSCRIBE if !silent => {
                let channels = state.argument.wrapping_sub(1);
                answer.kind = if channels > 1 {
                    answer.count = channels;
                    RunKind::ConfirmMany
                } else if channels == 0 && effect == command::EFFECT_UNSUBSCRIBE {
                    RunKind::ConfirmAll
                } else {
                    RunKind::Confirm
                };
            }
            command::EFFECT_RESET => {
                replying = 0;
                answer.kind = RunKind::Reset;
                answer.count = 1;
            }
            command::EFFECT_MONITOR if !silent => answer.kind = RunKind::Monitor,
            command::EFFECT_HELLO | command::EFFECT_IDENTIFY => {
                if self.claim_identity(!silent) {
                    answer.flags = run_flag::IDENTIFIES;
                }
                if effect == command::EFFECT_HELLO && !silent {
                    answer.kind = RunKind::Hello;
                }
            }
            command::EFFECT_MULTI => replying |= replying::QUEUEING,
            command::EFFECT_DISCARD => replying &= !(replying::QUEUEING | replying::DOUBT),
            command::EFFECT_EXEC => replying &= !replying::QUEUEING,
            command::EFFECT_CLIENT_REPLY => replying = self.client_reply(replying, &mut answer),
            _ => {}
        }
        self.connection.shared.set_replying(replying);
        answer
    }

    /// CLIENT REPLY (Valkey's documentation): ON is answered, OFF and SKIP are not. Returns what is answered from now on.
    #[inline(always)]
    fn client_reply(&self, replying: u8, answer: &mut Answer) -> u8 {
        const ON: u64 = u64::from_le_bytes(*b"on\0\0\0\0\0\0");
        const OFF: u64 = u64::from_le_bytes(*b"off\0\0\0\0\0");
        const SKIP: u64 = u64::from_le_bytes(*b"skip\0\0\0\0");
        const ARGUMENTS: u32 = 3;
        let state = &self.connection.requests;
        if replying & replying::QUEUEING != 0 {
            return replying | replying::DOUBT;
        }
        let mode = if state.argument == ARGUMENTS {
            self.connection.word
        } else {
            0
        };
        match mode {
            ON => {
                answer.kind = RunKind::Reply;
                answer.count = 1;
                replying & !replying::OFF
            }
            OFF | SKIP => {
                answer.kind = RunKind::Silent;
                answer.count = 0;
                let skips = mode == SKIP && replying & replying::OFF == 0;
                replying | if skips { replying::SKIP } else { replying::OFF }
            }
            _ => replying,
        }
    }

    /// The connection goes on as the command says. Returns whether the segment is read on.
    #[inline(always)]
    fn change_mode(&mut self, effect: u32) -> bool {
        let silent = self.scratch.requests.kind == RunKind::Silent as u32;
        let lost = match effect {
            command::EFFECT_EXEC => self.connection.shared.replying() & replying::DOUBT != 0,
            // Confirmations are sent even then, errors are not.
            command::EFFECT_SUBSCRIBE | command::EFFECT_UNSUBSCRIBE => silent,
            _ => false,
        };
        if lost {
            return self.lose(Reason::ClientReply);
        }
        if effect == command::EFFECT_REPLICATION {
            self.connection.shared.set_mode(Mode::REPLICATION);
            self.connection.requests.phase = phase::DIVERTED;
        }
        true
    }

    /// Adds the complete command to the run, or begins a new run with it.
    #[inline(always)]
    fn fold(&mut self, kind: u32, answers: u32, flags: u32) {
        let mut member = self.member(kind);
        member.flags |= flags;
        if !self.is_like_run(&member) {
            self.flush();
        }
        self.join_run(&member, answers);
    }

    /// What a run has to be like for the complete command to be part of it.
    #[inline(always)]
    pub(super) fn member(&mut self, kind: u32) -> Member {
        let state = &self.connection.requests;
        let size_bucket = size_bucket(added(self.connection.size_in, state.pending));
        let queued = self.connection.shared.replying() & replying::QUEUEING != 0;
        Member {
            row: state.row,
            kind,
            flags: run_flags(state.command, self.connection.word, queued),
            since: state.since,
            size_bucket: self.scratch.forget(size_bucket),
        }
    }

    /// Whether the run is empty, or of such commands.
    #[inline(always)]
    pub(super) fn is_like_run(&self, member: &Member) -> bool {
        let run = &self.scratch.requests;
        // Differences as bits, not as comparisons: the verifier walks both ways of each.
        let differs = run.row ^ member.row
            | run.kind ^ member.kind
            | run.flags ^ member.flags
            | run.since ^ member.since
            | run.size_bucket ^ member.size_bucket;
        run.bytes == 0 || differs == 0 && member.kind != RunKind::ConfirmMany as u32
    }

    /// Adds the complete command to the run, which is like it.
    #[inline(always)]
    pub(super) fn join_run(&mut self, member: &Member, answers: u32) {
        let state = &mut self.connection.requests;
        let run = &mut self.scratch.requests;
        run.row = member.row;
        run.kind = member.kind;
        run.flags = member.flags;
        run.since = member.since;
        run.size_bucket = member.size_bucket;
        run.commands = run.commands.wrapping_add(u32::from(state.argument != 0));
        run.answers = run.answers.wrapping_add(answers);
        run.bytes = run.bytes.wrapping_add(state.pending);
        state.pending = 0;
        self.connection.size_in = 0;
        state.row = Row::UNKNOWN;
    }

    /// What follows in the segment in which the mode changed.
    #[inline(always)]
    pub(super) fn divert(&mut self) -> bool {
        let rest = self.scratch.remaining();
        self.scratch.position = 0;
        self.scratch.fill = 0;
        self.scratch.next = self.scratch.end;
        if self.connection.shared.mode() == Mode::REPLICATION {
            self.replicate(rest);
        } else {
            self.unattributed(rest);
        }
        false
    }

    /// Writes the run to the ledger, and to the queue of commands that wait.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        let run = self.scratch.requests;
        if run.bytes == 0 {
            return;
        }
        self.scratch.requests.commands = 0;
        self.scratch.requests.answers = 0;
        self.scratch.requests.bytes = 0;
        let counts = RequestCounts {
            commands: run.commands,
            size_bucket: run.size_bucket,
            bytes: run.bytes,
        };
        let row = self.of_class(run.row);
        self.attribute(row, &counts);
        if run.row != Row::special(self.connection.slot, Row::KEYLESS) {
            self.note_served();
        }
        if run.answers == 0 {
            return;
        }
        let kind = RunKind::from_number(run.kind);
        let commands = Commands::new(row, kind, run.flags, run.since, run.answers);
        let mut pushed = self.connection.runs.push(&commands);
        if pushed == Pushed::Not {
            pushed = self.ledger.push_beyond(self.connection, &commands);
        }
        if pushed != Pushed::Exactly {
            let loss = if pushed == Pushed::Coarsely {
                Loss::CoarseReply
            } else {
                Loss::RunQueueFull
            };
            self.ledger.loss(loss, run.commands);
        }
        let elsewhere = matches!(pushed, Pushed::Elsewhere | Pushed::Not);
        // From the scratch, where they still are: the stack is used up here.
        let run = &self.scratch.requests;
        let kind = RunKind::from_number(run.kind);
        if elsewhere
            && run.flags & run_flag::NAME == run_flag::IDENTIFIES
            && let Some(identity) = self.ledger.identity(false)
        {
            identity.withdraw();
            self.ledger.loss(Loss::IdentityUnread, 1);
        }
        if elsewhere && (pushed == Pushed::Not || !matches!(kind, RunKind::Reply | RunKind::Hello)) {
            // How many replies it has, and what comes after them, would be a guess.
            self.lose(Reason::QueueFull);
        }
    }

    /// A command with a key or a channel has come. Not written again and again: egress reads that line, too.
    #[inline(always)]
    pub(super) fn note_served(&mut self) {
        if self.connection.shared.served() == 0 {
            self.connection.shared.set_served(1);
        }
    }

    /// The row that has what the connection adds to `row`: each class has special rows of its own.
    #[inline(always)]
    pub(super) fn of_class(&mut self, row: u32) -> u32 {
        let class = self.connection.class;
        if class == 0 || !Row::is_special(row) {
            return row;
        }
        rarely();
        self.ledger.special(Direction::In, row, class)
    }

    /// Counts what belongs to a row, unless it is on trial.
    #[inline(always)]
    pub(super) fn attribute(&mut self, row: u32, counts: &RequestCounts) {
        if self.connection.shared.trial() == 0 {
            self.ledger.requests(self.connection.slot, row, counts);
        } else {
            self.unattributed(counts.bytes);
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
        state.pending = state.pending.wrapping_add(bytes);
    }

    /// The segment ends within a token: keeps it for the next one.
    #[inline(always)]
    pub(super) fn carry(&mut self, available: u32) -> bool {
        if self.connection.requests.flags & flag::TRIAL != 0 {
            return self.lose_trial();
        }
        let token = self.scratch.window.token(self.scratch.position);
        // With its range known the optimiser would drop the mask by which older verifiers see that it is in bounds.
        let length = self.scratch.forget(available);
        self.connection.requests.carry = keep_token(token, length);
        self.connection.requests.carry_length = available as u8;
        self.scratch.position = self.scratch.fill;
        false
    }

    /// The trial restart was none.
    #[inline(always)]
    pub(super) fn lose_trial(&mut self) -> bool {
        self.scratch.lost = 1;
        false
    }

    /// Gives up on the connection until a safe restart point: everything of this segment that is not in a run is
    /// unattributed, and so is what follows.
    #[inline(always)]
    pub(super) fn lose(&mut self, reason: Reason) -> bool {
        if self.connection.requests.flags & flag::TRIAL == 0 {
            self.connection.shared.set_reason(reason as u8);
        }
        if matches!(reason, Reason::Tls) {
            self.connection.shared.set_mode(Mode::OPAQUE);
        }
        self.scratch.lost = 1;
        false
    }

    #[inline(always)]
    pub(super) fn unattributed(&mut self, bytes: u64) {
        let reason = Reason::from_number(u32::from(self.connection.shared.reason()));
        self.ledger
            .unattributed(self.connection.slot, Direction::In, reason, bytes);
    }
}

/// What answers a command.
#[derive(Clone, Copy)]
struct Answer {
    kind: RunKind,
    /// Replies or confirmations.
    count: u32,
    /// [`run_flag`]s.
    flags: u32,
}

/// A complete command as a part of a run; the fields are those of [`crate::abi::RequestRun`].
pub(super) struct Member {
    row: u32,
    kind: u32,
    flags: u32,
    since: u32,
    size_bucket: u32,
}

/// What is to be known of the command's reply.
#[inline(always)]
pub(super) fn run_flags(info: u32, word: u64, queued: bool) -> u32 {
    let mut flags = 0;
    // Inside MULTI the reply is no value yet.
    if info & command::READS != 0 && !queued {
        flags |= run_flag::READS;
    }
    flags |= command::confirmed_name(info) << run_flag::NAME_SHIFT;
    // Stream reads block only where they say so.
    if info & command::BLOCKING != 0 && (command::kind(info) != command::KIND_KEYWORD || word == BLOCKS) {
        flags |= run_flag::UNTIMED;
    }
    flags
}
