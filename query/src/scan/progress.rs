//! What one partition of a scan has read so far. Owns the counters of `EXPLAIN ANALYZE` and
//! Prometheus; must never count what was answered without reading.

use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricType,
};
use metrics::counter;

use super::units::Counts;

/// Counters of one partition.
pub(crate) struct Progress {
    blocks: Count,
    files: Count,
    row_groups: Count,
}

impl Progress {
    pub(crate) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let count = |name: &'static str| {
            MetricBuilder::new(metrics)
                .with_type(MetricType::Summary)
                .counter(name, partition)
        };
        Self {
            blocks: count("blocks_read"),
            files: count("files_read"),
            row_groups: count("row_groups_read"),
        }
    }

    pub(crate) fn add(&self, counts: Counts) {
        self.blocks.add(counts.blocks);
        self.files.add(counts.files);
        self.row_groups.add(counts.row_groups);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let count = |count: &Count| count.value() as u64;
        counter!("headwater_blocks_read_total").increment(count(&self.blocks));
        counter!("headwater_row_groups_read_total").increment(count(&self.row_groups));
    }
}
