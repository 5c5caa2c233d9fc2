//! Merges sorted runs into one, by tags and time; where a key comes twice and the last write wins,
//! makes one row of its rows, column by column. Used by compaction and by queries, so both agree.
//! It must never let the order of its inputs decide between two rows: their LSN does.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{concat, interleave};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::WalError;

/// A sorted run: batches of one schema, ascending by key. Later runs win over earlier ones.
pub(crate) type Run = Box<dyn Iterator<Item = Result<RecordBatch, WalError>> + Send>;

/// Columns that make the key, in the order in which they count.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) columns: Vec<usize>,
    /// Whether one key has one row.
    pub(crate) unique: bool,
}

/// The sort keys of batches.
#[derive(Debug)]
pub(crate) struct Keys {
    converter: RowConverter,
    columns: Vec<usize>,
}

impl Keys {
    pub(crate) fn new(schema: &SchemaRef, columns: &[usize]) -> Result<Self, ArrowError> {
        let kind = |at: &usize| SortField::new(schema.field(*at).data_type().clone());
        Ok(Self {
            converter: RowConverter::new(columns.iter().map(kind).collect())?,
            columns: columns.to_vec(),
        })
    }

    pub(crate) fn of(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns = self.columns.iter().map(|at| Arc::clone(batch.column(*at)));
        self.converter.convert_columns(&columns.collect::<Vec<_>>())
    }
}

/// A batch that pending rows refer to.
#[derive(Debug)]
struct PooledBatch {
    batch: RecordBatch,
    rows: Arc<Rows>,
}

/// Where a run stands.
struct Head {
    run: Run,
    /// Place of the current batch in the pool.
    pool: usize,
    rows: Arc<Rows>,
    at: usize,
}

/// Consecutive rows of one batch.
#[derive(Clone, Copy, Debug)]
struct Span {
    pool: usize,
    start: usize,
    len: usize,
}

/// A value that a row takes from an earlier row of its key.
#[derive(Clone, Copy, Debug)]
struct Patch {
    row: usize,
    column: usize,
    pool: usize,
    at: usize,
}

/// Merges runs.
pub(crate) struct Merger {
    schema: SchemaRef,
    keys: Keys,
    unique: bool,
    heads: Vec<Option<Head>>,
    /// Runs that are not at their end, the one with the smallest key last.
    order: Vec<usize>,
    waiting: Vec<Run>,
    pool: HashMap<usize, PooledBatch>,
    next_pool: usize,
    spans: Vec<Span>,
    patches: Vec<Patch>,
    pending: usize,
    batch_rows: usize,
    failed: bool,
}

impl Merger {
    /// `runs` oldest first, all of `schema`.
    pub(crate) fn new(
        schema: SchemaRef,
        key: &Key,
        runs: Vec<Run>,
        batch_rows: usize,
    ) -> Result<Self, ArrowError> {
        Ok(Self {
            keys: Keys::new(&schema, &key.columns)?,
            schema,
            unique: key.unique,
            heads: Vec::new(),
            order: Vec::new(),
            waiting: runs,
            pool: HashMap::new(),
            next_pool: 0,
            spans: Vec::new(),
            patches: Vec::new(),
            pending: 0,
            batch_rows: batch_rows.max(1),
            failed: false,
        })
    }

    /// Reads the first batch of every run.
    fn start(&mut self) -> Result<(), WalError> {
        for run in std::mem::take(&mut self.waiting) {
            let at = self.heads.len();
            self.heads.push(None);
            self.load(at, run)?;
        }
        Ok(())
    }

    /// Takes the run's next batch with rows; puts the run where it belongs, or drops it at its end.
    fn load(&mut self, source: usize, mut run: Run) -> Result<(), WalError> {
        let batch = loop {
            match run.next() {
                None => return Ok(()),
                Some(batch) => {
                    let batch = batch?;
                    if batch.num_rows() > 0 {
                        break batch;
                    }
                }
            }
        };
        let rows = Arc::new(self.keys.of(&batch).map_err(internal)?);
        let pool = self.next_pool;
        self.next_pool += 1;
        let held = PooledBatch {
            batch,
            rows: Arc::clone(&rows),
        };
        self.pool.insert(pool, held);
        let head = Head {
            run,
            pool,
            rows,
            at: 0,
        };
        self.heads[source] = Some(head);
        self.place(source);
        Ok(())
    }

