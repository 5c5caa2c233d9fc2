//! The time zone of one statement: where its days begin. Owns how a session gets it, and the rule
//! that reads times in it; must never move an instant, only say what a clock there shows.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ExprSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::functions::datetime::to_local_time;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::AnalyzerRule;

use crate::at_zone;
use crate::each_expr::each_expr;
use crate::error::QueryError;

/// A time zone by its name, such as `Europe/Berlin`, or by its offset, such as `+02:00`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone(Arc<str>);

impl TimeZone {
    /// The zone called `name`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn parse(name: &str) -> std::result::Result<Self, QueryError> {
        let name = name.trim();
        if ["UTC", "Z", "GMT"]
            .iter()
            .any(|utc| name.eq_ignore_ascii_case(utc))
        {
            return Ok(Self(UTC.into()));
        }
        // A sign in a URL that was not escaped arrives as a space, which was trimmed.
        let offset = format!("+{name}");
        let known = [name, offset.as_str()]
            .into_iter()
            .find(|name| Tz::from_str(name).is_ok());
        known.map(|name| Self(name.into())).ok_or_else(|| {
            QueryError::Parameter(format!(
                "{name:?} is no time zone: give a name such as Europe/Berlin or an offset such as \
                 +02:00"
            ))
        })
    }

    /// As it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Makes it the zone of a session.
    pub(crate) fn enter(&self, state: &mut SessionState) -> Result<()> {
        let options = state.config_mut().options_mut();
        options.execution.time_zone = Some(self.0.to_string());
        let options = Arc::clone(state.config_options());
        let functions = state.scalar_functions().values();
        let updated = functions.filter_map(|made| made.inner().with_updated_config(&options));
        for function in updated.collect::<Vec<_>>() {
            state.register_udf(Arc::new(function))?;
        }
        Ok(())
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets functions and casts see stored times, which are in UTC, in the zone of the session.
#[derive(Debug)]
pub(crate) struct LocalTimes;

impl AnalyzerRule for LocalTimes {
    fn name(&self) -> &'static str {
        "local_times"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = config.execution.time_zone.as_deref();
        let Some(zone) = zone.filter(|zone| !is_utc(zone)) else {
            return Ok(plan);
        };
        let local = plan.transform_up_with_subqueries(|plan| {
            each_expr(plan, |expr, schema| Ok(localized(zone, expr, schema)))
        })?;
        Ok(local.data)
    }
}

fn localized(zone: &str, expr: Expr, schema: &dyn ExprSchema) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(mut call) => {
            let truncates = call.func.name() == "date_trunc";
            let place = match call.func.name() {
                "date_trunc" | "date_part" => 1,
                "to_char" | "to_local_time" => 0,
                _ => return Transformed::no(Expr::ScalarFunction(call)),
            };
            let Some((arg, unit)) = call.args.get_mut(place).and_then(|arg| {
                let unit = utc_unit(&arg.get_type(schema).ok()?)?;
                Some((arg, unit))
            }) else {
                return Transformed::no(Expr::ScalarFunction(call));
            };
            *arg = cast(arg.clone(), zoned(unit, zone));
            let call = Expr::ScalarFunction(call);
            Transformed::yes(if truncates {
                cast(call, zoned(unit, UTC))
            } else {
                call
            })
        }
        Expr::Cast(mut made) => {
            let Ok(from) = made.expr.get_type(schema) else {
                return Transformed::no(Expr::Cast(made));
            };
            match through(zone, &from, made.field.data_type()) {
                Some(local) => {
                    made.expr = Box::new(local(*made.expr));
                    Transformed::yes(Expr::Cast(made))
                }
                None => Transformed::no(Expr::Cast(made)),
            }
        }
        Expr::TryCast(mut made) => {
            let Ok(from) = made.expr.get_type(schema) else {
                return Transformed::no(Expr::TryCast(made));
            };
            match through(zone, &from, made.field.data_type()) {
                Some(local) => {
                    made.expr = Box::new(local(*made.expr));
                    Transformed::yes(Expr::TryCast(made))
                }
                None => Transformed::no(Expr::TryCast(made)),
            }
        }
        other => Transformed::no(other),
    }
}

type Step = Box<dyn Fn(Expr) -> Expr>;

/// What a value of one type becomes before it is cast to another, where that is a matter of zones.
fn through(zone: &str, from: &DataType, to: &DataType) -> Option<Step> {
    let zone = zone.to_owned();
    let is_here = |of: &str| is_utc(of) || *of == *zone;
    if let DataType::Timestamp(unit, Some(of)) = from
        && is_here(of)
    {
        let unit = *unit;
        return match to {
            DataType::Timestamp(_, None) => Some(Box::new(move |expr| {
                to_local_time().call(vec![cast(expr, zoned(unit, &zone))])
            })),
            DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => {
                Some(Box::new(move |expr| cast(expr, zoned(unit, &zone))))
            }
            to if to.is_string() => Some(Box::new(move |expr| cast(expr, zoned(unit, &zone)))),
            _ => None,
        };
    }
    let DataType::Timestamp(unit, Some(of)) = to else {
        return None;
    };
    let unit = *unit;
    if !is_here(of) {
        return None;
    }
    // A clock may show a time twice, or never: a cast knows no instant of those.
    match from {
        DataType::Date32 | DataType::Date64 => Some(Box::new(move |expr| {
            let midnight = cast(expr, DataType::Timestamp(unit, None));
            at_zone::instant(&zone, midnight)
        })),
        DataType::Timestamp(_, None) => Some(Box::new(move |expr| {
            let local = cast(expr, DataType::Timestamp(unit, None));
            at_zone::instant(&zone, local)
        })),
        from if from.is_string() && is_utc(of) => {
            Some(Box::new(move |expr| cast(expr, zoned(unit, &zone))))
        }
        _ => None,
    }
}

fn zoned(unit: TimeUnit, zone: &str) -> DataType {
    DataType::Timestamp(unit, Some(zone.into()))
}

fn utc_unit(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Timestamp(unit, Some(zone)) if is_utc(zone) => Some(*unit),
        _ => None,
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, UTC | "UTC" | "Z")
}

const UTC: &str = "+00:00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_names_or_offsets() {
        for (name, expected) in [
            ("Europe/Berlin", Some("Europe/Berlin")),
            ("+05:30", Some("+05:30")),
            (" 05:30", Some("+05:30")),
            ("-08:00", Some("-08:00")),
            ("utc", Some("+00:00")),
            ("Mars/Base", None),
            ("", None),
        ] {
            let zone = TimeZone::parse(name).ok();
            assert_eq!(zone.as_ref().map(TimeZone::name), expected, "{name}");
        }
    }
}
