//! The physical scan of one table: which blocks, in how many partitions. Owns the statistics that
//! let `count(*)` and `min(time)` be answered without reading; must never decode a block itself
//! (`stream` does), nor promise an order of rows.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{
    ExecutionPlanMetricsSet, MetricBuilder, MetricType, MetricsSet,
};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, ReplaceChildrenOptions, StatisticsArgs,
};
use metrics::counter;
use wal::{BlockRef, TableSchema};

use crate::stream::{BlockStream, Source};

/// What to scan.
pub(crate) struct ScanSpec {
    pub(crate) table: Arc<TableSchema>,
    /// Indices into the table's columns, in output order.
    pub(crate) projection: Vec<usize>,
    /// Blocks left after pruning, in LSN order.
    pub(crate) blocks: Vec<BlockRef>,
    /// Blocks that were pruned.
    pub(crate) pruned: usize,
    /// Rows that are enough.
    pub(crate) limit: Option<usize>,
    /// Partitions wanted.
    pub(crate) partitions: usize,
}

/// Reads the blocks of one table.
pub(crate) struct BlockScan {
    table: Arc<TableSchema>,
    projection: Arc<[usize]>,
    schema: SchemaRef,
    blocks: Arc<[BlockRef]>,
    partitions: Vec<Range<usize>>,
    pruned: usize,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl BlockScan {
    pub(crate) fn try_new(spec: ScanSpec) -> Result<Self> {
        let schema = Arc::new(spec.table.arrow().project(&spec.projection)?);
        let rows: Vec<usize> = spec.blocks.iter().map(BlockRef::rows).collect();
        let worth = rows.iter().sum::<usize>() / MIN_PARTITION_ROWS;
        let partitions = split(&rows, spec.partitions.min(worth));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            table: spec.table,
            projection: spec.projection.into(),
            schema,
            blocks: spec.blocks.into(),
            partitions,
            pruned: spec.pruned,
            limit: spec.limit,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Exact, because every row of the blocks leaves the scan unless a limit stops it.
    fn rows(&self, range: &Range<usize>) -> usize {
        let rows: usize = self.blocks[range.clone()].iter().map(BlockRef::rows).sum();
        self.limit.map_or(rows, |limit| limit.min(rows))
    }

    fn selected<'a>(&'a self, ranges: &'a [Range<usize>]) -> impl Iterator<Item = &'a BlockRef> {
        ranges
            .iter()
            .flat_map(move |range| &self.blocks[range.clone()])
    }

    fn statistics(&self, ranges: &[Range<usize>]) -> Statistics {
        let rows: usize = ranges.iter().map(|range| self.rows(range)).sum();
        let bytes: usize = self.selected(ranges).map(BlockRef::bytes).sum();
        let mut statistics = Statistics::new_unknown(&self.schema)
            .with_num_rows(Precision::Exact(rows))
            .with_total_byte_size(Precision::Inexact(bytes));
        let times = self.time_statistics(ranges);
        for (column, index) in statistics
            .column_statistics
            .iter_mut()
            .zip(self.projection.iter())
        {
            if let (TIME_INDEX, Some(times)) = (*index, &times) {
                *column = times.clone();
            }
        }
        statistics
    }

    /// Smallest and largest time; unknown under a limit, which may leave either out.
    fn time_statistics(&self, ranges: &[Range<usize>]) -> Option<ColumnStatistics> {
        if self.limit.is_some() {
            return None;
        }
        let min = self.selected(ranges).map(BlockRef::min_time).min()?;
        let max = self.selected(ranges).map(BlockRef::max_time).max()?;
        let full = self.table.arrow();
        let DataType::Timestamp(_, zone) = full.field(TIME_INDEX).data_type() else {
            return None;
        };
        let exact =
            |time| Precision::Exact(ScalarValue::TimestampNanosecond(Some(time), zone.clone()));
        Some(ColumnStatistics {
            null_count: Precision::Exact(0),
            min_value: exact(min),
            max_value: exact(max),
            ..ColumnStatistics::new_unknown()
        })
    }
}

impl fmt::Debug for BlockScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockScan")
            .field("table", &self.table.name)
            .field("projection", &self.projection)
            .field("blocks", &self.blocks.len())
            .field("partitions", &self.partitions)
            .field("pruned", &self.pruned)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for BlockScan {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (blocks, partitions) = (self.blocks.len(), self.partitions.len());
        match kind {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "BlockScan: table={}, blocks={blocks}", self.table.name)?;
                write!(f, ", pruned={}, partitions={partitions}", self.pruned)?;
                if let Some(limit) = self.limit {
                    write!(f, ", limit={limit}")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={}", self.table.name)?;
                writeln!(f, "blocks={blocks}")?;
                writeln!(f, "pruned={}", self.pruned)
            }
        }
    }
}

