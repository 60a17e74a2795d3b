//! Commands as nearly every client sends them, read in one go.

use super::{
    super::{
        Content, Ledger, Segment, command,
        header::short,
        words::{keep_word, repeat},
    },
    Requests, Turn, flag, needed_of, phase, wanted,
};
use crate::abi::{RunKind, Window};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// Reads an ordinary command, if one is at hand: fewer than ten arguments, a name of at most eight letters and the key
    /// behind it, all of that in the window; or several, if they are like the one before. What is otherwise is left as it is for
    /// [`Self::slow`].
    #[inline(always)]
    pub fn quick(&mut self) -> Turn {
        let turn = self.ordinary();
        if turn == Turn::Slow {
            self.scratch.repeated.forget();
        }
        turn
    }

    #[inline(always)]
    fn ordinary(&mut self) -> Turn {
        let state = &self.connection.requests;
        if state.phase != phase::COMMAND || state.skip != 0 {
            return Turn::Slow;
        }
        let Some(available) = self.scratch.available(&mut self.segment) else {
            return Turn::Slow;
        };
        if available == 0 {
            return Turn::Done;
        }
        if self.scratch.take_repeated() {
            return self.more();
        }
        let trial = self.connection.requests.flags & flag::TRIAL;
        let position = self.scratch.position;
        let head = ordinary_head(&self.scratch.window, position, available);
        let Some(head) = head.filter(|_| trial == 0) else {
            return Turn::Slow;
        };
        self.start_ordinary(&head);
        let length = head.key;
        let mut content = Content::key(&self.scratch.window, self.scratch.position, length);
        self.key(&mut content);
        let again = self.end_content(length);
        if !self.is_complete() {
            return if again { Turn::Again } else { Turn::Done };
        }
        let unusual =
            command::effect(self.connection.requests.command) | u32::from(self.connection.shared.replying());
        let member = self.member(RunKind::Reply as u32);
        if unusual != 0 || !self.is_like_run(&member) {
            return Turn::Slow;
        }
        self.connection.requests.phase = phase::COMMAND;
        self.expect_repeated();
        self.join_run(&member, 1);
        self.more()
    }

    /// Whether the segment goes on.
    #[inline(always)]
    fn more(&self) -> Turn {
        if self.scratch.is_read() {
            Turn::Done
        } else {
            Turn::Again
        }
    }

    /// An ordinary command begins at index `at` of the window, up to its key.
    #[inline(always)]
    fn start_ordinary(&mut self, head: &Head) {
        self.consume(head.taken);
        let now = self.scratch.now;
        let state = &mut self.connection.requests;
        state.flags |= flag::STARTED;
        state.arguments_left = head.arguments.wrapping_sub(1);
        state.argument = 1;
        state.wanted = wanted::KEY;
        state.command = head.info;
        state.content_length = head.key;
        state.since = now;
    }
}

/// What begins at index `at` of the window, if it is an ordinary command whose key is at hand. Two comparisons instead of three
/// tokens.
#[inline(always)]
pub(super) fn ordinary_head(window: &Window, at: u32, available: u32) -> Option<Head> {
    const HEAD: u64 = u64::from_le_bytes(*b"*0\r\n$0\r\n");
    const SMALL_LETTERS: u64 = repeat(b' ');
    const DIGITS: u64 = 0x0000_0f00_0000_0f00;
    let head = window.word::<0>(at) ^ HEAD;
    let arguments = (head >> 8) as u32 & 15;
    let letters = (head >> 40) as u32 & 15;
    // Nine digits from 1 on, eight letters from 1 on; a second key argument is needed.
    if head & !DIGITS != 0 || arguments.wrapping_sub(2) > 7 || letters.wrapping_sub(1) > 7 {
        return None;
    }
    // Letters in either case become small ones; what is none becomes none (a test of the table says so).
    let name = keep_word(window.word::<8>(at) | SMALL_LETTERS, letters);
    let info = command::lookup(&[name, 0, 0])?;
    if info & command::PLACE != command::PLACE_FIRST {
        return None;
    }
    let key_at = at.wrapping_add(letters).wrapping_add(10);
    let head = window.word::<0>(key_at);
    let (key, header) = short(head)?;
    let key = key as u32;
    let taken = letters.wrapping_add(10).wrapping_add(header);
    if head & 0xff != u64::from(b'$') || taken.wrapping_add(needed_of(key)) > available {
        return None;
    }
    Some(Head {
        info,
        arguments,
        key,
        taken,
    })
}

/// How an ordinary command begins.
pub(super) struct Head {
    /// What the command table says about it.
    pub(super) info: u32,
    /// Arguments, with the name.
    pub(super) arguments: u32,
    /// Length of the key.
    pub(super) key: u32,
    /// Bytes before the key.
    pub(super) taken: u32,
}