    /// Puts a run into the order by its current key.
    fn place(&mut self, source: usize) {
        let at = self
            .order
            .partition_point(|other| self.compare(*other, source) == Ordering::Greater);
        self.order.insert(at, source);
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        match (&self.heads[a], &self.heads[b]) {
            (Some(x), Some(y)) => x.rows.row(x.at).cmp(&y.rows.row(y.at)).then(a.cmp(&b)),
            _ => a.cmp(&b),
        }
    }

    /// Moves the rows of the smallest run that come before those of all others to the pending ones.
    fn advance(&mut self) -> Result<bool, WalError> {
        let Some(source) = self.order.pop() else {
            return Ok(false);
        };
        let Some(mut head) = self.heads[source].take() else {
            return Ok(false);
        };
        let other = self.order.last().and_then(|other| {
            let head = self.heads[*other].as_ref()?;
            Some((*other, head.rows.row(head.at)))
        });
        let room = self.batch_rows - self.pending.min(self.batch_rows - 1);
        let limit = head.rows.num_rows().min(head.at + room);
        let end = match other {
            None => limit,
            Some((other, bound)) => gallop(head.at + 1, limit, |at| {
                let row = head.rows.row(at);
                row < bound || (row == bound && source < other)
            }),
        };
        self.take_rows(&head, head.at, end);
        head.at = end;
        if end < head.rows.num_rows() {
            self.heads[source] = Some(head);
            self.place(source);
        } else {
            self.load(source, head.run)?;
        }
        Ok(true)
    }

    fn take_rows(&mut self, head: &Head, from: usize, to: usize) {
        if !self.unique {
            self.push(head.pool, from, to - from);
            return;
        }
        for at in from..to {
            match self.newest() {
                Some((pool, last)) if self.same_key(pool, last, &head.rows, at) => {
                    self.replace(pool, last, head.pool, at);
                }
                _ => self.push(head.pool, at, 1),
            }
        }
    }

    fn push(&mut self, pool: usize, start: usize, len: usize) {
        self.pending += len;
        match self.spans.last_mut() {
            Some(last) if last.pool == pool && last.start + last.len == start => last.len += len,
            _ => self.spans.push(Span { pool, start, len }),
        }
    }

    /// The newest pending row.
    fn newest(&self) -> Option<(usize, usize)> {
        let last = self.spans.last()?;
        Some((last.pool, last.start + last.len - 1))
    }

    fn same_key(&self, pool: usize, last: usize, rows: &Rows, at: usize) -> bool {
        self.pool
            .get(&pool)
            .is_some_and(|held| held.rows.row(last) == rows.row(at))
    }

    /// A later row of the same key takes the place of the newest pending one. Where it has no
    /// value, the earlier one stays.
    fn replace(&mut self, old_pool: usize, old: usize, pool: usize, at: usize) {
        let row = self.pending - 1;
        let (Some(before), Some(after)) = (self.pool.get(&old_pool), self.pool.get(&pool)) else {
            return;
        };
        let mut patches = Vec::new();
        for column in 0..self.schema.fields().len() {
            if after.batch.column(column).is_valid(at) {
                continue;
            }
            let patched = self
                .patches
                .iter()
                .rev()
                .take_while(|patch| patch.row == row)
                .find(|patch| patch.column == column);
            if let Some(patch) = patched {
                patches.push(*patch);
            } else if before.batch.column(column).is_valid(old) {
                let (pool, at) = (old_pool, old);
                patches.push(Patch {
                    row,
                    column,
                    pool,
                    at,
                });
            }
        }
        while self.patches.last().is_some_and(|patch| patch.row == row) {
            self.patches.pop();
        }
        self.patches.extend(patches);
        if let Some(last) = self.spans.last_mut() {
            last.len -= 1;
            if last.len == 0 {
                self.spans.pop();
            }
        }
        self.pending -= 1;
        self.push(pool, at, 1);
    }

