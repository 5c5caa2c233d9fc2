//! A row's time from its payload: numbers of any unit, RFC 3339 text. Pure.

use wal::Value;

const NANOS: i64 = 1_000_000_000;

/// Unix nanoseconds of a time value. Numbers without unit: below 5e9 seconds, below 5e12
/// milliseconds, below 5e15 microseconds, else nanoseconds.
pub(crate) fn parse(value: &Value<'_>) -> Result<i64, String> {
    match value {
        Value::Int(number) => {
            let scale = int_scale(number.unsigned_abs());
            number
                .checked_mul(scale)
                .ok_or_else(|| format!("{number} is outside the years 1677 to 2262"))
        }
        Value::Float(number) => from_float(*number),
        Value::Text(text) => from_text(text),
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
fn from_float(number: f64) -> Result<i64, String> {
    if number.is_nan() || number.abs() >= 9.2e18 {
        return Err(format!("{number} is outside the years 1677 to 2262"));
    }
    // Whole and fraction apart, so that seconds keep all the digits a float has.
    let scale = int_scale(number.abs() as u64);
    let whole = (number.trunc() as i64).checked_mul(scale);
    let part = (number.fract() * int_scale_float(scale)).round() as i64;
    whole
        .and_then(|whole| whole.checked_add(part))
        .ok_or_else(|| format!("{number} is outside the years 1677 to 2262"))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "powers of ten up to 1e9 are exact"
)]
fn int_scale_float(scale: i64) -> f64 {
    scale as f64
}

fn from_text(text: &str) -> Result<i64, String> {
    if let Ok(number) = text.parse::<i64>() {
        return parse(&Value::Int(number));
    }
    let stamp: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is no number and no RFC 3339 time"))?;
    i64::try_from(stamp.as_nanosecond())
        .map_err(|_| format!("{text:?} is outside the years 1677 to 2262"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_by_magnitude() {
        let nanos = 1_700_000_000 * NANOS;
        for number in [
            1_700_000_000,
            1_700_000_000_000,
            1_700_000_000_000_000,
            nanos,
        ] {
            assert_eq!(parse(&Value::Int(number)), Ok(nanos), "{number}");
        }
        assert_eq!(
            parse(&Value::Float(1_700_000_000.25)),
            Ok(nanos + NANOS / 4)
        );
        assert_eq!(parse(&Value::Int(-1)), Ok(-NANOS));
        assert_eq!(
            parse(&Value::Text("2023-11-14T22:13:20Z".into())),
            Ok(nanos)
        );
        assert_eq!(
            parse(&Value::Text("2023-11-14T23:13:20+01:00".into())),
            Ok(nanos)
        );
        assert_eq!(parse(&Value::Text("1700000000".into())), Ok(nanos));
        assert!(parse(&Value::Text("yesterday".into())).is_err());
        assert!(parse(&Value::Float(1e300)).is_err());
        assert!(parse(&Value::Float(f64::NAN)).is_err());
        assert!(parse(&Value::Bool(true)).is_err());
    }
}
