//! An immutable view of the log up to one durable position: sealed segments, the active segment's
//! tail, and the schemas. A query holds an `Arc` of it; nothing it sees changes.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampNanosecondType;
use arrow::error::ArrowError;
use bytes::Bytes;

use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind};
use crate::format::body;
use crate::format::catalog::Catalog;
use crate::format::control::Control;
use crate::error::WalError;
use crate::parquet::FileRef;
use crate::parquet::{FileInfo, FileSet};
use crate::ids::{Epoch, LogId, Lsn, Position, TableId};
use crate::format::schema::TableSchema;
use crate::read::sealed::Sealed;
use crate::format::segment::BlockEntry;

/// One block of the active segment.
#[derive(Clone, Debug)]
pub(crate) struct TailBlock {
    pub(crate) entry: BlockEntry,
    pub(crate) bytes: Bytes,
}

/// Blocks per frozen chunk of a tail: bounds what a reader copies under the lock.
const CHUNK: usize = 512;

/// The active segment's blocks. Only its writer appends; snapshots look at a prefix.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) path: String,
    pub(crate) start: Position,
    blocks: Mutex<TailBlocks>,
}

#[derive(Debug, Default)]
struct TailBlocks {
    frozen: Vec<Arc<Vec<TailBlock>>>,
    /// Frozen chunks that are read from a mapping.
    spilled: usize,
    current: Vec<TailBlock>,
}

impl TailBlock {
    /// What it says about the log, if it is whole and says something.
    pub(crate) fn control(&self) -> Option<Control> {
        let (header, body) = BlockHeader::decode_block(&self.bytes).ok()?;
        Control::decode(header.kind, header.table, body).ok()?
    }

    fn mapped(&self, mapping: &Bytes) -> Self {
        let from = usize::try_from(self.entry.offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(self.entry.len as usize);
        let inside = to <= mapping.len();
        Self {
            entry: self.entry,
            bytes: if inside {
                mapping.slice(from..to)
            } else {
                self.bytes.clone()
            },
        }
    }
}

impl Tail {
    pub(crate) fn new(path: String, start: Position) -> Self {
        Self {
            path,
            start,
            blocks: Mutex::default(),
        }
    }

    pub(crate) fn push(&self, blocks: impl Iterator<Item = TailBlock>) {
        let mut tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        for block in blocks {
            if tail.current.len() == CHUNK {
                let full = std::mem::replace(&mut tail.current, Vec::with_capacity(CHUNK));
                tail.frozen.push(Arc::new(full));
            }
            tail.current.push(block);
        }
    }

    /// Lets go of the memory of whole chunks: from now on they are read from `mapping`, the
    /// segment's file so far. What a snapshot has taken already stays as it is.
    pub(crate) fn spill(&self, mapping: &Bytes) {
        let mut tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let from = tail.spilled;
        for chunk in tail.frozen.iter_mut().skip(from) {
            let blocks = chunk.iter().map(|block| block.mapped(mapping)).collect();
            *chunk = Arc::new(blocks);
        }
        tail.spilled = tail.frozen.len();
    }

    /// Of the first `count` blocks: those from the one that starts at `lsn` on, about `max_bytes` of
    /// them but at least one.
    pub(crate) fn run(&self, lsn: Lsn, count: usize, max_bytes: usize) -> Option<Vec<TailBlock>> {
        let tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let first = tail.block_at(lsn).filter(|at| *at < count)?;
        let mut found: Vec<TailBlock> = Vec::new();
        let mut bytes = 0;
        for block in (first..count).map_while(|at| tail.get(at)) {
            bytes += block.bytes.len();
            if !found.is_empty() && bytes > max_bytes {
                break;
            }
            found.push(block.clone());
        }
        Some(found)
    }

    /// How many blocks start below `lsn`.
    pub(crate) fn below(&self, lsn: Lsn) -> usize {
        let tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        tail.below(lsn)
    }

    /// One block.
    pub(crate) fn get(&self, at: usize) -> Option<TailBlock> {
        let tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        tail.get(at).cloned()
    }

    /// The first `count` blocks, in chunks.
    fn prefix(&self, count: usize) -> TailView {
        let tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let frozen: Vec<_> = tail
            .frozen
            .iter()
            .take(count.div_ceil(CHUNK))
            .map(Arc::clone)
            .collect();
        let rest = count.saturating_sub(frozen.len() * CHUNK);
        let current = tail.current.iter().take(rest).cloned().collect();
        TailView {
            frozen,
            current,
            count,
        }
    }
}

impl TailBlocks {
    fn get(&self, at: usize) -> Option<&TailBlock> {
        match self.frozen.get(at / CHUNK) {
            Some(chunk) => chunk.get(at % CHUNK),
            None => self.current.get(at - self.frozen.len() * CHUNK),
        }
    }

