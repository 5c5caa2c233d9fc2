//! A row's time from its payload: numbers of a unit that is known or told by magnitude, RFC 3339
//! text. Pure; must never wrap or clamp a time that does not fit.

use wal::Value;

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
    fn scale(self, magnitude: u64) -> i64 {
        match self {
            Self::Auto => int_scale(magnitude),
            Self::Nanos(nanos) => nanos,
        }
    }
}

/// Unix nanoseconds of a time value.
pub(crate) fn parse(value: &Value<'_>, unit: Unit) -> Result<i64, String> {
    match value {
        Value::Int(number) => {
            let scale = unit.scale(number.unsigned_abs());
            number
                .checked_mul(scale)
                .ok_or_else(|| format!("{number} is outside the years 1677 to 2262"))
        }
        Value::Float(number) => from_float(*number, unit),
        Value::Text(text) => from_text(text, unit),
        Value::Bool(_) => Err("a boolean is no time".to_owned()),
    }
}

fn int_scale(magnitude: u64) -> i64 {
    match magnitude {
        0..5_000_000_000 => NANOS,
        5_000_000_000..5_000_000_000_000 => 1_000_000,
        5_000_000_000_000..5_000_000_000_000_000 => 1_000,
        _ => 1,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "floats saturate, and the sum is checked"
)]
fn from_float(number: f64, unit: Unit) -> Result<i64, String> {
    if number.is_nan() || number.abs() >= 9.2e18 {
        return Err(format!("{number} is outside the years 1677 to 2262"));
    }
    // Whole and fraction apart, so that seconds keep all the digits a float has.
    let scale = unit.scale(number.abs() as u64);
    let whole = (number.trunc() as i64).checked_mul(scale);
    let part = (number.fract() * int_scale_float(scale)).round() as i64;
    whole
        .and_then(|whole| whole.checked_add(part))
        .ok_or_else(|| format!("{number} is outside the years 1677 to 2262"))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "units of up to an hour are exact"
)]
fn int_scale_float(scale: i64) -> f64 {
    scale as f64
}

fn from_text(text: &str, unit: Unit) -> Result<i64, String> {
    if let Ok(number) = text.parse::<i64>() {
        return parse(&Value::Int(number), unit);
    }
    let stamp: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is no number and no RFC 3339 time"))?;
    i64::try_from(stamp.as_nanosecond())
        .map_err(|_| format!("{text:?} is outside the years 1677 to 2262"))
}

const NANOS: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(value: &Value<'_>) -> Result<i64, String> {
        parse(value, Unit::Auto)
    }

    #[test]
    fn a_unit_that_is_known_is_taken_at_its_word() {
        let seconds = Unit::from_name("s").expect("known");
        assert_eq!(
            parse(&Value::Int(5_000_000_000), seconds),
            Ok(5_000_000_000 * NANOS)
        );
        let micros = Unit::from_name("us").expect("known");
        assert_eq!(parse(&Value::Float(1.5), micros), Ok(1_500));
        assert_eq!(parse(&Value::Text("7".into()), micros), Ok(7_000));
        let rfc = Value::Text("2023-11-14T22:13:20Z".into());
        assert_eq!(parse(&rfc, micros), Ok(1_700_000_000 * NANOS));
        let hours = Unit::from_name("h").expect("known");
        assert!(parse(&Value::Int(i64::MAX / NANOS), hours).is_err());
        assert!(
            Unit::NAMES
                .iter()
                .all(|name| Unit::from_name(name).is_some())
        );
        assert_eq!(Unit::from_name("days"), None);
    }

    #[test]
    fn units_are_told_by_magnitude() {
        let nanos = 1_700_000_000 * NANOS;
        for number in [
            1_700_000_000,
            1_700_000_000_000,
            1_700_000_000_000_000,
            nanos,
        ] {
            assert_eq!(auto(&Value::Int(number)), Ok(nanos), "{number}");
        }
        assert_eq!(auto(&Value::Float(1_700_000_000.25)), Ok(nanos + NANOS / 4));
        assert_eq!(auto(&Value::Int(-1)), Ok(-NANOS));
        assert_eq!(auto(&Value::Text("2023-11-14T22:13:20Z".into())), Ok(nanos));
        assert_eq!(
            auto(&Value::Text("2023-11-14T23:13:20+01:00".into())),
            Ok(nanos)
        );
        assert_eq!(auto(&Value::Text("1700000000".into())), Ok(nanos));
        assert!(auto(&Value::Text("yesterday".into())).is_err());
        assert!(auto(&Value::Float(1e300)).is_err());
        assert!(auto(&Value::Float(f64::NAN)).is_err());
        assert!(auto(&Value::Bool(true)).is_err());
    }
}
