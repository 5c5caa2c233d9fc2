//! Long constants of a plan, which become columns as long as a batch has rows. Owns the memory that
//! is set aside for them; must never refuse a constant that is only compared with.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, InListExpr, LikeExpr, Literal};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::sizes::value_bytes;
use crate::account;

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
            if !is_constant(child) {
                bytes = bytes.saturating_add(constants(child)?);
            }
        }
        return Ok(bytes);
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return bytes_of(literal.value());
    }
    if is_constant(expr) {
        return made_bytes(expr);
    }
    let children = expr.children();
    let bytes = children.into_iter().map(constants);
    bytes.sum()
}

/// Whether `expr` is of no column, and too long for the plan: else it would be a literal.
fn is_constant(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let children = expr.children();
    if children.is_empty() {
        return expr.is::<Literal>();
    }
    children.into_iter().all(is_constant)
}

/// Bytes of what a constant gives. It may be one that is never asked for, so an error is told by
/// whoever asks.
fn made_bytes(expr: &Arc<dyn PhysicalExpr>) -> Result<u64> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
    let made = account::while_running(|| expr.evaluate(&row));
    Ok(match made {
        Ok(ColumnarValue::Scalar(value)) => bytes_of(&value)?,
        Ok(ColumnarValue::Array(values)) => long(value_bytes(values.as_ref(), 0)),
        Err(_) => 0,
    })
}

fn compares(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let binary = expr.downcast_ref::<BinaryExpr>();
    binary.is_some_and(|binary| COMPARISONS.contains(binary.op()))
}

fn bytes_of(value: &ScalarValue) -> Result<u64> {
    if value.is_null() || value.data_type().is_primitive() {
        return Ok(0);
    }
    Ok(long(value_bytes(value.to_array()?.as_ref(), 0)))
}

fn long(bytes: u64) -> u64 {
    if bytes > SHORT { bytes } else { 0 }
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
