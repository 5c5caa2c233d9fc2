//! Merges sorted runs into one, by tags and time; where a key comes twice and the last write wins,
//! makes one row of its rows, column by column. Used by compaction and by queries, so both agree.

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

/// Runs of this many rows and more are copied in one piece.
const LONG_RUN: usize = 16;

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
struct Held {
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
struct Piece {
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
    pool: HashMap<usize, Held>,
    next_pool: usize,
    pieces: Vec<Piece>,
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
            pieces: Vec::new(),
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
        let held = Held {
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
        match self.pieces.last_mut() {
            Some(last) if last.pool == pool && last.start + last.len == start => last.len += len,
            _ => self.pieces.push(Piece { pool, start, len }),
        }
    }

    /// The newest pending row.
    fn newest(&self) -> Option<(usize, usize)> {
        let last = self.pieces.last()?;
        Some((last.pool, last.start + last.len - 1))
    }

    fn same_key(&self, pool: usize, last: usize, rows: &Rows, at: usize) -> bool {
        self.pool
            .get(&pool)
            .is_some_and(|held| held.rows.row(last) == rows.row(at))
    }

    /// A later row of the same key takes the place of the newest pending one. Where it has no value,
    /// the earlier one stays.
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
        if let Some(last) = self.pieces.last_mut() {
            last.len -= 1;
            if last.len == 0 {
                self.pieces.pop();
            }
        }
        self.pending -= 1;
        self.push(pool, at, 1);
    }

