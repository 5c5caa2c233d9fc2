//! What one partition of a scan has read so far. Owns the counters of `EXPLAIN ANALYZE`; must never
//! count what was answered without reading.

use std::sync::Arc;

use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricType,
};

use super::units::Counts;
use crate::stats::Counters;

/// Counters of one partition.
pub(crate) struct Progress {
    blocks: Count,
    files: Count,
    row_groups: Count,
    /// Of all queries, told at the end.
    counters: Arc<Counters>,
}

impl Progress {
    pub(crate) fn new(
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
        counters: Arc<Counters>,
    ) -> Self {
        let count = |name: &'static str| {
            MetricBuilder::new(metrics)
                .with_type(MetricType::Summary)
                .counter(name, partition)
        };
        Self {
            blocks: count("blocks_read"),
            files: count("files_read"),
            row_groups: count("row_groups_read"),
            counters,
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
        self.counters
            .read(self.blocks.value(), self.row_groups.value());
    }
}
