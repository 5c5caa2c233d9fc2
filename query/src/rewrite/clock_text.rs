//! Texts that are times, in the forms that PostgreSQL takes. Owns how one is spelled for the engine,
//! which wants seconds and two digits everywhere; must never turn a text that is no time into one.

use std::borrow::Cow;

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::Date32Type;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use wal::local_time::ahead_of_utc;

/// `text` as the engine reads it; as it is where it has none of the known forms.
pub(super) fn spelled(text: &str) -> Cow<'_, str> {
    match respelled(text) {
        Some(made) if made != text => Cow::Owned(made),
        _ => Cow::Borrowed(text),
    }
}

/// The instant of `text`, which is local to `zone` if it names none itself; as the engine reads it.
pub(super) fn instant<'a>(text: &'a str, zone: &Tz) -> Cow<'a, str> {
    let spelled = spelled(text);
    let local = NaiveDateTime::parse_from_str(&spelled, "%Y-%m-%dT%H:%M:%S%.f").or_else(|_| {
        let date = NaiveDate::parse_from_str(&spelled, "%Y-%m-%d");
        date.map(|date| date.and_time(NaiveTime::MIN))
    });
    let found = local.ok().and_then(|local| {
        let ahead = TimeDelta::seconds(ahead_of_utc(zone, local)?.into());
        local.checked_sub_signed(ahead)
    });
    match found {
        Some(at) => Cow::Owned(at.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string()),
        None => spelled,
    }
}

fn respelled(text: &str) -> Option<String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("epoch") {
        return Some("1970-01-01T00:00:00Z".to_owned());
    }
    let (date, rest) = date(text)?;
    if rest.trim().is_empty() {
        return shown(date);
    }
    let rest = match rest.strip_prefix(['T', 't']) {
        Some(rest) => rest,
        None => rest
            .strip_prefix(char::is_whitespace)
            .map(str::trim_start)?,
    };
    let (mut clock, rest) = clock(rest)?;
    let rest = half_of_day(&mut clock, rest.trim_start())?;
    let zone = zone(rest)?;
    let Clock {
        hour,
        minute,
        second,
        fraction,
    } = clock;
    let none_after = minute == 0 && second == 0 && fraction.bytes().all(|b| b == b'0');
    let (date, hour) = match hour {
        24 if none_after => (date.checked_add(1)?, 0),
        hour => (date, hour),
    };
    let date = shown(date)?;
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!(
        "{date}T{hour:02}:{minute:02}:{second:02}{point}{fraction}{zone}"
    ))
}

/// `2026-11-05`, `2026-11-5` or `20261105` as a number of days, and what follows.
fn date(text: &str) -> Option<(i32, &str)> {
    let (first, rest) = digits(text);
    let (year, month, day, rest) = match first.len() {
        8 => (first.get(..4)?, first.get(4..6)?, first.get(6..)?, rest),
        4 => {
            let (month, rest) = digits(rest.strip_prefix('-')?);
            let (day, rest) = digits(rest.strip_prefix('-')?);
            (first, month, day, rest)
        }
        _ => return None,
    };
    if !matches!((month.len(), day.len()), (1 | 2, 1 | 2)) {
        return None;
    }
    let days = Date32Type::parse(&format!("{year}-{month:0>2}-{day:0>2}"))?;
    Some((days, rest))
}

fn shown(days: i32) -> Option<String> {
    Some(Date32Type::to_naive_date_opt(days)?.to_string())
}

struct Clock<'a> {
    hour: u32,
    minute: u32,
    second: u32,
    fraction: &'a str,
}

