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
use wal::{Snapshot, TableSchema, Wanted};

use crate::error::storage;
use crate::scan::tags::tag_filters;
use crate::scan::units::{Search, Units};
use crate::scan::{BlockScan, ScanSpec, times};
use crate::stats::Counters;

/// A table of the log, at one snapshot.
pub(crate) struct LogTable {
    schema: Arc<TableSchema>,
    arrow: SchemaRef,
    snapshot: Arc<Snapshot>,
    counters: Arc<Counters>,
}

impl LogTable {
    pub(crate) fn new(
        schema: Arc<TableSchema>,
        snapshot: Arc<Snapshot>,
        counters: Arc<Counters>,
    ) -> Self {
        let arrow = schema.arrow();
        Self {
            schema,
            arrow,
            snapshot,
            counters,
        }
    }

    /// What `filters` let readers leave out.
    fn wanted(&self, filters: &[Expr]) -> Wanted {
        let range = times::time_range(filters);
        let tags = filters
            .iter()
            .flat_map(|filter| tag_filters(filter, &self.schema.columns));
        Wanted {
            min_time: range.min,
            max_time: range.max,
            tags: tags.collect(),
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

    /// A filter that bounds the time or names tags leaves out much, but not all: the rows are
    /// filtered above in any case.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            let helps = !times::bounds(filter).is_all()
                || !tag_filters(filter, &self.schema.columns).is_empty();
            if helps {
                TableProviderFilterPushDown::Inexact
            } else {
                TableProviderFilterPushDown::Unsupported
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
        let id = self.schema.id;
        let wanted = self.wanted(filters);
        if let Some(error) = self.snapshot.lacks(id, &wanted) {
            return Err(storage(error));
        }
        // A filter above the scan may drop rows that the limit would have counted.
        let limit = limit.filter(|_| filters.is_empty());
        let dedup = self.snapshot.catalog().options(id).dedup;
        let search = Search {
            schema: &self.schema,
            dedup,
            wanted: &wanted,
            limit,
        };
        let (files, blocks) = (self.snapshot.files(id), self.snapshot.blocks(id));
        let units = Units::find(files, blocks, &search).await?;
        let scan = BlockScan::try_new(ScanSpec {
            table: Arc::clone(&self.schema),
            projection: projection
                .map_or_else(|| (0..self.arrow.fields().len()).collect(), Vec::clone),
            units,
            wanted,
            dedup,
            limit,
            partitions: state.config().target_partitions(),
            counters: Arc::clone(&self.counters),
        })?;
        Ok(Arc::new(scan))
    }
}
