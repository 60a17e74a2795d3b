//! Parked segments that nobody will read: their connection ended before the gap in front of them was filled.

use agent_common::{
    abi::{ParkedBytes, ParkedKey},
    limits,
};
use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData, Queue};

use super::Raw;

/// How long a gap may take to be filled, in nanoseconds: longer than TCP's usual retransmissions.
const PATIENCE_NANOSECONDS: u64 = 30_000_000_000;

/// The maps of the parking.
pub(super) struct Parking {
    parked: HashMap<MapData, Raw<ParkedKey>, u32>,
    places: Array<MapData, Raw<ParkedBytes>>,
    free: Queue<MapData, u32>,
}

impl Parking {
    /// Takes over the maps and makes every place free.
    pub(super) fn new(
        parked: HashMap<MapData, Raw<ParkedKey>, u32>,
        places: Array<MapData, Raw<ParkedBytes>>,
        free: Queue<MapData, u32>,
    ) -> Result<Self> {
        let mut parking = Self { parked, places, free };
        for place in 0..limits::PARKED_SEGMENTS as u32 {
            parking
                .free
                .push(place, 0)
                .context("cannot fill the list of free parking places")?;
        }
        Ok(parking)
    }

    /// Places in use.
    pub(super) fn len(&self) -> usize {
        self.parked.keys().filter_map(Result::ok).count()
    }

    /// Frees places that were taken long before `now`, on the monotonic clock in nanoseconds.
    pub(super) fn sweep(&mut self, now: u64) {
        let taken: Vec<(ParkedKey, u32)> = self
            .parked
            .iter()
            .filter_map(Result::ok)
            .map(|(key, place)| (key.0, place))
            .collect();
        for (key, place) in taken {
            let parked_at = self
                .places
                .get(&place, 0)
                .map_or(now, |parked| parked.0.parked_at);
            // Whoever removes the entry owns the place: the program that reads it does the same.
            if now.saturating_sub(parked_at) > PATIENCE_NANOSECONDS
                && self.parked.remove(&Raw(key)).is_ok()
                && let Err(error) = self.free.push(place, 0)
            {
                tracing::warn!(%error, place, "cannot free a parking place");
            }
        }
    }
}
