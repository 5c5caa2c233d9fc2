//! The text of numbers, for every format alike: which text is a decimal number, and which value it
//! is. Pure; must never give an integer other digits than it was written with, nor a float that
//! `str::parse` would not give.

use wal::Value;

/// The value of a decimal number: an integer unless there is a point or an exponent in it.
pub(crate) fn value(text: &str) -> Result<Value<'static>, String> {
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return float(text).map(Value::Float);
    }
    match text.parse::<i64>() {
        Ok(number) => Ok(Value::Int(number)),
        Err(_) => Err(too_long(text)),
    }
}

/// The nearest float.
pub(crate) fn float(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!(
            "number {} out of range: a float holds up to 1.8e308",
            clipped(text)
        )),
    }
}

/// Why an integer is refused that no column can hold.
pub(crate) fn too_long(text: &str) -> String {
    format!("integer {} exceeds 64 bits", clipped(text))
}

/// Whether this is a decimal number as people and machines write them: `5`, `-0.5`, `.5`, `+1e-3`.
pub(crate) fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let scaled = |text: &str| {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        !text.is_empty() && digits(text)
    };
    (!whole.is_empty() || !part.is_empty())
        && digits(whole)
        && digits(part)
        && exponent.is_none_or(scaled)
}

/// Whether a number's text would not come back as it was written, and is somebody's name rather: a
/// leading zero (`007`), digits, E, digits (`12E12`), an integer with a plus (`+4930123`).
pub(crate) fn is_name(decimal: &str) -> bool {
    let unsigned = decimal.strip_prefix(['+', '-']).unwrap_or(decimal);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut begin = unsigned.bytes();
    let padded = begin.next() == Some(b'0') && begin.next().is_some_and(|b| b.is_ascii_digit());
    let scaled = unsigned.len() == decimal.len()
        && decimal
            .split_once(['e', 'E'])
            .is_some_and(|(mantissa, exponent)| digits(mantissa) && digits(exponent));
    padded || scaled || (decimal.starts_with('+') && digits(unsigned))
}

/// The beginning of a text that goes into a message.
pub(crate) fn clipped(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('\u{2026}');
    }
    shown
}

/// Most characters of a value that a message repeats.
const MAX_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_their_digits_and_floats_are_the_nearest() {
        assert_eq!(value("9223372036854775807"), Ok(Value::Int(i64::MAX)));
        assert_eq!(value("-9223372036854775808"), Ok(Value::Int(i64::MIN)));
        assert_eq!(value("+7"), Ok(Value::Int(7)));
        for long in ["9223372036854775808", "18446744073709551615"] {
            assert_eq!(value(long), Err(format!("integer {long} exceeds 64 bits")));
        }
        let long = value(&"9".repeat(300)).expect_err("refused");
        assert!(
            long.len() < 80 && long.ends_with("exceeds 64 bits"),
            "{long}"
        );
        assert_eq!(value("1e19"), Ok(Value::Float(1e19)));
        assert_eq!(
            value("1014.5449131979983"),
            Ok(Value::Float(1_014.544_913_197_998_3))
        );
        assert_eq!(
            value("938.9930419921875"),
            Ok(Value::Float(938.993_041_992_187_5))
        );
        assert_eq!(value("-0"), Ok(Value::Int(0)));
        assert_eq!(value("-0.0"), Ok(Value::Float(0.0)));
        assert!(value("1e999").is_err_and(|why| why.contains("out of range")));
    }

    #[test]
    fn decimal_numbers_are_told_from_other_text() {
        for yes in ["5", "-0.5", ".5", "5.", "+1e-3", "1E5", "007", "1.5e+300"] {
            assert!(is_decimal(yes), "{yes}");
        }
        for no in [
            "", ".", "-", "e5", "1e", "1e+", "1.2.3", "inf", "nan", "0x1F", "1_000", "1,5", " 1",
            "--1", "1e1.5",
        ] {
            assert!(!is_decimal(no), "{no}");
        }
    }

    #[test]
    fn names_that_look_like_numbers_are_told_from_numbers() {
        for name in [
            "007", "0001E3", "12E12", "12e12", "-007", "00", "05.20", "+4930123",
        ] {
            assert!(is_decimal(name) && is_name(name), "{name}");
        }
        for number in [
            "0", "0.5", "-0.5", "-0", "1e-05", "1e+16", "1.5E3", "-1e3", "+21.5", "10",
        ] {
            assert!(is_decimal(number) && !is_name(number), "{number}");
        }
    }
}
