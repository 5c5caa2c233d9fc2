//! One stored table as the planner sees it. Owns what is pushed down to the scan; must never read
//! rows, nor show a row that its snapshot does not hold.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use wal::{BlockRef, Snapshot, TableSchema};

use crate::prune;
use crate::scan::{BlockScan, ScanSpec};

/// A table of the log, at one snapshot.
pub(crate) struct LogTable {
    schema: Arc<TableSchema>,
    arrow: SchemaRef,
    snapshot: Arc<Snapshot>,
}

impl LogTable {
    pub(crate) fn new(schema: Arc<TableSchema>, snapshot: Arc<Snapshot>) -> Self {
        let arrow = schema.arrow();
        Self {
            schema,
            arrow,
            snapshot,
        }
    }
}

impl fmt::Debug for LogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogTable")
            .field("name", &self.schema.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for LogTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A filter that bounds the time prunes blocks; the rows of the others are filtered above.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if prune::bounds(filter).is_all() {
                TableProviderFilterPushDown::Unsupported
            } else {
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let range = prune::time_range(filters);
        let mut blocks = self.snapshot.blocks(self.schema.id);
        let all = blocks.len();
        blocks.retain(|block| range.overlaps(block.min_time(), block.max_time()));
        let pruned = all - blocks.len();
        // A filter above the scan may drop rows that the limit would have counted.
        let limit = limit.filter(|_| filters.is_empty());
        if let Some(limit) = limit {
            blocks.truncate(blocks_for(limit, &blocks));
        }
        let scan = BlockScan::try_new(ScanSpec {
            table: Arc::clone(&self.schema),
            projection: projection
                .map_or_else(|| (0..self.arrow.fields().len()).collect(), Vec::clone),
            blocks,
            pruned,
            limit,
            partitions: state.config().target_partitions(),
        })?;
        Ok(Arc::new(scan))
    }
}

/// How many of the first blocks hold `limit` rows.
fn blocks_for(limit: usize, blocks: &[BlockRef]) -> usize {
    let mut rows = 0;
    blocks
        .iter()
        .take_while(|block| {
            let wanted = rows < limit;
            rows += block.rows();
            wanted
        })
        .count()
}
