//! Floats that are decimals: sensors send `21.37`, not arbitrary bits. Finds the smallest scale at
//! which every value is an integer exactly, so that nothing is lost. Pure. It must never call a
//! scale exact that loses a bit.

/// The integer that stands for `value` at `scale`, if it gives back just these bits.
pub(crate) fn mantissa(value: f64, scale: u8) -> Option<i64> {
    let power = POWERS.get(usize::from(scale))?;
    let scaled = (value * power).round();
    if scaled.is_nan() || scaled.abs() > MAX_MANTISSA {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "an integer within 2^53")]
    let mantissa = scaled as i64;
    // By way of the integer, which has no minus zero.
    (self::value(mantissa, *power).to_bits() == value.to_bits()).then_some(mantissa)
}

/// The float that `mantissa` at `scale` stands for.
#[expect(clippy::cast_precision_loss, reason = "within 2^53 by construction")]
pub(crate) fn value(mantissa: i64, power: f64) -> f64 {
    mantissa as f64 / power
}

/// The power of ten of a scale.
pub(crate) fn power(scale: u8) -> f64 {
    POWERS.get(usize::from(scale)).copied().unwrap_or(f64::NAN)
}

/// The smallest scale that holds every value, from `scale` up; `None` when there is none.
pub(crate) fn scale_of(values: impl Iterator<Item = f64> + Clone, mut scale: u8) -> Option<u8> {
    for value in values.clone() {
        while mantissa(value, scale).is_none() {
            // A value that is too large only gets larger.
            if scale >= MAX_SCALE || (value * power(scale)).abs() > MAX_MANTISSA {
                return None;
            }
            scale += 1;
        }
    }
    // What a later value needs may be too fine for an earlier one, which is too large for it.
    let mut values = values;
    values
        .all(|value| mantissa(value, scale).is_some())
        .then_some(scale)
}

/// Most digits after the point that are looked for.
pub(crate) const MAX_SCALE: u8 = 10;
/// Integers up to here have one float each.
const MAX_MANTISSA: f64 = 9_007_199_254_740_992.0;
const POWERS: [f64; MAX_SCALE as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_found_and_come_back_bit_for_bit() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let digits = random.u8(0..=4);
            let text = format!(
                "{}.{:0width$}",
                random.i32(-5_000..5_000),
                random.u32(0..10_000),
                width = usize::from(digits.max(1))
            );
            let parsed: f64 = text.parse().expect("a number");
            let scale = scale_of([parsed].into_iter(), 0).expect("a decimal");
            let found = mantissa(parsed, scale).expect("fits");
            assert_eq!(
                value(found, power(scale)).to_bits(),
                parsed.to_bits(),
                "{text}"
            );
            // A larger scale, as a merge with finer values needs, holds it as well.
            for more in scale..=MAX_SCALE {
                let Some(found) = mantissa(parsed, more) else {
                    continue;
                };
                assert_eq!(
                    value(found, power(more)).to_bits(),
                    parsed.to_bits(),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn large_values_and_fine_ones_have_no_scale_together() {
        for (large, fine) in [
            (1.7e12, 0.0001),
            (9e14, 0.01),
            (9_007_199_254_740_992.0, 0.5),
        ] {
            for values in [[large, fine], [fine, large]] {
                assert_eq!(scale_of(values.into_iter(), 0), None, "{values:?}");
            }
            assert!(scale_of([large].into_iter(), 0).is_some(), "{large}");
            assert!(scale_of([fine].into_iter(), 0).is_some(), "{fine}");
        }
    }

    #[test]
    fn what_is_no_decimal_stays_a_float() {
        for value in [
            -0.0,
            f64::NAN,
            f64::INFINITY,
            1.0 / 3.0,
            1e300,
            0.1 + 0.2,
            f64::MIN_POSITIVE,
        ] {
            assert_eq!(scale_of([1.5, value].into_iter(), 0), None, "{value}");
        }
        assert_eq!(scale_of([0.0, 7.0, -3.0].into_iter(), 0), Some(0));
        assert_eq!(scale_of([0.5, 21.37, 4.0].into_iter(), 0), Some(2));
        assert_eq!(scale_of(std::iter::empty(), 0), Some(0));
    }
}
