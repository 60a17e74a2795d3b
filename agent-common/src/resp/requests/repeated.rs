//! Commands that are like the one before them but for what follows the prefix of the key: what a pipeline mostly is.

use super::{
    super::{AT_ONCE, Ledger, Segment, header::in_word, words::keep_word},
    Requests,
    opening::{Bytes, is_prefix_in_opening},
    quick::ordinary_head,
};
use crate::abi::{KeySettings, RepeatedCommand, Scratch};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// An ordinary command is complete, and about to join the run, in which it is like the others: if it is as long as the one
    /// before, others like it are expected.
    #[inline(always)]
    pub(super) fn expect_repeated(&mut self) {
        let length = self.connection.requests.pending as u32;
        let like = &mut self.scratch.repeated;
        let same = like.previous == length && like.length != length;
        like.previous = length;
        // Where it began in what was loaded before, less lies behind than it has.
        let at_hand = length <= self.scratch.position;
        // On trial its row is none, whatever its prefix.
        if same && at_hand && self.connection.shared.trial() == 0 {
            self.scratch.expect_repeated(self.settings, length);
        }
    }
}

/// Functions of their own, of the scratch alone: what they have on the stack is not there for the rest, which has none to spare
/// (Linux 6.1).
impl Scratch {
    /// Takes the commands at hand that are like the run's, and adds them to it. Returns whether there were any.
    ///
    /// The same opening is the same command on the same prefix with a key as long ([`super::opening`]); with the same header of
    /// the last argument, too, the command is as long. It leaves nothing behind in the connection that the one before has not left there.
    #[inline(never)]
    pub(super) fn take_repeated(&mut self) -> bool {
        let mut taken = 0;
        while taken < AT_ONCE && self.is_repeated() {
            let length = self.repeated.length;
            let run = &mut self.requests;
            run.bytes = run.bytes.wrapping_add(u64::from(length));
            run.commands = run.commands.wrapping_add(1);
            run.answers = run.answers.wrapping_add(1);
            self.position = self.position.wrapping_add(length);
            taken += 1;
        }
        taken != 0
    }

    /// Whether the command at hand is like the run's, and in the window from its first byte to its last.
    #[inline(always)]
    fn is_repeated(&self) -> bool {
        let (window, like) = (&self.window, &self.repeated);
        let at = self.position;
        let [first, second, third, fourth, fifth] = like.opening;
        let header = window.word::<0>(at.wrapping_add(like.header_at));
        // Differences as bits, not as comparisons: the verifier walks both ways of each.
        let differs = window.word::<0>(at) ^ first
            | window.word::<8>(at) ^ second
            | window.word::<16>(at) & like.masks[0] ^ third
            | window.word::<24>(at) & like.masks[1] ^ fourth
            | window.word::<32>(at) & like.masks[2] ^ fifth
            | header & like.header_mask ^ like.header;
        self.fill.wrapping_sub(at) >= like.length && differs == 0
    }

    /// The ordinary command of `length` bytes before the position is what others are expected to be like, if they can be known by
    /// it. It has one argument behind the key at most: with more it would not have been read in one go.
    #[inline(never)]
    fn expect_repeated(&mut self, settings: &KeySettings, length: u32) {
        let at = self.position.wrapping_sub(length);
        let Some(head) = ordinary_head(&self.window, at, length) else {
            return;
        };
        let header_at = head.taken.wrapping_add(head.key).wrapping_add(2);
        let (mut header, mut mask) = (0, 0);
        if head.arguments == 3 {
            let word = self.window.word::<0>(at.wrapping_add(header_at));
            let Some((_, bytes)) = in_word(word) else {
                return;
            };
            mask = keep_word(u64::MAX, bytes);
            header = word & mask;
        }
        if !is_prefix_in_opening(&self.window, settings, at, head.taken, head.key) {
            return;
        }
        let Bytes { words, masks } = Bytes::at(&self.window, at, settings);
        let like = &mut self.repeated;
        like.opening = words;
        like.masks = masks;
        like.header = header;
        like.header_mask = mask;
        like.header_at = header_at;
        like.length = length;
    }
}

impl RepeatedCommand {
    /// The next command is like none.
    #[inline(always)]
    pub(super) fn forget(&mut self) {
        self.length = Self::NONE;
        self.previous = 0;
    }
}
