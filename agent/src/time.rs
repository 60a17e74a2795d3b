//! Moments as people and machines read them.

/// Milliseconds since 1970 began, as RFC 3339 has them: `2026-11-23T05:41:46Z`.
pub(crate) fn utc(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The same with its milliseconds: `2026-11-23T05:41:46.100Z`.
pub(crate) fn utc_milliseconds(milliseconds: u64) -> String {
    let seconds = utc(milliseconds);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), milliseconds % 1000)
}

/// Year, month and day, so many days after 1970 began. Years are counted from March on: the leap day is their last.
fn date(days: u64) -> (u64, u64, u64) {
    // From the first of March of the year 0; an era is the 400 years after which the calendar repeats.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on have 153 days in five.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_calendar_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_609_459_199, "2020-12-31T23:59:59Z"),
            (1_795_412_506, "2026-11-23T05:41:46Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds * 1000 + 999), text);
        }
        assert_eq!(utc_milliseconds(1_795_412_506_007), "2026-11-23T05:41:46.007Z");
    }
}
