//! The request direction: commands as arrays of bulk strings or inline lines, and where their first key is.

mod array;
mod books;
mod delivery;
mod identity;
mod inline;
mod keys;
mod opening;
mod quick;
mod repeated;
mod whole;

pub use whole::Whole;

use super::{Content, Ledger, Segment, command};
use crate::abi::{CONTENT_BYTES, Connection, KeySettings, Reason, RequestCounts, Row, Scratch};

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
    /// Nothing: the command is complete.
    pub(super) const COMPLETE: u8 = 4;
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
    /// ON, OFF or SKIP of CLIENT REPLY.
    pub(super) const REPLY_MODE: u8 = 5;
    // What says who the client is; they stand together at the end.
    /// An ACL user.
    pub(super) const USER: u8 = 6;
    /// The client's name.
    pub(super) const CLIENT: u8 = 7;
    /// LIB-NAME or LIB-VER.
    pub(super) const LIBRARY_FIELD: u8 = 8;
    /// The library's name.
    pub(super) const LIBRARY: u8 = 9;
    /// Its version.
    pub(super) const LIBRARY_VERSION: u8 = 10;
    /// Number of a database.
    pub(super) const DATABASE: u8 = 11;
    /// AUTH or SETNAME of HELLO.
    pub(super) const HELLO_OPTION: u8 = 12;
    /// Nothing: AUTH with a password alone.
    pub(super) const NOBODY: u8 = 13;
}

/// [`crate::abi::Shared::replying`].
mod replying {
    /// CLIENT REPLY OFF is in force.
    pub(super) const OFF: u8 = 1;
    /// The next command is not answered.
    pub(super) const SKIP: u8 = 2;
    /// Inside MULTI: what commands do happens with EXEC.
    pub(super) const QUEUEING: u8 = 4;
    /// A CLIENT REPLY waits for EXEC, which may fail: from then on nobody knows what is answered.
    pub(super) const DOUBT: u8 = 8;
}

/// [`crate::abi::RequestState::flags`].
mod flag {
    /// [`Connection::next_in`] is valid.
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

/// Flag of a connection whose next sequence number is known.
pub(super) const SEQUENCE_KNOWN: u8 = flag::SEQUENCE;

/// How long the server must have been silent at a restart point, in units of 2^20 ns: more than one of them.
const QUIET: u32 = 2;

/// The same where a command still waits for its reply: about a second.
const LONG_QUIET: u32 = 1_000;

/// [`crate::abi::RequestState::word`] of a stream read that says BLOCK.
const BLOCKS: u64 = 0;

/// No argument is wanted any more.
const NO_ARGUMENT: u32 = u32::MAX;

/// Valkey refuses longer multibulk requests (`INT_MAX` in networking.c, `processMultibulkBuffer`).
const MAX_ARGUMENTS: i64 = i32::MAX as i64;

/// A name that tells more than others where a connection is met in mid-stream.
const PING: [u64; 3] = command::pack("ping");

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

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// Handles one token, or the whole of an ordinary command. Returns whether there may be more. The kernel calls the
    /// two halves itself: the verifier checks the second one on its own.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        match self.quick() {
            Turn::Again => true,
            Turn::Done => false,
            Turn::Slow => self.slow(),
        }
    }

    /// Handles one token of whatever there is. Returns whether there may be more.
    #[inline(always)]
    pub fn slow(&mut self) -> bool {
        let again = if self.is_complete() {
            true
        } else if self.connection.requests.skip != 0 {
            self.skip()
        } else {
            self.token()
        };
        // One place for whatever completes a command: the verifier walks each copy of code on its own.
        if self.is_complete() {
            return self.complete();
        }
        again
    }

    /// Whether the last byte of a command has been read.
    #[inline(always)]
    fn is_complete(&self) -> bool {
        self.connection.requests.phase == phase::COMPLETE
    }

    #[inline(always)]
    fn token(&mut self) -> bool {
        let Some(available) = self.scratch.available(&mut self.segment) else {
            return self.lose(Reason::LoadFailed);
        };
        if available == 0 {
            return false;
        }
        let found = match self.connection.requests.phase {
            phase::DIVERTED => return self.divert(),
            phase::INLINE => self.inline(),
            _ => self.array(available),
        };
        let mut content = match found {
            Found::Argument => {
                let length = self.connection.requests.content_length;
                Content::read(&self.scratch.window, self.scratch.position, length)
            }
            Found::Word(content) => content,
            Found::Turn(again) => return again,
        };
        let length = content.length;
        self.understand(&mut content) && self.end_content(length)
    }

    /// Ends the segment: writes the open run and the open command's bytes to the ledger.
    #[inline(always)]
    pub fn end(&mut self) {
        if self.scratch.lost == 0 && self.scratch.remaining() != 0 {
            self.lose(Reason::StepLimit);
        }
        self.flush();
        let state = &mut self.connection.requests;
        let (row, bytes) = (state.row, state.pending);
        if row != Row::UNKNOWN && bytes != 0 {
            state.pending = 0;
            self.connection.size_in = added(self.connection.size_in, bytes);
            let row = self.of_class(row);
            self.attribute(
                row,
                &RequestCounts {
                    commands: 0,
                    size_bucket: 0,
                    bytes,
                },
            );
        }
        if self.scratch.lost != 0 {
            // The run before the loss was still in step; from here on nothing is.
            self.forget_command(self.scratch.remaining());
            self.connection.shared.set_sync(0);
        }
        self.connection.rests_in = u8::from(self.is_at_rest());
        self.scratch.wipe(&mut self.segment);
    }

    /// Whether it is between two commands, and nothing of either is in its state.
    #[inline(always)]
    fn is_at_rest(&self) -> bool {
        const { assert!(phase::COMMAND == 0) };
        let state = &self.connection.requests;
        // Differences as bits, not as comparisons: the verifier walks both ways of each.
        let open = state.phase | state.carry_length | state.flags ^ (flag::SEQUENCE | flag::STARTED);
        u64::from(open) | state.skip | state.pending == 0
    }
}

/// Adds to a size, which stays at its highest value.
#[inline(always)]
pub(super) const fn added(size: u32, bytes: u64) -> u32 {
    let sum = bytes.wrapping_add(size as u64);
    if sum > u32::MAX as u64 {
        u32::MAX
    } else {
        sum as u32
    }
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There may be more.
    Again,
    /// There is no more.
    Done,
    /// What comes next is for [`Requests::slow`].
    Slow,
}

/// What a turn has found.
enum Found {
    /// An argument that matters, at hand in the window.
    Argument,
    /// The same in an inline command.
    Word(Content),
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
