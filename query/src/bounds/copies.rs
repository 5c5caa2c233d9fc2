//! Where an operator makes many rows of one: joins, lists that become rows, subqueries that stand
//! for a value. Owns which inputs and outputs of a plan are counted, and how many copies there may
//! be at once; must never change what a plan answers.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
    PiecewiseMergeJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
    StatisticsArgs,
};

use super::metered::{Counted, Metered};
use crate::watch::watched;

/// `plan`, whose copies of long values take their memory from `held` before they are made, and
/// whose joins end once the statement is to end.
///
/// # Errors
/// When an operator does not take its inputs.
pub(crate) fn count(
    plan: Arc<dyn ExecutionPlan>,
    batch_rows: usize,
    held: &Arc<MemoryReservation>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let counted = plan.transform_up(|node| {
        let node = stoppable(node)?;
        let kind = Kind::of(&node);
        let Some(kind) = kind else {
            return Ok(Transformed::no(node));
        };
        let children = node.children().into_iter().cloned().collect::<Vec<_>>();
        let inputs = (0..children.len())
            .map(|at| kind.input(&node, &children, at, batch_rows, held))
            .collect();
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        let node = node.replace_children(inputs, options)?;
        Ok(Transformed::yes(match kind {
            Kind::Subqueries => node,
            Kind::Join { .. } | Kind::Unnest(_) => Metered::around(node, Counted::Referred),
        }))
    })?;
    Ok(counted.data)
}

/// What makes many rows of one.
enum Kind {
    /// In batches of at most so many rows, where it is known.
    Join {
        whole_batches: bool,
    },
    Unnest(Vec<usize>),
    Subqueries,
}

impl Kind {
    fn of(node: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        if node.is::<CrossJoinExec>() {
            return Some(Self::Join {
                whole_batches: true,
            });
        }
        if node.is::<HashJoinExec>()
            || node.is::<NestedLoopJoinExec>()
            || node.is::<SortMergeJoinExec>()
            || node.is::<PiecewiseMergeJoinExec>()
        {
            return Some(Self::Join {
                whole_batches: false,
            });
        }
        if node.is::<ScalarSubqueryExec>() {
            return Some(Self::Subqueries);
        }
        let unnest = node.downcast_ref::<UnnestExec>()?;
        let lists = unnest.list_column_indices().iter();
        let lists = lists.map(|list| list.index_in_input_schema);
        Some(Self::Unnest(lists.collect()))
    }

    fn input(
        &self,
        node: &Arc<dyn ExecutionPlan>,
        children: &[Arc<dyn ExecutionPlan>],
        at: usize,
        batch_rows: usize,
        held: &Arc<MemoryReservation>,
    ) -> Arc<dyn ExecutionPlan> {
        let child = Arc::clone(&children[at]);
        let partitions = node.output_partitioning().partition_count();
        let copies = |rows: usize| Counted::Copies {
            rows,
            held: Arc::clone(held),
        };
        let counted = match self {
            Self::Unnest(lists) => Counted::Lists(lists.clone()),
            Self::Subqueries if at == 0 => return child,
            Self::Subqueries => {
                let rows = children.first().and_then(most_rows).unwrap_or(batch_rows);
                copies(rows.min(batch_rows).saturating_mul(partitions))
            }
            Self::Join { whole_batches } => {
                let batch = if *whole_batches {
                    batch_rows.max(LARGEST_BATCH)
                } else {
                    batch_rows
                };
                let all = children.iter().map(most_rows);
                let rows = all.reduce(|one, other| one?.checked_mul(other?));
                let rows = rows.flatten().unwrap_or(usize::MAX);
                copies(rows.min(batch.saturating_mul(partitions)))
            }
        };
        Metered::around(child, counted)
    }
}

/// How many rows `plan` gives at most, where that is known.
fn most_rows(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    if plan.is::<PlaceholderRowExec>() {
        return Some(1);
    }
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>()
        && aggregate.group_expr().expr().is_empty()
    {
        return Some(plan.output_partitioning().partition_count());
    }
    if plan.is::<UnnestExec>() {
        return None;
    }
    let below = match plan.children().as_slice() {
        [] => {
            let all = StatisticsArgs::new();
            let statistics = plan.statistics_from_inputs(&[], &all).ok()?;
            statistics.num_rows.get_value().copied()
        }
        [input] => most_rows(input),
        _ => None,
    };
    match (plan.fetch(), below) {
        (Some(fetch), Some(below)) => Some(below.min(fetch)),
        (fetch, below) => fetch.or(below),
    }
}

/// A join whose filter ends with the statement.
fn stoppable(node: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let within = |filter: &JoinFilter| {
        JoinFilter::new(
            watched(Arc::clone(filter.expression())),
            filter.column_indices().to_vec(),
            Arc::clone(filter.schema()),
        )
    };
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        let builder = NestedLoopJoinExecBuilder::from(join);
        return Ok(Arc::new(builder.with_filter(Some(within(filter))).build()?));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        let builder = join.builder().with_filter(Some(within(filter)));
        return Ok(Arc::new(builder.build()?));
    }
    Ok(node)
}

/// Rows that the batches of a table have at most.
const LARGEST_BATCH: usize = 65_536;
