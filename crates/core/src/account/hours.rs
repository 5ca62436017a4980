//! At which hours of the day an account may log in.

use serde::{Deserialize, Serialize};
use std::fmt;

const DAY: i64 = 1440;

/// Hours of the day, in a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// The first minute of the day.
    pub from: u16,
    /// The minute after the last one; before `from`, it is the next day's.
    pub until: u16,
    /// The time zone, as PostgreSQL names it.
    pub zone: String,
}

impl Hours {
    /// `08:00-18:00`.
    pub fn parse(text: &str, zone: &str) -> Option<Hours> {
        let (from, until) = text.split_once('-')?;
        let (from, until) = (minute(from.trim())?, minute(until.trim())?);
        (from != until && from < 1440).then(|| Hours { from, until, zone: zone.into() })
    }

    /// How many minutes are left at a minute of the day; None: it is none of them.
    pub fn left(&self, minute: u16) -> Option<u16> {
        let since = |from: u16, to: u16| (i64::from(to) - i64::from(from)).rem_euclid(DAY) as u16;
        let whole = match since(self.from, self.until) {
            0 => DAY as u16,
            length => length,
        };
        let gone = since(self.from, minute);
        (gone < whole).then(|| whole - gone)
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hours { from, until, zone } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02} {zone}", from / 60, from % 60, until / 60, until % 60)
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit())).then(|| text.parse::<u16>().ok())?
    };
    let minute = number(hours)? * 60 + number(minutes).filter(|it| *it < 60)?;
    (i64::from(minute) <= DAY).then_some(minute)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn within_and_without() {
        let left = |text: &str, minute| Hours::parse(text, "UTC").unwrap().left(minute);
        assert_eq!(left("08:00-18:00", 479), None);
        assert_eq!(left("08:00-18:00", 480), Some(600));
        assert_eq!(left("08:00-18:00", 1079), Some(1));
        assert_eq!(left("08:00-18:00", 1080), None);
        // Over midnight.
        assert_eq!(left("22:30-02:00", 1350), Some(210));
        assert_eq!(left("22:30-02:00", 119), Some(1));
        assert_eq!(left("22:30-02:00", 120), None);
        assert_eq!(left("00:00-24:00", 0), Some(1440));
        assert_eq!(left("00:00-24:00", 1439), Some(1));
    }

    #[test]
    fn what_is_none() {
        for text in
            ["", "8-18", "08:00", "08:00-08:00", "08:60-09:00", "24:00-25:00", "24:00-08:00", "08:00-+9:00"]
        {
            assert_eq!(Hours::parse(text, "UTC"), None, "{text}");
        }
        assert_eq!(Hours::parse("08:00 - 18:30", "UTC").unwrap().to_string(), "08:00-18:30 UTC");
    }
}
