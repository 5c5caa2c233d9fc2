//! EXCEPT ALL and INTERSECT ALL, which DataFusion answers as if each row that is on both sides were
//! there once. Owns the numbering of equal rows; must never touch a join that a client wrote.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, NullEquality};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Distinct, Expr, ExprFunctionExt, Join, JoinType, LogicalPlan, LogicalPlanBuilder,
};
use datafusion::optimizer::AnalyzerRule;

/// Counts copies: the third of a row on one side goes with the third on the other.
#[derive(Debug)]
pub(crate) struct Multisets;

impl AnalyzerRule for Multisets {
    fn name(&self) -> &'static str {
        "multisets"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let numbered = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Join(join) if is_multiset(&join) => number(join).map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(numbered.data)
    }
}

/// Only set operations make joins in which NULL equals NULL. Where there is no ALL, the left side
/// has no copies.
fn is_multiset(join: &Join) -> bool {
    let kind = matches!(join.join_type, JoinType::LeftAnti | JoinType::LeftSemi);
    let distinct = matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)));
    kind && join.null_equality == NullEquality::NullEqualsNull && !distinct
}

fn number(join: Join) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = join
        .left
        .schema()
        .columns()
        .into_iter()
        .map(Expr::from)
        .collect();
    let left = numbered(&join.left, LEFT_COPY)?;
    let right = numbered(&join.right, RIGHT_COPY)?;
    let copies = |name| Expr::Column(Column::new_unqualified(name));
    let mut on = join.on;
    on.push((copies(LEFT_COPY), copies(RIGHT_COPY)));
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        join.filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(join))
        .project(columns)?
        .build()
}

/// The rows with a column more, which counts those that are equal.
fn numbered(plan: &Arc<LogicalPlan>, name: &str) -> Result<LogicalPlan> {
    let columns = plan
        .schema()
        .columns()
        .into_iter()
        .map(Expr::from)
        .collect();
    let copy = row_number().partition_by(columns).build()?.alias(name);
    LogicalPlanBuilder::from(Arc::clone(plan))
        .window(vec![copy])?
        .build()
}

const LEFT_COPY: &str = "copy on the left";
const RIGHT_COPY: &str = "copy on the right";
