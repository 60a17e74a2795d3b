//! How commands begin, as each CPU remembers it: most clients send a few kinds of commands on keys of a few prefixes.

use super::{
    super::{
        Ledger, Segment, prefix,
        words::{first_marked, not_zero},
    },
    Requests,
    whole::Whole,
};
use crate::abi::{Connection, KNOWN_OPENINGS, KeySettings, KnownOpening, OPENING_WORDS, Window};
use core::ptr;

/// The opening of the command at hand: its bytes up to the delimiter behind the prefix of its key, on a connection of this owner.
///
/// Nothing has been parsed yet. What a command is, its name, how long its key is, and the key's prefix, are all in the bytes up to
/// there: the same bytes mean the same.
pub(super) struct Opening {
    words: [u64; OPENING_WORDS],
    owner: u64,
    generation: u32,
}

/// Where delimiters are looked for: no key begins before, since no command has a name of one letter (a test of the table says so).
const FIRST: u32 = 16;

impl Opening {
    /// Without a delimiter among the first bytes these bytes are the opening. That is remembered of none.
    ///
    /// Without branches: the verifier would walk what follows once for each of them.
    #[inline(always)]
    pub(super) fn at_hand(window: &Window, connection: &Connection, settings: &KeySettings) -> Self {
        let generation = generation(settings);
        let [third, fourth, fifth] = delimiters(window, settings);
        let more = nothing_in(third);
        let most = more & nothing_in(fourth);
        Self {
            words: [
                window.word::<0>(0),
                window.word::<8>(0),
                window.word::<16>(0) & through(third),
                window.word::<24>(0) & through(fourth) & more,
                window.word::<32>(0) & through(fifth) & most,
            ],
            owner: u64::from(connection.slot) | u64::from(connection.class) << 32,
            generation,
        }
    }

    /// Where this CPU remembers it.
    #[inline(always)]
    pub(super) const fn place(&self) -> usize {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let [_, second, third, fourth, fifth] = self.words;
        let hash = (second ^ third ^ fourth ^ fifth ^ self.owner).wrapping_mul(FACTOR);
        (hash >> (u64::BITS - KNOWN_OPENINGS.trailing_zeros())) as usize & (KNOWN_OPENINGS - 1)
    }

    /// Not 0: it is another one.
    #[inline(always)]
    pub(super) const fn differs(&self, known: &KnownOpening) -> u64 {
        self.words[0] ^ known.words[0]
            | self.words[1] ^ known.words[1]
            | self.words[2] ^ known.words[2]
            | self.words[3] ^ known.words[3]
            | self.words[4] ^ known.words[4]
            | self.owner ^ known.owner
            | (self.generation ^ known.generation) as u64
    }
}

/// The generation of the settings, and of whose the rows are. To be read before what is remembered as of this generation is looked up:
/// the daemon raises it last.
#[inline(always)]
pub(super) fn generation(settings: &KeySettings) -> u32 {
    // SAFETY: a valid reference; volatile because the daemon writes it.
    unsafe { ptr::read_volatile(&raw const settings.generation) }
}

/// Marks the delimiters in the third to the fifth word of the window.
#[inline(always)]
fn delimiters(window: &Window, settings: &KeySettings) -> [u64; 3] {
    [
        prefix::delimiters(window.word::<16>(0), settings),
        prefix::delimiters(window.word::<24>(0), settings),
        prefix::delimiters(window.word::<32>(0), settings),
    ]
}

/// All bytes up to the first marked one, with it.
#[inline(always)]
const fn through(mask: u64) -> u64 {
    mask ^ mask.wrapping_sub(1)
}

/// All bits if none is marked, else none.
#[inline(always)]
const fn nothing_in(mask: u64) -> u64 {
    not_zero(mask).wrapping_sub(1)
}

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// Remembers how the command at hand begins, and that it has this tag, as of this generation: if all that makes it so is in its
    /// opening.
    #[inline(always)]
    pub(super) fn remember_opening(&mut self, command: &Whole, tag: u32, generation: u32) {
        let end = self.opening_end();
        let length = end.wrapping_sub(command.key_at);
        let tagged = self.settings.hash_tags != 0 && self.scratch.window.byte(command.key_at) == b'{';
        if self.settings.depth > 1
            || tagged
            || length == 0
            || length >= command.key
            || length > self.settings.max_prefix_bytes
        {
            return;
        }
        let opening = Opening::at_hand(&self.scratch.window, self.connection, self.settings);
        let known = &mut self.scratch.openings[opening.place()];
        known.words = opening.words;
        known.owner = opening.owner;
        known.generation = generation;
        known.tag = tag;
        known.key_end = command.key_at.wrapping_add(command.key).wrapping_add(2);
        known.arguments = command.arguments;
    }

    /// Where the first delimiter is; 0: among the first bytes there is none.
    #[inline(always)]
    fn opening_end(&self) -> u32 {
        let [third, fourth, fifth] = delimiters(&self.scratch.window, self.settings);
        if third != 0 {
            first_marked(third).wrapping_add(FIRST)
        } else if fourth != 0 {
            first_marked(fourth).wrapping_add(FIRST + 8)
        } else if fifth != 0 {
            first_marked(fifth).wrapping_add(FIRST + 16)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    const HEAD: &[u8] = b"*2\r\n$3\r\nGET\r\n$99\r\n";

    /// The opening of a GET whose key has its first delimiter behind so many letters.
    fn opening(letters: usize, connection: &Connection, settings: &KeySettings) -> Opening {
        let bytes = [HEAD, &vec![b'k'; letters], b":1:2:3:4:5:6:7:8:9:a:b:c:d:e"].concat();
        let mut window = Window::zeroed();
        assert!(window.copy_behind(0, &bytes));
        Opening::at_hand(&window, connection, settings)
    }

    #[test]
    fn it_ends_with_the_first_delimiter() {
        let (connection, settings) = (Connection::zeroed(), KeySettings::new(b":", 1, 32));
        for letters in 0..40 {
            let mut expected = [HEAD, &vec![b'k'; letters], b":"].concat();
            expected.resize(OPENING_WORDS * 8, 0);
            let found: Vec<u8> = opening(letters, &connection, &settings)
                .words
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect();
            assert_eq!(found, expected, "{letters}");
        }
    }

    #[test]
    fn others_are_told_from_it() {
        let (connection, settings) = (Connection::zeroed(), KeySettings::new(b":", 1, 32));
        let this = opening(20, &connection, &settings);
        let known = KnownOpening {
            words: this.words,
            owner: this.owner,
            generation: this.generation,
            ..KnownOpening::zeroed()
        };
        assert_eq!(this.differs(&known), 0);
        for word in 0..OPENING_WORDS {
            let mut other = known;
            other.words[word] ^= 1 << (9 * word);
            assert_ne!(this.differs(&other), 0, "{word}");
        }
        for (slot, class, generation) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let mut connection = connection;
            (connection.slot, connection.class) = (slot, class);
            let settings = KeySettings {
                generation,
                ..settings
            };
            let other = opening(20, &connection, &settings);
            assert_ne!(other.differs(&known), 0, "{slot} {class} {generation}");
        }
    }
}
