//! Median and quartiles.

use serde::Serialize;

/// The middle of some values and the middles of their halves. Of an even number, halfway between two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) first_quartile: f64,
    pub(super) median: f64,
    pub(super) third_quartile: f64,
}

impl Spread {
    /// Of finite values; others are left out. `None` of nothing.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self {
            first_quartile: quantile(&sorted, 0.25)?,
            median: quantile(&sorted, 0.5)?,
            third_quartile: quantile(&sorted, 0.75)?,
        })
    }

    /// For people, without decimals: `120 (110-135)`.
    pub(super) fn rounded(&self) -> String {
        format!(
            "{:.0} ({:.0}-{:.0})",
            self.median, self.first_quartile, self.third_quartile
        )
    }
}

/// The value that this share of some are not above; `None` of nothing.
pub(super) fn percentile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    quantile(&sorted(values), share)
}

/// Of finite values; others are left out.
fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Linear between the two nearest ranks, as R and NumPy do by default.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = sorted.len().checked_sub(1)? as f64 * share;
    let below = sorted.get(rank.floor() as usize)?;
    let above = sorted.get(rank.ceil() as usize)?;
    Some(below + (above - below) * rank.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> [f64; 3] {
        let spread = Spread::of(values.iter().copied()).unwrap();
        [spread.first_quartile, spread.median, spread.third_quartile]
    }

    #[test]
    fn quartiles_lie_between_the_nearest_ranks() {
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), [1.75, 2.5, 3.25]);
        assert_eq!(spread(&[5.0, 3.0, 1.0, 2.0, 4.0]), [2.0, 3.0, 4.0]);
    }

    #[test]
    fn one_value_is_all_three() {
        assert_eq!(spread(&[7.0]), [7.0; 3]);
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        assert_eq!(spread(&[f64::NAN, 2.0, f64::INFINITY]), [2.0; 3]);
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
