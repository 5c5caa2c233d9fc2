//! Which times rows must have for a filter to hold. A pure function from expressions to an
//! interval.
//!
//! Owns only what can be excluded safely: the interval may be too wide, and must never be too
//! narrow. Whatever is not understood gives the interval of all times.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Operator, TryCast};

use crate::at_zone;

/// Times from `min` to `max`, both included, in nanoseconds since 1970; none when `min > max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) min: i64,
    pub(crate) max: i64,
}

impl TimeRange {
    pub(crate) const ALL: Self = Self {
        min: i64::MIN,
        max: i64::MAX,
    };
    const NONE: Self = Self {
        min: i64::MAX,
        max: i64::MIN,
    };

    pub(crate) fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// Whether rows with times from `min` to `max` can hold.
    pub(crate) fn overlaps(self, min: i64, max: i64) -> bool {
        !self.is_none() && self.min <= max && min <= self.max
    }

    fn is_none(self) -> bool {
        self.min > self.max
    }

    fn and(self, other: Self) -> Self {
        Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    /// The smallest interval that holds both.
    fn or(self, other: Self) -> Self {
        match (self.is_none(), other.is_none()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self {
                min: self.min.min(other.min),
                max: self.max.max(other.max),
            },
        }
    }
}

/// Times that rows must have for all of `filters` to hold.
pub(crate) fn time_range(filters: &[Expr]) -> TimeRange {
    filters
        .iter()
        .fold(TimeRange::ALL, |range, filter| range.and(bounds(filter)))
}

/// Times that rows must have for `filter` to hold.
pub(crate) fn bounds(filter: &Expr) -> TimeRange {
    match filter {
        Expr::BinaryExpr(binary) => binary_bounds(binary),
        Expr::Between(between) if !between.negated => between_bounds(between),
        Expr::InList(list) if !list.negated => list_bounds(list),
        Expr::Alias(alias) => bounds(&alias.expr),
        _ => TimeRange::ALL,
    }
}

fn binary_bounds(binary: &BinaryExpr) -> TimeRange {
    let BinaryExpr { left, op, right } = binary;
    match op {
        Operator::And => bounds(left).and(bounds(right)),
        Operator::Or => bounds(left).or(bounds(right)),
        _ => {
            if let (Some(seen), Some(value)) = (time_column(left), literal(right)) {
                compare(*op, seen, value)
            } else if let (Some(value), Some(seen)) = (literal(left), time_column(right)) {
                op.swap()
                    .map_or(TimeRange::ALL, |op| compare(op, seen, value))
            } else {
                TimeRange::ALL
            }
        }
    }
}

fn between_bounds(between: &Between) -> TimeRange {
    let Some(seen) = time_column(&between.expr) else {
        return TimeRange::ALL;
    };
    let side = |op: Operator, bound: &Expr| {
        literal(bound).map_or(TimeRange::ALL, |value| compare(op, seen, value))
    };
    side(Operator::GtEq, &between.low).and(side(Operator::LtEq, &between.high))
}

fn list_bounds(list: &InList) -> TimeRange {
    let Some(seen) = time_column(&list.expr) else {
        return TimeRange::ALL;
    };
    list.list.iter().fold(TimeRange::NONE, |range, item| {
        let one = literal(item).map_or(TimeRange::ALL, |v| compare(Operator::Eq, seen, v));
        range.or(one)
    })
}

/// The time column as it stands in an expression.
#[derive(Clone, Copy)]
struct Seen {
    /// Nanoseconds per unit: more than 1 under a cast.
    grain: i64,
    clock: Clock,
    /// How often it was read off a clock that is not UTC, or set by one.
    moves: u8,
}

/// What a point in time is counted by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// An instant whose zone is UTC.
    Utc,
    /// An instant with another zone.
    Zone,
    /// The hands of a clock, nobody says where.
    Wall,
}

impl Clock {
    fn of(zone: Option<&str>) -> Self {
        match zone {
            None => Self::Wall,
            Some("+00:00" | "UTC" | "Z" | "+00" | "+0000" | "Etc/UTC") => Self::Utc,
            Some(_) => Self::Zone,
        }
    }

    /// Whether the same number means two instants.
    fn differs(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Wall, Self::Zone) | (Self::Zone, Self::Wall)
        )
    }
}

/// A point in time as `value` units of `grain` nanoseconds.
#[derive(Clone, Copy)]
struct Moment {
    value: i64,
    grain: i64,
    clock: Clock,
}

