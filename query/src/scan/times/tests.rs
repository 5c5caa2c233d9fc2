//! Bounds of conditions: as wide as they must be. Must never know a plan.

use super::*;
use datafusion::logical_expr::{cast, col, in_list, lit};

fn time() -> Expr {
    col("time")
}

fn ns(value: i64) -> Expr {
    Expr::Literal(
        ScalarValue::TimestampNanosecond(Some(value), Some("+00:00".into())),
        None,
    )
}

fn ms(value: i64) -> Expr {
    Expr::Literal(ScalarValue::TimestampMillisecond(Some(value), None), None)
}

fn range(min: i64, max: i64) -> TimeRange {
    TimeRange { min, max }
}

#[test]
fn comparisons_bound_one_side() {
    assert_eq!(bounds(&time().gt(ns(10))), range(11, i64::MAX));
    assert_eq!(bounds(&time().gt_eq(ns(10))), range(10, i64::MAX));
    assert_eq!(bounds(&time().lt(ns(10))), range(i64::MIN, 9));
    assert_eq!(bounds(&time().lt_eq(ns(10))), range(i64::MIN, 10));
    assert_eq!(bounds(&time().eq(ns(10))), range(10, 10));
    assert_eq!(bounds(&time().not_eq(ns(10))), TimeRange::ALL);
}

#[test]
fn swapped_sides_mean_the_opposite() {
    assert_eq!(bounds(&ns(10).lt(time())), range(11, i64::MAX));
    assert_eq!(bounds(&ns(10).gt_eq(time())), range(i64::MIN, 10));
}

#[test]
fn units_and_dates_are_scaled() {
    assert_eq!(bounds(&time().gt_eq(ms(2))), range(2_000_000, i64::MAX));
    let date = Expr::Literal(ScalarValue::Date32(Some(1)), None);
    assert_eq!(bounds(&time().lt(date)), range(i64::MIN, DAY - 1));
    let huge = Expr::Literal(ScalarValue::TimestampSecond(Some(i64::MAX), None), None);
    assert_eq!(bounds(&time().lt(huge)), TimeRange::ALL);
}

#[test]
fn and_narrows_or_widens() {
    let low = time().gt_eq(ns(10));
    let high = time().lt(ns(20));
    assert_eq!(bounds(&low.clone().and(high.clone())), range(10, 19));
    let either = time().eq(ns(5)).or(time().eq(ns(50)));
    assert_eq!(bounds(&either), range(5, 50));
    let unknown = col("device").eq(lit("a"));
    assert_eq!(
        bounds(&low.clone().and(unknown.clone())),
        range(10, i64::MAX)
    );
    assert_eq!(bounds(&low.clone().or(unknown)), TimeRange::ALL);
    assert_eq!(time_range(&[low, high]), range(10, 19));
    assert_eq!(time_range(&[]), TimeRange::ALL);
}

#[test]
fn a_contradiction_excludes_everything() {
    let never = time().gt(ns(20)).and(time().lt(ns(10)));
    let found = bounds(&never);
    assert!(!found.overlaps(i64::MIN, i64::MAX));
    assert_eq!(bounds(&never.or(time().eq(ns(7)))), range(7, 7));
}

#[test]
fn between_and_in_lists() {
    assert_eq!(bounds(&time().between(ns(10), ns(20))), range(10, 20));
    assert_eq!(bounds(&time().not_between(ns(10), ns(20))), TimeRange::ALL);
    assert_eq!(
        bounds(&in_list(time(), vec![ns(9), ns(3)], false)),
        range(3, 9)
    );
    assert_eq!(
        bounds(&in_list(time(), vec![ns(9), col("x")], false)),
        TimeRange::ALL
    );
    assert_eq!(bounds(&in_list(time(), vec![ns(9)], true)), TimeRange::ALL);
}

#[test]
fn a_cast_of_the_column_widens_by_its_unit() {
    let in_ms = cast(time(), DataType::Timestamp(TimeUnit::Millisecond, None));
    assert_eq!(bounds(&in_ms.clone().gt(ms(5))), range(4_000_000, i64::MAX));
    assert_eq!(bounds(&in_ms.clone().lt(ms(5))), range(i64::MIN, 6_000_000));
    assert_eq!(bounds(&in_ms.gt(ns(5))), TimeRange::ALL);
    let zoned = cast(
        time(),
        DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
    );
    assert_eq!(bounds(&zoned.gt(ns(5))), range(6, i64::MAX));
    let day = cast(time(), DataType::Date32);
    let date = Expr::Literal(ScalarValue::Date32(Some(10)), None);
    assert_eq!(bounds(&day.eq(date)), range(9 * DAY, 11 * DAY));
    assert_eq!(
        bounds(&cast(time(), DataType::Int64).gt(lit(5_i64))),
        TimeRange::ALL
    );
}

