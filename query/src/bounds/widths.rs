//! How many rows the batches of a statement have: fewer where rows are wide. Owns the estimate of a
//! row's width before there are any; must never know of long values, which are counted where they
//! come from.

use arrow::datatypes::{DataType, Fields};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

/// Rows of a batch of `plan`, up to `most`.
///
/// # Errors
/// When the plan cannot be walked.
pub(crate) fn batch_rows(plan: &LogicalPlan, most: usize) -> Result<usize> {
    let mut widest = 1;
    plan.apply_with_subqueries(|node| {
        widest = widest.max(fields_width(node.schema().fields()));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((BATCH_BYTES / widest).clamp(LEAST_ROWS.min(most), most))
}

fn fields_width(fields: &Fields) -> usize {
    fields.iter().map(|field| width(field.data_type())).sum()
}

fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields_width(fields),
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
            TEXT.saturating_add(width(field.data_type()))
        }
        other => other.primitive_width().unwrap_or(TEXT),
    }
}

/// What the short values of a batch take together.
const BATCH_BYTES: usize = 4 << 20;
/// A short text, with what refers to it.
const TEXT: usize = 32;
const LEAST_ROWS: usize = 16;

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{LogicalPlanBuilder, table_scan};

    use super::*;

    #[test]
    fn wide_rows_come_in_small_batches() {
        let rows = |columns: usize, kind: DataType| {
            let fields = (0..columns).map(|at| Field::new(format!("c{at}"), kind.clone(), true));
            let schema = Schema::new(fields.collect::<Vec<_>>());
            let plan = table_scan(Some("t"), &schema, None).and_then(LogicalPlanBuilder::build);
            batch_rows(&plan.expect("a plan"), 8_192).expect("a width")
        };
        assert_eq!(rows(3, DataType::Int64), 8_192);
        assert_eq!(rows(64, DataType::Int64), 8_192);
        assert_eq!(rows(1_024, DataType::Int64), 512);
        assert_eq!(rows(1_024, DataType::Utf8View), 128);
        assert_eq!(rows(100_000, DataType::Utf8View), 16);
    }
}
