//! Comparisons of intervals, which DataFusion makes by months, then days, then the rest: 25 hours were
//! less than a day. Owns that they are compared by their length; must never change an interval that
//! is not compared.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator};

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