/// `10:00`, `1:02:03.5` or `100000`, and what follows.
fn clock(text: &str) -> Option<(Clock<'_>, &str)> {
    let (first, rest) = digits(text);
    let (hour, minute, second, rest) = match first.len() {
        1 | 2 => {
            let (minute, rest) = digits(rest.strip_prefix(':')?);
            let (second, rest) = match rest.strip_prefix(':') {
                Some(rest) => digits(rest),
                None => ("00", rest),
            };
            (first, minute, second, rest)
        }
        4 => (first.get(..2)?, first.get(2..4)?, "00", rest),
        6 => (first.get(..2)?, first.get(2..4)?, first.get(4..6)?, rest),
        _ => return None,
    };
    if minute.len() != 2 || second.len() != 2 {
        return None;
    }
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    let clock = Clock {
        hour: hour.parse().ok()?,
        minute: minute.parse().ok()?,
        second: second.parse().ok()?,
        fraction,
    };
    Some((clock, rest))
}

/// Reads AM or PM into the hour; gives what follows.
fn half_of_day<'a>(clock: &mut Clock<'_>, rest: &'a str) -> Option<&'a str> {
    let Some(half) = rest.get(..2) else {
        return Some(rest);
    };
    let (am, pm) = (
        half.eq_ignore_ascii_case("am"),
        half.eq_ignore_ascii_case("pm"),
    );
    let after = rest.get(2..).unwrap_or_default();
    if !(am || pm) || after.starts_with(|c: char| c.is_alphanumeric() || c == '/') {
        return Some(rest);
    }
    if !(1..=12).contains(&clock.hour) {
        return None;
    }
    clock.hour = clock.hour % 12 + if pm { 12 } else { 0 };
    Some(after.trim_start())
}

/// `+02`, `+0200`, `+02:00`, `Z`, a name; nothing.
fn zone(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return Some(text.to_ascii_uppercase());
    }
    if !text.starts_with(['+', '-']) {
        return Some(format!(" {text}"));
    }
    let (sign, offset) = text.split_at(1);
    let (first, rest) = digits(offset);
    let (hours, minutes) = match (first.len(), rest.strip_prefix(':')) {
        (1 | 2, None) if rest.is_empty() => (first, "00"),
        (1 | 2, Some(minutes)) => (first, minutes),
        (4, None) if rest.is_empty() => first.split_at(2),
        _ => return None,
    };
    let minutes_are_two = minutes.len() == 2 && minutes.bytes().all(|b| b.is_ascii_digit());
    minutes_are_two.then(|| format!("{sign}{hours:0>2}:{minutes}"))
}

/// The digits that `text` begins with, and what follows.
fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::spelled;

    #[test]
    fn forms_of_postgresql_are_those_of_the_engine() {
        for (text, expected) in [
            ("2026-11-05 00:00", "2026-11-05T00:00:00"),
            ("2026-11-05T10:30", "2026-11-05T10:30:00"),
            ("2026-11-5 1:02:03", "2026-11-05T01:02:03"),
            ("2026-11-05 00:00+02", "2026-11-05T00:00:00+02:00"),
            ("2026-11-05 00:00:00.5 -0330", "2026-11-05T00:00:00.5-03:30"),
            ("2026-11-05T10:30Z", "2026-11-05T10:30:00Z"),
            (
                "2026-11-05 10:30 Europe/Berlin",
                "2026-11-05T10:30:00 Europe/Berlin",
            ),
            ("20261105T100000", "2026-11-05T10:00:00"),
            ("20261105", "2026-11-05"),
            ("2026-11-05 24:00", "2026-11-06T00:00:00"),
            ("2026-12-31 24:00:00.0", "2027-01-01T00:00:00.0"),
            ("2026-11-05 12:30 AM", "2026-11-05T00:30:00"),
            ("2026-11-05 1:30 pm +01", "2026-11-05T13:30:00+01:00"),
            (
                "2026-11-05 10:00 America/New_York",
                "2026-11-05T10:00:00 America/New_York",
            ),
            (" epoch ", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(spelled(text), expected, "{text}");
        }
        for text in [
            "",
            "now",
            "2026-11-05 10",
            "2026-02-30 00:00",
            "05.11.2026 00:00",
            "2026-11-05 13:00 PM",
            "2026-11-05 00:00 +2:0",
            "1793836800",
            "2026-11-05x10:00",
            "2026-11-05 1:2:3",
        ] {
            assert_eq!(spelled(text), text);
        }
    }
}
