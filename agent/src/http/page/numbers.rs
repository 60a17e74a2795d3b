//! Numbers as the pages have them, beyond those of [`crate::numbers`].

pub(super) use crate::numbers::{bytes, span, thousands as count};

/// Something measured: as many decimals as it takes to see it.
pub(super) fn value(number: f64) -> String {
    match number.abs() {
        large if large >= 100.0 || number.fract() == 0.0 => count(number.round() as u64),
        some if some >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// A share of a whole.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = usize::from(percent > 0.0 && percent < 9.95);
    format!("{percent:.decimals$} %")
}

/// Milliseconds as [`span`] writes them, but to a tenth of a second: `5 s`, `12.5 s`, `2 min`.
pub(super) fn round_span(milliseconds: u64) -> String {
    let short = milliseconds < 120_000;
    match milliseconds {
        odd if short && !odd.is_multiple_of(1_000) => format!("{:.1} s", odd as f64 / 1e3),
        odd if short || (odd < 7_200_000 && !odd.is_multiple_of(60_000)) => format!("{} s", odd / 1_000),
        hours if hours.is_multiple_of(3_600_000) => span(hours),
        minutes => format!("{} min", minutes / 60_000),
    }
}

/// The length, in milliseconds, of at most so many steps through a time: one that people count in.
pub(super) fn steps_of_time(milliseconds: u64, at_most: u64) -> u64 {
    const SECONDS: [u64; 15] = [
        1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400,
    ];
    let short = [100, 200, 500];
    let some = SECONDS.map(|seconds| seconds * 1_000);
    let all = short.into_iter().chain(some);
    let fits = |step: &u64| milliseconds / step < at_most;
    let days = (milliseconds / at_most / 28_800_000 + 1) * 28_800_000;
    all.clone().find(fits).unwrap_or(days)
}

/// The step and the top of a scale from zero to at least `highest` in at most so many steps, as people divide one that counts things.
pub(super) fn scale(highest: f64, steps: f64) -> (f64, f64) {
    let highest = highest.clamp(1.0, 1e15);
    let power = 10_f64.powf((highest / steps).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= 1.0 && highest / step <= steps)
        .unwrap_or(1.0);
    (step, (highest / step).ceil() * step)
}

/// Seconds in the unit that suits them, to two digits: what is known of them.
pub(super) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        long if long >= 1.0 => (long, "s"),
        middling if middling >= 1e-3 => (middling * 1e3, "ms"),
        short => (short * 1e6, "µs"),
    };
    let decimals = usize::from(value < 10.0);
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [(0.0, "0"), (0.256, "0.26"), (12.34, "12.3"), (4_100.6, "4,101")] {
            assert_eq!(value(number), text);
        }
        for (share, text) in [(0.0, "0 %"), (0.004, "0.4 %"), (0.92, "92 %"), (1.0, "100 %")] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn scales_are_divided_as_people_do_it() {
        for (highest, expected) in [
            (0.0, (1.0, 1.0)),
            (4.0, (1.0, 4.0)),
            (60.0, (20.0, 60.0)),
            (2_000.0, (500.0, 2_000.0)),
            (4_321.0, (1_000.0, 5_000.0)),
        ] {
            assert_eq!(scale(highest, 5.0), expected, "{highest}");
        }
        for (milliseconds, at_most, step) in [
            (0, 6, 100),
            (185_000, 6, 60_000),
            (185_000, 400, 500),
            (90_000_000, 6, 28_800_000),
        ] {
            assert_eq!(steps_of_time(milliseconds, at_most), step, "{milliseconds}");
        }
        for (milliseconds, text) in [
            (500, "0.5 s"),
            (12_500, "12.5 s"),
            (5_000, "5 s"),
            (90_000, "90 s"),
            (150_000, "150 s"),
            (180_000, "3 min"),
            (9_000_000, "150 min"),
        ] {
            assert_eq!(round_span(milliseconds), text);
        }
    }

    #[test]
    fn times_are_written_in_the_unit_that_suits_them() {
        for (seconds, text) in [
            (0.000_001_2, "1.2 µs"),
            (0.052, "52 ms"),
            (1.25, "1.2 s"),
            (31.0, "31 s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
