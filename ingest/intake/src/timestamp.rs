//! A row's time from its payload: decimal numbers of a unit that is known or told by magnitude,
//! RFC 3339 text. Pure; must never wrap, clamp or round a time to less than its nanosecond.

use crate::number::clipped;
use crate::zone::Zone;

/// What a number means where a time is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Below 5e9 seconds, below 5e12 milliseconds, below 5e15 microseconds, else nanoseconds.
    #[default]
    Auto,
    /// So many nanoseconds.
    Nanos(i64),
}

impl Unit {
    /// Numbers are nanoseconds.
    pub const NANOSECOND: Self = Self::Nanos(1);

    /// The names of units, short and long.
    pub const NAMES: &[&str] = &["auto", "ns", "us", "ms", "s", "m", "h"];

    /// The unit of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "n" | "ns" | "nanosecond" => Self::NANOSECOND,
            "u" | "us" | "\u{b5}" | "microsecond" => Self::Nanos(1_000),
            "ms" | "millisecond" => Self::Nanos(1_000_000),
            "s" | "second" => Self::Nanos(NANOS),
            "m" => Self::Nanos(60 * NANOS),
            "h" => Self::Nanos(3_600 * NANOS),
            _ => return None,
        })
    }

    /// Nanoseconds of one, for a number of this magnitude.
    fn scale(self, magnitude: u128) -> i64 {
        match (self, magnitude) {
            (Self::Nanos(nanos), _) => nanos,
            (Self::Auto, 0..5_000_000_000) => NANOS,
            (Self::Auto, 5_000_000_000..5_000_000_000_000) => 1_000_000,
            (Self::Auto, 5_000_000_000_000..5_000_000_000_000_000) => 1_000,
            (Self::Auto, _) => 1,
        }
    }
}

/// How the times of a payload are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) unit: Unit,
    /// Of times that name none; without it they are none.
    pub(crate) zone: Option<Zone>,
}

impl From<Unit> for Times {
    fn from(unit: Unit) -> Self {
        Self { unit, zone: None }
    }
}

/// Unix nanoseconds of a time's text: a decimal number, or RFC 3339.
pub(crate) fn parse(text: &str, times: impl Into<Times>) -> Result<i64, String> {
    let (text, Times { unit, zone }) = (text.trim(), times.into());
    let outside = || format!("{} is outside the years 1677 to 2262", clipped(text));
    if let Some(number) = Decimal::read(text) {
        return number.nanos(unit).ok_or_else(outside);
    }
    let nanos = match (zoned(text), shown(text), zone) {
        (Some(nanos), ..) => Some(nanos),
        (None, Some(shown), Some(zone)) => instant(shown, zone),
        (None, Some(_), None) => return Err(no_zone(text)),
        (None, None, _) => return Err(no_time(text)),
    };
    // The last second of a day that is one longer is told as the one before.
    let leap = if is_leap_second(text) { NANOS } else { 0 };
    let nanos = nanos.map(|nanos| nanos + i128::from(leap));
    nanos
        .and_then(|nanos| i64::try_from(nanos).ok())
        .ok_or_else(outside)
}

/// Unix nanoseconds of a time that names its zone: RFC 3339 and its relatives, RFC 2822.
fn zoned(text: &str) -> Option<i128> {
    let read = |text: &str| {
        let read = text.parse::<jiff::Timestamp>();
        read.or_else(|_| nine_digits(text).parse()).ok()
    };
    let rfc_2822 = jiff::fmt::rfc2822::DateTimeParser::new();
    let stamp = read(text)
        .or_else(|| read(&closed_up(text)?))
        .or_else(|| rfc_2822.parse_timestamp(text).ok())?;
    Some(stamp.as_nanosecond())
}

/// A time as programs print it whose zone stands behind a space, without that:
/// `2030-01-31 12:00:00 +0100 CET`, `2030-01-31T12:00:00 UTC`.
fn closed_up(text: &str) -> Option<String> {
    let is_name = |word: &str| word.len() <= 5 && word.bytes().all(|b| b.is_ascii_uppercase());
    let words: Vec<&str> = text.split_whitespace().collect();
    let (shown, zone) = match words.as_slice() {
        [date, time, zone @ ..] if time.contains(':') && !time.starts_with(['+', '-']) => {
            (format!("{date} {time}"), zone)
        }
        [shown, zone @ ..] => ((*shown).to_owned(), zone),
        [] => return None,
    };
    match zone {
        ["UTC" | "GMT" | "Z"] => Some(shown + "Z"),
        [offset] | [offset, _]
            if offset.starts_with(['+', '-']) && zone.iter().skip(1).all(|name| is_name(name)) =>
        {
            Some(shown + offset)
        }
        _ => None,
    }
}

