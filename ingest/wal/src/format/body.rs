//! The body of a data block: which columns it has, then one Arrow IPC record batch of them. See
//! `FORMAT.md`, "Data body". Encoded once, on the primary; read in place by queries. It must never
//! read behind its own bytes.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::buffer::Buffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use arrow::ipc::{MetadataVersion, root_as_message};
use bytes::Bytes;

use crate::format::cast::brought;
use crate::format::schema::{Column, TableSchema};
use crate::format::table::Written;

/// Turns columns into bodies; keeps what arrow can reuse between them.
#[derive(Default)]
pub(crate) struct BodyWriter {
    context: IpcWriteContext,
}

impl BodyWriter {
    /// Appends the body for the columns of these slots; `batch` has just those, in that order.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        slots: &[usize],
        batch: &RecordBatch,
    ) -> Result<(), ArrowError> {
        let start = out.len();
        let count = u16::try_from(slots.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for at in slots {
            out.extend_from_slice(&u16::try_from(*at).unwrap_or(u16::MAX).to_le_bytes());
        }
        out.resize(start + (out.len() - start).next_multiple_of(8), 0);
        let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
        let mut tracker = DictionaryTracker::new(false);
        let (_, encoded) =
            IpcDataGenerator::default().encode(batch, &mut tracker, &options, &mut self.context)?;
        write_message(&mut *out, encoded, &options)?;
        out.resize(start + (out.len() - start).next_multiple_of(8), 0);
        Ok(())
    }
}

/// Reads columns of a body written under `written`, brought to `wanted`.
pub(crate) fn read(
    body: &Bytes,
    rows: usize,
    written: &Written,
    wanted: &TableSchema,
    projection: &[usize],
) -> Result<RecordBatch, ArrowError> {
    let malformed = |what: &str| ArrowError::IpcError(what.to_owned());
    let present = present_columns(body, written).ok_or_else(|| malformed("column list"))?;
    let head = (2 + present.len() * 2).next_multiple_of(8);
    let prefix = body
        .get(head..head + PREFIX)
        .ok_or_else(|| malformed("message prefix"))?;
    if !prefix.starts_with(&CONTINUATION) {
        return Err(malformed("message prefix"));
    }
    let len = crate::bytes::u32_at(prefix, 4) as usize;
    let at = head + PREFIX;
    let meta = body
        .get(at..at.saturating_add(len))
        .ok_or_else(|| malformed("message length"))?;
    let message = root_as_message(meta).map_err(|error| malformed(&error.to_string()))?;
    let header = message
        .header_as_record_batch()
        .ok_or_else(|| malformed("message kind"))?;
    if usize::try_from(header.length()) != Ok(rows) {
        return Err(malformed("row count differs from the header"));
    }
    let data = Buffer::from(body.slice(at + len..));
    let columns = projection.iter().map(|at| wanted.columns.get(*at));
    let columns = columns.collect::<Option<Vec<&Column>>>();
    let columns = columns.ok_or_else(|| malformed("projection"))?;
    let slots = columns.iter().map(|column| usize::from(column.slot));
    let slots: HashSet<usize> = slots.collect();
    let (picked, picked_slots): (Vec<usize>, Vec<usize>) = present
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, slot)| slots.contains(slot))
        .unzip();
    let fields = written.fields(&present);
    let fields = fields.ok_or_else(|| malformed("column list"))?;
    let schema = Arc::new(Schema::new(fields));
    let none = HashMap::new();
    let batch = read_record_batch(
        &data,
        header,
        schema,
        &none,
        Some(&picked),
        &message.version(),
    )?;
    let found: HashMap<usize, &ArrayRef> = picked_slots.into_iter().zip(batch.columns()).collect();
    let array = |column: &&Column| match found.get(&usize::from(column.slot)) {
        Some(array) => brought(array, column),
        None => new_null_array(&column.arrow_type(), rows),
    };
    let arrays: Vec<ArrayRef> = columns.iter().map(array).collect();
    let fields = columns.iter().map(|column| column.arrow_field());
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, arrays, &options)
}

/// The columns that a body has, by their slots.
pub(crate) fn present_columns(body: &[u8], written: &Written) -> Option<Vec<usize>> {
    let u16_at = |at: usize| {
        Some(usize::from(u16::from_le_bytes([
            *body.get(at)?,
            *body.get(at + 1)?,
        ])))
    };
    let count = u16_at(0)?;
    let columns = (0..count)
        .map(|i| u16_at(2 + i * 2))
        .collect::<Option<Vec<_>>>()?;
    let ascending = columns.is_sorted_by(|a, b| a < b);
    (ascending && columns.iter().all(|at| *at < written.slots())).then_some(columns)
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

/// The IPC prefix before a message's metadata: continuation marker and length.
const PREFIX: usize = 8;
const CONTINUATION: [u8; 4] = [0xff; 4];