    /// The pending rows but for `keep` at the end, as one batch.
    fn emit(&mut self, keep: usize) -> Result<RecordBatch, ArrowError> {
        let rows = self.pending - keep;
        let mut pieces = std::mem::take(&mut self.pieces);
        if keep > 0
            && let Some(last) = pieces.last_mut()
        {
            last.len -= 1;
            let kept = Piece {
                pool: last.pool,
                start: last.start + last.len,
                len: 1,
            };
            self.pieces.push(kept);
            if last.len == 0 {
                pieces.pop();
            }
        }
        let at = self.patches.partition_point(|patch| patch.row < rows);
        let mut later = self.patches.split_off(at);
        later.iter_mut().for_each(|patch| patch.row -= rows);
        let patches = std::mem::replace(&mut self.patches, later);
        self.pending = keep;
        let columns: Result<Vec<ArrayRef>, ArrowError> = (0..self.schema.fields().len())
            .map(|column| self.column(column, &pieces, &patches, rows))
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns?);
        self.forget();
        batch
    }

    fn column(
        &self,
        column: usize,
        pieces: &[Piece],
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
        if mine.is_empty() && rows >= pieces.len() * LONG_RUN {
            let slices: Result<Vec<ArrayRef>, ArrowError> = pieces
                .iter()
                .map(|piece| Ok(array(piece.pool)?.slice(piece.start, piece.len)))
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
        for piece in pieces {
            let at = place(piece.pool)?;
            picks.extend((piece.start..piece.start + piece.len).map(|row| (at, row)));
        }
        for patch in mine {
            picks[patch.row] = (place(patch.pool)?, patch.at);
        }
        interleave(&arrays, &picks)
    }

    /// Lets go of batches that nothing refers to any more.
    fn forget(&mut self) {
        let (heads, pieces, patches) = (&self.heads, &self.pieces, &self.patches);
        self.pool.retain(|pool, _| {
            heads.iter().flatten().any(|head| head.pool == *pool)
                || pieces.iter().any(|piece| piece.pool == *pool)
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringViewArray, UInt32Array};
    use arrow::compute::take_record_batch;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::collections::BTreeMap;

    type Values = (Option<i64>, Option<i64>);
    type RowOf = (Option<u8>, i64, Option<i64>, Option<i64>);

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("tag", DataType::Utf8View, true),
            Field::new("time", DataType::Int64, false),
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Int64, true),
        ]))
    }

    fn batch(rows: &[RowOf]) -> RecordBatch {
        let tags: StringViewArray = rows
            .iter()
            .map(|row| row.0.map(|tag| format!("t{tag}")))
            .collect();
        let times = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let a: Int64Array = rows.iter().map(|row| row.2).collect();
        let b: Int64Array = rows.iter().map(|row| row.3).collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(tags), Arc::new(times), Arc::new(a), Arc::new(b)];
        RecordBatch::try_new(schema(), columns).expect("fits")
    }

    fn rows(batches: &[RecordBatch]) -> Vec<RowOf> {
        let mut found = Vec::new();
        for batch in batches {
            let tags = batch.column(0).as_string_view();
            let int = |at: usize| batch.column(at).as_primitive::<Int64Type>();
            for at in 0..batch.num_rows() {
                let tag = tags
                    .is_valid(at)
                    .then(|| tags.value(at)[1..].parse().expect("a number"));
                let value = |column: usize| int(column).is_valid(at).then(|| int(column).value(at));
                found.push((tag, int(1).value(at), value(2), value(3)));
            }
        }
        found
    }

    fn sorted(keys: &Keys, batch: &RecordBatch) -> RecordBatch {
        let rows = keys.of(batch).expect("keys");
        let mut order: Vec<u32> = (0..).take(batch.num_rows()).collect();
        order.sort_by_key(|row| rows.row(*row as usize));
        take_record_batch(batch, &UInt32Array::from(order)).expect("takes")
    }

    /// Random runs, cut into batches, and their rows oldest first.
    fn random_runs(random: &mut fastrand::Rng) -> (Vec<Run>, Vec<RowOf>) {
        let keys = Keys::new(&schema(), &[0, 1]).expect("keys");
        let (mut runs, mut all): (Vec<Run>, Vec<RowOf>) = (Vec::new(), Vec::new());
        let times = random.i64(1..40);
        for _ in 0..random.usize(1..7) {
            let rows: Vec<RowOf> = (0..random.usize(0..60))
                .map(|_| {
                    let tag = (random.u8(0..4) > 0).then(|| random.u8(0..3));
                    let value =
                        |random: &mut fastrand::Rng| random.bool().then(|| random.i64(0..1_000));
                    (tag, random.i64(0..times), value(random), value(random))
                })
                .collect();
            let sorted = sorted(&keys, &batch(&rows));
            all.extend(rows);
            let mut batches = Vec::new();
            let mut at = 0;
            while at < sorted.num_rows() {
                let len = random.usize(1..9).min(sorted.num_rows() - at);
                batches.push(Ok(sorted.slice(at, len)));
                at += len;
            }
            runs.push(Box::new(batches.into_iter()));
        }
        (runs, all)
    }

    fn merged(runs: Vec<Run>, unique: bool, batch_rows: usize) -> Vec<RowOf> {
        let key = Key {
            columns: vec![0, 1],
            unique,
        };
        let merger = Merger::new(schema(), &key, runs, batch_rows).expect("starts");
        let batches: Vec<RecordBatch> = merger.map(|batch| batch.expect("merges")).collect();
        rows(&batches)
    }

    #[test]
    fn merging_keeps_every_row_in_the_order_of_keys_and_of_writing() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..400 {
            let (runs, mut expected) = random_runs(&mut random);
            expected.sort_by_key(|row| (row.0, row.1));
            let batch_rows = random.usize(1..50);
            assert_eq!(merged(runs, false, batch_rows), expected);
        }
    }

    #[test]
    fn the_last_write_wins_column_by_column() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..400 {
            let (runs, written) = random_runs(&mut random);
            let mut expected: BTreeMap<(Option<u8>, i64), Values> = BTreeMap::new();
            for (tag, time, a, b) in written {
                let held = expected.entry((tag, time)).or_default();
                *held = (a.or(held.0), b.or(held.1));
            }
            let expected: Vec<RowOf> = expected
                .into_iter()
                .map(|((tag, time), (a, b))| (tag, time, a, b))
                .collect();
            assert_eq!(merged(runs, true, random.usize(1..50)), expected);
        }
    }

    #[test]
    fn galloping_finds_the_border() {
        for limit in 0..70 {
            for from in 0..=limit {
                for border in from..=limit {
                    assert_eq!(gallop(from, limit, |at| at < border), border);
                }
            }
        }
    }
}
