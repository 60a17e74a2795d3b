//! How commands begin, as each CPU remembers it: most clients send a few kinds of commands on keys of a few prefixes.

use super::{
    super::{
        Ledger, Segment, prefix,
        words::{SPREAD, first_marked, not_zero},
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
    bytes: Bytes,
    owner: u64,
    generation: u32,
}

/// The bytes of an opening.
pub(super) struct Bytes {
    /// Zeros behind them.
    pub(super) words: [u64; OPENING_WORDS],
    /// Which bits of the third to the fifth word belong to them.
    pub(super) masks: [u64; OPENING_WORDS - 2],
}

/// Where delimiters are looked for: no key begins before, since no command has a name of one letter (a test of the table says so).
const FIRST: u32 = 16;

impl Opening {
    #[inline(always)]
    pub(super) fn at_hand(window: &Window, connection: &Connection, settings: &KeySettings) -> Self {
        let generation = generation(settings);
        Self {
            bytes: Bytes::at(window, 0, settings),
            owner: u64::from(connection.slot) | u64::from(connection.class) << 32,
            generation,
        }
    }

    /// Where this CPU remembers it.
    #[inline(always)]
    pub(super) const fn place(&self) -> usize {
        let [_, second, third, fourth, fifth] = self.bytes.words;
        let hash = (second ^ third ^ fourth ^ fifth ^ self.owner).wrapping_mul(SPREAD);
        (hash >> (u64::BITS - KNOWN_OPENINGS.trailing_zeros())) as usize & (KNOWN_OPENINGS - 1)
    }

    /// Not 0: it is another one.
    #[inline(always)]
    pub(super) const fn differs(&self, known: &KnownOpening) -> u64 {
        self.bytes.words[0] ^ known.words[0]
            | self.bytes.words[1] ^ known.words[1]
            | self.bytes.words[2] ^ known.words[2]
            | self.bytes.words[3] ^ known.words[3]
            | self.bytes.words[4] ^ known.words[4]
            | self.owner ^ known.owner
            | (self.generation ^ known.generation) as u64
    }
}

impl Bytes {
    /// Those of the command that begins at index `at` of the window. Without a delimiter among its first bytes these are the opening; that
    /// is remembered of none.
    ///
    /// Without branches: the verifier would walk what follows once for each of them.
    #[inline(always)]
    pub(super) fn at(window: &Window, at: u32, settings: &KeySettings) -> Self {
        let [third, fourth, fifth] = delimiters(window, at, settings);
        let more = nothing_in(third);
        let most = more & nothing_in(fourth);
        let masks = [through(third), through(fourth) & more, through(fifth) & most];
        Self {
            words: [
                window.word::<0>(at),
                window.word::<8>(at),
                window.word::<16>(at) & masks[0],
                window.word::<24>(at) & masks[1],
                window.word::<32>(at) & masks[2],
            ],
            masks,
        }
    }
}

/// The generation of the settings, and of whose the rows are. To be read before what is remembered as of this generation is looked up:
/// the daemon raises it last.
#[inline(always)]
pub(super) fn generation(settings: &KeySettings) -> u32 {
    // SAFETY: a valid reference; volatile because the daemon writes it.
    unsafe { ptr::read_volatile(&raw const settings.generation) }
}

/// Marks the delimiters in the third to the fifth word of a command.
#[inline(always)]
fn delimiters(window: &Window, at: u32, settings: &KeySettings) -> [u64; 3] {
    [
        prefix::delimiters(window.word::<16>(at), settings),
        prefix::delimiters(window.word::<24>(at), settings),
        prefix::delimiters(window.word::<32>(at), settings),
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
        let window = &self.scratch.window;
        if !is_prefix_in_opening(window, self.settings, 0, command.key_at, command.key) {
            return;
        }
        let opening = Opening::at_hand(window, self.connection, self.settings);
        let known = &mut self.scratch.openings[opening.place()];
        known.words = opening.bytes.words;
        known.owner = opening.owner;
        known.generation = generation;
        known.tag = tag;
        known.key_end = command.key_end;
        known.arguments = command.arguments;
    }
}

/// Whether the prefix of the key, of so many bytes, is in the opening of the command that begins at index `at` of the window; the key
/// begins `key_at` bytes behind that.
#[inline(always)]
pub(super) fn is_prefix_in_opening(
    window: &Window,
    settings: &KeySettings,
    at: u32,
    key_at: u32,
    key: u32,
) -> bool {
    let length = opening_end(window, settings, at).wrapping_sub(key_at);
    let tagged = settings.hash_tags != 0 && window.byte(at.wrapping_add(key_at)) == b'{';
    settings.depth <= 1 && !tagged && length != 0 && length < key && length <= settings.max_prefix_bytes
}

/// Where the first delimiter is in the command that begins at index `at` of the window; 0: among its first bytes there is none.
#[inline(always)]
fn opening_end(window: &Window, settings: &KeySettings, at: u32) -> u32 {
    let [third, fourth, fifth] = delimiters(window, at, settings);
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
                .bytes
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
            words: this.bytes.words,
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