/// Whether the seconds are 60: `12:59:60`, `125960`.
fn is_leap_second(text: &str) -> bool {
    let mut parts = text.as_bytes().windows(7);
    parts.any(|part| match part {
        [b'T' | b't' | b' ', rest @ ..] => {
            rest.ends_with(b"60") && rest.iter().all(u8::is_ascii_digit)
        }
        [_, b':', m, n, b':', b'6', b'0'] => m.is_ascii_digit() && n.is_ascii_digit(),
        _ => false,
    })
}

/// What a clock shows, if the text says no more than that: the nanoseconds as if it were UTC's.
fn shown(text: &str) -> Option<i128> {
    // What stands in brackets is a zone.
    let plain = Some(text).filter(|text| !text.contains('['))?;
    let shown: jiff::civil::DateTime =
        plain.parse().or_else(|_| nine_digits(plain).parse()).ok()?;
    Some(shown.duration_since(EPOCH).as_nanos())
}

/// Unix nanoseconds of what a clock of a zone shows.
fn instant(shown: i128, zone: Zone) -> Option<i128> {
    let second = i64::try_from(shown.div_euclid(i128::from(NANOS))).ok()?;
    let ahead = i128::from(zone.ahead(second)?) * i128::from(NANOS);
    Some(shown - ahead)
}

/// The text without what is less than a nanosecond.
fn nine_digits(text: &str) -> String {
    let (whole, part) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let digits = part.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, rest) = part.split_at(digits);
    format!("{whole}.{}{rest}", fraction.get(..9).unwrap_or(fraction))
}

/// The same where only a number can be a time.
pub(crate) fn parse_number(text: &str, unit: Unit) -> Option<Result<i64, String>> {
    Decimal::read(text).map(|_| parse(text, unit))
}

fn no_zone(text: &str) -> String {
    format!(
        "{:?} has no time zone: add Z or an offset such as +01:00, or send seconds since 1970, or \
         say in the conf which zone is meant: ingest.time_zone",
        clipped(text)
    )
}

/// What is wrong with a text that is no time, and what would be right.
fn no_time(text: &str) -> String {
    let shown = clipped(text);
    format!(
        "{shown:?} is no number and no RFC 3339 time, such as 2030-01-31T12:00:00Z or \
         2030-01-31T12:00:00.5+01:00"
    )
}

/// A decimal number with as many digits as a time can need: `digits` times ten to the `exponent`.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    negative: bool,
    digits: u128,
    exponent: i32,
}

impl Decimal {
    fn read(text: &str) -> Option<Self> {
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, exponent(power)?),
            None => (unsigned, 0),
        };
        let mut number = Self {
            negative,
            digits: 0,
            exponent: power,
        };
        let (mut any, mut behind_point) = (false, false);
        for byte in mantissa.bytes() {
            match byte {
                b'0'..=b'9' => {
                    any = true;
                    number.push(byte - b'0', behind_point);
                }
                b'.' if !behind_point => behind_point = true,
                _ => return None,
            }
        }
        any.then_some(number)
    }

    /// Takes the next digit; what is beyond all that counts is cut off, which cannot change how
    /// the rest rounds.
    fn push(&mut self, digit: u8, behind_point: bool) {
        let shift = if self.digits < MOST_DIGITS {
            self.digits = self.digits * 10 + u128::from(digit);
            -i32::from(behind_point)
        } else {
            i32::from(!behind_point)
        };
        self.exponent = self.exponent.saturating_add(shift);
    }

    /// Unix nanoseconds, the nearest; none when they do not fit.
    fn nanos(self, unit: Unit) -> Option<i64> {
        let power = 10_u128.checked_pow(self.exponent.unsigned_abs());
        let magnitude = match power {
            _ if self.digits == 0 => return Some(0),
            Some(power) if self.exponent >= 0 => {
                let whole = self.digits.checked_mul(power)?;
                let scale = u128::from(unit.scale(whole).unsigned_abs());
                whole.checked_mul(scale)?
            }
            Some(power) => {
                let scale = u128::from(unit.scale(self.digits / power).unsigned_abs());
                let nanos = self.digits.checked_mul(scale)?;
                let half_up = u128::from(nanos % power >= power.div_ceil(2));
                nanos / power + half_up
            }
            None if self.exponent > 0 => return None,
            None => 0,
        };
        let magnitude = i128::try_from(magnitude).ok()?;
        i64::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }
}

