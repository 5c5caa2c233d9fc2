//! Rows on their way into a file: the blocks of a segment as sorted runs, the files of a merge as
//! streams, with no column that none of them has. Reads only, and must never hold more than a run.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::TimestampNanosecondType;

use crate::compact::merge::{Run, internal};
use crate::compact::sort::sort_rows;
use crate::error::WalError;
use crate::format::catalog::Catalog;
use crate::format::schema::TableSchema;
use crate::format::segment::BlockEntry;
use crate::parquet::{FileRef, Layout, Wanted, sort_columns};
use crate::read::block_ref::BlockRef;
use crate::read::sealed::Sealed;

/// Cuts a table's blocks into runs of bounded size.
pub(crate) fn runs_of(entries: &[BlockEntry]) -> Vec<&[BlockEntry]> {
    let mut runs = Vec::new();
    let (mut start, mut bytes, mut rows) = (0, 0, 0);
    for (at, entry) in entries.iter().enumerate() {
        bytes += u64::from(entry.len);
        rows += u64::from(entry.rows);
        if bytes >= RUN_BYTES || rows >= RUN_ROWS {
            runs.push(&entries[start..=at]);
            (start, bytes, rows) = (at + 1, 0, 0);
        }
    }
    if start < entries.len() {
        runs.push(&entries[start..]);
    }
    runs
}

/// The blocks of one run.
pub(crate) fn blocks_of(
    segment: &Arc<Sealed>,
    catalog: &Catalog,
    entries: &[BlockEntry],
) -> Result<Vec<BlockRef>, WalError> {
    let block = |entry: &BlockEntry| {
        let Some(written) = catalog.written(entry.table, entry.schema_version) else {
            let reason = "rows of a schema that is not in the log";
            return Err(WalError::corrupt(&segment.path, entry.offset, reason));
        };
        let cut = catalog.purged(entry.table);
        Ok(BlockRef::sealed(*entry, written, segment, cut))
    };
    entries.iter().map(block).collect()
}

/// Which columns of the schema any of the blocks has. A table may be wide and its rows sparse.
pub(crate) fn columns_of(schema: &TableSchema, blocks: &[BlockRef]) -> Result<Vec<bool>, WalError> {
    let mut present = vec![false; schema.columns.len()];
    for block in blocks {
        for slot in block.columns()? {
            let at = u16::try_from(slot)
                .ok()
                .and_then(|slot| schema.columns.place_of(slot));
            if let Some(present) = at.and_then(|at| present.get_mut(at)) {
                *present = true;
            }
        }
    }
    Ok(present)
}

/// The rows of one run that are not gone, sorted.
pub(crate) fn read_run(
    schema: &TableSchema,
    present: &[bool],
    narrow: &TableSchema,
    blocks: &[BlockRef],
) -> Result<RecordBatch, WalError> {
    let columns = present.iter().enumerate().filter(|(_, present)| **present);
    let columns: Vec<usize> = columns.map(|(at, _)| at).collect();
    let read = |block: &BlockRef| block.read(schema, &columns);
    let batches: Result<Vec<RecordBatch>, WalError> = blocks.iter().map(read).collect();
    let by = sort_columns(narrow);
    let tags = &by[..by.len() - 1];
    concat_batches(&narrow.arrow(), &batches?)
        .and_then(|batch| sort_rows(&batch, tags, 0))
        .map_err(internal)
}

/// The schema without the columns that none of the files has, and the layout of its rows.
pub(crate) fn narrow(
    schema: &TableSchema,
    inputs: &[FileRef],
) -> Result<(TableSchema, Layout), WalError> {
    let mut present = vec![false; schema.columns.len()];
    for file in inputs {
        for (at, _) in file.layout(schema)?.columns {
            present[at] = true;
        }
    }
    let narrow = with_columns(schema, &present);
    let layouts: Result<Vec<Layout>, WalError> =
        inputs.iter().map(|file| file.layout(&narrow)).collect();
    let layout = Layout::of_inputs(&narrow, &layouts?);
    Ok((narrow, layout))
}

/// The schema with only some of its columns.
pub(crate) fn with_columns(schema: &TableSchema, present: &[bool]) -> TableSchema {
    TableSchema {
        columns: schema.columns.only(present),
        ..schema.clone()
    }
}

/// How many rows to take from each input at a time: wide rows fewer.
pub(crate) fn batch_rows(inputs: &[FileRef], columns: usize) -> Result<usize, WalError> {
    let mut widest = columns * 8;
    for file in inputs {
        widest = widest.max(file.row_bytes()?);
    }
    let share = BATCH_BYTES / inputs.len().max(1);
    Ok((share / widest.max(1)).clamp(BATCH_ROWS_LEAST, BATCH_ROWS))
}

pub(crate) fn read_all(
    file: &FileRef,
    schema: &TableSchema,
    columns: &[usize],
    batch_rows: usize,
) -> Result<Run, WalError> {
    let wanted = Wanted::default();
    let groups = file.row_groups(schema, &wanted)?;
    let reader = file.read(schema, columns, &groups, &wanted, batch_rows)?;
    Ok(Box::new(reader))
}

pub(crate) fn times(batch: &RecordBatch) -> &[i64] {
    batch
        .column(0)
        .as_primitive::<TimestampNanosecondType>()
        .values()
}

/// Bytes of blocks that are sorted in memory at a time. Part of what files follow from: the same on
/// every node.
const RUN_BYTES: u64 = 16 << 20;
/// Rows of one run, however small they are in the log.
const RUN_ROWS: u64 = 524_288;
/// Rows that a merge takes from a file at a time, at most and at least.
pub(crate) const BATCH_ROWS: usize = 8_192;
const BATCH_ROWS_LEAST: usize = 64;
/// Bytes of rows that the inputs of a merge hold in memory together, about.
const BATCH_BYTES: usize = 32 << 20;
