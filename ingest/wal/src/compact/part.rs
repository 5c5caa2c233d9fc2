//! Reads of tables in which one key has one row: sources that overlap in time are merged while they
//! are read, by the same code that compaction merges files with. It must never hold more than a
//! batch of each source.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use crate::compact::merge::{Key, Merger, Run, internal};
use crate::compact::sort::sort_rows;
use crate::error::WalError;
use crate::format::schema::{ColumnRole, TableSchema};
use crate::parquet::{FileRef, Wanted};
use crate::read::block_ref::BlockRef;

/// Sources that may hold rows of the same keys; no source of another part does.
#[derive(Clone, Debug, Default)]
pub struct MergePart {
    pub files: Vec<FileRef>,
    pub blocks: Vec<BlockRef>,
}

/// Cuts sources into parts that share no time, in the order of time.
pub fn merge_parts(files: Vec<FileRef>, blocks: Vec<BlockRef>) -> Vec<MergePart> {
    enum Source {
        File(FileRef),
        Block(BlockRef),
    }
    let files = files
        .into_iter()
        .map(|file| (file.min_time(), file.max_time(), Source::File(file)));
    let blocks = blocks
        .into_iter()
        .map(|block| (block.min_time(), block.max_time(), Source::Block(block)));
    let mut all: Vec<(i64, i64, Source)> = files.chain(blocks).collect();
    all.sort_by_key(|(min, _, _)| *min);
    let mut parts: Vec<MergePart> = Vec::new();
    let mut end = None;
    for (min, max, source) in all {
        if end.is_none_or(|end| min > end) {
            parts.push(MergePart::default());
        }
        end = Some(end.map_or(max, |end: i64| end.max(max)));
        let Some(part) = parts.last_mut() else {
            continue;
        };
        match source {
            Source::File(file) => part.files.push(file),
            Source::Block(block) => part.blocks.push(block),
        }
    }
    for part in &mut parts {
        part.files
            .sort_by_key(|file| (file.first_lsn(), file.meta().ordinal));
        part.blocks.sort_by_key(BlockRef::first_lsn);
    }
    parts
}

impl MergePart {
    /// Rows of its sources: at least as many as come out.
    pub fn rows(&self) -> usize {
        let files: usize = self.files.iter().map(FileRef::rows).sum();
        let blocks: usize = self.blocks.iter().map(BlockRef::rows).sum();
        files.saturating_add(blocks)
    }

    /// Bytes that reading it may hold at a time.
    pub fn memory(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(BlockRef::bytes).sum();
        self.files.len() * FILE_MEMORY + blocks * SORT_FACTOR
    }

    /// Streams its rows, one per key, sorted by tags and time: columns `projection` of `schema`.
    ///
    /// # Errors
    /// `Corrupt` when a source cannot be read.
    pub fn read(
        &self,
        schema: &TableSchema,
        projection: &[usize],
        wanted: &Wanted,
        batch_rows: usize,
    ) -> Result<MergedReader, WalError> {
        let columns = with_key(schema, projection);
        let arrow = schema.arrow().project(&columns).map_err(internal)?;
        let arrow: SchemaRef = Arc::new(arrow);
        let key = key_of(schema, &columns);
        let (tags, time) = key.columns.split_at(key.columns.len() - 1);
        let time = time[0];
        let mut runs: Vec<Run> = Vec::new();
        for file in &self.files {
            let groups = file.row_groups(schema, wanted)?;
            let reader = file.read(schema, &columns, &groups, wanted, batch_rows)?;
            runs.push(Box::new(reader));
        }
        if !self.blocks.is_empty() {
            let batches: Result<Vec<RecordBatch>, WalError> = self
                .blocks
                .iter()
                .map(|block| block.read(schema, &columns))
                .collect();
            let sorted = concat_batches(&arrow, &batches?)
                .and_then(|batch| sort_rows(&batch, tags, time))
                .map_err(internal)?;
            runs.push(Box::new(std::iter::once(Ok(sorted))));
        }
        let merger = Merger::new(arrow, &key, runs, batch_rows).map_err(internal)?;
        Ok(MergedReader {
            merger,
            keep: (0..projection.len()).collect(),
        })
    }
}

/// The projection, followed by the columns of the key that are not in it.
fn with_key(schema: &TableSchema, projection: &[usize]) -> Vec<usize> {
    let mut columns = projection.to_vec();
    for (at, column) in schema.columns.iter().enumerate() {
        if column.role != ColumnRole::Field && !columns.contains(&at) {
            columns.push(at);
        }
    }
    columns
}

/// The tags, then the time, as places in `columns`.
fn key_of(schema: &TableSchema, columns: &[usize]) -> Key {
    let place = |at: usize| columns.iter().position(|column| *column == at);
    let all = schema.columns.iter().enumerate();
    let tags = all.filter(|(_, column)| column.role == ColumnRole::Tag);
    Key {
        columns: tags
            .map(|(at, _)| at)
            .chain([0])
            .filter_map(place)
            .collect(),
        unique: true,
    }
}

/// The rows of one part, batch by batch.
pub struct MergedReader {
    merger: Merger,
    keep: Vec<usize>,
}

impl std::fmt::Debug for MergedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergedReader").finish_non_exhaustive()
    }
}

impl Iterator for MergedReader {
    type Item = Result<RecordBatch, WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.merger.next()?;
        Some(batch.and_then(|batch| batch.project(&self.keep).map_err(internal)))
    }
}

/// Bytes that reading one file of a merge may hold.
const FILE_MEMORY: usize = 4 << 20;
/// How much larger rows of blocks are while they are sorted.
const SORT_FACTOR: usize = 4;
