//! The zone of times that do not name theirs: which instant a clock on a wall means there. Pure;
//! must never take the zone of the machine it runs on.

use chrono::{DateTime, FixedOffset};
use chrono_tz::{TZ_VARIANTS, Tz};
use wal::local_time::ahead_of_utc;

/// The zone of times that name none, such as `Europe/Berlin` or `+01:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Rule);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Named(Tz),
    Fixed(FixedOffset),
}

impl Zone {
    pub(crate) const UTC: Self = Self(Rule::Named(Tz::UTC));

    /// The zone of this name, or of this offset from UTC.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim();
        if name.eq_ignore_ascii_case("z") {
            return Some(Self::UTC);
        }
        if let Some(digits) = name.strip_prefix(['+', '-']) {
            let is_offset = |byte: u8| byte.is_ascii_digit() || byte == b':';
            let good = matches!(digits.len(), 2 | 4 | 5) && digits.bytes().all(is_offset);
            // `+01` is as good as `+01:00`.
            let minutes = if digits.len() == 2 { ":00" } else { "" };
            let offset = Some(format!("{name}{minutes}")).filter(|_| good)?;
            return Some(Self(Rule::Fixed(offset.parse().ok()?)));
        }
        let mut zones = TZ_VARIANTS.iter();
        let zone = zones.find(|zone| zone.name().eq_ignore_ascii_case(name))?;
        Some(Self(Rule::Named(*zone)))
    }

    /// Seconds by which the clocks there are ahead of UTC when they show this time, given as if it
    /// were UTC's. What they show twice is the later one, and what they never show is counted from
    /// before the gap: as in `PostgreSQL`.
    pub(crate) fn ahead(self, shown: i64) -> Option<i32> {
        let shown = DateTime::from_timestamp(shown, 0)?.naive_utc();
        let zone = match self.0 {
            Rule::Fixed(offset) => return Some(offset.local_minus_utc()),
            Rule::Named(zone) => zone,
        };
        ahead_of_utc(&zone, shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use chrono::NaiveDateTime;

    fn instant(zone: &str, shown: &str) -> String {
        let zone = Zone::parse(zone).expect(zone);
        let shown: NaiveDateTime = shown.parse().expect("a time");
        let shown = shown.and_utc().timestamp();
        let ahead = i64::from(zone.ahead(shown).expect("known"));
        let instant = DateTime::from_timestamp(shown - ahead, 0).expect("in range");
        instant.format("%FT%T").to_string()
    }

    #[test]
    fn zones_are_named_or_offsets() {
        for (zone, expected) in [
            ("UTC", "2024-06-01T12:00:00"),
            ("z", "2024-06-01T12:00:00"),
            (" Europe/Berlin ", "2024-06-01T10:00:00"),
            ("America/New_York", "2024-06-01T16:00:00"),
            ("Asia/Kolkata", "2024-06-01T06:30:00"),
            ("+01:00", "2024-06-01T11:00:00"),
            ("-0530", "2024-06-01T17:30:00"),
            ("+14", "2024-05-31T22:00:00"),
        ] {
            assert_eq!(instant(zone, "2024-06-01T12:00:00"), expected, "{zone}");
        }
        for none in [
            "",
            "Berlin",
            "Europe/Nowhere",
            "+25:00",
            "+1",
            "local",
            "+01:00x",
        ] {
            assert_eq!(Zone::parse(none), None, "{none}");
        }
    }

    /// The answers are those of `PostgreSQL` 15.
    #[test]
    fn times_that_are_shown_never_or_twice_are_those_of_postgresql() {
        for (zone, shown, expected) in [
            (
                "Europe/Berlin",
                "2024-03-31T01:59:59",
                "2024-03-31T00:59:59",
            ),
            (
                "Europe/Berlin",
                "2024-03-31T02:30:00",
                "2024-03-31T01:30:00",
            ),
            (
                "Europe/Berlin",
                "2024-03-31T03:00:00",
                "2024-03-31T01:00:00",
            ),
            (
                "Europe/Berlin",
                "2024-10-27T01:59:59",
                "2024-10-26T23:59:59",
            ),
            (
                "Europe/Berlin",
                "2024-10-27T02:30:00",
                "2024-10-27T01:30:00",
            ),
            (
                "Europe/Berlin",
                "2024-10-27T03:00:00",
                "2024-10-27T02:00:00",
            ),
            (
                "America/New_York",
                "2024-11-03T01:30:00",
                "2024-11-03T06:30:00",
            ),
            // Half an hour of summer time.
            (
                "Australia/Lord_Howe",
                "2024-10-06T02:15:00",
                "2024-10-05T15:45:00",
            ),
            // A day that never was, and two times that are both standard ones.
            ("Pacific/Apia", "2011-12-30T12:00:00", "2011-12-30T22:00:00"),
            (
                "Europe/Moscow",
                "2014-10-26T01:30:00",
                "2014-10-25T22:30:00",
            ),
        ] {
            assert_eq!(instant(zone, shown), expected, "{zone} {shown}");
        }
    }
}
