//! The rows of one partition of a scan. Owns decoding, lazily and block by block, and the size of
//! the batches that leave; must never read a block nobody asked for, nor hold up its thread for
//! long.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::RecordBatchStream;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricType,
};
use futures::Stream;
use metrics::counter;
use wal::{BlockRef, TableSchema};

/// What one partition reads.
pub(crate) struct Source {
    pub(crate) table: Arc<TableSchema>,
    /// Indices into the table's columns, in output order.
    pub(crate) projection: Arc<[usize]>,
    /// The table's schema after the projection.
    pub(crate) schema: SchemaRef,
    pub(crate) blocks: VecDeque<BlockRef>,
    /// Rows that are enough.
    pub(crate) limit: Option<usize>,
    /// Rows that a batch should have.
    pub(crate) batch_rows: usize,
}

/// Decodes blocks as they are asked for.
pub(crate) struct BlockStream {
    source: Source,
    /// Rows still wanted.
    wanted: usize,
    small: BatchCoalescer,
    ready: VecDeque<RecordBatch>,
    done: bool,
    baseline: BaselineMetrics,
    blocks_read: Count,
}

impl BlockStream {
    pub(crate) fn new(source: Source, metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let small = BatchCoalescer::new(Arc::clone(&source.schema), source.batch_rows);
        let blocks_read = MetricBuilder::new(metrics)
            .with_type(MetricType::Summary)
            .counter("blocks_read", partition);
        Self {
            wanted: source.limit.unwrap_or(usize::MAX),
            source,
            small,
            ready: VecDeque::new(),
            done: false,
            baseline: BaselineMetrics::new(metrics, partition),
            blocks_read,
        }
    }

    /// Takes one more block into `ready` or `small`, or ends the stream.
    fn advance(&mut self) -> Result<()> {
        let block = if self.wanted == 0 {
            None
        } else {
            self.source.blocks.pop_front()
        };
        let Some(block) = block else {
            self.done = true;
            return self.flush_small();
        };
        let batch = self.read(&block)?;
        let rows = batch.num_rows().min(self.wanted);
        self.wanted -= rows;
        self.place(batch.slice(0, rows))
    }

    fn read(&self, block: &BlockRef) -> Result<RecordBatch> {
        if self.source.projection.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(block.rows()));
            let schema = Arc::clone(&self.source.schema);
            return Ok(RecordBatch::try_new_with_options(
                schema,
                Vec::new(),
                &options,
            )?);
        }
        self.blocks_read.add(1);
        block
            .read(&self.source.table, &self.source.projection)
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// Large batches leave as they are or cut; small ones are gathered, in order.
    fn place(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let gathered = !self.source.projection.is_empty() && rows < self.source.batch_rows / 2;
        if gathered {
            self.small.push_batch(batch)?;
            self.take_completed();
            return Ok(());
        }
        self.flush_small()?;
        if rows <= MAX_BATCH_ROWS {
            self.ready.push_back(batch);
            return Ok(());
        }
        for start in (0..rows).step_by(self.source.batch_rows) {
            self.ready
                .push_back(batch.slice(start, self.source.batch_rows.min(rows - start)));
        }
        Ok(())
    }

    fn flush_small(&mut self) -> Result<()> {
        self.small.finish_buffered_batch()?;
        self.take_completed();
        Ok(())
    }

    fn take_completed(&mut self) {
        while let Some(batch) = self.small.next_completed_batch() {
            self.ready.push_back(batch);
        }
    }

    fn next_batch(&mut self, context: &Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        for _ in 0..BLOCKS_PER_POLL {
            if let Some(batch) = self.ready.pop_front() {
                if batch.num_rows() > 0 {
                    return Poll::Ready(Some(Ok(batch)));
                }
                continue;
            }
            if self.done {
                return Poll::Ready(None);
            }
            if let Err(error) = self.advance() {
                self.done = true;
                self.source.blocks.clear();
                return Poll::Ready(Some(Err(error)));
            }
        }
        // Many tiny blocks: let other queries, and a cancellation, have the thread.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Stream for BlockStream {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let elapsed = this.baseline.elapsed_compute().clone();
        let timer = elapsed.timer();
        let poll = this.next_batch(context);
        drop(timer);
        this.baseline.record_poll(poll)
    }
}

impl RecordBatchStream for BlockStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.source.schema)
    }
}

impl Drop for BlockStream {
    fn drop(&mut self) {
        counter!("headwater_blocks_read_total").increment(self.blocks_read.value() as u64);
    }
}

/// Larger batches are cut, so that operators above see a bounded size.
const MAX_BATCH_ROWS: usize = 65_536;
/// Blocks decoded before the thread is given back.
const BLOCKS_PER_POLL: usize = 256;
