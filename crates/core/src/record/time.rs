//! Points in time as the trail writes them.

/// Microseconds since 1970-01-01 00:00 UTC, in the years 0000 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 0000-01-01T00:00:00Z
const FIRST: i64 = -719_528 * DAY;
/// 9999-12-31T23:59:59.999999Z
const LAST: i64 = 2_932_897 * DAY - 1;

impl Time {
    /// Length of the text in bytes.
    pub const LEN: usize = 27;

    /// From microseconds since 1970, as near as the years allow.
    pub fn from_micros(micros: i64) -> Time {
        Time(micros.clamp(FIRST, LAST))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// As RFC 3339, in UTC, with microseconds: `2026-11-24T14:17:44.123456Z`.
    pub fn text(self) -> [u8; Self::LEN] {
        let (days, rest) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = date(days);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |range: std::ops::Range<usize>, mut value: i64| {
            for byte in text[range].iter_mut().rev() {
                *byte = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        put(0..4, year);
        put(5..7, month);
        put(8..10, day);
        put(11..13, rest / (3600 * SECOND));
        put(14..16, rest / (60 * SECOND) % 60);
        put(17..19, rest / SECOND % 60);
        put(20..26, rest % SECOND);
        text
    }

    /// Reads what [`text`](Self::text) writes, and nothing else.
    pub fn parse(text: &str) -> Option<Time> {
        let bytes: &[u8; Self::LEN] = text.as_bytes().try_into().ok()?;
        let number = |range: std::ops::Range<usize>| {
            bytes[range].iter().fold(0, |n, it| n * 10 + i64::from(it.wrapping_sub(b'0')))
        };
        let days = days(number(0..4), number(5..7), number(8..10));
        let seconds = number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
        let time = Time::from_micros(days * DAY + seconds * SECOND + number(20..26));
        // Whatever is out of its range, or no digit, comes out as another text.
        (time.text() == *bytes).then_some(time)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// The date of a day since 1970: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The day since 1970 of a date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_795_529_864_123_456, "2026-11-24T14:17:44.123456Z"),
            (FIRST, "0000-01-01T00:00:00.000000Z"),
            (i64::MIN, "0000-01-01T00:00:00.000000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
        ] {
            let time = Time::from_micros(micros);
            assert_eq!(time.to_string(), text);
            assert_eq!(Time::parse(text), Some(time));
        }
    }

    #[test]
    fn every_day_round_trips() {
        // The calendar repeats after 400 years.
        for day in (FIRST / DAY)..(FIRST / DAY + 146_097) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
            assert!((1..=12).contains(&month) && (1..=31).contains(&of_month));
        }
    }

    #[test]
    fn other_texts() {
        for text in [
            "",
            "2026-11-24T14:17:44.123456",
            "2026-11-24 14:17:44.123456Z",
            "2026-02-29T14:17:44.123456Z",
            "2026-13-24T14:17:44.123456Z",
            "2026-11-24T24:00:00.000000Z",
            "2026-11-24T14:17:60.000000Z",
            "2026-11-24T14:17:4x.123456Z",
            "2026-11-24T14:17:44.123456z",
        ] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }
}
