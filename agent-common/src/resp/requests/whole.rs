//! Segments that are one ordinary command: what a client sends that waits for each reply.

use super::{
    super::{Content, HEAD_BYTES, Ledger, Payload, Segment, command, header::in_word, tick, words::rarely},
    BLOCKS, Requests,
    books::run_flags,
    opening::{Opening, generation},
    quick::ordinary_head,
};
use crate::abi::{
    Commands, Connection, Direction, Loss, Mode, Pushed, RequestCounts, Row, RunKind, size_bucket,
};

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
        let command = self.known_command();
        let command = if command.tag == 0 {
            rarely();
            self.one_command(at_hand)
        } else {
            command
        };
        if self.is_all(&command, payload.length, at_hand) {
            command
        } else {
            Whole::NONE
        }
    }

    /// The second half.
    #[inline(always)]
    pub fn take_whole(&mut self, payload: &Payload, command: &Whole) -> bool {
        let done = command.arguments != 0
            && self.is_between_commands(payload, command)
            && self.ask(payload, command);
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
    fn is_between_commands(&self, payload: &Payload, command: &Whole) -> bool {
        const { assert!(Mode::NORMAL == 0) };
        let connection = &*self.connection;
        let shared = &connection.shared;
        // Differences as bits, not as comparisons: the verifier walks both ways of each.
        let open = connection.rests_in ^ 1
            | connection.marks & Connection::UNREAD
            | connection.parked
            | shared.mode()
            | shared.trial()
            | shared.replying();
        // By which the command was known; another CPU may have found another one while this one waited.
        let class = connection.class ^ command.class;
        u32::from(open) | u32::from(class) | connection.next_in ^ payload.sequence == 0
            && shared.sync() != 0
            && !connection.is_class_stale(self.settings)
    }

    /// The command at hand, if this CPU remembers one that began like it.
    #[inline(always)]
    fn known_command(&self) -> Whole {
        let opening = Opening::at_hand(&self.scratch.window, self.connection, self.settings);
        let known = &self.scratch.openings[opening.place()];
        if opening.differs(known) != 0 {
            return Whole::NONE;
        }
        Whole {
            class: self.connection.class,
            tag: known.tag,
            key_end: known.key_end,
            arguments: known.arguments,
            ..Whole::NONE
        }
    }

    /// The command at hand, of which so many bytes are there.
    #[inline(always)]
    fn one_command(&self, at_hand: u32) -> Whole {
        let Some(head) = ordinary_head(&self.scratch.window, 0, at_hand) else {
            return Whole::NONE;
        };
        if head.arguments > 3 || command::effect(head.info) != command::EFFECT_NONE {
            return Whole::NONE;
        }
        Whole {
            class: self.connection.class,
            tag: 0,
            key_end: head.taken.wrapping_add(head.key).wrapping_add(2),
            arguments: head.arguments,
            info: head.info,
            key_at: head.taken,
            key: head.key,
        }
    }

    /// Whether the command ends with the segment of `length` bytes, of which so many are at hand.
    #[inline(always)]
    fn is_all(&self, command: &Whole, length: u32, at_hand: u32) -> bool {
        let mut end = command.key_end;
        if command.arguments == 3 {
            let word = self.scratch.window.word::<0>(end);
            let Some((value, header)) = in_word(word) else {
                return false;
            };
            end = end.wrapping_add(header);
            if word & 0xff != u64::from(b'$') || end > at_hand {
                return false;
            }
            end = end.wrapping_add(value).wrapping_add(2);
        }
        end == length
    }

    /// It waits for its reply from here on, and is counted. Returns false where there is no room for it.
    #[inline(always)]
    fn ask(&mut self, payload: &Payload, command: &Whole) -> bool {
        let tag = if command.tag == 0 {
            rarely();
            self.tag_of(command)
        } else {
            command.tag
        };
        let commands = Commands {
            tag,
            since: tick(payload.seen_at),
            count: 1,
        };
        let row = commands.row();
        match self.connection.runs.push(&commands) {
            Pushed::Exactly => {}
            Pushed::Coarsely => self.ledger.loss(Loss::CoarseReply, 1),
            Pushed::Elsewhere | Pushed::Not => return false,
        }
        self.connection.runs.set_last_direction(Direction::In);
        let end = payload.sequence.wrapping_add(payload.length);
        self.connection.next_in = end;
        let counts = RequestCounts {
            commands: 1,
            size_bucket: size_bucket(payload.length),
            bytes: u64::from(payload.length),
        };
        self.ledger.requests(self.connection.slot, row, &counts);
        self.note_served();
        true
    }

    /// The tag of a command that is not remembered, which it is from here on.
    #[inline(always)]
    fn tag_of(&mut self, command: &Whole) -> u32 {
        let generation = generation(self.settings);
        let mut key = Content::key(&self.scratch.window, command.key_at, command.key);
        let found = self.row_of(&mut key);
        let row = self.of_class(found);
        // It has no effect, which is where the names of what it does would be.
        let flags = run_flags(command.info & command::PLAIN, BLOCKS, false);
        let commands = Commands::new(row, RunKind::Reply, flags, 0, 1);
        if !Row::is_special(found) {
            self.remember_opening(command, commands.tag, generation);
        }
        commands.tag
    }
}

/// A command that is a segment, or none. (No `Option`: the verifier would see its absent content being kept.)
pub struct Whole {
    /// Class of the connection.
    class: u16,
    /// Row and flags, as [`Commands::tag`]; 0 where they are not known yet.
    tag: u32,
    /// Where its key ends, with the CRLF.
    pub(super) key_end: u32,
    /// Arguments, with the name; 0: none.
    pub(super) arguments: u32,
    /// What the command table says about it, unless the tag is known; likewise the next ones.
    info: u32,
    /// Where its key is in the window.
    pub(super) key_at: u32,
    /// Length of the key.
    pub(super) key: u32,
}

impl Whole {
    const NONE: Self = Self {
        class: 0,
        tag: 0,
        key_end: 0,
        arguments: 0,
        info: 0,
        key_at: 0,
        key: 0,
    };
}
