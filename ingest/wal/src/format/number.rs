//! Which numbers an integer and a float hold alike. Pure. It must never call a conversion exact
//! that loses a digit.

/// Whether a float holds this integer exactly, as it does all integers around it: within 2^53.
pub(crate) fn is_exact(value: i64) -> bool {
    value.unsigned_abs() <= EXACT
}

/// The integer that is just this float, if there is one in 64 bits.
pub(crate) fn whole(value: f64) -> Option<i64> {
    if value.trunc() != value || !(-TWO_63..TWO_63).contains(&value) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "an integer within 64 bits")]
    Some(value as i64)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "widening to float is what the schema promises"
)]
pub(crate) fn int_to_float(value: i64) -> f64 {
    value as f64
}

/// As a column stores it: SQL has one zero.
pub(crate) fn stored(value: f64) -> f64 {
    // Minus zero and zero are zero; nothing else is changed by it.
    value + 0.0
}

/// Integers up to here, of either sign, have one float each.
const EXACT: u64 = 1 << 53;
const TWO_63: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_floats_are_their_integers_and_nothing_else_is() {
        for (float, integer) in [
            (0.0, 0),
            (-0.0, 0),
            (5.0, 5),
            (1e3, 1_000),
            (-9_007_199_254_740_992.0, -9_007_199_254_740_992),
            (1e18, 1_000_000_000_000_000_000),
            (-TWO_63, i64::MIN),
            (9_223_372_036_854_774_784.0, 9_223_372_036_854_774_784),
        ] {
            assert_eq!(whole(float), Some(integer), "{float}");
        }
        for float in [
            0.5,
            -1e-300,
            TWO_63,
            1e300,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            assert_eq!(whole(float), None, "{float}");
        }
    }

    #[test]
    fn integers_are_exact_up_to_two_to_the_53rd() {
        for value in [0, 1, -(1 << 53), 1 << 53] {
            assert!(is_exact(value), "{value}");
        }
        for value in [(1 << 53) + 1, -(1 << 53) - 1, i64::MAX, i64::MIN] {
            assert!(!is_exact(value), "{value}");
        }
    }

    #[test]
    fn only_minus_zero_is_stored_as_another_float() {
        assert_eq!(stored(-0.0).to_bits(), 0.0_f64.to_bits());
        for value in [
            0.0,
            1.5,
            -1.5,
            f64::MIN_POSITIVE,
            -5e-324,
            f64::INFINITY,
            f64::NAN,
        ] {
            assert_eq!(stored(value).to_bits(), value.to_bits(), "{value}");
        }
    }
}
