//! Writes one sorted stream of rows into the files of its time partitions. It must never write a
//! row twice, or into the file of another partition.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampNanosecondType;

use crate::compact::merge::internal;
use crate::compact::split::Split;
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::schema::TableSchema;
use crate::ids::{Lsn, TableId};
use crate::parquet::{FileMeta, FileWriter, Layout, Throttle, Window, WriteError};
use crate::room::Room;

/// What the new files have in common.
pub(crate) struct Target<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: PathBuf,
    pub(crate) schema: &'a TableSchema,
    pub(crate) first: Lsn,
    pub(crate) end: Lsn,
    pub(crate) made_at: i64,
    pub(crate) throttle: &'a Throttle,
    pub(crate) room: &'a Room,
}

impl Target<'_> {
    fn meta(&self, table: TableId, ordinal: u64, window: Window) -> FileMeta {
        FileMeta {
            table,
            ordinal,
            window,
            first: self.first,
            end: self.end,
            rows: 0,
            min_time: 0,
            max_time: 0,
            made_at: self.made_at,
            bytes: 0,
            chunks: Vec::new(),
        }
    }
}

/// The files being written, one per window that has rows.
pub(crate) struct Distributor<'a> {
    target: &'a Target<'a>,
    split: &'a Split,
    layout: Arc<Layout>,
    next: u64,
    writers: Vec<Option<(FileMeta, FileWriter<'a>)>>,
}

impl<'a> Distributor<'a> {
    /// New files get ordinals from `next` on.
    pub(crate) fn new(
        target: &'a Target<'a>,
        split: &'a Split,
        layout: Arc<Layout>,
        next: u64,
    ) -> Self {
        Self {
            target,
            split,
            layout,
            next,
            writers: split.windows().iter().map(|_| None).collect(),
        }
    }

    /// Appends sorted rows with all columns of the schema.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.writers.len() == 1 {
            return self.writer(0)?.write(batch);
        }
        let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.writers.len()];
        for (row, time) in times.values().iter().enumerate() {
            rows[self.split.place(*time)].push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        for (place, rows) in rows.into_iter().enumerate() {
            if rows.len() == batch.num_rows() {
                self.writer(place)?.write(batch)?;
            } else if !rows.is_empty() {
                let mine = take_record_batch(batch, &UInt32Array::from(rows)).map_err(internal)?;
                self.writer(place)?.write(&mine)?;
            }
        }
        Ok(())
    }

    fn writer(&mut self, place: usize) -> Result<&mut FileWriter<'a>, WriteError> {
        let beside = self.writers.len();
        let window = self.split.windows()[place];
        let slot = &mut self.writers[place];
        if slot.is_none() {
            let target = self.target;
            let meta = target.meta(target.schema.id, self.next, window);
            let path = target.dir.join(meta.name());
            self.next += 1;
            let writer = FileWriter::create(
                target.disk,
                &path,
                target.schema,
                &self.layout,
                beside,
                (target.throttle, target.room),
            )?;
            *slot = Some((meta, writer));
        }
        match slot {
            Some((_, writer)) => Ok(writer),
            None => Err(WriteError::Wal(WalError::Closed)),
        }
    }

    /// Ends all files; durable once this returns, but for their names.
    pub(crate) fn finish(self) -> Result<Vec<FileMeta>, WalError> {
        let mut metas = Vec::new();
        for (meta, writer) in self.writers.into_iter().flatten() {
            let finished = writer.finish()?;
            metas.push(FileMeta {
                rows: finished.rows,
                min_time: finished.min_time,
                max_time: finished.max_time,
                bytes: finished.written.bytes,
                chunks: finished.written.chunks,
                ..meta
            });
        }
        metas.sort_by_key(|meta| meta.ordinal);
        Ok(metas)
    }
}
