//! Delays of many storms as a few numbers.

/// The smallest value that so large a share does not exceed.
pub(super) fn quantile(values: &[u32], share: f64) -> Option<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Seconds with so many decimals; a dash for none.
pub(super) fn seconds(milliseconds: Option<u32>, decimals: usize) -> String {
    milliseconds.map_or_else(
        || "-".into(),
        |delay| format!("{:.decimals$} s", f64::from(delay) / 1e3),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3, 1, 2], 0.5), Some(2));
        assert_eq!(quantile(&[3, 1, 2], 0.99), Some(3));
        assert_eq!(quantile(&[3, 1, 2], 1.0), Some(3));
        assert_eq!(seconds(Some(250), 1), "0.2 s");
        assert_eq!(seconds(Some(250), 2), "0.25 s");
        assert_eq!(seconds(None, 1), "-");
    }
}