    /// The pending rows but for `keep` at the end, as one batch.
    fn emit(&mut self, keep: usize) -> Result<RecordBatch, ArrowError> {
        let rows = self.pending - keep;
        let mut spans = std::mem::take(&mut self.spans);
        if keep > 0
            && let Some(last) = spans.last_mut()
        {
            last.len -= 1;
            let kept = Span {
                pool: last.pool,
                start: last.start + last.len,
                len: 1,
            };
            self.spans.push(kept);
            if last.len == 0 {
                spans.pop();
            }
        }
        let at = self.patches.partition_point(|patch| patch.row < rows);
        let mut later = self.patches.split_off(at);
        later.iter_mut().for_each(|patch| patch.row -= rows);
        let patches = std::mem::replace(&mut self.patches, later);
        self.pending = keep;
        let columns: Result<Vec<ArrayRef>, ArrowError> = (0..self.schema.fields().len())
            .map(|column| self.column(column, &spans, &patches, rows))
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns?);
        self.forget();
        batch
    }

    fn column(
        &self,
        column: usize,
        spans: &[Span],
        patches: &[Patch],
        rows: usize,
    ) -> Result<ArrayRef, ArrowError> {
        let array = |pool: usize| match self.pool.get(&pool) {
            Some(held) => Ok(held.batch.column(column)),
            None => Err(ArrowError::ComputeError("a batch was let go".to_owned())),
        };
        let mine: Vec<&Patch> = patches
            .iter()
            .filter(|patch| patch.column == column)
            .collect();
        if mine.is_empty() && rows >= spans.len() * LONG_RUN {
            let slices: Result<Vec<ArrayRef>, ArrowError> = spans
                .iter()
                .map(|span| Ok(array(span.pool)?.slice(span.start, span.len)))
                .collect();
            let slices = slices?;
            if let [only] = slices.as_slice() {
                return Ok(Arc::clone(only));
            }
            return concat(&slices.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut arrays: Vec<&dyn Array> = Vec::new();
        let mut place = |pool: usize| -> Result<usize, ArrowError> {
            if let Some(at) = places.get(&pool) {
                return Ok(*at);
            }
            arrays.push(array(pool)?.as_ref());
            places.insert(pool, arrays.len() - 1);
            Ok(arrays.len() - 1)
        };
        let mut picks = Vec::with_capacity(rows);
        for span in spans {
            let at = place(span.pool)?;
            picks.extend((span.start..span.start + span.len).map(|row| (at, row)));
        }
        for patch in mine {
            picks[patch.row] = (place(patch.pool)?, patch.at);
        }
        interleave(&arrays, &picks)
    }

    /// Lets go of batches that nothing refers to any more.
    fn forget(&mut self) {
        let (heads, spans, patches) = (&self.heads, &self.spans, &self.patches);
        self.pool.retain(|pool, _| {
            heads.iter().flatten().any(|head| head.pool == *pool)
                || spans.iter().any(|span| span.pool == *pool)
                || patches.iter().any(|patch| patch.pool == *pool)
        });
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, WalError> {
        self.start()?;
        // The newest row waits: a row of the same key may follow.
        let keep = usize::from(self.unique);
        while self.pending < self.batch_rows + keep {
            if !self.advance()? {
                if self.pending == 0 {
                    return Ok(None);
                }
                return self.emit(0).map(Some).map_err(internal);
            }
        }
        self.emit(keep).map(Some).map_err(internal)
    }
}

impl Iterator for Merger {
    type Item = Result<RecordBatch, WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_batch().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// The first place from `from` on, and before `limit`, at which `before` no longer holds.
fn gallop(from: usize, limit: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (from, 1);
    while low < limit && before((low + step - 1).min(limit - 1)) {
        low = (low + step).min(limit);
        step *= 2;
    }
    let mut high = limit.min(low + step);
    while low < high {
        let middle = usize::midpoint(low, high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

pub(crate) fn internal(error: ArrowError) -> WalError {
    WalError::InvalidBlock(error.to_string())
}

/// Runs of this many rows and more are copied in one span.
const LONG_RUN: usize = 16;

#[cfg(test)]
mod tests;
