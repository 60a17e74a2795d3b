//! Replies that are like the one before them but for what the value is: what answers a pipeline mostly.

use super::{
    super::{AT_ONCE, Ledger, Segment, header::in_word, words::keep_word},
    NIL, Replies, flag,
};
use crate::abi::{RepeatedReply, RunKind, run_flag};

impl<S: Segment, L: Ledger> Replies<'_, S, L> {
    /// Takes the replies at hand that are like the run's, and adds them to it. Returns whether there were any.
    ///
    /// The same header is a value as long; the commands that they answer are alike, too, and came in one segment.
    #[inline(always)]
    pub(super) fn repeated(&mut self) -> bool {
        let like = &self.scratch.repeated_reply;
        let waiting = self.connection.runs.waiting_alike((like.tag, like.since));
        let begin = self.scratch.position;
        let mut taken = 0;
        while taken < AT_ONCE && taken < waiting && self.is_repeated() {
            let like = &self.scratch.repeated_reply;
            let run = &mut self.scratch.replies;
            run.bytes = run.bytes.wrapping_add(u64::from(like.length));
            run.duration_units = run.duration_units.wrapping_add(u64::from(like.duration));
            run.replies = run.replies.wrapping_add(1);
            run.timed = run.timed.wrapping_add(like.timed);
            run.hits = run.hits.wrapping_add(like.hits);
            run.misses = run.misses.wrapping_add(like.misses);
            self.scratch.position = self.scratch.position.wrapping_add(like.length);
            self.connection.runs.pop();
            taken += 1;
        }
        self.scratch.position != begin
    }

    /// Whether the reply at hand is like the run's, and in the window from its first byte to its last.
    #[inline(always)]
    fn is_repeated(&self) -> bool {
        let like = &self.scratch.repeated_reply;
        let at = self.scratch.position;
        let differs = self.scratch.window.word::<0>(at) & like.mask ^ like.head;
        self.scratch.fill.wrapping_sub(at) >= like.length && differs == 0
    }

    /// An answer that has ended with so many bytes in this segment is in the run, and its command still the oldest one: if it is as
    /// long as the one before, others like it are expected.
    #[inline(always)]
    pub(super) fn expect_repeated(&mut self, length: u32) {
        let like = &mut self.scratch.repeated_reply;
        let same = like.previous == length && like.length != length;
        like.previous = length;
        // Where it began in what was loaded before, less lies behind than it has.
        if same && length <= self.scratch.position {
            self.remember_repeated(length);
        }
    }

    #[inline(always)]
    fn remember_repeated(&mut self, length: u32) {
        let (tag, since) = self.connection.runs.front_run();
        let flags = self.connection.replies.flags & !(flag::PUSHES | flag::LONG) ^ flag::SEQUENCE;
        if kind_and_name(tag) | u32::from(flags) != 0 {
            return;
        }
        let at = self.scratch.position.wrapping_sub(length);
        let word = self.scratch.window.word::<0>(at);
        let first = word as u8;
        let header = match (first, in_word(word)) {
            (b'$', Some((value, header))) if header.wrapping_add(value).wrapping_add(2) == length => header,
            (b'$', _) if length == 5 && keep_word(word, 5) == NIL => length,
            (b'+' | b':' | b'_', _) if length <= 8 => length,
            _ => return,
        };
        let nil = u32::from(first == b'_' || keep_word(word, 2) == keep_word(NIL, 2));
        let reads = u32::from(tag & run_flag::READS != 0);
        let timed = u32::from(tag & run_flag::UNTIMED == 0);
        let like = &mut self.scratch.repeated_reply;
        like.mask = keep_word(u64::MAX, header);
        like.head = word & like.mask;
        like.length = length;
        like.tag = tag;
        like.since = since;
        like.timed = timed;
        like.duration = self.scratch.now.wrapping_sub(since) & timed.wrapping_neg();
        like.hits = reads & (nil ^ 1);
        like.misses = reads & nil;
    }
}

/// 0 where commands with this tag have one reply each, which says nothing else.
#[inline(always)]
const fn kind_and_name(tag: u32) -> u32 {
    const { assert!(RunKind::Reply as u32 == 0) };
    RunKind::of_tag(tag) as u32 | tag & run_flag::NAME
}

impl RepeatedReply {
    /// The next reply is like none.
    #[inline(always)]
    pub(super) fn forget(&mut self) {
        self.length = Self::NONE;
        self.previous = 0;
    }
}
