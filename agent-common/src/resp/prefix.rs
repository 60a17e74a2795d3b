//! From the head of a key to its prefix.

use super::words::{equal_bytes, first_marked, keep, lowest_bit, marks, rarely, repeat};
use crate::abi::{KeySettings, Window};

/// The head of an argument: its first 32 bytes, the byte behind them, and its whole length.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    /// The first 32 bytes. Those behind the argument are zeros, unless it is a key's.
    pub words: [u64; 4],
    /// Byte 33, 0 where there is none.
    pub next: u8,
    /// Length of the argument in bytes.
    pub length: u32,
}

impl Content {
    /// Reads the head of an argument of `length` bytes at index `at` of the window.
    #[inline(always)]
    #[must_use]
    pub fn read(window: &Window, at: u32, length: u32) -> Self {
        let key = Self::key(window, at, length);
        Self {
            words: keep(key.words, length),
            ..key
        }
    }

    /// The same of an argument of which no more is wanted than its [`prefix`], with whatever lies behind it.
    #[inline(always)]
    #[must_use]
    pub fn key(window: &Window, at: u32, length: u32) -> Self {
        let words = [
            window.word::<0>(at),
            window.word::<8>(at),
            window.word::<16>(at),
            window.word::<24>(at),
        ];
        let next = if length > 32 {
            window.word::<32>(at) as u8
        } else {
            0
        };
        Self { words, next, length }
    }
}

/// Length of the key's prefix: the bytes before the `depth`-th delimiter (or before the last one, when there are
/// fewer). 0: no delimiter within the longest prefix.
///
/// A key that begins with a hash tag (`{tag}`, Valkey's cluster specification) is cut inside it, and the whole tag is the
/// prefix where it has no delimiter: `content` then becomes the tag.
#[inline(always)]
#[must_use]
pub fn prefix(content: &mut Content, settings: &KeySettings) -> u32 {
    let mut whole = 0;
    if settings.hash_tags != 0
        && content.words[0] & 0xff == u64::from(b'{')
        && let Some(tag) = tag(content)
    {
        rarely();
        *content = tag;
        whole = tag.length;
    }
    let length = if settings.depth <= 1 {
        shallow(content, settings)
    } else {
        rarely();
        deep(content, settings)
    };
    // Behind the key there may be a delimiter, which is none of it.
    let length = if length == 0 || length >= content.length {
        whole
    } else {
        length
    };
    if length > settings.max_prefix_bytes {
        0
    } else {
        length
    }
}

/// What is inside the braces that the key begins with, if that is something, and ends within the bytes at hand.
#[inline(always)]
fn tag(content: &Content) -> Option<Content> {
    let [first, second, third, fourth] = content.words;
    let words = [
        first >> 8 | second << 56,
        second >> 8 | third << 56,
        third >> 8 | fourth << 56,
        fourth >> 8 | u64::from(content.next) << 56,
    ];
    let close = repeat(b'}');
    let bits = marks(equal_bytes(words[0], close))
        | marks(equal_bytes(words[1], close)) << 8
        | marks(equal_bytes(words[2], close)) << 16
        | marks(equal_bytes(words[3], close)) << 24;
    // The opening one is not among them.
    let bits = bits & inside(content.length) >> 1;
    if bits & 1 != 0 || bits == 0 {
        return None;
    }
    let length = lowest_bit(bits);
    Some(Content {
        words: keep(words, length),
        next: 0,
        length,
    })
}

/// Marks the delimiters in a word.
#[inline(always)]
pub(super) fn delimiters(word: u64, settings: &KeySettings) -> u64 {
    let mut mask = equal_bytes(word, settings.delimiters[0]);
    if settings.delimiter_count > 1 {
        rarely();
        mask |= equal_bytes(word, settings.delimiters[1])
            | equal_bytes(word, settings.delimiters[2])
            | equal_bytes(word, settings.delimiters[3]);
    }
    mask
}

#[inline(always)]
fn shallow(content: &Content, settings: &KeySettings) -> u32 {
    let mask = delimiters(content.words[0], settings);
    if mask != 0 {
        return first_marked(mask);
    }
    let mask = delimiters(content.words[1], settings);
    if mask != 0 {
        return first_marked(mask).wrapping_add(8);
    }
    let mask = delimiters(content.words[2], settings);
    if mask != 0 {
        return first_marked(mask).wrapping_add(16);
    }
    let mask = delimiters(content.words[3], settings);
    if mask != 0 {
        return first_marked(mask).wrapping_add(24);
    }
    if content.length > 32 && delimiters(u64::from(content.next), settings) & 0x80 != 0 {
        32
    } else {
        0
    }
}

/// Several delimiters deep: all of them as bits, from which the lowest are struck out. Loops would be walked by the
/// verifier in every combination.
#[inline(always)]
fn deep(content: &Content, settings: &KeySettings) -> u32 {
    let mut bits = marks(delimiters(content.words[0], settings))
        | marks(delimiters(content.words[1], settings)) << 8
        | marks(delimiters(content.words[2], settings)) << 16
        | marks(delimiters(content.words[3], settings)) << 24;
    if content.length > 32 {
        bits |= (delimiters(u64::from(content.next), settings) >> 7 & 1) << 32;
    }
    bits &= inside(content.length);
    bits = without_lowest(bits, settings.depth > 1);
    bits = without_lowest(bits, settings.depth > 2);
    bits = without_lowest(bits, settings.depth > 3);
    if bits == 0 { 0 } else { lowest_bit(bits) }
}

