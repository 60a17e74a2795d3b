//! Where each name goes in the hash table, and the hash that keeps every name near its home.

use anyhow::{Result, bail};

/// Home slots: three times as many as names, so that two probes are enough.
pub(super) const SLOTS: usize = 1024;

/// The most slots a search may look at.
pub(super) const MAX_PROBES: usize = 4;

/// Multipliers tried for each number of probes, some seconds in all.
const TRIES: u32 = 200_000;

/// A table without a name far from its home.
pub(super) struct Placing {
    pub(super) multipliers: [u64; 3],
    pub(super) probes: usize,
    /// Slot of each name, in the order of the names.
    pub(super) slots: Vec<usize>,
}

/// Finds multipliers for which every name sits within as few probes of its home slot as can be had.
pub(super) fn place(names: &[&str]) -> Result<Placing> {
    let words: Vec<[u64; 3]> = names.iter().map(|name| pack(name)).collect();
    // A fixed seed: the same names give the same file.
    let mut random = 0x5707_2617_a55e_77e5;
    for probes in 2..=MAX_PROBES {
        for _ in 0..TRIES {
            let multipliers = [odd(&mut random), odd(&mut random), odd(&mut random)];
            if let Some(slots) = slots(&words, multipliers, probes) {
                return Ok(Placing {
                    multipliers,
                    probes,
                    slots,
                });
            }
        }
    }
    bail!(
        "{} names do not fit into {SLOTS} slots within {MAX_PROBES} probes; double SLOTS",
        names.len()
    )
}

fn slots(words: &[[u64; 3]], multipliers: [u64; 3], probes: usize) -> Option<Vec<usize>> {
    let mut taken = [false; SLOTS + MAX_PROBES];
    let mut slots = Vec::with_capacity(words.len());
    for name in words {
        let home = home(name, multipliers);
        let slot = (home..home + probes).find(|slot| !taken[*slot])?;
        taken[slot] = true;
        slots.push(slot);
    }
    Some(slots)
}

/// The same as `resp::command` computes in agent-common; its tests look up every name.
fn home(name: &[u64; 3], multipliers: [u64; 3]) -> usize {
    let hash = name
        .iter()
        .zip(multipliers)
        .fold(0, |hash, (word, factor)| hash ^ word.wrapping_mul(factor));
    (hash >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

fn pack(name: &str) -> [u64; 3] {
    let mut words = [0; 3];
    for (index, byte) in name.bytes().enumerate() {
        words[index / 8] |= u64::from(byte) << (index % 8 * 8);
    }
    words
}

/// SplitMix64, made odd: an even factor would lose the name's bits.
fn odd(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (value ^ (value >> 31)) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_get_the_same_distinct_slots_near_their_homes() {
        let names: Vec<String> = (0..300).map(|number| format!("command{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let placing = place(&names).unwrap();
        assert_eq!(place(&names).unwrap().slots, placing.slots);
        let mut slots = placing.slots.clone();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), names.len());
        for (name, slot) in names.iter().zip(&placing.slots) {
            let home = home(&pack(name), placing.multipliers);
            assert!((home..home + placing.probes).contains(slot), "{name}");
        }
    }

    #[test]
    fn too_many_names_are_refused_with_the_remedy() {
        let names: Vec<String> = (0..=SLOTS + MAX_PROBES)
            .map(|number| format!("c{number}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let error = place(&names).err().unwrap().to_string();
        assert!(error.contains("double SLOTS"), "{error}");
    }
}