    /// How many blocks start below `lsn`.
    fn below(&self, lsn: Lsn) -> usize {
        let starts = |block: &TailBlock| block.entry.first_lsn < lsn;
        let whole = |chunk: &Arc<Vec<TailBlock>>| chunk.last().is_some_and(starts);
        let chunk = self.frozen.partition_point(whole);
        let blocks = self
            .frozen
            .get(chunk)
            .map_or(&self.current, |chunk| chunk.as_ref());
        chunk * CHUNK + blocks.partition_point(starts)
    }

    /// Index of the block that starts at `lsn`.
    fn block_at(&self, lsn: Lsn) -> Option<usize> {
        let before = |chunk: &Arc<Vec<TailBlock>>| {
            chunk.last().is_some_and(|last| last.entry.first_lsn < lsn)
        };
        let chunk = self.frozen.partition_point(before);
        let blocks = self
            .frozen
            .get(chunk)
            .map_or(&self.current, |chunk| chunk.as_ref());
        let at = blocks
            .binary_search_by_key(&lsn, |block| block.entry.first_lsn)
            .ok()?;
        Some(chunk * CHUNK + at)
    }
}

/// A prefix of a tail.
pub(crate) struct TailView {
    frozen: Vec<Arc<Vec<TailBlock>>>,
    current: Vec<TailBlock>,
    count: usize,
}

impl TailView {
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &TailBlock> {
        let frozen = self.frozen.iter().flat_map(|chunk| chunk.iter());
        frozen.chain(&self.current).take(self.count)
    }
}

/// An immutable view of the log.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) position: Position,
    pub(crate) committed_at: i64,
    pub(crate) catalog: Arc<Catalog>,
    /// Every sealed segment held, also those whose rows are in files already.
    pub(crate) sealed: Arc<Vec<Arc<Sealed>>>,
    pub(crate) files: Arc<FileSet>,
    pub(crate) tail: Arc<Tail>,
    /// Blocks of the tail that this snapshot sees, and their bytes.
    pub(crate) tail_len: usize,
    pub(crate) tail_bytes: u64,
}

/// What a segment holds, for people and dashboards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub path: String,
    pub first: Lsn,
    /// The LSN after the last one held.
    pub end: Lsn,
    pub bytes: u64,
    pub rows: u64,
    pub blocks: u64,
    pub sealed: bool,
    /// Smallest and largest row time, unix nanoseconds; `None` without rows.
    pub min_time: Option<i64>,
    pub max_time: Option<i64>,
}

