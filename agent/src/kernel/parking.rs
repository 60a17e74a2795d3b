//! Parked segments that nobody will read: their connection ended before the gap in front of them was filled.

use agent_common::{
    abi::{ParkedBytes, ParkedKey, ParkedPlace},
    limits,
};
use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData, MapError, Queue};

use bytemuck::Zeroable as _;

use super::Raw;

/// How old what is parked gets, in nanoseconds.
const PATIENCE_NANOSECONDS: u64 = limits::PARKED_NANOSECONDS + limits::PARKED_GRACE_NANOSECONDS;

/// The maps of the parking.
pub(super) struct Parking {
    parked: HashMap<MapData, Raw<ParkedKey>, Raw<ParkedPlace>>,
    free: Queue<MapData, u32>,
    places: Array<MapData, Raw<ParkedBytes>>,
}

impl Parking {
    /// Takes over the maps and makes every place free.
    pub(super) fn new(
        parked: HashMap<MapData, Raw<ParkedKey>, Raw<ParkedPlace>>,
        free: Queue<MapData, u32>,
        places: Array<MapData, Raw<ParkedBytes>>,
    ) -> Result<Self> {
        let mut parking = Self { parked, free, places };
        for place in 0..limits::PARKING_PLACES as u32 {
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
        let taken: Vec<(ParkedKey, ParkedPlace)> = self
            .parked
            .iter()
            .filter_map(Result::ok)
            .map(|(key, place)| (key.0, place.0))
            .collect();
        for (key, ParkedPlace { parked_at, place, .. }) in taken {
            // Whoever removes the entry owns the place: the program that reads the last of it does the same. One that reads
            // a part, or adds to it, leaves alone what is nearly this old.
            if now.saturating_sub(parked_at) > PATIENCE_NANOSECONDS
                && self.parked.remove(&Raw(key)).is_ok()
                && let Err(error) = self.free(place)
            {
                tracing::warn!(%error, place, "cannot free a parking place");
            }
        }
    }

    /// Nothing of the segment stays behind.
    fn free(&mut self, place: u32) -> Result<(), MapError> {
        self.places.set(place, Raw(ParkedBytes::zeroed()), 0)?;
        self.free.push(place, 0)
    }
}
