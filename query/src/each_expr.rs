//! One change to every expression of a plan's node. Owns which columns an expression may name, and
//! that a column keeps its name; must never descend into the node's inputs.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Applies `change` to each expression of `plan`, innermost first, with the columns that it sees.
///
/// # Errors
/// When `change` fails, or the columns contradict each other.
pub(crate) fn each_expr(
    plan: LogicalPlan,
    mut change: impl FnMut(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        let source = scan.source.schema();
        let table = scan.table_name.clone();
        schema.merge(&DFSchema::try_from_qualified_schema(table, &source)?);
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|expr| change(expr, &schema))?;
        Ok(changed.update_data(|expr| name.restore(expr)))
    })
}
