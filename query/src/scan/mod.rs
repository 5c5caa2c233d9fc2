//! The physical scan of one table: which units, in how many partitions. Owns the statistics
//! that let `count(*)` and `min(time)` be answered without reading; must never decode rows itself
//! (`stream` does), nor promise an order of them.

mod progress;
mod stream;
pub(crate) mod tags;
pub(crate) mod times;
pub(crate) mod units;
mod zeros;

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
use wal::{Dedup, TableSchema, Wanted};

use crate::stats::Counters;
use stream::{BlockStream, Source};
use units::{Counts, TIME_INDEX, Unit, Units};

/// What to scan.
pub(crate) struct ScanSpec {
    pub(crate) table: Arc<TableSchema>,
    /// Indices into the table's columns, in output order.
    pub(crate) projection: Vec<usize>,
    /// What is left after pruning.
    pub(crate) units: Units,
    /// Rows that the readers of files may leave out.
    pub(crate) wanted: Wanted,
    /// How the table treats rows of the same key.
    pub(crate) dedup: Dedup,
    /// Rows that are enough.
    pub(crate) limit: Option<usize>,
    /// Partitions wanted.
    pub(crate) partitions: usize,
    /// Of all queries.
    pub(crate) counters: Arc<Counters>,
}

/// Reads the files and blocks of one table.
pub(crate) struct BlockScan {
    table: Arc<TableSchema>,
    projection: Arc<[usize]>,
    schema: SchemaRef,
    units: Arc<[Unit]>,
    partitions: Vec<Range<usize>>,
    wanted: Arc<Wanted>,
    dedup: Dedup,
    sources: Counts,
    pruned: Counts,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    counters: Arc<Counters>,
}

impl BlockScan {
    pub(crate) fn try_new(spec: ScanSpec) -> Result<Self> {
        let schema = Arc::new(spec.table.arrow().project(&spec.projection)?);
        let rows: Vec<usize> = spec.units.list.iter().map(Unit::rows).collect();
        let worth = rows.iter().sum::<usize>() / MIN_PARTITION_ROWS;
        let partitions = split(&rows, spec.partitions.min(worth));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let mut sources = Counts::default();
        for unit in &spec.units.list {
            sources += unit.counts();
        }
        Ok(Self {
            table: spec.table,
            projection: spec.projection.into(),
            schema,
            pruned: spec.units.pruned,
            units: spec.units.list.into(),
            partitions,
            wanted: Arc::new(spec.wanted),
            dedup: spec.dedup,
            sources,
            limit: spec.limit,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            counters: spec.counters,
        })
    }

    fn units<'a>(&'a self, ranges: &'a [Range<usize>]) -> impl Iterator<Item = &'a Unit> {
        ranges
            .iter()
            .flat_map(move |range| &self.units[range.clone()])
    }

    /// Exact where every row of the units leaves the scan, unless a limit stops it.
    fn rows(&self, ranges: &[Range<usize>]) -> Precision<usize> {
        let limited = |range: &Range<usize>| {
            let rows: usize = self.units[range.clone()].iter().map(Unit::rows).sum();
            self.limit.map_or(rows, |limit| limit.min(rows))
        };
        let rows: usize = ranges.iter().map(limited).sum();
        if self.units(ranges).all(Unit::has_exact_rows) {
            Precision::Exact(rows)
        } else {
            Precision::Inexact(rows)
        }
    }