impl Snapshot {
    /// The end of what this snapshot sees.
    pub fn position(&self) -> Position {
        self.position
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn log_id(&self) -> LogId {
        self.log
    }

    /// The primary's clock when the last block was committed, unix nanoseconds; 0 when empty.
    pub fn committed_at(&self) -> i64 {
        self.committed_at
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    pub(crate) fn tail(&self) -> TailView {
        self.tail.prefix(self.tail_len)
    }

    /// Everything below is in Parquet files.
    pub fn compacted(&self) -> Position {
        self.files.compacted
    }

    /// Rows of the table older than this are gone by retention.
    pub fn cut(&self, table: TableId) -> Option<i64> {
        self.catalog.cut(table)
    }

    /// Parquet files of one table that hold rows which are not gone, in LSN order.
    pub fn files(&self, table: TableId) -> Vec<FileRef> {
        let cut = self.cut(table);
        let files = self.files.of(table);
        files
            .filter(|file| cut.is_none_or(|cut| file.meta.max_time >= cut))
            .map(|file| FileRef::new(Arc::clone(file), cut))
            .collect()
    }

    /// Every Parquet file.
    pub fn file_infos(&self) -> Vec<FileInfo> {
        let name = |table| {
            let schema: Option<&Arc<TableSchema>> = self.catalog.newest(table);
            schema.map_or_else(String::new, |schema| schema.name.clone())
        };
        let all = self.files.all();
        all.map(|file| file.meta.info(name(file.meta.table)))
            .collect()
    }

    /// Why the rows of this table are not whole here: a segment or file that cannot be read.
    pub fn damaged(&self, table: TableId) -> Option<WalError> {
        let hole = self.pending().find_map(|segment| {
            let reason = segment.fault.clone()?;
            Some(WalError::corrupt(&segment.path, 0, reason))
        });
        hole.or_else(|| self.files(table).iter().find_map(FileRef::fault))
    }

    /// Sealed segments whose rows are not in files yet, oldest first.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Arc<Sealed>> {
        let from = self.compacted().lsn;
        let at = self
            .sealed
            .partition_point(|segment| segment.end.lsn <= from);
        self.sealed.iter().skip(at)
    }

    /// Data blocks of one table in LSN order, without those whose rows are in files or gone.
    pub fn blocks(&self, table: TableId) -> Vec<BlockRef> {
        let cut = self.cut(table).unwrap_or(i64::MIN);
        let wanted = |entry: &BlockEntry| {
            entry.kind == BlockKind::Data && entry.table == table && entry.max_time >= cut
        };
        let mut found = Vec::new();
        for segment in self.pending() {
            let source = Source::Sealed(Arc::clone(segment));
            for entry in segment.entries.iter().filter(|entry| wanted(entry)) {
                found.extend(self.block_ref(*entry, &segment.catalog, source.clone()));
            }
        }
        for block in self.tail().blocks().filter(|block| wanted(&block.entry)) {
            let source = Source::Tail(Arc::clone(&self.tail), block.bytes.clone());
            found.extend(self.block_ref(block.entry, &self.catalog, source));
        }
        found
    }

    /// None only where `damaged` says why, or where no row of it is seen.
    fn block_ref(&self, entry: BlockEntry, catalog: &Catalog, source: Source) -> Option<BlockRef> {
        let schema = Arc::clone(catalog.version(entry.table, entry.schema_version)?);
        let rows = self.position.lsn.0.checked_sub(entry.first_lsn.0)?;
        let rows = entry.rows.min(u32::try_from(rows).unwrap_or(u32::MAX));
        (rows > 0).then_some(BlockRef {
            rows,
            entry,
            schema,
            source,
            cut: self.cut(entry.table),
        })
    }

    /// Every segment, oldest first; the last is the active one.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let mut infos: Vec<SegmentInfo> = self
            .sealed
            .iter()
            .map(|segment| {
                let (path, bytes) = (segment.path.clone(), segment.bytes.len() as u64);
                info(
                    path,
                    segment.start().lsn,
                    segment.end.lsn,
                    bytes,
                    true,
                    segment.entries.iter(),
                )
            })
            .collect();
        let tail = self.tail();
        let (path, first) = (self.tail.path.clone(), self.tail.start.lsn);
        let entries = tail.blocks().map(|block| &block.entry);
        infos.push(info(
            path,
            first,
            self.position.lsn,
            self.tail_bytes,
            false,
            entries,
        ));
        infos
    }
}

fn info<'a>(
    path: String,
    first: Lsn,
    end: Lsn,
    bytes: u64,
    sealed: bool,
    entries: impl Iterator<Item = &'a BlockEntry>,
) -> SegmentInfo {
    let (min_time, max_time) = (None, None);
    let mut info = SegmentInfo {
        path,
        first,
        end,
        bytes,
        rows: 0,
        blocks: 0,
        sealed,
        min_time,
        max_time,
    };
    for entry in entries {
        info.blocks += 1;
        if entry.kind == BlockKind::Data {
            info.rows += u64::from(entry.rows);
            info.min_time = Some(
                info.min_time
                    .map_or(entry.min_time, |min| min.min(entry.min_time)),
            );
            info.max_time = Some(
                info.max_time
                    .map_or(entry.max_time, |max| max.max(entry.max_time)),
            );
        }
    }
    info
}

#[derive(Clone, Debug)]
enum Source {
    Sealed(Arc<Sealed>),
    Tail(Arc<Tail>, Bytes),
}

/// A data block that a query may read.
#[derive(Clone, Debug)]
pub struct BlockRef {
    entry: BlockEntry,
    /// How many of its rows are seen: all but in a view that ends inside it.
    rows: u32,
    schema: Arc<TableSchema>,
    source: Source,
    cut: Option<i64>,
}

impl BlockRef {
    /// A data block of a sealed segment; `schema` is the version it was written under.
    pub(crate) fn sealed(
        entry: BlockEntry,
        schema: &Arc<TableSchema>,
        segment: &Arc<Sealed>,
        cut: Option<i64>,
    ) -> Self {
        Self {
            rows: entry.rows,
            entry,
            schema: Arc::clone(schema),
            source: Source::Sealed(Arc::clone(segment)),
            cut,
        }
    }

