//! Which [`ErrorWord`] an error reply begins with.

use super::words::{equal_bytes, first_marked, low_bytes, repeat};
use crate::abi::{ERROR_CELLS, ErrorWord, Window};

/// Most bytes of a word.
const WORD_BYTES: usize = 16;

/// Bytes of an error reply that decide which word it is: the minus sign, the longest word, and what ends it.
pub(super) const DECISIVE_BYTES: u32 = WORD_BYTES as u32 + 2;

/// Slots of the hash table.
const SLOTS: usize = 64;

/// Factors of the hash, found by trying: every word has a slot of its own (the table does not compile otherwise).
const FACTORS: [u64; 2] = [0x1f71_c59f_d143_099f, 0xd837_dc68_7664_b4d1];

#[derive(Clone, Copy)]
struct Entry {
    words: [u64; 2],
    word: ErrorWord,
}

static TABLE: [Entry; SLOTS] = {
    let mut table = [Entry {
        words: [0; 2],
        word: ErrorWord::Other,
    }; SLOTS];
    let mut index = 1;
    while index < ERROR_CELLS {
        let word = ErrorWord::ALL[index];
        let words = pack(word.label());
        let slot = slot(words);
        assert!(table[slot].words[0] == 0, "two error words share a slot");
        table[slot] = Entry { words, word };
        index += 1;
    }
    table
};

/// The word behind the minus sign at index `at`. Bytes behind the line's end are not looked at.
#[inline(always)]
pub(super) fn error_word(window: &Window, at: u32) -> ErrorWord {
    let mut words = [window.word::<1>(at), window.word::<9>(at)];
    let end = ends(words[0]);
    if end != 0 {
        words = [words[0] & low_bytes(first_marked(end)), 0];
    } else {
        let end = ends(words[1]);
        if end != 0 {
            words[1] &= low_bytes(first_marked(end));
        }
    }
    let entry = &TABLE[slot(words) & (SLOTS - 1)];
    if entry.words[0] == words[0] && entry.words[1] == words[1] {
        entry.word
    } else {
        ErrorWord::Other
    }
}

/// Whether the error at index `at` is how a server refuses a connection beyond its maxclients (networking.c,
/// `acceptCommonHandler`; a cluster node adds "+ cluster connections").
#[inline(always)]
pub(super) fn is_refusal(window: &Window, at: u32) -> bool {
    const TEXT: [[u64; 2]; 2] = [pack("-ERR max number "), pack("of clients")];
    let differs = window.word::<0>(at) ^ TEXT[0][0]
        | window.word::<8>(at) ^ TEXT[0][1]
        | window.word::<16>(at) ^ TEXT[1][0]
        | (window.word::<24>(at) ^ TEXT[1][1]) & low_bytes(2);
    differs == 0
}

/// Marks what ends a word: a blank or a CR.
#[inline(always)]
const fn ends(word: u64) -> u64 {
    equal_bytes(word, repeat(b' ')) | equal_bytes(word, repeat(b'\r'))
}

#[inline(always)]
const fn slot(words: [u64; 2]) -> usize {
    let hash = words[0].wrapping_mul(FACTORS[0]) ^ words[1].wrapping_mul(FACTORS[1]);
    (hash >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

const fn pack(word: &str) -> [u64; 2] {
    let bytes = word.as_bytes();
    assert!(bytes.len() <= WORD_BYTES);
    let mut words = [0; 2];
    let mut index = 0;
    while index < bytes.len() {
        words[index / 8] |= (bytes[index] as u64) << (index % 8 * 8);
        index += 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn word_of(line: &[u8]) -> ErrorWord {
        let mut window = Window::zeroed();
        assert!(window.copy_behind(3, line));
        error_word(&window, 3)
    }

    #[test]
    fn every_word_is_known_before_a_text_and_alone() {
        for word in &ErrorWord::ALL[1..] {
            let label = word.label();
            assert_eq!(word_of(format!("-{label} some text\r\n").as_bytes()), *word);
            assert_eq!(word_of(format!("-{label}\r\n").as_bytes()), *word);
        }
    }

    #[test]
    fn a_refusal_is_told_from_any_other_error() {
        let refuses = |line: &[u8]| {
            let mut window = Window::zeroed();
            assert!(window.copy_behind(3, line));
            is_refusal(&window, 3)
        };
        let text = b"-ERR max number of clients reached\r\n";
        assert!(refuses(text));
        assert!(refuses(
            b"-ERR max number of clients + cluster connections reached\r\n"
        ));
        for at in 0.."-ERR max number of clients".len() {
            let mut other = *text;
            other[at] ^= 1;
            assert!(!refuses(&other), "{at}");
        }
    }

    #[test]
    fn any_other_word_is_other() {
        for line in [
            &b"-\r\n"[..],
            b"- ERR\r\n",
            b"-ERRO x\r\n",
            b"-err x\r\n",
            b"-MOVEDMOVEDMOVEDMOVED x\r\n",
            b"-my own error\r\n",
        ] {
            assert_eq!(word_of(line), ErrorWord::Other, "{line:?}");
        }
    }
}
