//! Long constants of a plan, which become columns as long as a batch has rows. Owns the memory that
//! is set aside for them; must never refuse a constant that is only compared with.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, InListExpr, LikeExpr, Literal};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::sizes::value_bytes;

/// Takes the memory that the constants of `plan` need while it runs into `reservation`.
///
/// # Errors
/// When there is not enough.
pub(crate) fn reserve(
    plan: &Arc<dyn ExecutionPlan>,
    batch_rows: usize,
    reservation: &MemoryReservation,
) -> Result<()> {
    plan.apply(|node| {
        let one_row = |input: &&Arc<dyn ExecutionPlan>| input.is::<PlaceholderRowExec>();
        let rows = if node.children().iter().all(one_row) {
            1
        } else {
            batch_rows.saturating_mul(node.output_partitioning().partition_count())
        };
        let mut bytes = 0_u64;
        node.apply_expressions(&mut |expr| {
            bytes = bytes.saturating_add(constants(expr)?);
            Ok(TreeNodeRecursion::Continue)
        })?;
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
        reservation.try_grow(wanted.saturating_mul(rows))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Bytes of the long constants in `expr` that are not only compared with.
fn constants(expr: &Arc<dyn PhysicalExpr>) -> Result<u64> {
    if expr.is::<InListExpr>() || expr.is::<LikeExpr>() || compares(expr) {
        let mut bytes = 0_u64;
        for child in expr.children() {
            if !child.is::<Literal>() {
                bytes = bytes.saturating_add(constants(child)?);
            }
        }
        return Ok(bytes);
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return bytes_of(literal.value());
    }
    let children = expr.children();
    let bytes = children.into_iter().map(constants);
    bytes.sum()
}

fn compares(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let binary = expr.downcast_ref::<BinaryExpr>();
    binary.is_some_and(|binary| COMPARISONS.contains(binary.op()))
}

fn bytes_of(value: &ScalarValue) -> Result<u64> {
    if value.is_null() || value.data_type().is_primitive() {
        return Ok(0);
    }
    let bytes = value_bytes(value.to_array()?.as_ref(), 0);
    Ok(if bytes > SHORT { bytes } else { 0 })
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
    Operator::RegexMatch,
    Operator::RegexIMatch,
    Operator::RegexNotMatch,
    Operator::RegexNotIMatch,
];

/// Constants up to this are not counted.
const SHORT: u64 = 1 << 10;