    /// The columns it has, as indices into any later version of its schema. Checks the block.
    pub(crate) fn columns(&self) -> Result<Vec<usize>, WalError> {
        let (bytes, file) = self.source();
        let columns = BlockHeader::decode_block(&bytes)
            .ok()
            .and_then(|(_, body)| body::present_columns(body, &self.schema));
        columns.ok_or_else(|| {
            let reason = "the block is not what was written";
            if let Source::Sealed(segment) = &self.source {
                segment.report(reason);
            }
            WalError::corrupt(file, self.entry.offset, reason)
        })
    }

    fn source(&self) -> (Bytes, &str) {
        match &self.source {
            Source::Sealed(segment) => (segment.block(&self.entry), &segment.path),
            Source::Tail(tail, bytes) => (bytes.clone(), &tail.path),
        }
    }

    /// Whether all its rows are seen: none is gone by retention, none lies behind the view's end.
    pub fn exact(&self) -> bool {
        self.rows == self.entry.rows && self.needed_cut().is_none()
    }

    fn needed_cut(&self) -> Option<i64> {
        self.cut.filter(|cut| self.entry.min_time < *cut)
    }

    /// Rows up to the view's end, those that are gone included.
    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// Smallest row time, unix nanoseconds; also of rows that are not seen.
    pub fn min_time(&self) -> i64 {
        self.entry.min_time
    }

    /// Largest row time, unix nanoseconds.
    pub fn max_time(&self) -> i64 {
        self.entry.max_time
    }

    pub fn first_lsn(&self) -> Lsn {
        self.entry.first_lsn
    }

    /// Header and body, in bytes.
    pub fn bytes(&self) -> usize {
        self.entry.len as usize
    }

    /// Columns `projection` (indices into `schema.columns`) of this block, brought to `schema`:
    /// columns that came later are null, integers that widened are floats. Rows that are gone by
    /// retention are left out.
    ///
    /// # Errors
    /// `Corrupt` with file and offset when the block's bytes are not what was written.
    pub fn read(
        &self,
        schema: &TableSchema,
        projection: &[usize],
    ) -> Result<RecordBatch, WalError> {
        let Some(cut) = self.needed_cut() else {
            return self.read_all(schema, projection);
        };
        let with_time: Vec<usize> = projection.iter().copied().chain([0]).collect();
        let batch = self.read_all(schema, &with_time)?;
        let kept = drop_cut(&batch, projection.len(), cut);
        kept.map_err(|error| WalError::InvalidBlock(error.to_string()))
    }

    fn read_all(
        &self,
        schema: &TableSchema,
        projection: &[usize],
    ) -> Result<RecordBatch, WalError> {
        let (bytes, file) = self.source();
        let read = self.decode(&bytes, schema, projection);
        read.map_err(|reason| {
            if let Source::Sealed(segment) = &self.source {
                segment.report(&reason);
            }
            WalError::corrupt(file, self.entry.offset, reason)
        })
    }

    fn decode(
        &self,
        bytes: &Bytes,
        schema: &TableSchema,
        projection: &[usize],
    ) -> Result<RecordBatch, String> {
        let (header, _) = BlockHeader::decode_block(bytes).map_err(|error| error.to_string())?;
        if BlockEntry::of(&header, self.entry.offset) != self.entry {
            return Err("the block is not the one in the index".to_owned());
        }
        let body = bytes.slice(BLOCK_HEADER_LEN..);
        let rows = self.entry.rows as usize;
        let batch = body::read(&body, rows, &self.schema, schema, projection)
            .map_err(|error| error.to_string())?;
        Ok(batch.slice(0, self.rows()))
    }
}

/// Rows of `batch` from `cut` on; column `time` is their time and is taken away.
pub(crate) fn drop_cut(
    batch: &RecordBatch,
    time: usize,
    cut: i64,
) -> Result<RecordBatch, ArrowError> {
    let times = batch.column(time).as_primitive::<TimestampNanosecondType>();
    let kept: BooleanArray = times.values().iter().map(|at| Some(*at >= cut)).collect();
    let rows = kept.true_count();
    let columns: Vec<usize> = (0..time).collect();
    let batch = filter_record_batch(&batch.project(&columns)?, &kept)?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(batch.schema(), batch.columns().to_vec(), &options)
}
