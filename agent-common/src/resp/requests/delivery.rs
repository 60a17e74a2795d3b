//! Which segments are read: what is new in them, whether they wait for others, and whether the stream is in step.

use core::ptr;

use super::{
    super::{Fresh, Ledger, Payload, Plan, Segment, fresh, moment, tick},
    LONG_QUIET, QUIET, Requests, flag, phase,
};
use crate::{
    abi::{Direction, Mode, Reason, RequestCounts, Row, clear_token},
    limits::{PLACES_OF_CONNECTION, PLACES_OF_SEGMENT},
};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// Takes up a segment.
    #[inline(always)]
    pub fn begin(&mut self, payload: &Payload) -> Plan {
        let state = &mut self.connection.requests;
        if state.flags & flag::SEQUENCE == 0 {
            state.flags |= flag::SEQUENCE;
            self.connection.next_in = payload.sequence;
            // Nothing has been seen of the client: as far as is known, the server spoke last.
            self.connection.runs.set_last_direction(Direction::Out);
        }
        let Some(new) = fresh(self.connection.next_in, payload) else {
            return Plan::Done;
        };
        if new.hole != 0 && self.can_wait(&new) {
            return Plan::Park;
        }
        self.take(payload, &new)
    }

    /// A segment that came early was parked, in so many places that were free before.
    #[inline(always)]
    pub fn parked(&mut self, payload: &Payload, places: u8) {
        let end = payload.sequence.wrapping_add(payload.length);
        if self.connection.parked == 0 || end.wrapping_sub(self.connection.parked_end) < 1 << 31 {
            self.connection.parked_end = end;
        }
        // Where its cells had places from before a loss, it is known to be there nevertheless.
        let parked = self.connection.parked.wrapping_add(places);
        self.connection.parked = if parked == 0 { 1 } else { parked };
    }

    /// What was parked is at hand, and so many places are free behind it. That nothing is left [`Self::forget_passed`] says.
    #[inline(always)]
    pub fn unparked(&mut self, places: u8) {
        if self.connection.parked > places {
            self.connection.parked = self.connection.parked.wrapping_sub(places);
        }
    }

    /// A segment that came early could not be parked.
    #[inline(always)]
    pub fn give_up_early(&mut self, payload: &Payload) {
        self.connection.lose_synchronisation(Reason::Hole);
        self.forget_command(0);
        if let Some(new) = fresh(self.connection.next_in, payload) {
            self.take(payload, &new);
        }
    }

    /// Whether a segment behind a hole can be parked: the bytes before it matter, and they are still to come.
    #[inline(always)]
    pub(super) fn can_wait(&mut self, new: &Fresh) -> bool {
        let shared = &self.connection.shared;
        shared.sync() != 0
            && shared.mode() != Mode::REPLICATION
            && shared.mode() != Mode::OPAQUE
            && !self.can_bridge(
                u64::from(new.hole),
                self.connection.runs.last_direction() == Direction::Out as u8,
            )
            && self.connection.parked <= PLACES_OF_CONNECTION.wrapping_sub(PLACES_OF_SEGMENT as u8)
            && self.segment.is_awaited(self.connection.next_in)
    }

    #[inline(always)]
    pub(super) fn take(&mut self, payload: &Payload, new: &Fresh) -> Plan {
        self.connection.next_in = payload.sequence.wrapping_add(payload.length);
        let answered = self.connection.runs.last_direction() == Direction::Out as u8;
        self.connection.runs.set_last_direction(Direction::In);
        self.scratch.now = tick(payload.seen_at);
        self.scratch.requests.row = Row::UNKNOWN;
        self.scratch.requests.commands = 0;
        self.scratch.requests.bytes = 0;
        self.scratch.repeated.forget();
        if self.connection.is_class_stale(self.settings) {
            self.classify();
        }

        let mode = self.connection.shared.mode();
        if mode == Mode::REPLICATION {
            self.replicate(u64::from(new.hole).wrapping_add(u64::from(new.length)));
            return Plan::Done;
        }
        if mode == Mode::OPAQUE || !self.synchronised(payload, new, answered) {
            let parked = self.forget_parked();
            self.unattributed(
                u64::from(new.hole)
                    .wrapping_add(u64::from(new.length))
                    .wrapping_add(parked),
            );
            return Plan::Done;
        }
        let state = &mut self.connection.requests;
        self.scratch.enter(new, &mut state.carry, state.carry_length);
        state.carry_length = 0;
        self.connection.rests_in = 0;
        Plan::Read
    }

    /// Finds out whose the connection is. Once per segment: what comes in one belongs to one client.
    #[inline(always)]
    fn classify(&mut self) {
        // Before the names are looked at: if egress settles another one meanwhile, the next segment finds it.
        let settlements = self.connection.shared.settlements();
        let class = self.ledger.class(self.connection);
        // SAFETY: a valid reference; volatile because egress reads it.
        unsafe { ptr::write_volatile(&raw mut self.connection.class, class) };
        self.connection.class_generation = self.settings.class_generation as u16;
        self.connection.class_settlements = settlements;
    }

    /// Counts traffic of a replica link.
    #[inline(always)]
    pub(super) fn replicate(&mut self, bytes: u64) {
        let row = self.of_class(Row::special(self.connection.slot, Row::REPLICATION));
        self.ledger.requests(
            self.connection.slot,
            row,
            &RequestCounts {
                commands: 0,
                size_bucket: 0,
                bytes,
            },
        );
    }

    /// Nothing is parked any more if all of it lies before the next byte.
    #[inline(always)]
    pub fn forget_passed(&mut self) {
        if self.connection.next_in.wrapping_sub(self.connection.parked_end) < 1 << 31 {
            self.connection.parked = 0;
        }
    }

    /// Nothing that is parked will be read. Returns how many bytes that is, holes included.
    #[inline(always)]
    pub(super) fn forget_parked(&mut self) -> u64 {
        if self.connection.parked == 0 {
            return 0;
        }
        self.connection.parked = 0;
        let beyond = self.connection.parked_end.wrapping_sub(self.connection.next_in);
        if beyond >= 1 << 31 {
            return 0;
        }
        self.connection.next_in = self.connection.parked_end;
        u64::from(beyond)
    }

    /// Whether the segment can be parsed: in step, or at a point where a restart may be tried.
    #[inline(always)]
    pub(super) fn synchronised(&mut self, payload: &Payload, new: &Fresh, answered: bool) -> bool {
        let now = moment(payload.seen_at);
        if self.connection.shared.sync() != 0 {
            if new.hole != 0 {
                return self.bridge(u64::from(new.hole), answered);
            }
            if !answered || self.connection.shared.trial() == 0 || self.judge_trial(now) {
                return true;
            }
        }
        self.forget_command(0);
        // The server spoke last, and some time ago, and this segment follows without a gap: a new command may begin
        // here. Its name decides, and then a stretch on trial.
        let candidate = answered && new.hole == 0 && self.is_quiet(now, QUIET);
        if candidate {
            self.connection.requests.flags |= flag::TRIAL | flag::STARTED;
        }
        candidate
    }

    /// Whether a hole is payload that need not be seen. One that ends a command is not if the server has spoken since:
    /// that may have been the command's reply.
    #[inline(always)]
    fn can_bridge(&self, hole: u64, answered: bool) -> bool {
        let state = &self.connection.requests;
        let ends = state.skip == hole && state.arguments_left == 0;
        state.skip >= hole && !(ends && answered)
    }

    /// A hole while in step. Returns whether it was payload.
    #[inline(always)]
    pub(super) fn bridge(&mut self, hole: u64, answered: bool) -> bool {
        if self.can_bridge(hole, answered) {
            self.skip_hole(hole);
            return true;
        }
        let started = self.connection.requests.flags & flag::STARTED != 0;
        self.connection
            .lose_synchronisation(if started { Reason::Hole } else { Reason::Handshake });
        self.forget_command(0);
        false
    }

    /// Judges a stretch on trial; returns whether it goes on. It is in step, and good from now on, if every command in it
    /// has had its reply, both directions are between two messages, and the server has had the time to send what it
    /// might still owe from before. It is hopeless if a command still waits after a long silence: its reply was missed.
    #[inline(always)]
    pub(super) fn judge_trial(&mut self, now: u32) -> bool {
        let (requests, replies) = (&self.connection.requests, &self.connection.replies);
        let between = requests.phase == phase::COMMAND
            && requests.carry_length == 0
            && replies.carry_length == 0
            && replies.skip == 0
            && replies.elements == 0;
        if !between || !self.is_quiet(now, QUIET) {
            return true;
        }
        if self.is_drained() {
            self.connection.shared.set_trial(0);
            return true;
        }
        !self.is_quiet(now, LONG_QUIET)
    }

    /// Whether every command has had its reply.
    #[inline(always)]
    fn is_drained(&mut self) -> bool {
        if !self.connection.runs.is_spilling() {
            return self.connection.runs.is_drained();
        }
        match self.ledger.spill(false) {
            Some(spill) => self.connection.runs.spill_is_drained(spill),
            None => false,
        }
    }

    /// Whether the server has been silent for so long.
    #[inline(always)]
    pub(super) fn is_quiet(&self, now: u32, units: u32) -> bool {
        now.wrapping_sub(self.connection.spoke_at()) >= units
    }

    /// The hole is payload that would not have been looked at: TCP delivers it later, the meter does not need it.
    #[inline(always)]
    pub(super) fn skip_hole(&mut self, hole: u64) {
        let state = &mut self.connection.requests;
        state.skip = state.skip.wrapping_sub(hole);
        state.pending = state.pending.wrapping_add(hole);
        if state.skip == 0 && state.arguments_left == 0 {
            state.phase = phase::COMPLETE;
        }
    }

    /// What was read of a command is not going to be continued: its bytes, and `more`, are unattributed.
    #[inline(always)]
    pub(super) fn forget_command(&mut self, more: u64) {
        let state = &mut self.connection.requests;
        let bytes = state
            .pending
            .wrapping_add(u64::from(state.carry_length))
            .wrapping_add(more);
        state.pending = 0;
        state.carry_length = 0;
        clear_token(&mut state.carry);
        state.skip = 0;
        self.connection.size_in = 0;
        state.arguments_left = 0;
        state.row = Row::UNKNOWN;
        state.phase = phase::COMMAND;
        state.flags &= !(flag::TRIAL | flag::QUOTING);
        self.connection.shared.set_replying(0);
        if bytes != 0 {
            self.unattributed(bytes);
        }
    }
}
