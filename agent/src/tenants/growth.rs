//! What a row has grown by since it was last looked at.

use agent_common::abi::PrefixCounters;

/// What a row had when it was last looked at: the cells that were not zero. A row is two kilobytes, of which few are in use,
/// and each row of the kernel is remembered.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Box<[(u16, u64)]>);

const _: () = assert!(
    size_of::<PrefixCounters>() / size_of::<u64>() <= u16::MAX as usize,
    "Seen counts cells in 16 bits"
);

impl Seen {
    /// Takes note of what the row has now. Returns what it has grown by; what it has less than before is added to `lost`.
    pub(super) fn update(&mut self, now: &PrefixCounters, lost: &mut PrefixCounters) -> PrefixCounters {
        if self.is(now) {
            return PrefixCounters::default();
        }
        let mut grown = *now;
        let mut less = false;
        for (at, before) in &self.0 {
            let at = usize::from(*at);
            let (Some(cell), Some(lost)) = (cells_mut(&mut grown).get_mut(at), cells_mut(lost).get_mut(at))
            else {
                continue;
            };
            less |= *cell < *before;
            *lost = lost.saturating_add(before.saturating_sub(*cell));
            *cell = cell.saturating_sub(*before);
        }
        if less || grown != PrefixCounters::default() {
            self.0 = (0..)
                .zip(cells(now))
                .filter(|(_, value)| **value != 0)
                .map(|(at, value)| (at, *value))
                .collect();
        }
        grown
    }

    /// Whether the row has what it had: most have.
    fn is(&self, now: &PrefixCounters) -> bool {
        let cells = (0..).zip(cells(now)).filter(|(_, value)| **value != 0);
        cells.map(|(at, value)| (at, *value)).eq(self.0.iter().copied())
    }
}

/// Takes `less` away, as far as it is there.
pub(super) fn subtract(from: &mut PrefixCounters, less: &PrefixCounters) {
    for (cell, less) in cells_mut(from).iter_mut().zip(cells(less)) {
        *cell = cell.saturating_sub(*less);
    }
}

fn cells(counters: &PrefixCounters) -> &[u64] {
    bytemuck::cast_slice(std::slice::from_ref(counters))
}

fn cells_mut(counters: &mut PrefixCounters) -> &mut [u64] {
    bytemuck::cast_slice_mut(std::slice::from_mut(counters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::counters;

    #[test]
    fn a_row_grows_by_what_it_did_not_have_before_in_every_cell() {
        let mut seen = Seen::default();
        let mut lost = PrefixCounters::default();
        let mut now = counters(2, 20, 200);
        assert_eq!(seen.update(&now, &mut lost), now);
        assert_eq!(seen.update(&now, &mut lost), PrefixCounters::default());
        (now.errors[31], now.durations[127], now.hits) = (1, 7, 3);
        let grown = seen.update(&now, &mut lost);
        assert_eq!((grown.errors[31], grown.durations[127], grown.hits), (1, 7, 3));
        assert_eq!((grown.bytes_in, grown.commands()), (0, 0));
        assert_eq!(lost, PrefixCounters::default());
    }

    #[test]
    fn what_a_row_has_less_is_lost_and_counts_again_when_it_comes_back() {
        let mut seen = Seen::default();
        let mut lost = PrefixCounters::default();
        seen.update(&counters(5, 50, 0), &mut lost);
        let grown = seen.update(&counters(2, 60, 0), &mut lost);
        assert_eq!((grown.commands(), grown.bytes_in), (0, 10));
        assert_eq!((lost.commands(), lost.bytes_in), (3, 0));
        seen.update(&counters(1, 60, 0), &mut lost);
        assert_eq!(lost.commands(), 4, "nothing else has changed");
        let grown = seen.update(&counters(5, 60, 0), &mut lost);
        assert_eq!((grown.commands(), grown.bytes_in), (4, 0));
    }

    #[test]
    fn more_than_there_is_cannot_be_taken_away() {
        let mut from = counters(3, 30, 0);
        subtract(&mut from, &counters(5, 10, 1));
        assert_eq!((from.commands(), from.bytes_in, from.bytes_out), (0, 20, 0));
    }
}
