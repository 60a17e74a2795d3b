//! Classes: whose a connection is by its user, client name or address, as the programs look it up.

use std::collections::BTreeMap;

use agent_common::{
    abi::{ClassAddressKey, ClassNameKey, IDENTITY_BYTES, NameKey, NameKind, address_words},
    limits::{CLASS_ADDRESSES, CLASS_NAMES},
};
use anyhow::{Context as _, Result};
use aya::maps::{
    HashMap, MapData,
    lpm_trie::{Key, LpmTrie},
};
use bytemuck::Zeroable as _;

use crate::{
    config::{AddressRange, NamePattern},
    tenants::ClassTables,
};

/// What follows the number of bits in a [`ClassNameKey`].
type NameData = [u8; size_of::<ClassNameKey>() - 4];
/// The same in a [`ClassAddressKey`].
type AddressData = [u8; size_of::<ClassAddressKey>() - 4];

/// The tries, what is in them, and the classes of names that clients have given themselves.
pub(super) struct Classes {
    names: LpmTrie<MapData, NameData, u32>,
    addresses: LpmTrie<MapData, AddressData, u32>,
    of_numbers: HashMap<MapData, u32, u32>,
    tables: ClassTables,
}

impl Classes {
    /// Takes over the maps, which are empty.
    pub(super) fn new(
        names: LpmTrie<MapData, NameData, u32>,
        addresses: LpmTrie<MapData, AddressData, u32>,
        of_numbers: HashMap<MapData, u32, u32>,
    ) -> Self {
        Self {
            names,
            addresses,
            of_numbers,
            tables: ClassTables::default(),
        }
    }

    /// The tables in force.
    pub(super) const fn tables(&self) -> &ClassTables {
        &self.tables
    }

    /// Puts other tables in force. What stays is not touched.
    pub(super) fn replace(&mut self, tables: &ClassTables) -> Result<()> {
        let (names, addresses) = (&mut self.names, &mut self.addresses);
        bring_in_line(
            &mut self.tables.names,
            &tables.names,
            CLASS_NAMES,
            |(kind, pattern), class| {
                let key = name_key(*kind, pattern);
                match class {
                    Some(class) => names.insert(&key, class, 0),
                    None => names.remove(&key),
                }
                .context("cannot write the classes of names")
            },
        )?;
        bring_in_line(
            &mut self.tables.addresses,
            &tables.addresses,
            CLASS_ADDRESSES,
            |range, class| {
                let key = address_key(range);
                match class {
                    Some(class) => addresses.insert(&key, class, 0),
                    None => addresses.remove(&key),
                }
                .context("cannot write the classes of addresses")
            },
        )?;
        self.tables.default_user = tables.default_user;
        Ok(())
    }

    /// Brings the classes of these names (with their numbers) in line with the tables. Returns whether any was not.
    pub(super) fn judge(&mut self, names: &[(u32, NameKey)]) -> Result<bool> {
        let mut changed = false;
        for (number, name) in names {
            let class = kind_of(name).map_or(0, |kind| self.tables.class_of_name(kind, name.bytes()));
            let known = self.of_numbers.get(number, 0).unwrap_or(0);
            if known == u32::from(class) {
                continue;
            }
            changed = true;
            if class == 0 {
                self.forget(*number);
            } else {
                self.of_numbers
                    .insert(number, u32::from(class), 0)
                    .context("cannot write the class of a name")?;
            }
        }
        Ok(changed)
    }

    /// Forgets the class of a name that is forgotten.
    pub(super) fn forget(&mut self, number: u32) {
        // Most have none.
        let _ = self.of_numbers.remove(&number);
    }
}

/// Writes what differs between two tables, at most `most` entries, and takes note of each.
pub(super) fn bring_in_line<K: Ord + Clone, V: Copy + PartialEq + Into<u32>>(
    known: &mut BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    most: usize,
    mut write: impl FnMut(&K, Option<u32>) -> Result<()>,
) -> Result<()> {
    let gone: Vec<K> = known
        .keys()
        .filter(|key| !wanted.contains_key(key))
        .cloned()
        .collect();
    for key in gone {
        write(&key, None)?;
        known.remove(&key);
    }
    for (key, value) in wanted.iter().take(most) {
        if known.get(key) != Some(value) {
            write(key, Some((*value).into()))?;
            known.insert(key.clone(), *value);
        }
    }
    Ok(())
}

fn kind_of(name: &NameKey) -> Option<NameKind> {
    [NameKind::User, NameKind::Client]
        .into_iter()
        .find(|kind| *kind as u32 == name.kind)
}

fn name_key(kind: NameKind, pattern: &NamePattern) -> Key<NameData> {
    let (NamePattern::Whole(bytes) | NamePattern::Beginning(bytes)) = pattern;
    let mut name = NameKey::zeroed();
    let length = bytes.len().min(IDENTITY_BYTES);
    (name.kind, name.length) = (kind as u32, length as u32);
    bytemuck::cast_slice_mut(&mut name.words)[..length].copy_from_slice(&bytes[..length]);
    let key = match pattern {
        NamePattern::Whole(_) => ClassNameKey::whole(&name),
        NamePattern::Beginning(_) => ClassNameKey::beginning(&name),
    };
    let mut data: NameData = [0; size_of::<NameData>()];
    data.copy_from_slice(&bytemuck::bytes_of(&key)[4..]);
    Key::new(key.bits, data)
}

/// IPv4 ranges are those of mapped addresses: 96 bits longer.
fn address_key(range: &AddressRange) -> Key<AddressData> {
    let bits = u32::from(range.length()) + if range.is_ipv4() { 96 } else { 0 };
    Key::new(bits, bytemuck::cast(address_words(range.first())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ipv4_is_one_of_mapped_addresses() {
        let key = |text: &str| {
            let key = address_key(&AddressRange::new(text).expect("a range"));
            (key.prefix_len(), key.data())
        };
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 0, 0];
        assert_eq!(key("10.1.0.0/16"), (112, mapped));
        assert_eq!(key("::/0").0, 0);
        assert_eq!(key("0.0.0.0/0").0, 96);
    }

    #[test]
    fn a_whole_name_is_more_than_its_beginning() {
        let whole = name_key(NameKind::User, &NamePattern::Whole(b"ab".to_vec()));
        let beginning = name_key(NameKind::User, &NamePattern::Beginning(b"ab".to_vec()));
        assert_eq!(
            (whole.prefix_len(), beginning.prefix_len()),
            (32 + 384 + 32, 32 + 16)
        );
        let longer = name_key(NameKind::User, &NamePattern::Whole(b"abc".to_vec()));
        assert_ne!(whole.data(), longer.data());
    }

    #[test]
    fn only_what_differs_is_written() {
        let table = |entries: &[(&'static str, u16)]| entries.iter().copied().collect::<BTreeMap<_, u16>>();
        let mut known = table(&[("gone", 1), ("stays", 2), ("changes", 3)]);
        let wanted = table(&[("stays", 2), ("changes", 4), ("comes", 5)]);
        let mut written = Vec::new();
        bring_in_line(&mut known, &wanted, 10, |key, class| {
            written.push((*key, class));
            Ok(())
        })
        .expect("written");
        assert_eq!(
            written,
            [("gone", None), ("changes", Some(4)), ("comes", Some(5))]
        );
        assert_eq!(known, wanted);
    }
}
