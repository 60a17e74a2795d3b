//! Numbers for people.

/// A whole number with commas: `1,234,567`.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes per second with three or four digits: `8.42 MB/s`. Units of 1000.
pub(crate) fn byte_rate(bytes_per_second: f64) -> String {
    let units = ["B/s", "kB/s", "MB/s", "GB/s"];
    let mut value = bytes_per_second.max(0.0);
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// The words that fit into so many columns, and the others.
pub(crate) fn folded(text: &str, columns: usize) -> (&str, &str) {
    let Some((end, _)) = text.char_indices().nth(columns) else {
        return (text, "");
    };
    let fits = text.get(..end).unwrap_or(text);
    let end = fits.rfind(' ').unwrap_or(end);
    let (first, rest) = text.split_at(end);
    (first, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(number),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn lines_are_folded_between_words() {
        assert_eq!(folded("of two words", 20), ("of two words", ""));
        assert_eq!(folded("of two words", 8), ("of two", "words"));
        assert_eq!(folded("unbreakable", 4), ("unbr", "eakable"));
        assert_eq!(folded("é é", 2), ("é", "é"));
    }

    #[test]
    fn rates_keep_three_digits() {
        let rates = [0.0, 999.4, 999.6, 8_421_000.0, 12_345.0, 987_654_321.0];
        let texts = [
            "0 B/s",
            "999 B/s",
            "1.00 kB/s",
            "8.42 MB/s",
            "12.3 kB/s",
            "988 MB/s",
        ];
        assert_eq!(rates.map(byte_rate), texts);
    }
}