#[test]
fn zones_move_a_bound_by_more_than_a_day() {
    let new_york = |unit| DataType::Timestamp(unit, Some("America/New_York".into()));
    let local = cast(time(), new_york(TimeUnit::Nanosecond));
    let day = cast(local.clone(), DataType::Date32);
    let date = Expr::Literal(ScalarValue::Date32(Some(10)), None);
    let wide = range(9 * DAY - WIDEST_ZONE, 11 * DAY + WIDEST_ZONE);
    assert_eq!(bounds(&day.eq(date)), wide);
    let naive = cast(local.clone(), DataType::Timestamp(TimeUnit::Second, None));
    let value = Expr::Literal(ScalarValue::TimestampSecond(Some(10), None), None);
    let from = range(9 * SECOND - WIDEST_ZONE, i64::MAX);
    assert_eq!(bounds(&naive.gt(value)), from);
    // An instant is one everywhere.
    let zone = Some("America/New_York".into());
    let value = Expr::Literal(ScalarValue::TimestampNanosecond(Some(10), zone), None);
    let exact = range(i64::MIN, 10);
    assert_eq!(bounds(&local.clone().lt_eq(value.clone())), exact);
    assert_eq!(bounds(&time().lt_eq(value.clone())), exact);
    let until = range(i64::MIN, 10 + WIDEST_ZONE);
    let wall = DataType::Timestamp(TimeUnit::Nanosecond, None);
    assert_eq!(bounds(&cast(time(), wall).lt(value)), until);
    let value = Expr::Literal(ScalarValue::TimestampNanosecond(Some(10), None), None);
    assert_eq!(bounds(&local.lt(value)), until);
}

#[test]
fn each_zone_moves_a_bound_further() {
    let wall = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let zone = DataType::Timestamp(TimeUnit::Nanosecond, Some("+23:00".into()));
    let mut seen = cast(time(), wall.clone());
    for moves in 1..=5 {
        seen = cast(cast(seen, zone.clone()), wall.clone());
        // Each of the casts may move it, there and back.
        let value = Expr::Literal(ScalarValue::TimestampNanosecond(Some(10), None), None);
        let least = moves * 23 * 3_600 * SECOND;
        let TimeRange { min, max } = bounds(&seen.clone().eq(value));
        assert!(
            min <= 10 - least && max >= 10 + least,
            "{moves}: {min} {max}"
        );
    }
}

#[test]
fn a_cast_of_the_literal_is_followed_only_where_it_keeps_the_value() {
    let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()));
    assert_eq!(
        bounds(&time().gt_eq(cast(ms(2), utc.clone()))),
        range(2_000_000, i64::MAX)
    );
    let berlin = DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into()));
    assert_eq!(bounds(&time().gt_eq(cast(ms(2), berlin))), TimeRange::ALL);
    let coarse = DataType::Timestamp(TimeUnit::Second, None);
    assert_eq!(
        bounds(&time().gt_eq(cast(ms(2_500), coarse))),
        TimeRange::ALL
    );
    assert_eq!(
        bounds(&time().gt_eq(cast(lit("2024-01-01"), utc))),
        TimeRange::ALL
    );
}

#[test]
fn other_columns_and_nulls_exclude_nothing() {
    assert_eq!(bounds(&col("t2").gt(ns(5))), TimeRange::ALL);
    let null = Expr::Literal(ScalarValue::TimestampNanosecond(None, None), None);
    assert_eq!(bounds(&time().gt(null)), TimeRange::ALL);
    assert_eq!(bounds(&time().is_null()), TimeRange::ALL);
}

#[test]
fn overlap_includes_both_ends() {
    let range = range(10, 20);
    assert!(range.overlaps(20, 30) && range.overlaps(0, 10) && range.overlaps(12, 13));
    assert!(!range.overlaps(21, 30) && !range.overlaps(0, 9));
}
