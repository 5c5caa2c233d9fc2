//! A data block that a query may read: checked against the index when it is read, never before. It
//! must never hand out a row of a block that is not what was written.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use crate::error::WalError;
use crate::format::block::body_at;
use crate::format::body::{self, drop_cut};
use crate::format::schema::TableSchema;
use crate::format::segment::BlockEntry;
use crate::format::table::Written;
use crate::ids::Lsn;
use crate::read::sealed::Sealed;
use crate::read::tail::{Tail, TailBlock};

/// Where a block's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Sealed(Arc<Sealed>),
    /// The same for who reads its blocks once.
    Once(Arc<Sealed>),
    Tail(Arc<Tail>, Option<Bytes>),
}

/// A data block that a query may read.
#[derive(Clone, Debug)]
pub struct BlockRef {
    pub(super) entry: BlockEntry,
    /// How many of its rows are seen: all but in a view that ends inside it.
    pub(super) rows: u32,
    pub(super) written: Written,
    pub(super) source: Source,
    pub(super) cut: Option<i64>,
}

impl BlockRef {
    /// A data block of a sealed segment, for who reads it once; `written` is what it was written
    /// under.
    pub(crate) fn sealed(
        entry: BlockEntry,
        written: Written,
        segment: &Arc<Sealed>,
        cut: Option<i64>,
    ) -> Self {
        Self {
            rows: entry.rows,
            entry,
            written,
            source: Source::Once(Arc::clone(segment)),
            cut,
        }
    }

    /// The columns it has, by their slots. Checks the block.
    pub(crate) fn columns(&self) -> Result<Vec<usize>, WalError> {
        let bytes = self.load()?;
        let body = bytes.get(body_at(&bytes)..).unwrap_or_default();
        let columns = body::present_columns(body, &self.written);
        columns.ok_or_else(|| self.malformed("the block's columns are not those of its schema"))
    }

    /// Its bytes, checked.
    fn load(&self) -> Result<Bytes, WalError> {
        match &self.source {
            Source::Sealed(segment) => segment.block(&self.entry),
            Source::Once(segment) => segment.block_once(&self.entry),
            Source::Tail(tail, bytes) => tail.block(&TailBlock {
                entry: self.entry,
                bytes: bytes.clone(),
            }),
        }
    }

    /// Its checksums are right and it makes no sense.
    fn malformed(&self, reason: &str) -> WalError {
        let path = match &self.source {
            Source::Sealed(segment) | Source::Once(segment) => &segment.path,
            Source::Tail(tail, _) => &tail.path,
        };
        let error = WalError::corrupt(path, self.entry.offset, reason);
        if let Source::Sealed(segment) | Source::Once(segment) = &self.source {
            segment.blame(&error);
        }
        error
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
        let bytes = self.load()?;
        let body = bytes.slice(body_at(&bytes)..);
        let rows = self.entry.rows as usize;
        let batch = body::read(&body, rows, &self.written, schema, projection)
            .map_err(|error| self.malformed(&error.to_string()))?;
        Ok(batch.slice(0, self.rows()))
    }
}
