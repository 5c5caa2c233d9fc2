//! Keeps the planner from computing which values a filter lets through where it would compute too
//! few: backwards through casts, sums and products. Owns what is hidden from it; must never change
//! which rows a filter lets through.
//!
//! The planner takes a column for constant once only one value seems to be left, drops the sort
//! over it, and fails where more seems to be left than there was.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Filter, LogicalPlan, Operator, TryCast};

use super::carriers::{Kernel, carry};

/// A plan that nobody optimises any more, with opaque filters.
pub(crate) fn hide(plan: LogicalPlan) -> Result<LogicalPlan> {
    let hidden = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Filter(Filter {
            predicate, input, ..
        }) => {
            let predicate = predicate.transform_down(|expr| Ok(hide_lossy(expr)))?;
            let filter = Filter::try_new(predicate.data, input)?;
            Ok(Transformed::new_transformed(
                LogicalPlan::Filter(filter),
                predicate.transformed,
            ))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(hidden.data)
}

fn hide_lossy(expr: Expr) -> Transformed<Expr> {
    let lossy = match &expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => is_arithmetic(*op),
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => {
            !matches!(expr.as_ref(), Expr::Literal(..))
        }
        Expr::Negative(_) => true,
        _ => false,
    };
    if lossy {
        let hidden = carry(Kernel::Same, vec![expr]);
        Transformed::new(hidden, true, TreeNodeRecursion::Jump)
    } else {
        Transformed::no(expr)
    }
}

fn is_arithmetic(op: Operator) -> bool {
    matches!(
        op,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
    )
}
