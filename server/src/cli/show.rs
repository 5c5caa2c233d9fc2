//! Numbers as people read them. Must never round up: what is shown is there.

use jiff::Timestamp;

/// Bytes in the largest unit they fill, rounded down.
pub(super) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut shown = format!("{bytes} bytes");
    for unit in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        shown = format!("{}.{} {unit}", tenths / 10, tenths % 10);
    }
    shown
}

/// A span of time in its two largest units, rounded down.
pub(super) fn show_time(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} days {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A moment in UTC, to the second.
pub(super) fn show_moment(unix_ms: u64) -> String {
    let s = i64::try_from(unix_ms / 1000).ok();
    let moment = s.and_then(|s| Timestamp::from_second(s).ok());
    moment.map_or_else(|| format!("{unix_ms} ms"), |moment| moment.to_string())
}

/// So many of something, if that is known.
pub(super) fn count_if_known(number: Option<u64>, noun: &str) -> String {
    number.map_or_else(|| format!("unknown {noun}s"), |number| count(number, noun))
}

/// How far behind a node is, in time.
pub(super) fn show_lag(lag_ms: Option<u64>) -> String {
    lag_ms.map_or_else(|| "unknown ms".to_owned(), |ms| format!("{ms} ms"))
}

/// So many of something.
pub(super) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_rounded_down() {
        assert_eq!(show_bytes(1023), "1023 bytes");
        assert_eq!(show_bytes(1 << 20), "1.0 MiB");
        assert_eq!(show_bytes(1_900_000_000), "1.7 GiB");
        assert_eq!(show_time(59_999), "59 s");
        assert_eq!(show_time(90_000_000), "1 days 1 h");
        assert_eq!(show_moment(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(show_moment(u64::MAX), format!("{} ms", u64::MAX));
    }

    #[test]
    fn one_thing_is_not_many() {
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(0, "row"), "0 rows");
    }
}
