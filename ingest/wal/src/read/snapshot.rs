//! An immutable view of the log up to one durable position: sealed segments, the active segment's
//! tail, and the schemas. A query holds an `Arc` of it; what it sees must never change.

use std::sync::Arc;

use crate::error::WalError;
use crate::format::block::BlockKind;
use crate::format::catalog::Catalog;
use crate::format::schema::TableSchema;
use crate::format::segment::BlockEntry;
use crate::ids::{Boundary, Epoch, LogId, Lsn, Position, TableId};
use crate::parquet::{FileInfo, FileRef, FileSet, Wanted};
use crate::read::block_ref::{BlockRef, Source};
use crate::read::lost::Lost;
use crate::read::sealed::Sealed;
use crate::read::tail::{Tail, TailView};

/// An immutable view of the log.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
    /// Behind a block that ends before it the chain value is not known.
    pub(crate) end: Boundary,
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
    pub fn end(&self) -> Boundary {
        self.end
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
            // Of a table that has been dropped, until they are given up.
            let schema = schema.or_else(|| self.files.catalog.newest(table));
            schema.map_or_else(String::new, |schema| schema.name.clone())
        };
        let all = self.files.all();
        all.map(|file| file.meta.info(name(file.meta.table)))
            .collect()
    }

    /// Why the rows of this table are not whole here: a segment or file that cannot be read.
    pub fn damaged(&self, table: TableId) -> Option<WalError> {
        self.lacks(table, &Wanted::default())
    }

    /// Why rows of this table that are wanted may be missing here: they are, or may be, among what
    /// cannot be read.
    pub fn lacks(&self, table: TableId, wanted: &Wanted) -> Option<WalError> {
        let mut hollow = self.pending().filter(|segment| segment.fault.is_some());
        let hole = match hollow.next() {
            None => None,
            Some(first) => {
                let (begun, cut) = (self.begun_at(table), self.cut(table));
                let mut hollow = std::iter::once(first).chain(hollow);
                hollow.find_map(|segment| {
                    let seen = |lost: &&Lost| lost.first < self.end.lsn;
                    let mut lost = segment.lost.iter().filter(seen);
                    let found = lost.find(|lost| lost.may_hold(table, begun, cut, wanted))?;
                    let fault = segment.fault.as_deref().unwrap_or_default();
                    Some(found.explained(&segment.path, fault))
                })
            }
        };
        let untouched =
            |file: &FileRef| file.min_time() > wanted.max_time || file.max_time() < wanted.min_time;
        let files = self.files(table);
        let mut files = files.iter().filter(|file| !untouched(file));
        hole.or_else(|| files.find_map(FileRef::fault))
    }

    /// Where this table was begun, if that is in segments of which the rows are not in files yet.
    fn begun_at(&self, table: TableId) -> Option<Lsn> {
        let begins = |entry: &&BlockEntry| {
            (entry.kind, entry.table, entry.schema_version) == (BlockKind::Schema, table, 1)
        };
        let mut sealed = self.pending().flat_map(|segment| &segment.entries);
        let tail = self.tail();
        let found = sealed.find(begins).copied();
        let found = found.or_else(|| {
            tail.blocks()
                .map(|block| &block.entry)
                .find(begins)
                .copied()
        });
        found.map(|entry| entry.first_lsn)
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
        let written = catalog.written(entry.table, entry.schema_version)?;
        let rows = self.end.lsn.0.checked_sub(entry.first_lsn.0)?;
        let rows = entry.rows.min(u32::try_from(rows).unwrap_or(u32::MAX));
        (rows > 0).then_some(BlockRef {
            rows,
            entry,
            written,
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
                let (path, bytes) = (segment.path.clone(), segment.len());
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
            self.end.lsn,
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
