//! Texts that become times, patterns that times become texts by, and bins that are too far away.
//! Owns where they are put otherwise; must never change a time.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, TryCast};

use super::carriers::{Kernel, carried, carry};
use super::patterns;

/// One expression, whose parts have been looked at.
pub(super) fn replace(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::Cast(Cast { expr, field }) if is_time(field.data_type()) => {
            spelled(*expr, reading(field.data_type()), schema).update_data(|expr| {
                let expr = Box::new(expr);
                Expr::Cast(Cast { expr, field })
            })
        }
        Expr::TryCast(TryCast { expr, field }) if is_time(field.data_type()) => {
            spelled(*expr, reading(field.data_type()), schema).update_data(|expr| {
                let expr = Box::new(expr);
                Expr::TryCast(TryCast { expr, field })
            })
        }
        Expr::ScalarFunction(call) => function(call, schema)?,
        other => Transformed::no(other),
    })
}

fn function(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (reads, writes) = (
        READERS.contains(&call.func.name()),
        call.func.name() == "to_char",
    );
    if call.func.name() == "date_bin" {
        let (source, far) = match call.args.as_slice() {
            [_, source, origin] => (source.clone(), !is_near(origin)),
            _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
        };
        let bin = Expr::ScalarFunction(call);
        return Ok(if far {
            Transformed::yes(carry(Kernel::Given, vec![bin, source]))
        } else {
            Transformed::no(bin)
        });
    }
    if !(reads || writes) {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    }
    let mut changed = false;
    if reads && call.args.len() == 1 && !call.func.name().ends_with("date") {
        let text = call.args.remove(0);
        let text = spelled(text, Kernel::ClockText, schema);
        changed |= text.transformed;
        call.args.push(text.data);
    }
    for pattern in call.args.iter_mut().skip(1) {
        let Expr::Literal(value, _) = pattern else {
            continue;
        };
        let Some(Some(text)) = value.try_as_str() else {
            continue;
        };
        match patterns::respelled(text) {
            Ok(Some(made)) => {
                let made = ScalarValue::Utf8(Some(made)).cast_to(&value.data_type())?;
                *value = made;
                changed = true;
            }
            Ok(None) => {}
            Err(why) => return plan_err!("{}: the pattern {text:?}: {why}", call.func.name()),
        }
    }
    let call = Expr::ScalarFunction(call);
    Ok(if changed {
        Transformed::yes(call)
    } else {
        Transformed::no(call)
    })
}

/// How a text becomes a time of type `kind`.
fn reading(kind: &DataType) -> Kernel {
    match kind {
        DataType::Timestamp(_, Some(zone)) if !zone.starts_with(['+', '-']) => {
            Kernel::ZonedText(zone.to_string())
        }
        _ => Kernel::ClockText,
    }
}

/// `text` as the engine reads times; anything else as it is.
fn spelled(text: Expr, reading: Kernel, schema: &DFSchema) -> Transformed<Expr> {
    let is_text = text.get_type(schema).is_ok_and(|kind| kind.is_string());
    let done = matches!(&text, Expr::ScalarFunction(call)
        if carried(&call.func) == Some(&reading));
    if is_text && !done {
        Transformed::yes(carry(reading, vec![text]))
    } else {
        Transformed::no(text)
    }
}

fn is_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(_, _))
}

/// Whether every time that can be stored is within 292 years of `origin`, or was not in our days.
fn is_near(origin: &Expr) -> bool {
    let Expr::Literal(value, _) = origin else {
        return false;
    };
    match value {
        ScalarValue::TimestampNanosecond(Some(at), _) => NEAR.contains(at),
        _ => value.is_null(),
    }
}

/// From 1970 to 1971.
const NEAR: std::ops::Range<i64> = 0..31_536_000_000_000_000;

/// Functions that make a time of a text.
const READERS: &[&str] = &[
    "to_timestamp",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "to_timestamp_nanos",
    "to_date",
];
