//! AT TIME ZONE as standard SQL has it, and PostgreSQL and DuckDB: of a local time (one without a
//! zone) it makes the instant when it is that time there, of an instant the local time there. Owns
//! the function behind it, `timezone`, and what local times are in an answer; must never give a
//! time that remembers another zone, because comparisons would read other local times in it.

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use chrono::{DateTime, Offset, TimeZone};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr as PlanExpr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName,
};
use wal::local_time::ahead_of_utc;

/// What the times without a zone are in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zoneless {
    /// All in UTC, like those of the tables.
    Utc,
    /// Some are local to another zone.
    Local,
}

/// What the times without a zone are in an answer to `plan`.
///
/// # Errors
/// None of its own.
pub(crate) fn zoneless(plan: &LogicalPlan) -> Result<Zoneless> {
    let mut found = Zoneless::Utc;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            if expr.exists(|part| Ok(makes_local(part)))? {
                found = Zoneless::Local;
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

fn makes_local(expr: &PlanExpr) -> bool {
    let PlanExpr::ScalarFunction(call) = expr else {
        return false;
    };
    [NAME, "to_local_time"].contains(&call.func.name())
}

/// Puts the function where `expr` says AT TIME ZONE.
pub(crate) fn rewrite(expr: &mut Expr) {
    if !matches!(expr, Expr::AtTimeZone { .. }) {
        return;
    }
    let placeholder = Expr::Identifier(Ident::new(""));
    if let Expr::AtTimeZone {
        timestamp,
        time_zone,
    } = std::mem::replace(expr, placeholder)
    {
        let argument = |expr: Box<Expr>| FunctionArg::Unnamed(FunctionArgExpr::Expr(*expr));
        *expr = Expr::Function(Function {
            name: ObjectName::from(vec![Ident::new(NAME)]),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args: vec![argument(time_zone), argument(timestamp)],
                clauses: Vec::new(),
            }),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: Vec::new(),
        });
    }
}

/// When `local`, a time without a zone, is in `zone`.
pub(crate) fn instant(zone: &str, local: PlanExpr) -> PlanExpr {
    let function = ScalarUDF::new_from_impl(AtZone::new());
    function.call(vec![lit(zone), local])
}

/// `timezone(zone, time)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AtZone {
    signature: Signature,
}

impl AtZone {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for AtZone {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [zone, time] = given else {
            return plan_err!("timezone takes a zone and a time");
        };
        // What cannot be is refused by `return_type`, whose words reach whoever asks.
        let zone = if zone.is_string() || zone.is_null() {
            DataType::Utf8
        } else {
            zone.clone()
        };
        let time = match time {
            DataType::Date32 | DataType::Date64 | DataType::Null => {
                DataType::Timestamp(TimeUnit::Nanosecond, None)
            }
            other => other.clone(),
        };
        Ok(vec![zone, time])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [DataType::Utf8, DataType::Timestamp(unit, zone)] => Ok(other(*unit, zone.as_deref())),
            [DataType::Utf8, _] => plan_err!(
                "AT TIME ZONE needs a time: type TIMESTAMP '...' for a local time, or \
                 TIMESTAMPTZ '...' for an instant"
            ),
            _ => plan_err!("AT TIME ZONE needs the name of a zone, such as 'Europe/Berlin'"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [zone, time] = args.args.as_slice() else {
            return plan_err!("timezone takes a zone and a time");
        };
        let DataType::Timestamp(unit, from) = time.data_type() else {
            return plan_err!("AT TIME ZONE needs a time");
        };
        let ColumnarValue::Scalar(ScalarValue::Utf8(zone)) = zone else {
            return Err(DataFusionError::NotImplemented(
                "AT TIME ZONE takes one zone, not one of each row".to_owned(),
            ));
        };
        let to = other(unit, from.as_deref());
        let Some(zone) = zone else {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(&to)?));
        };
        let Ok(zone) = zone.trim().parse::<Tz>() else {
            return exec_err!(
                "{zone:?} is no time zone: give a name such as 'Europe/Berlin' or an offset such \
                 as '+02:00'"
            );
        };
        let moved = |times: &ArrayRef| shifted(times, unit, from.is_none(), zone, &to);
        match time {
            ColumnarValue::Array(times) => Ok(ColumnarValue::Array(moved(times)?)),
            ColumnarValue::Scalar(time) => {
                let times = moved(&time.to_array()?)?;
                ScalarValue::try_from_array(&times, 0).map(ColumnarValue::Scalar)
            }
        }
    }
}

/// An instant for a local time, and a local time for an instant.
fn other(unit: TimeUnit, zone: Option<&str>) -> DataType {
    DataType::Timestamp(unit, zone.is_none().then(|| UTC.into()))
}

/// `times`, which are `local` to `zone` or instants, as the other, of type `to`.
fn shifted(
    times: &ArrayRef,
    unit: TimeUnit,
    local: bool,
    zone: Tz,
    to: &DataType,
) -> Result<ArrayRef> {
    let in_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let beyond = |time: i64| {
        let what = format!("the time {time} (since 1970) AT TIME ZONE is out of range");
        ArrowError::ComputeError(what)
    };
    let ticks = cast(times, &DataType::Int64)?;
    let moved: Int64Array = ticks.as_primitive::<Int64Type>().try_unary(|time| {
        let seconds = DateTime::from_timestamp(time.div_euclid(in_second), 0);
        let Some(at) = seconds.map(|at| at.naive_utc()) else {
            return Err(beyond(time));
        };
        let ahead = if local {
            ahead_of_utc(&zone, at).map(|ahead| -i64::from(ahead))
        } else {
            let offset = zone.offset_from_utc_datetime(&at);
            Some(i64::from(offset.fix().local_minus_utc()))
        };
        let moved = ahead.and_then(|ahead| time.checked_add(ahead * in_second));
        moved.ok_or_else(|| beyond(time))
    })?;
    Ok(cast(&moved, to)?)
}

/// As PostgreSQL calls it.
pub(crate) const NAME: &str = "timezone";
const UTC: &str = "+00:00";
