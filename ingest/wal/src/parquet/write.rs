//! Writes one Parquet file. The bytes follow from the rows and their layout alone. They must never
//! depend on who writes it, or when.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use crate::disk::Disk;
use crate::error::{Operation, WalError};
use crate::format::schema::TableSchema;
use crate::parquet::layout::Layout;
use crate::parquet::sink::{Sink, Throttle, Written};
use crate::room::Room;

/// Why rows were not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    Wal(WalError),
    /// This column has a value that the layout cannot hold.
    Misfit(usize),
}

impl From<WalError> for WriteError {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}

/// What a finished file holds.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) written: Written,
    pub(crate) rows: u64,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
}

/// One Parquet file being written.
pub(crate) struct FileWriter<'a> {
    arrow: ArrowWriter<Sink<'a>>,
    path: std::path::PathBuf,
    layout: Arc<Layout>,
    stored: SchemaRef,
    group_bytes: usize,
    rows: u64,
    min_time: i64,
    max_time: i64,
}

impl<'a> FileWriter<'a> {
    /// Begins a file; `beside` files are written at the same time and share the memory.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        schema: &TableSchema,
        layout: &Arc<Layout>,
        beside: usize,
        (throttle, room): (&'a Throttle, &'a Room),
    ) -> Result<Self, WalError> {
        let sink = Sink::create(disk, path, throttle, room)?;
        let stored = layout.arrow(schema);
        let mut properties = layout.properties(schema).into_builder();
        properties = properties.set_key_value_metadata(Some(vec![KeyValue::new(
            "headwater.table".to_owned(),
            schema.name.clone(),
        )]));
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true);
        let arrow = ArrowWriter::try_new_with_options(sink, Arc::clone(&stored), options)
            .map_err(|error| write_error(path, error))?;
        Ok(Self {
            arrow,
            path: path.to_owned(),
            layout: Arc::clone(layout),
            stored,
            group_bytes: GROUP_BYTES / beside.max(1),
            rows: 0,
            min_time: i64::MAX,
            max_time: i64::MIN,
        })
    }

    /// Appends sorted rows; `batch` has all columns of the schema.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        for from in (0..batch.num_rows()).step_by(SLICE_ROWS) {
            self.slice(&batch.slice(from, SLICE_ROWS.min(batch.num_rows() - from)))?;
        }
        Ok(())
    }

    fn slice(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let arrays = self.layout.encode(batch).map_err(WriteError::Misfit)?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let stored = RecordBatch::try_new_with_options(Arc::clone(&self.stored), arrays, &options)
            .map_err(|error| self.failed(error.into()))?;
        self.arrow
            .write(&stored)
            .map_err(|error| self.failed(error))?;
        if self.arrow.in_progress_size() >= self.group_bytes {
            let flushed = self.arrow.flush();
            flushed.map_err(|error| self.failed(error))?;
        }
        for time in batch
            .column(0)
            .as_primitive::<TimestampNanosecondType>()
            .values()
        {
            self.min_time = self.min_time.min(*time);
            self.max_time = self.max_time.max(*time);
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Ends the file; durable once this returns, but for its name.
    pub(crate) fn finish(self) -> Result<Finished, WalError> {
        let path = self.path;
        let sink = self.arrow.into_inner();
        let sink = sink.map_err(|error| write_error(&path, error))?;
        let written = sink
            .finish()
            .map_err(WalError::io(Operation::Write, &path))?;
        Ok(Finished {
            written,
            rows: self.rows,
            min_time: self.min_time,
            max_time: self.max_time,
        })
    }

    fn failed(&self, error: ParquetError) -> WriteError {
        WriteError::Wal(write_error(&self.path, error))
    }
}

/// The I/O error inside, if that is what it is: a full disk must be told from a slip of ours.
fn write_error(path: &Path, error: ParquetError) -> WalError {
    let source = match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => *io,
            Err(other) => io::Error::other(other.to_string()),
        },
        other => io::Error::other(other.to_string()),
    };
    WalError::io(Operation::Write, path)(source)
}

/// A row group is closed once this much of it waits in memory.
const GROUP_BYTES: usize = 16 << 20;
/// Rows handed to the encoder at a time, between looks at its memory.
const SLICE_ROWS: usize = 8_192;