/// The number behind an `e`; one too large to matter is as good as any other such.
fn exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.parse().unwrap_or(i32::MAX / 2).min(i32::MAX / 2);
    Some(if text.starts_with('-') {
        -magnitude
    } else {
        magnitude
    })
}

const NANOS: i64 = 1_000_000_000;

const EPOCH: jiff::civil::DateTime = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Numbers below it take another digit: times have nineteen digits, and an hour's nanoseconds
/// thirteen.
const MOST_DIGITS: u128 = 10_u128.pow(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(text: &str) -> Result<i64, String> {
        parse(text, Unit::Auto)
    }

    #[test]
    fn a_unit_that_is_known_is_taken_at_its_word() {
        let time = |text, unit| parse(text, Unit::from_name(unit).expect("known"));
        assert_eq!(time("5000000000", "s"), Ok(5_000_000_000 * NANOS));
        assert_eq!(time("1.5", "us"), Ok(1_500));
        assert_eq!(time("7", "us"), Ok(7_000));
        assert_eq!(time("0.5", "h"), Ok(1_800 * NANOS));
        assert_eq!(
            time("2023-11-14T22:13:20Z", "us"),
            Ok(1_700_000_000 * NANOS)
        );
        assert!(time("9223372036", "h").is_err());
        let mut names = Unit::NAMES.iter();
        assert!(names.all(|name| Unit::from_name(name).is_some()));
        assert_eq!(Unit::from_name("days"), None);
    }

    #[test]
    fn a_time_without_a_zone_is_of_the_one_that_is_given() {
        let in_zone = |text: &str, zone: &str| {
            let zone = Some(Zone::parse(zone).expect(zone));
            let unit = Unit::Auto;
            parse(text, Times { unit, zone })
        };
        let second = 1_700_000_000;
        for (text, zone, seconds) in [
            ("2023-11-14T22:13:20", "UTC", second),
            ("2023-11-14 23:13:20", "Europe/Berlin", second),
            ("20231114T231320", "Europe/Berlin", second),
            ("2023-11-14 23:13", "+01:00", second - 20),
            ("2023-11-15", "Europe/Berlin", second + 2_800),
            ("1969-12-31T23:59:59", "UTC", -1),
            // What says itself what it means is not asked.
            ("2023-11-14T22:13:20Z", "Europe/Berlin", second),
            ("2023-11-14T22:13:20+00:00", "Europe/Berlin", second),
            ("1700000000", "Europe/Berlin", second),
        ] {
            assert_eq!(in_zone(text, zone), Ok(seconds * NANOS), "{text} {zone}");
        }
        for text in ["2023-11-14 23:13:20.25", "2023-11-14T23:13:20,2500000009"] {
            let nanos = second * NANOS + 250_000_000;
            assert_eq!(in_zone(text, "Europe/Berlin"), Ok(nanos), "{text}");
        }
        for (text, reason) in [
            ("9999-12-31T00:00:00", "outside the years"),
            ("1677-09-21T00:00:00", "outside the years"),
            ("2023-02-30T00:00:00", "no RFC 3339 time"),
            ("2023-11-14T22:13:20[Mars/Olympus]", "no RFC 3339 time"),
            ("14.11.2023 22:13", "no RFC 3339 time"),
        ] {
            let read = in_zone(text, "Europe/Berlin");
            assert!(read.is_err_and(|why| why.contains(reason)), "{text}");
        }
        assert!(auto("2023-11-14").is_err_and(|why| why.contains("ingest.time_zone")));
    }

    #[test]
    fn units_are_told_by_magnitude() {
        let nanos = 1_700_000_000 * NANOS;
        for text in [
            "1700000000",
            "1700000000000",
            "1700000000000000",
            "1700000000000000000",
            "+1.7e9",
            "17e17",
            "2023-11-14T22:13:20Z",
            "2023-11-14 23:13:20+01:00",
            "2023-11-14t23:13:20.000000000999+0100",
            "20231114T221320,0Z",
            " 1700000000\n",
            "2023-11-14 22:13:20 UTC",
            "2023-11-14T22:13:20 GMT",
            "2023-11-14 23:13:20 +01:00",
            "2023-11-14 23:13:20.000 +0100 CET",
            "2023-11-14T23:13:20 +01:00",
            "Tue, 14 Nov 2023 22:13:20 GMT",
            "Tue, 14 Nov 2023 23:13:20 +0100",
            "14 Nov 2023 23:13:20 +0100",
        ] {
            assert_eq!(auto(text), Ok(nanos), "{text}");
        }
        assert_eq!(auto("-1"), Ok(-NANOS));
        // The second that is put in at the end of a day is the first of the next one.
        let next_day = 1_483_228_800 * NANOS;
        for text in [
            "2016-12-31T23:59:60Z",
            "20161231T235960Z",
            "2017-01-01 00:59:60 +01:00",
            "Sat, 31 Dec 2016 23:59:60 GMT",
        ] {
            assert_eq!(auto(text), Ok(next_day), "{text}");
        }
        assert_eq!(auto("2016-12-31T23:59:60.25Z"), Ok(next_day + NANOS / 4));
        for (text, reason) in [
            (
                "yesterday",
                "no RFC 3339 time, such as 2030-01-31T12:00:00Z",
            ),
            (
                "2023-11-14T22:13:20",
                "no time zone: add Z or an offset such as +01:00",
            ),
            ("2023-11-14 22:13", "no time zone"),
            ("1e300", "outside the years 1677 to 2262"),
            ("1e99999999999", "outside the years"),
            ("92233720368547758080", "outside the years"),
            ("nan", "no number"),
            ("2023-11-14 22:13:20 CET", "no RFC 3339 time"),
            ("2023-11-14 22:13:20 +0100 m=+0.1", "no RFC 3339 time"),
            ("Mon, 14 Nov 2023 22:13:20 GMT", "no RFC 3339 time"),
            ("2023-11-14 +0100", "no RFC 3339 time"),
            ("", "no number"),
            (".", "no number"),
        ] {
            assert!(auto(text).is_err_and(|why| why.contains(reason)), "{text}");
        }
    }

    #[test]
    fn decimals_are_exact_to_the_nanosecond_in_every_unit() {
        for (text, nanos) in [
            ("1631186545.04", 1_631_186_545_040_000_000),
            ("1631186545.123456789", 1_631_186_545_123_456_789),
            ("1631186545123.456789", 1_631_186_545_123_456_789),
            ("1631186545123456.789", 1_631_186_545_123_456_789),
            ("1631186545123456789.4", 1_631_186_545_123_456_789),
            ("1631186545123456789.5", 1_631_186_545_123_456_790),
            ("-1.0000000015", -1_000_000_002),
            ("1.63118654504e9", 1_631_186_545_040_000_000),
            ("163118654504e-2", 1_631_186_545_040_000_000),
            ("0.00000000049999999999999999999999999999999999999", 0),
            ("0.0000000005", 1),
            ("1e-400", 0),
            ("0e999", 0),
            ("000001.5", 1_500_000_000),
        ] {
            assert_eq!(auto(text), Ok(nanos), "{text}");
        }
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..50_000 {
            let nanos = random.i64(..);
            for (unit, digits) in [("ns", 0), ("us", 3), ("ms", 6), ("s", 9)] {
                let (whole, part) = (nanos.unsigned_abs(), 10_u64.pow(digits));
                let sign = if nanos < 0 { "-" } else { "" };
                let width = digits as usize;
                let text = match digits {
                    0 => format!("{sign}{whole}"),
                    _ => format!("{sign}{}.{:0width$}", whole / part, whole % part),
                };
                let unit = Unit::from_name(unit).expect("known");
                assert_eq!(parse(&text, unit), Ok(nanos), "{text}");
                assert_eq!(parse(&format!("{sign}{whole}e-{digits}"), unit), Ok(nanos));
            }
        }
    }
}
