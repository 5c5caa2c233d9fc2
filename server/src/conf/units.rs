//! Sizes and times as a conf file writes them: "64 MiB", "250 ms". Must never guess a unit that
//! was not written.

use std::time::Duration;

/// The bytes of a size with its unit; `None` when the text is no such size.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let (_, bytes) = BINARY_SIZES
        .iter()
        .chain(&DECIMAL_SIZES)
        .find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

/// A time with its unit; `None` when the text is no such time.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, micros) = TIMES.iter().find(|(names, _)| names.contains(&unit))?;
    number.checked_mul(*micros).map(Duration::from_micros)
}

/// A size in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    BINARY_SIZES
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes} B"),
            |(name, unit)| format!("{} {name}", bytes / unit),
        )
}

/// A time in the largest unit that divides it.
pub(super) fn show_duration(time: Duration) -> String {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    TIMES
        .iter()
        .find(|(_, unit)| micros >= *unit && micros.is_multiple_of(*unit))
        .map_or_else(
            || "0 ms".to_owned(),
            |(names, unit)| format!("{} {}", micros / unit, names[0]),
        )
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Largest first.
const BINARY_SIZES: [(&str, u64); 6] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

const DECIMAL_SIZES: [(&str, u64); 4] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

/// Microseconds, largest unit first.
const TIMES: [(&[&str], u64); 7] = [
    (&["weeks", "week", "w"], 604_800_000_000),
    (&["days", "day", "d"], 86_400_000_000),
    (&["h", "hours", "hour"], 3_600_000_000),
    (&["min", "minutes", "minute"], 60_000_000),
    (&["s"], 1_000_000),
    (&["ms"], 1_000),
    (&["us"], 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_size("64 MiB"), Some(64 << 20));
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("5 kB"), Some(5_000));
        assert_eq!(parse_size("2 GB"), Some(2_000_000_000));
        assert_eq!(parse_size("512 B"), Some(512));
        assert_eq!(parse_size("0 B"), Some(0));
        for text in [
            "",
            "64",
            "MiB",
            "-1 MiB",
            "1.5 MiB",
            "64 mib",
            "64 M",
            "99999999999 TiB",
        ] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(parse_duration("250 ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("0 ms"), Some(Duration::ZERO));
        assert_eq!(parse_duration("7us"), Some(Duration::from_micros(7)));
        assert_eq!(parse_duration("2 h"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_duration("2 hours"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_duration("1 minute"), Some(Duration::from_secs(60)));
        for text in ["1 day", "1d", "24 h", "1 days"] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(86_400)));
        }
        for text in ["2 weeks", "14 days", "2 w"] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(1_209_600)));
        }
        for text in [
            "",
            "250",
            "ms",
            "1.5 s",
            "-1 s",
            "3 sec",
            "99999999999999999 days",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        for bytes in [
            0,
            1,
            1023,
            1 << 10,
            64 << 20,
            (64 << 20) + 1,
            1 << 40,
            1 << 50,
        ] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
        for micros in [
            0,
            1,
            1_000,
            250_000,
            60_000_000,
            86_400_000_000,
            604_800_000_000,
        ] {
            let time = Duration::from_micros(micros);
            assert_eq!(parse_duration(&show_duration(time)), Some(time));
        }
    }
}