    fn statistics(&self, ranges: &[Range<usize>]) -> Statistics {
        let bytes: usize = self.units(ranges).map(Unit::bytes).sum();
        let mut statistics = Statistics::new_unknown(&self.schema)
            .with_num_rows(self.rows(ranges))
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
        let (min, max) = self
            .units(ranges)
            .filter_map(Unit::times)
            .reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))?;
        let full = self.table.arrow();
        let DataType::Timestamp(_, zone) = full.field(TIME_INDEX).data_type() else {
            return None;
        };
        // A partition may lack the row groups that hold the ends of a file.
        let whole = ranges.len() == self.partitions.len();
        let exact = self
            .units(ranges)
            .all(|unit| unit.has_exact_times() && (whole || !unit.is_part_of_file()));
        let bound = |time| {
            let time = ScalarValue::TimestampNanosecond(Some(time), zone.clone());
            if exact {
                Precision::Exact(time)
            } else {
                Precision::Inexact(time)
            }
        };
        Some(ColumnStatistics {
            null_count: Precision::Exact(0),
            min_value: bound(min),
            max_value: bound(max),
            ..ColumnStatistics::new_unknown()
        })
    }

    /// What was left out, told once per run of the scan.
    fn count_pruned(&self) {
        for (name, count) in [
            ("blocks_pruned", self.pruned.blocks),
            ("files_pruned", self.pruned.files),
            ("row_groups_pruned", self.pruned.row_groups),
        ] {
            MetricBuilder::new(&self.metrics)
                .with_type(MetricType::Summary)
                .global_counter(name)
                .add(count);
        }
        self.counters
            .pruned(self.pruned.blocks, self.pruned.row_groups);
    }
}

impl fmt::Debug for BlockScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockScan")
            .field("table", &self.table.name)
            .field("projection", &self.projection)
            .field("sources", &self.sources)
            .field("partitions", &self.partitions)
            .field("pruned", &self.pruned)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for BlockScan {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, partitions) = (&self.table.name, self.partitions.len());
        let Counts {
            blocks,
            files,
            row_groups,
        } = self.sources;
        let pruned = self.pruned.sum();
        match kind {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "BlockScan: table={table}, blocks={blocks}")?;
                write!(f, ", files={files}, row_groups={row_groups}")?;
                write!(f, ", pruned={pruned}, partitions={partitions}")?;
                if self.dedup == Dedup::Key {
                    write!(f, ", dedup=key")?;
                }
                if let Some(limit) = self.limit {
                    write!(f, ", limit={limit}")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={table}")?;
                writeln!(f, "blocks={blocks}")?;
                writeln!(f, "files={files}")?;
                writeln!(f, "row_groups={row_groups}")?;
                writeln!(f, "pruned={pruned}")?;
                if self.dedup == Dedup::Key {
                    writeln!(f, "dedup=key")?;
                }
                Ok(())
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
            self.count_pruned();
        }
        let source = Source {
            table: Arc::clone(&self.table),
            projection: Arc::clone(&self.projection),
            schema: Arc::clone(&self.schema),
            units: Arc::clone(&self.units),
            range,
            wanted: Arc::clone(&self.wanted),
            limit: self.limit,
            batch_rows: context.session_config().batch_size(),
            memory: Arc::clone(context.memory_pool()),
            counters: Arc::clone(&self.counters),
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

/// Cuts units of so many rows into at most `parts` contiguous ranges of about as many rows each;
/// one range at least, and none empty unless there are no units.
fn split(rows: &[usize], parts: usize) -> Vec<Range<usize>> {
    let total: usize = rows.iter().sum();
    let parts = parts.clamp(1, rows.len().max(1));
    let mut ranges = Vec::with_capacity(parts);
    let (mut start, mut seen) = (0, 0);
    for (index, count) in rows.iter().enumerate() {
        seen += count;
        let made = ranges.len() + 1;
        let units_left = rows.len() - index - 1;
        let share_reached = seen * parts >= total * made;
        if made < parts && (share_reached || units_left == parts - made) {
            ranges.push(start..index + 1);
            start = index + 1;
        }
    }
    ranges.push(start..rows.len());
    ranges
}

/// Rows that are worth a partition of their own.
const MIN_PARTITION_ROWS: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn ranges_cover_all_units_in_order() {
        for units in 0..40 {
            let rows: Vec<usize> = (0..units).map(|index| index * 7_919 % 13).collect();
            for parts in 0..12 {
                let ranges = split(&rows, parts);
                assert!(ranges.len() <= parts.max(1));
                assert_eq!(ranges.first().map(|range| range.start), Some(0));
                assert_eq!(ranges.last().map(|range| range.end), Some(units));
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(units == 0 || ranges.iter().all(|range| !range.is_empty()));
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
