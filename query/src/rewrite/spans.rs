//! Comparisons of intervals, which DataFusion makes by months, then days, then the rest: 25 hours were
//! less than a day. Owns that they are compared by their length, and how many seconds they have; must
//! never change an interval that is not compared.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, DurationNanosecondType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator};

use super::carriers::{Kernel, carry};

/// One expression, whose parts have been looked at.
pub(super) fn replace(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_interval = |expr: &Expr| {
        let kind = expr.get_type(schema);
        matches!(kind, Ok(DataType::Interval(_)))
    };
    let span = |expr: Expr| carry(Kernel::Span, vec![expr]);
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if COMPARISONS.contains(&op) && is_interval(&right) && is_interval(&left) =>
        {
            let (left, right) = (Box::new(span(*left)), Box::new(span(*right)));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Between(between) if is_interval(&between.expr) => {
            Transformed::yes(Expr::Between(Between {
                expr: Box::new(span(*between.expr)),
                negated: between.negated,
                low: Box::new(span(*between.low)),
                high: Box::new(span(*between.high)),
            }))
        }
        Expr::InList(list) if is_interval(&list.expr) => Transformed::yes(Expr::InList(InList {
            expr: Box::new(span(*list.expr)),
            list: list.list.into_iter().map(span).collect(),
            negated: list.negated,
        })),
        Expr::AggregateFunction(call)
            if matches!(call.func.name(), "min" | "max")
                && call.params.args.iter().any(is_interval) =>
        {
            return refusal(call.func.name());
        }
        Expr::ScalarFunction(call)
            if matches!(call.func.name(), "greatest" | "least")
                && call.args.iter().any(is_interval) =>
        {
            return refusal(call.func.name());
        }
        other => Transformed::no(other),
    })
}

/// How many seconds there are in intervals, with fractions, where a year has 365.25 days and a month 30
/// as in PostgreSQL. DataFusion leaves the fraction out of some. None if they are something else.
pub(super) fn seconds(of: &ColumnarValue) -> Result<Option<ColumnarValue>> {
    Ok(match of {
        ColumnarValue::Array(array) => seconds_of(array)?.map(ColumnarValue::Array),
        ColumnarValue::Scalar(scalar) => match seconds_of(&scalar.to_array()?)? {
            Some(array) => {
                let seconds = ScalarValue::try_from_array(&array, 0)?;
                Some(ColumnarValue::Scalar(seconds))
            }
            None => None,
        },
    })
}

fn seconds_of(array: &ArrayRef) -> Result<Option<ArrayRef>> {
    let seconds: Float64Array = match array.data_type() {
        DataType::Duration(_) => cast(array, &DataType::Duration(TimeUnit::Nanosecond))?
            .as_primitive::<DurationNanosecondType>()
            .unary(|nanoseconds| as_seconds(i128::from(nanoseconds))),
        DataType::Interval(_) => cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?
            .as_primitive::<IntervalMonthDayNanoType>()
            .unary(|it| {
                let (years, months) = (it.months / 12, it.months % 12);
                let hours = i128::from(years) * HOURS_OF_YEAR
                    + (i128::from(months) * 30 + i128::from(it.days)) * 24;
                as_seconds(hours * HOUR + i128::from(it.nanoseconds))
            }),
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(seconds)))
}

/// Whole microseconds, as most are, lose nothing before they are divided.
#[allow(
    clippy::cast_precision_loss,
    reason = "beyond 53 bits the last digits are what is rounded"
)]
fn as_seconds(nanoseconds: i128) -> f64 {
    if nanoseconds % 1_000 == 0 {
        (nanoseconds / 1_000) as f64 / 1e6
    } else {
        nanoseconds as f64 / 1e9
    }
}

fn refusal(function: &str) -> Result<Transformed<Expr>> {
    plan_err!(
        "{function} of intervals is not possible: {function}(extract(epoch FROM ...)) tells it"
    )
}

const COMPARISONS: &[Operator] = &[
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::IsDistinctFrom,
    Operator::IsNotDistinctFrom,
];
/// 365.25 days.
const HOURS_OF_YEAR: i128 = 8_766;
/// In nanoseconds.
const HOUR: i128 = 3_600_000_000_000;