impl ExecutionPlan for BlockScan {
    fn name(&self) -> &'static str {
        "BlockScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            Err(DataFusionError::Internal(
                "BlockScan takes no children".to_owned(),
            ))
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let range = self.partitions.get(partition).cloned().ok_or_else(|| {
            DataFusionError::Internal(format!("BlockScan has no partition {partition}"))
        })?;
        if partition == 0 {
            MetricBuilder::new(&self.metrics)
                .with_type(MetricType::Summary)
                .global_counter("blocks_pruned")
                .add(self.pruned);
            counter!("headwater_blocks_pruned_total").increment(self.pruned as u64);
        }
        let source = Source {
            table: Arc::clone(&self.table),
            projection: Arc::clone(&self.projection),
            schema: Arc::clone(&self.schema),
            blocks: self.blocks[range].iter().cloned().collect(),
            limit: self.limit,
            batch_rows: context.session_config().batch_size(),
        };
        Ok(Box::pin(cooperative(BlockStream::new(
            source,
            &self.metrics,
            partition,
        ))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let ranges = match args.partition() {
            None => self.partitions.as_slice(),
            Some(index) => self.partitions.get(index..=index).ok_or_else(|| {
                DataFusionError::Internal(format!("BlockScan has no partition {index}"))
            })?,
        };
        Ok(Arc::new(self.statistics(ranges)))
    }
}

/// Cuts blocks of so many rows into at most `parts` contiguous ranges of about as many rows each;
/// one range at least, and none empty unless there are no blocks.
fn split(rows: &[usize], parts: usize) -> Vec<Range<usize>> {
    let total: usize = rows.iter().sum();
    let parts = parts.clamp(1, rows.len().max(1));
    let mut ranges = Vec::with_capacity(parts);
    let (mut start, mut seen) = (0, 0);
    for (index, count) in rows.iter().enumerate() {
        seen += count;
        let made = ranges.len() + 1;
        let blocks_left = rows.len() - index - 1;
        let share_reached = seen * parts >= total * made;
        if made < parts && (share_reached || blocks_left == parts - made) {
            ranges.push(start..index + 1);
            start = index + 1;
        }
    }
    ranges.push(start..rows.len());
    ranges
}

/// Rows that are worth a partition of their own.
const MIN_PARTITION_ROWS: usize = 8_192;
/// Every table has its time in its first column.
const TIME_INDEX: usize = 0;

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn ranges_cover_all_blocks_in_order() {
        for blocks in 0..40 {
            let rows: Vec<usize> = (0..blocks).map(|index| index * 7_919 % 13).collect();
            for parts in 0..12 {
                let ranges = split(&rows, parts);
                assert!(ranges.len() <= parts.max(1));
                assert_eq!(ranges.first().map(|range| range.start), Some(0));
                assert_eq!(ranges.last().map(|range| range.end), Some(blocks));
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(blocks == 0 || ranges.iter().all(|range| !range.is_empty()));
            }
        }
    }

    #[test]
    fn ranges_are_balanced_by_rows() {
        assert_eq!(split(&[100, 100, 100, 100], 2), [0..2, 2..4]);
        assert_eq!(split(&[1_000, 1, 1, 1], 2), [0..1, 1..4]);
        assert_eq!(split(&[1, 1, 1, 1_000], 2), [0..3, 3..4]);
        assert_eq!(split(&[5], 8).len(), 1);
        assert_eq!(split(&[], 8).len(), 1);
    }
}
