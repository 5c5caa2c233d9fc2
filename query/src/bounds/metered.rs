//! Rows on their way into or out of an operator that copies them. Owns the memory that is set aside
//! for the copies; must never change a row, nor count a short value.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::statistics::ChildStats;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions, StatisticsArgs,
};
use futures::StreamExt;

use super::sizes::{elements, value_bytes};

/// What is counted of each batch.
#[derive(Debug, Clone)]
pub(crate) enum Counted {
    /// Of its longest values, so many copies, until the statement ends. What only refers to its
    /// bytes is not copied.
    Copies {
        rows: usize,
        held: Arc<MemoryReservation>,
    },
    /// Of each row, as many copies as the longest of these lists has elements, while they are made.
    Lists(Vec<usize>),
    /// All values that only refer to their bytes, as whoever computes with them spells them out.
    Referred,
}

/// An operator whose rows are counted.
#[derive(Debug)]
pub(crate) struct Metered {
    input: Arc<dyn ExecutionPlan>,
    counted: Counted,
}

impl Metered {
    pub(crate) fn around(input: Arc<dyn ExecutionPlan>, counted: Counted) -> Arc<Self> {
        Arc::new(Self { input, counted })
    }
}

impl DisplayAs for Metered {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metered")
    }
}

impl ExecutionPlan for Metered {
    fn name(&self) -> &'static str {
        "Metered"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Self::around(input, self.counted.clone())),
            _ => Err(DataFusionError::Internal(
                "Metered takes one child".to_owned(),
            )),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let made = MemoryConsumer::new("long values of rows").register(context.memory_pool());
        let rows = self.input.execute(partition, context)?;
        let schema = rows.schema();
        let mut meter = Meter {
            counted: self.counted.clone(),
            made,
            longest: 0,
        };
        let rows = rows.map(move |batch| {
            let batch = batch?;
            meter.count(&batch)?;
            Ok(batch)
        });
        // What multiplies rows may go on for long with what it has.
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(
            schema, rows,
        ))))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let unknown = || Arc::new(Statistics::new_unknown(&self.schema()));
        Ok(inputs.first().map_or_else(unknown, Arc::clone))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

struct Meter {
    counted: Counted,
    /// For the last batch.
    made: MemoryReservation,
    /// The longest row so far.
    longest: u64,
}

impl Meter {
    fn count(&mut self, batch: &RecordBatch) -> Result<()> {
        match &self.counted {
            Counted::Copies { rows, held } => {
                let longest = longest(batch);
                if longest > self.longest {
                    held.try_grow(times(longest - self.longest, *rows))?;
                    self.longest = longest;
                }
                Ok(())
            }
            Counted::Lists(lists) => self.made.try_resize(unnested(batch, lists)),
            Counted::Referred => {
                let columns = batch.columns().iter();
                let bytes = columns.map(|column| referred(column.as_ref())).sum();
                let counted = if bytes > UNCOUNTED { bytes } else { 0 };
                self.made
                    .try_resize(usize::try_from(counted).unwrap_or(usize::MAX))
            }
        }
    }
}

/// Bytes of the longest values of all columns that are copied whole; 0 where they are short.
fn longest(batch: &RecordBatch) -> u64 {
    let of_column = |column: &dyn Array| {
        if !is_copied(column.data_type()) {
            return 0;
        }
        let bytes = (0..column.len()).map(|row| value_bytes(column, row));
        bytes.max().unwrap_or(0)
    };
    let columns = batch.columns().iter();
    let bytes = columns.map(|column| of_column(column.as_ref())).sum();
    if bytes > SHORT { bytes } else { 0 }
}

/// Bytes of all rows, each as often as the longest of its lists has elements.
fn unnested(batch: &RecordBatch, lists: &[usize]) -> usize {
    let mut bytes = 0_u64;
    for row in 0..batch.num_rows() {
        let (mut copies, mut width) = (0, 0_u64);
        for (at, column) in batch.columns().iter().enumerate() {
            if lists.contains(&at) {
                let elements = elements(column.as_ref(), row).map_or(0, |(_, s, e)| e - s);
                copies = copies.max(elements);
            } else if is_copied(column.data_type()) {
                width = width.saturating_add(value_bytes(column.as_ref(), row));
            }
        }
        if width > SHORT {
            bytes = bytes.saturating_add(width.saturating_mul(copies as u64));
        }
    }
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Whether a copy of a value has bytes of its own, of any number.
fn is_copied(data_type: &DataType) -> bool {
    !data_type.is_primitive()
        && !matches!(
            data_type,
            DataType::Utf8View | DataType::BinaryView | DataType::Dictionary(_, _)
        )
}

fn referred(column: &dyn Array) -> u64 {
    let views = match column.data_type() {
        DataType::Utf8View => column.as_string_view().views(),
        DataType::BinaryView => column.as_binary_view().views(),
        _ => return 0,
    };
    views.iter().map(|view| u64::from(*view as u32)).sum()
}

fn times(bytes: u64, rows: usize) -> usize {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    bytes.saturating_mul(rows)
}

/// Rows up to this are not counted.
const SHORT: u64 = 1 << 10;
/// Too little to ask the pool for.
const UNCOUNTED: u64 = 1 << 20;
