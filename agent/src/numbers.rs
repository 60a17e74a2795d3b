//! Numbers as people read them: on the pages, in the terminal, in what is told of a storm.

/// A number with its thousands apart: `4,100`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the decimal unit that suits them, to three digits at most.
#[must_use]
pub fn bytes(count: f64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (count, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 99.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Milliseconds in the unit that suits them.
#[must_use]
pub fn span(milliseconds: u64) -> String {
    match milliseconds {
        short if short < 10_000 => format!("{:.1} s", short as f64 / 1e3),
        some if some < 120_000 => format!("{} s", some / 1_000),
        minutes if minutes < 7_200_000 => format!("{} min", minutes / 60_000),
        hours if hours < 172_800_000 => format!("{} h", hours / 3_600_000),
        days => format!("{} d", days / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_bytes_are_read_easily() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
        for (number, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1500.0, "1.5 kB"),
            (152_000.0, "152 kB"),
            (3e9, "3.0 GB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        for (milliseconds, written) in [
            (0, "0.0 s"),
            (900, "0.9 s"),
            (9_949, "9.9 s"),
            (60_000, "60 s"),
            (90_000, "90 s"),
            (600_000, "10 min"),
            (7_200_000, "2 h"),
            (200_000_000, "2 d"),
        ] {
            assert_eq!(span(milliseconds), written);
        }
    }
}
