//! Sizes, errors, hits and misses of a row, message by message.

use agent_common::abi::{ErrorWord, size_bucket};

use super::frames::{Leaf, leaves};
use crate::books::Details;

/// Reads that answer nil for what does not exist.
const READS: &[&[u8]] = &[
    b"get", b"getdel", b"getex", b"hget", b"hmget", b"lindex", b"mget", b"zmscore", b"zscore",
];

/// A gap as those of `random/gaps.rs`: the meter takes an error with a length for a value. No server sends one.
const LONG_ERRORS_ARE_HITS: bool = true;

/// Whether a command's reply tells hits from misses.
pub(super) fn is_read(name: &[u8]) -> bool {
    READS.iter().any(|read| name.eq_ignore_ascii_case(read))
}

impl Details {
    pub(super) fn request(&mut self, bytes: usize) {
        *self.request_sizes.entry(size_bucket(bytes as u32)).or_default() += 1;
    }

    /// A message of the server. `read`: it answers a read.
    pub(super) fn reply(&mut self, bytes: &[u8], version: u8, read: bool) {
        *self
            .reply_sizes
            .entry(size_bucket(bytes.len() as u32))
            .or_default() += 1;
        let mut found = Vec::new();
        leaves(bytes, version, &mut found);
        for leaf in found {
            let hit = match leaf {
                Leaf::Value => true,
                Leaf::Nil => false,
                Leaf::Error(line) => {
                    let word = word(line);
                    *self.errors.entry(word).or_default() += 1;
                    // A value of another type has been found.
                    if word != "WRONGTYPE" {
                        continue;
                    }
                    true
                }
                Leaf::LongError => {
                    *self.errors.entry("other").or_default() += 1;
                    if !LONG_ERRORS_ARE_HITS {
                        continue;
                    }
                    true
                }
            };
            self.hits += u64::from(read && hit);
            self.misses += u64::from(read && !hit);
        }
    }
}

/// The first word of an error, if it is one that the server itself sends.
fn word(line: &[u8]) -> &'static str {
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let words = ErrorWord::ALL.iter().map(|word| word.label());
    words
        .filter(|known| *known != "other")
        .find(|known| known.as_bytes() == &line[..end])
        .unwrap_or("other")
}
