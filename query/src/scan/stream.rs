//! The rows of one partition of a scan. Owns reading, lazily and unit by unit, and the size of the
//! batches that leave; must never read a unit nobody asked for, nor hold up its thread for long.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::RecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use futures::Stream;
use wal::{BlockRef, FileRef, MergePart, RowGroup, TableSchema, WalError, Wanted};

use super::progress::Progress;
use super::units::{Counts, Group, TIME_INDEX, Unit};
use super::zeros::one_zero;
use crate::error::storage;
use crate::stats::Counters;

/// What one partition reads.
pub(crate) struct Source {
    pub(crate) table: Arc<TableSchema>,
    /// Indices into the table's columns, in output order.
    pub(crate) projection: Arc<[usize]>,
    /// The table's schema after the projection.
    pub(crate) schema: SchemaRef,
    /// The units of all partitions.
    pub(crate) units: Arc<[Unit]>,
    /// Those of this partition that are not begun.
    pub(crate) range: Range<usize>,
    /// Rows that the readers of files may leave out.
    pub(crate) wanted: Arc<Wanted>,
    /// Rows that are enough.
    pub(crate) limit: Option<usize>,
    /// Rows that a batch should have.
    pub(crate) batch_rows: usize,
    /// What merges take their memory from.
    pub(crate) memory: Arc<dyn MemoryPool>,
    /// Of all queries.
    pub(crate) counters: Arc<Counters>,
}

impl Source {
    /// Columns to read: where none is asked for, one that tells how many rows there are.
    fn columns(&self) -> &[usize] {
        if self.projection.is_empty() {
            &[TIME_INDEX]
        } else {
            &self.projection
        }
    }

    /// A batch as it leaves.
    fn finished(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.projection.is_empty() {
            self.counted(batch.num_rows())
        } else {
            Ok(batch)
        }
    }

    /// So many rows without columns.
    fn counted(&self, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema,
            Vec::new(),
            &options,
        )?)
    }
}

/// A unit, or the row groups of one file, half-way.
struct Reading {
    batches: Box<dyn Iterator<Item = std::result::Result<RecordBatch, WalError>> + Send>,
    /// Goes back to the pool with the reader.
    _memory: Option<MemoryReservation>,
}

/// Reads units as they are asked for.
pub(crate) struct BlockStream {
    source: Source,
    reading: Option<Reading>,
    /// Rows still wanted.
    wanted: usize,
    small: BatchCoalescer,
    ready: VecDeque<RecordBatch>,
    done: bool,
    baseline: BaselineMetrics,
    progress: Progress,
}

impl BlockStream {
    pub(crate) fn new(source: Source, metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let small = BatchCoalescer::new(Arc::clone(&source.schema), source.batch_rows);
        let progress = Progress::new(metrics, partition, Arc::clone(&source.counters));
        Self {
            wanted: source.limit.unwrap_or(usize::MAX),
            source,
            reading: None,
            small,
            ready: VecDeque::new(),
            done: false,
            baseline: BaselineMetrics::new(metrics, partition),
            progress,
        }
    }

    /// Takes one more block or batch into `ready` or `small`, begins a file or a merge, or ends the
    /// stream.
    fn advance(&mut self) -> Result<()> {
        if self.wanted == 0 {
            return self.finish();
        }
        if let Some(reading) = &mut self.reading {
            let Some(batch) = reading.batches.next() else {
                self.reading = None;
                return Ok(());
            };
            let batch = self.source.finished(batch.map_err(storage)?)?;
            return self.take(&batch);
        }
        let units = Arc::clone(&self.source.units);
        let Some(unit) = self.source.range.next().and_then(|next| units.get(next)) else {
            return self.finish();
        };
        match unit {
            Unit::Block(block) => self.read_block(block, unit.counts()),
            Unit::Group(group) => self.begin_group(group, &units, unit.counts()),
            Unit::Merge(merge) => self.begin_merge(&merge.part, unit.counts()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.reading = None;
        self.done = true;
        self.flush_small()
    }

    /// Gives back what is held; nothing more will leave.
    fn abandon(&mut self) {
        self.reading = None;
        self.ready.clear();
        self.done = true;
    }

    fn read_block(&mut self, block: &BlockRef, counts: Counts) -> Result<()> {
        if self.source.projection.is_empty() && block.exact() {
            let batch = self.source.counted(block.rows())?;
            return self.take(&batch);
        }
        self.progress.add(counts);
        let batch = block
            .read(&self.source.table, self.source.columns())
            .map_err(storage)?;
        let batch = self.source.finished(batch)?;
        self.take(&batch)
    }

    /// Begins one row group, and with it those of the same file that follow.
    fn begin_group(&mut self, begun: &Group, units: &[Unit], mut counts: Counts) -> Result<()> {
        if self.source.projection.is_empty() && begun.exact {
            let batch = self.source.counted(begun.group.rows)?;
            return self.take(&batch);
        }
        let mut groups = vec![begun.group];
        while let Some(unit) = self.upcoming(units) {
            let Unit::Group(next) = unit else {
                break;
            };
            if next.file.name() != begun.file.name() {
                break;
            }
            groups.push(next.group);
            counts += unit.counts();
            self.source.range.start += 1;
        }
        self.progress.add(counts);
        self.begin_file(&begun.file, &groups)
    }

    fn upcoming<'a>(&self, units: &'a [Unit]) -> Option<&'a Unit> {
        units.get(self.source.range.clone())?.first()
    }

    fn begin_file(&mut self, file: &FileRef, groups: &[RowGroup]) -> Result<()> {
        let source = &self.source;
        let batches = file
            .read(
                &source.table,
                source.columns(),
                groups,
                &source.wanted,
                source.batch_rows,
            )
            .map_err(storage)?;
        self.reading = Some(Reading {
            batches: Box::new(batches),
            _memory: None,
        });
        Ok(())
    }

    fn begin_merge(&mut self, part: &MergePart, counts: Counts) -> Result<()> {
        let source = &self.source;
        let consumer = MemoryConsumer::new(format!("merge of {}", source.table.name));
        let memory = consumer.register(&source.memory);
        memory.try_grow(part.memory())?;
        self.progress.add(counts);
        let batches = part
            .read(
                &source.table,
                source.columns(),
                &source.wanted,
                source.batch_rows,
            )
            .map_err(storage)?;
        self.reading = Some(Reading {
            batches: Box::new(batches),
            _memory: Some(memory),
        });
        Ok(())
    }

    /// Takes as many rows as are still wanted.
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows().min(self.wanted);
        self.wanted -= rows;
        self.place(one_zero(batch.slice(0, rows))?)
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
        for _ in 0..UNITS_PER_POLL {
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
                self.abandon();
                return Poll::Ready(Some(Err(error)));
            }
        }
        // Many tiny units: let other queries, and a cancellation, have the thread.
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

/// Larger batches are cut, so that operators above see a bounded size.
const MAX_BATCH_ROWS: usize = 65_536;
/// Blocks, and batches of files, that are decoded before the thread is given back.
const UNITS_PER_POLL: usize = 256;
