//! The operators of a plan, each with a look at whether the statement may go on before every batch,
//! and with what it takes in the statement's account. Must never be seen: in all but its rows an
//! operator is what it was.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use datafusion::common::Statistics;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::ChildStats;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions, StatisticsArgs,
};
use futures::StreamExt;
use futures::stream::poll_fn;

use crate::account::{self, Account, Work};

/// `plan` with all its operators in `account`, and batches of at most `rows` between them where that
/// is given.
///
/// # Errors
/// When an operator does not take its inputs.
pub(crate) fn watch(
    plan: Arc<dyn ExecutionPlan>,
    rows: Option<usize>,
    account: &Account,
) -> Result<Arc<dyn ExecutionPlan>> {
    let watched = plan.transform_up(|node| {
        let node = with_few_rows(node, rows.unwrap_or(BATCH_ROWS), account)?;
        Ok(Transformed::yes(around(node, rows, account)))
    })?;
    Ok(watched.data)
}

fn around(
    inner: Arc<dyn ExecutionPlan>,
    rows: Option<usize>,
    account: &Account,
) -> Arc<dyn ExecutionPlan> {
    let account = account.clone();
    Arc::new(Watched {
        inner,
        rows,
        account,
    })
}

/// An aggregate knows what it holds only after a batch: one over many grouping sets takes each row as
/// often as there are sets, and some take much for each group.
fn with_few_rows(
    node: Arc<dyn ExecutionPlan>,
    rows: usize,
    account: &Account,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(aggregate) = node.downcast_ref::<AggregateExec>() else {
        return Ok(node);
    };
    let sets = aggregate.group_expr().groups().len();
    let large = !aggregate.group_expr().expr().is_empty() && {
        let functions = aggregate.aggr_expr().iter();
        let mut functions = functions.filter(|function| {
            function.fun().name().starts_with(SKETCHES)
                || !function.field().data_type().is_primitive()
        });
        functions.any(|function| LARGE_STATES.contains(&function.fun().name()))
    };
    let rows = match (sets <= FEW_SETS, large) {
        (true, false) => return Ok(node),
        (true, true) => rows.min(FEW_ROWS),
        (false, _) => rows / sets,
    };
    let rows = Some(rows.max(1));
    let inputs = node.children().into_iter();
    let inputs = inputs.map(|input| around(Arc::clone(input), rows, account));
    let inputs = inputs.collect();
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    node.replace_children(inputs, options)
}

#[derive(Debug)]
struct Watched {
    inner: Arc<dyn ExecutionPlan>,
    /// Of a batch, at most.
    rows: Option<usize>,
    account: Account,
}

impl DisplayAs for Watched {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_as(kind, f)
    }
}

impl ExecutionPlan for Watched {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.inner.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.inner.maintains_input_order()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inner.children()
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(visit)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let inner = Arc::clone(&self.inner).replace_children(children, options)?;
        Ok(around(inner, self.rows, &self.account))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    /// Of recursive queries, before each round.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        account::check()?;
        let inner = Arc::clone(&self.inner).reset_state()?;
        Ok(around(inner, self.rows, &self.account))
    }

    fn with_new_state(&self, state: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn ExecutionPlan>> {
        let inner = self.inner.with_new_state(state)?;
        Some(around(inner, self.rows, &self.account))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.inner.execute(partition, context)?;
        let schema = rows.schema();
        let mut stream = Stream {
            rows: Some(rows),
            most: self.rows.unwrap_or(usize::MAX),
            rest: None,
            account: self.account.clone(),
        };
        let rows = poll_fn(move |waker| stream.next(waker));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.inner.statistics_from_inputs(inputs, args)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.inner.child_stats_requests(partition)
    }

    fn fetch(&self) -> Option<usize> {
        self.inner.fetch()
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        self.inner.cardinality_effect()
    }
}

struct Stream {
    rows: Option<SendableRecordBatchStream>,
    /// Rows of a batch.
    most: usize,
    /// Of the last batch.
    rest: Option<RecordBatch>,
    account: Account,
}

impl Stream {
    fn next(&mut self, waker: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let Some(rows) = &mut self.rows else {
            return Poll::Ready(None);
        };
        let _work = self.account.enter(Work::Running);
        if let Err(error) = account::check() {
            self.rows = None;
            return Poll::Ready(Some(Err(error.into())));
        }
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(self.cut(rest))));
        }
        match ready!(rows.poll_next_unpin(waker)) {
            Some(Ok(batch)) => Poll::Ready(Some(Ok(self.cut(batch)))),
            other => Poll::Ready(other),
        }
    }

    fn cut(&mut self, batch: RecordBatch) -> RecordBatch {
        let rows = batch.num_rows();
        if rows <= self.most {
            return batch;
        }
        self.rest = Some(batch.slice(self.most, rows - self.most));
        batch.slice(0, self.most)
    }
}

/// As DataFusion has them where rows are narrow.
const BATCH_ROWS: usize = 8_192;
/// What a batch may add to aggregates that take some KiB for each group.
const FEW_ROWS: usize = 512;
/// Their states are large whatever they give.
const SKETCHES: &str = "approx_";
const LARGE_STATES: &[&str] = &[
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "array_agg",
    "first_value",
    "last_value",
    "nth_value",
    "string_agg",
];
/// As many as a batch has room for anyway.
const FEW_SETS: usize = 4;