/// Times for which `time op value` can hold, where the column may have been rounded to its grain
/// and moved between zones.
fn compare(op: Operator, seen: Seen, moment: Moment) -> TimeRange {
    let grain = seen.grain;
    let moves = i64::from(seen.moves) + i64::from(seen.clock.differs(moment.clock));
    let exact = grain == 1 && moves == 0;
    let ends = if grain == 1 {
        moment
            .value
            .checked_mul(moment.grain)
            .map(|value| (value, value))
    } else if grain == moment.grain {
        // Rounding may go down or towards zero, so a unit to either side may round to the value.
        let low = moment
            .value
            .checked_sub(1)
            .and_then(|value| value.checked_mul(grain));
        let high = moment
            .value
            .checked_add(1)
            .and_then(|value| value.checked_mul(grain));
        low.zip(high)
    } else {
        None
    };
    let Some((low, high)) = ends else {
        return TimeRange::ALL;
    };
    let slack = moves.saturating_mul(WIDEST_ZONE);
    let (low, high) = (low.saturating_sub(slack), high.saturating_add(slack));
    let step = i64::from(exact);
    match op {
        Operator::Eq | Operator::IsNotDistinctFrom => TimeRange {
            min: low,
            max: high,
        },
        Operator::Lt => TimeRange {
            min: i64::MIN,
            max: high.saturating_sub(step),
        },
        Operator::LtEq => TimeRange {
            min: i64::MIN,
            max: high,
        },
        Operator::Gt => TimeRange {
            min: low.saturating_add(step),
            max: i64::MAX,
        },
        Operator::GtEq => TimeRange {
            min: low,
            max: i64::MAX,
        },
        _ => TimeRange::ALL,
    }
}

/// The time column, or what clocks show of it: each move is by less than [`WIDEST_ZONE`].
fn time_column(expr: &Expr) -> Option<Seen> {
    match expr {
        Expr::Column(column) => (column.name == TIME_COLUMN).then_some(Seen {
            grain: 1,
            clock: Clock::Utc,
            moves: 0,
        }),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            let seen = time_column(expr).filter(|seen| seen.grain == 1)?;
            let (grain, clock) = match field.data_type() {
                DataType::Timestamp(unit, zone) => (nanos(*unit), Clock::of(zone.as_deref())),
                DataType::Date32 => (DAY, Clock::Wall),
                _ => return None,
            };
            Some(Seen {
                grain,
                clock,
                moves: seen.moves.checked_add(seen.clock.differs(clock).into())?,
            })
        }
        // What a clock somewhere shows.
        Expr::ScalarFunction(call) if call.func.name() == at_zone::NAME => {
            let seen = time_column(call.args.get(1)?).filter(|seen| seen.grain == 1)?;
            let clock = match seen.clock {
                Clock::Wall => Clock::Utc,
                Clock::Utc | Clock::Zone => Clock::Wall,
            };
            let moves = seen.moves.checked_add(1)?;
            Some(Seen {
                clock,
                moves,
                ..seen
            })
        }
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<Moment> {
    match expr {
        Expr::Literal(value, _) => scalar(value),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            let Expr::Literal(value, _) = expr.as_ref() else {
                return None;
            };
            let DataType::Timestamp(unit, zone) = field.data_type() else {
                return None;
            };
            let moment = scalar(value)?;
            // A cast between zones may shift the wall clock; within UTC it shifts nothing.
            let clock = Clock::of(zone.as_deref());
            if clock == Clock::Zone || moment.clock == Clock::Zone {
                return None;
            }
            // Only a cast to a finer unit keeps the value.
            let grain = nanos(*unit);
            (moment.grain % grain == 0).then_some(moment)
        }
        _ => None,
    }
}

fn scalar(value: &ScalarValue) -> Option<Moment> {
    let (value, grain, zone) = match value {
        ScalarValue::TimestampSecond(value, zone) => ((*value)?, SECOND, zone.as_deref()),
        ScalarValue::TimestampMillisecond(value, zone) => ((*value)?, MILLI, zone.as_deref()),
        ScalarValue::TimestampMicrosecond(value, zone) => ((*value)?, MICRO, zone.as_deref()),
        ScalarValue::TimestampNanosecond(value, zone) => ((*value)?, 1, zone.as_deref()),
        ScalarValue::Date32(value) => (i64::from((*value)?), DAY, None),
        ScalarValue::Date64(value) => ((*value)?, MILLI, None),
        _ => return None,
    };
    Some(Moment {
        value,
        grain,
        clock: Clock::of(zone),
    })
}

fn nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => SECOND,
        TimeUnit::Millisecond => MILLI,
        TimeUnit::Microsecond => MICRO,
        TimeUnit::Nanosecond => 1,
    }
}

/// Name of the time column of every table.
const TIME_COLUMN: &str = "time";
const MICRO: i64 = 1_000;
const MILLI: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Further than a clock can be from UTC: offsets are within 23:59 h.
const WIDEST_ZONE: i64 = 24 * 3_600 * SECOND;

#[cfg(test)]
mod tests;
