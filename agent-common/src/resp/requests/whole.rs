//! Segments that are one ordinary command: what a client sends that waits for each reply.

use super::{
    super::{Content, HEAD_BYTES, Ledger, Payload, Segment, command, header::in_word, tick},
    BLOCKS, Requests,
    books::run_flags,
    flag, phase,
};
use crate::abi::{Commands, Connection, Direction, Loss, Mode, Pushed, RequestCounts, RunKind, size_bucket};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// Deals with a segment (of at least a byte) that is one command from its first byte to its last: an ordinary one, as for
    /// [`Self::quick`], with one argument behind the key at most, on a connection that is in step and between two commands. Returns
    /// false where anything is otherwise. Then nothing has been counted, and the segment is for [`Self::begin`].
    ///
    /// There is no state to be kept in between, and so none is written. The kernel calls the two halves itself: the connection is on
    /// its way to the CPU's cache while the bytes are looked at.
    #[inline(always)]
    pub fn whole(&mut self, payload: &Payload) -> bool {
        let command = self.sight(payload);
        self.take_whole(payload, &command)
    }

    /// The first half: what the command is, by its bytes alone. [`Self::take_whole`] or [`Self::forget_whole`] has to follow.
    #[inline(always)]
    pub fn sight(&mut self, payload: &Payload) -> Whole {
        let at_hand = if payload.length < HEAD_BYTES {
            payload.length
        } else {
            HEAD_BYTES
        };
        let window = &mut self.scratch.window;
        self.scratch.dirty = at_hand;
        if !self.segment.load_head(window, payload.offset, at_hand) {
            return Whole::NONE;
        }
        self.one_command(payload.length, at_hand).unwrap_or(Whole::NONE)
    }

    /// The second half.
    #[inline(always)]
    pub fn take_whole(&mut self, payload: &Payload, command: &Whole) -> bool {
        let done = command.info != 0 && self.is_between_commands(payload) && self.ask(payload, command);
        self.forget_whole();
        done
    }

    /// Nothing of it stays in the window.
    #[inline(always)]
    pub fn forget_whole(&mut self) {
        self.scratch.wipe(&mut self.segment);
    }

    /// Whether the connection is in step and this segment begins a command, about which there is nothing special.
    #[inline(always)]
    fn is_between_commands(&self, payload: &Payload) -> bool {
        const { assert!(phase::COMMAND == 0 && Mode::NORMAL == 0) };
        let (connection, state) = (&*self.connection, &self.connection.requests);
        let shared = &connection.shared;
        // Differences as bits, not as comparisons: the verifier walks both ways of each.
        let open = state.phase
            | state.carry_length
            | state.flags ^ (flag::SEQUENCE | flag::STARTED)
            | connection.marks & Connection::UNREAD
            | connection.parked
            | shared.mode()
            | shared.trial()
            | shared.replying();
        u32::from(open) | state.next_sequence ^ payload.sequence == 0
            && state.skip | state.pending == 0
            && shared.sync() != 0
            && !connection.is_class_stale(self.settings)
    }

    /// The command that the segment is, of whose `length` bytes so many are at hand.
    #[inline(always)]
    fn one_command(&self, length: u32, at_hand: u32) -> Option<Whole> {
        let head = self.ordinary_head(0, at_hand)?;
        let mut end = head.taken.wrapping_add(head.key).wrapping_add(2);
        if head.arguments == 3 {
            let word = self.scratch.window.word::<0>(end);
            let (value, header) = in_word(word)?;
            end = end.wrapping_add(header);
            if word & 0xff != u64::from(b'$') || end > at_hand {
                return None;
            }
            end = end.wrapping_add(value).wrapping_add(2);
        }
        if end != length || head.arguments > 3 || command::effect(head.info) != command::EFFECT_NONE {
            return None;
        }
        Some(Whole {
            info: head.info,
            key_at: head.taken,
            key: head.key,
        })
    }

    /// It waits for its reply from here on, and is counted. Returns false where there is no room for it.
    #[inline(always)]
    fn ask(&mut self, payload: &Payload, command: &Whole) -> bool {
        let mut key = Content::key(&self.scratch.window, command.key_at, command.key);
        let row = self.row_at_hand(&mut key);
        let row = self.of_class(row);
        let since = tick(payload.seen_at);
        // It has no effect, which is where the names of what it does would be.
        let flags = run_flags(command.info & command::PLAIN, BLOCKS, false);
        let commands = Commands::new(row, RunKind::Reply, flags, since, 1);
        match self.connection.runs.push(&commands) {
            Pushed::Exactly => {}
            Pushed::Coarsely => self.ledger.loss(Loss::CoarseReply, 1),
            Pushed::Elsewhere | Pushed::Not => return false,
        }
        self.connection.runs.set_last_direction(Direction::In);
        let end = payload.sequence.wrapping_add(payload.length);
        self.connection.requests.next_sequence = end;
        let counts = RequestCounts {
            commands: 1,
            size_bucket: size_bucket(payload.length),
            bytes: u64::from(payload.length),
        };
        self.ledger.requests(self.connection.slot, row, &counts);
        self.note_served();
        true
    }
}

/// A command that is a segment, or none. (No `Option`: the verifier would see its absent content being kept.)
pub struct Whole {
    /// What the command table says about it; 0: none.
    info: u32,
    /// Where its key is in the window.
    key_at: u32,
    /// Length of the key.
    key: u32,
}

impl Whole {
    const NONE: Self = Self {
        info: 0,
        key_at: 0,
        key: 0,
    };
}