/// The bits of the bytes that an argument of so many has.
#[inline(always)]
fn inside(length: u32) -> u64 {
    let length = if length < 63 { length } else { 63 };
    (1_u64 << length).wrapping_sub(1)
}

/// `bits` without the lowest one, if there is another and it is wanted.
#[inline(always)]
fn without_lowest(bits: u64, wanted: bool) -> u64 {
    let fewer = bits & bits.wrapping_sub(1);
    if wanted && fewer != 0 { fewer } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn prefix_of(key: &str, settings: &KeySettings) -> String {
        let mut window = Window::zeroed();
        assert!(window.copy_behind(3, key.as_bytes()));
        let mut content = Content::read(&window, 3, key.len() as u32);
        let length = prefix(&mut content, settings) as usize;
        let bytes: Vec<u8> = content.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_hash_tag_at_the_start_takes_the_place_of_the_key() {
        let settings = KeySettings::new(b":", 1, 32);
        for (key, expected) in [
            ("{tenant}:17", "tenant"),
            ("{tenant}", "tenant"),
            ("{user:17}.cart", "user"),
            ("{a}{b}:c", "a"),
            ("{}:x", "{}"),
            ("{open:x", "{open"),
            ("x{tenant}:17", "x{tenant}"),
            (
                "{thirty-one-bytes-long-hash-tag-}:1",
                "thirty-one-bytes-long-hash-tag-",
            ),
            ("{thirty-two-bytes-long-hash-tag-x}1", ""),
        ] {
            assert_eq!(prefix_of(key, &settings), expected, "{key}");
        }
        let deep = KeySettings::new(b":", 2, 32);
        assert_eq!(prefix_of("{a:b:c}:d", &deep), "a:b");
        assert_eq!(prefix_of("{a}:b:c", &deep), "a");
        let untagged = KeySettings {
            hash_tags: 0,
            ..settings
        };
        assert_eq!(prefix_of("{tenant}:17", &untagged), "{tenant}");
    }

    #[test]
    fn the_prefix_ends_at_the_first_delimiter() {
        let settings = KeySettings::new(b":", 1, 32);
        for (key, expected) in [
            ("cart:17", "cart"),
            ("cart", ""),
            (":cart", ""),
            ("eightchr:x", "eightchr"),
            ("a:b:c", "a"),
            ("sixteen-bytes-xx:1", "sixteen-bytes-xx"),
            (
                "thirty-two-bytes-long-prefix-xxx:1",
                "thirty-two-bytes-long-prefix-xxx",
            ),
            ("thirty-three-bytes-long-prefix-xx:1", ""),
            (
                "thirty-one-bytes-long-prefix-xx:1",
                "thirty-one-bytes-long-prefix-xx",
            ),
        ] {
            assert_eq!(prefix_of(key, &settings), expected, "{key}");
        }
    }

    #[test]
    fn bytes_behind_the_key_are_not_part_of_it() {
        let mut window = Window::zeroed();
        assert!(window.copy_behind(0, b"cart\r\n:1:2:3"));
        let settings = KeySettings::new(b":", 1, 32);
        assert_eq!(prefix(&mut Content::read(&window, 0, 4), &settings), 0);
    }

    /// Whatever lies there.
    #[test]
    fn a_key_has_its_prefix_with_or_without_zeros_behind_it() {
        let text = b"{ab:{c}d}:{e:f}}:::{:}g:hijk{l:m}n:o:p}q{r:s:}t";
        let mut window = Window::zeroed();
        assert!(window.copy_behind(0, text));
        for (delimiters, depth, hash_tags) in [
            (&b":"[..], 1),
            (b":", 2),
            (b":}", 1),
            (b"{:", 3),
            (b"\0:", 1),
            (b"\0", 4),
        ]
        .into_iter()
        .flat_map(|(delimiters, depth)| [0, 1].map(|hash_tags| (delimiters, depth, hash_tags)))
        {
            let settings = KeySettings {
                hash_tags,
                ..KeySettings::new(delimiters, depth, 32)
            };
            for at in 0..text.len() {
                for length in 0..=(text.len() - at) {
                    let (mut key, mut read) = (
                        Content::key(&window, at as u32, length as u32),
                        Content::read(&window, at as u32, length as u32),
                    );
                    let (found, expected) = (prefix(&mut key, &settings), prefix(&mut read, &settings));
                    let shown = || text[at..at + length].escape_ascii().to_string();
                    assert_eq!(found, expected, "{} {settings:?}", shown());
                    assert_eq!(keep(key.words, found), keep(read.words, found), "{}", shown());
                }
            }
        }
    }

    #[test]
    fn several_delimiters_and_depths() {
        let two = KeySettings::new(b":/", 2, 32);
        assert_eq!(prefix_of("a/b:c", &two), "a/b");
        assert_eq!(prefix_of("a/b", &two), "a");
        assert_eq!(prefix_of("ab", &two), "");
        let four = KeySettings::new(b".", 4, 32);
        assert_eq!(prefix_of("a.b.c.d.e.f", &four), "a.b.c.d");
        assert_eq!(
            prefix_of("aaaaaaa.bbbbbbbbb.cccccccccccccc.d", &four),
            "aaaaaaa.bbbbbbbbb.cccccccccccccc"
        );
    }

    #[test]
    fn longer_prefixes_than_configured_count_as_none() {
        let settings = KeySettings::new(b":", 1, 4);
        assert_eq!(prefix_of("cart:1", &settings), "cart");
        assert_eq!(prefix_of("carts:1", &settings), "");
    }
}
