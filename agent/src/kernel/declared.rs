//! Declared prefixes: those without a delimiter, which the programs recognise by the longest match.

use std::collections::BTreeSet;

use agent_common::{
    abi::DeclaredKey,
    limits::{DECLARED_PREFIXES, PREFIX_BYTES},
};
use anyhow::{Context as _, Result};
use aya::maps::{
    MapData,
    lpm_trie::{Key, LpmTrie},
};

/// What follows the number of bits in a [`DeclaredKey`].
type Data = [u8; size_of::<DeclaredKey>() - 4];

/// The trie.
pub(super) struct Declared {
    trie: LpmTrie<MapData, Data, u32>,
    /// What is in it.
    prefixes: BTreeSet<Vec<u8>>,
}

impl Declared {
    /// Takes over the map, which is empty.
    pub(super) const fn new(trie: LpmTrie<MapData, Data, u32>) -> Self {
        Self {
            trie,
            prefixes: BTreeSet::new(),
        }
    }

    /// How many are declared.
    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Declares exactly these prefixes (1 to [`PREFIX_BYTES`] bytes each, at most [`DECLARED_PREFIXES`]). Those that stay are
    /// not touched: keys that begin with them have their row all the while.
    pub(super) fn replace(&mut self, prefixes: &[Vec<u8>]) -> Result<()> {
        let wanted: BTreeSet<Vec<u8>> = prefixes.iter().take(DECLARED_PREFIXES).cloned().collect();
        let gone: Vec<Vec<u8>> = self.prefixes.difference(&wanted).cloned().collect();
        for prefix in gone {
            self.trie
                .remove(&key(&prefix))
                .context("cannot take a declared prefix away")?;
            self.prefixes.remove(&prefix);
        }
        for prefix in wanted {
            if !self.prefixes.contains(&prefix) {
                self.trie
                    .insert(&key(&prefix), prefix.len() as u32, 0)
                    .context("cannot declare a prefix")?;
                self.prefixes.insert(prefix);
            }
        }
        Ok(())
    }
}

fn key(prefix: &[u8]) -> Key<Data> {
    let length = prefix.len().min(PREFIX_BYTES);
    let mut words = [0; 4];
    bytemuck::cast_slice_mut(&mut words)[..length].copy_from_slice(&prefix[..length]);
    let key = DeclaredKey::new(words, length as u32);
    let mut data: Data = [0; size_of::<Data>()];
    data.copy_from_slice(&bytemuck::bytes_of(&key)[4..]);
    Key::new(key.bits, data)
}
