//! One group commit as bytes: the blocks that one fsync makes durable. Pure. It must never look at
//! a clock: the time of the commit comes in.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, RecordBatch, RecordBatchOptions, TimestampNanosecondArray, new_null_array,
};
use arrow::compute::concat;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use bytes::Bytes;

use crate::bytes::{FORMAT_VERSION, checksum};
use crate::format::block::{
    BLOCK_HEADER_LEN, BlockHeader, BlockKind, MARK_LEN, MAX_BLOCK_LEN, SECRET_LEN,
};
use crate::format::body::BodyWriter;
use crate::format::cast::brought;
use crate::format::control::Control;
use crate::format::schema::TableSchema;
use crate::format::schema::change::SchemaChange;
use crate::format::segment::BlockEntry;
use crate::ids::{Chain, Lsn, Position, TableId};
use crate::write::batch::TableRows;

/// Whole blocks that continue the log, ready to be written.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) bytes: Bytes,
    /// Offsets are relative to `bytes`.
    pub(crate) entries: Vec<BlockEntry>,
    pub(crate) controls: Vec<Control>,
    pub(crate) end: Position,
    pub(crate) committed_at: i64,
    /// The last block seals the segment.
    pub(crate) seals: bool,
}

impl Group {
    /// Where the log ends after this group, whose blocks must follow each other from `at` on.
    pub(crate) fn follows(&self, at: Lsn) -> Lsn {
        let end = self.entries.iter().fold(at, |at, entry| {
            assert_eq!(entry.first_lsn, at, "a block continues the one before");
            entry.end_lsn()
        });
        assert_eq!(end, self.end.lsn, "as many rows as the LSN advances by");
        end
    }
}

/// Encodes the blocks of one group.
pub(crate) struct GroupBuilder<'a> {
    writer: &'a mut BodyWriter,
    bytes: Vec<u8>,
    entries: Vec<BlockEntry>,
    controls: Vec<Control>,
    start: Lsn,
    tip: Position,
    committed_at: i64,
    seals: bool,
    /// What the segment's blocks are marked with.
    seed: u64,
}

/// What a block's header says beyond its place.
struct HeaderFields {
    kind: BlockKind,
    table: TableId,
    schema_version: u32,
    rows: u32,
    min_time: i64,
    max_time: i64,
}

impl<'a> GroupBuilder<'a> {
    pub(crate) fn new(
        writer: &'a mut BodyWriter,
        tip: Position,
        committed_at: i64,
        seed: u64,
    ) -> Self {
        Self {
            writer,
            bytes: Vec::new(),
            entries: Vec::new(),
            controls: Vec::new(),
            start: tip.lsn,
            tip,
            committed_at,
            seals: false,
            seed,
        }
    }

    /// The first block of a segment, alone in its group: what all others in it are marked with is
    /// durable before anything that comes from outside is written.
    pub(crate) fn secret(tip: Position, committed_at: i64) -> Group {
        let mut writer = BodyWriter::default();
        let mut group = GroupBuilder::new(&mut writer, tip, committed_at, 0);
        let at = group.begin();
        group.bytes.extend_from_slice(&secret());
        group.end(at, &HeaderFields::control(BlockKind::Secret, TableId(0), 0));
        group.finish()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A change that what follows is subject to.
    pub(crate) fn control(&mut self, control: Control) {
        self.control_block(&control);
        self.controls.push(control);
    }

    /// A version of a table's schema: whole, or what it has otherwise than the one that is there.
    pub(crate) fn schema(&mut self, schema: Arc<TableSchema>, before: Option<&TableSchema>) {
        let whole = Control::Schema(schema);
        match (&whole, before) {
            (Control::Schema(after), Some(before)) => {
                let change = SchemaChange::between(before, after);
                self.control_block(&Control::Change(Arc::new(change)));
            }
            _ => self.control_block(&whole),
        }
        self.controls.push(whole);
    }

    fn control_block(&mut self, control: &Control) {
        let at = self.begin();
        self.bytes.extend_from_slice(&control.encode());
        let version = match control {
            Control::Schema(schema) => schema.version,
            Control::Change(change) => change.version,
            _ => 0,
        };
        let content = HeaderFields::control(control.kind(), control.table(), version);
        self.end(at, &content);
    }

    /// Blocks so far.
    pub(crate) fn blocks(&self) -> usize {
        self.entries.len()
    }

    /// The block after which the segment is sealed.
    pub(crate) fn seal(&mut self) {
        let at = self.begin();
        self.seals = true;
        self.end(at, &HeaderFields::control(BlockKind::Seal, TableId(0), 0));
    }

    /// Rows of one table, from several appenders, in as many blocks as they need.
    pub(crate) fn rows(
        &mut self,
        schema: &TableSchema,
        pieces: Vec<TableRows>,
    ) -> Result<(), ArrowError> {
        let mut merged: Vec<TableRows> = Vec::new();
        for piece in pieces {
            match merged.last_mut() {
                Some(last) if worth_merging(last, &piece) => merge(last, piece, schema)?,
                _ => merged.push(piece),
            }
        }
        merged
            .iter()
            .try_for_each(|piece| self.piece(schema, piece))
    }

    fn piece(&mut self, schema: &TableSchema, piece: &TableRows) -> Result<(), ArrowError> {
        let (slots, batch) = record_batch(schema, piece)?;
        let mut from = 0;
        while from < batch.num_rows() {
            let len = MAX_BLOCK_ROWS.min(batch.num_rows() - from);
            self.data(schema, &slots, &piece.times, &batch, from, len)?;
            from += len;
        }
        Ok(())
    }

    /// Encodes `len` rows from `from`; halves what would become too long a block, or one that is
    /// mostly nulls which its halves do not need.
    fn data(
        &mut self,
        schema: &TableSchema,
        slots: &[usize],
        times: &[i64],
        batch: &RecordBatch,
        from: usize,
        len: usize,
    ) -> Result<(), ArrowError> {
        let half = len / 2;
        let halves = [(from, half), (from + half, len - half)];
        let in_halves = |group: &mut Self| {
            let mut halves = halves.iter();
            halves.try_for_each(|(from, len)| group.data(schema, slots, times, batch, *from, *len))
        };
        let part = batch.slice(from, len);
        if len > 1 && is_sparse(&part) {
            let cells = |(from, len): (usize, usize)| cells(&batch.slice(from, len));
            let cells_of_halves: usize = halves.map(cells).iter().sum();
            if cells_of_halves <= self::cells(&part) / 4 * 3 {
                return in_halves(self);
            }
        }
        let at = self.begin();
        let (present, part) = with_values(slots, &part)?;
        self.writer.write(&mut self.bytes, &present, &part)?;
        if self.bytes.len() - at > MAX_BLOCK_LEN && len > 1 {
            self.bytes.truncate(at);
            return in_halves(self);
        }
        let times = &times[from..from + len];
        let content = HeaderFields {
            kind: BlockKind::Data,
            table: schema.id,
            schema_version: schema.version,
            rows: u32::try_from(len).unwrap_or(u32::MAX),
            min_time: times.iter().copied().min().unwrap_or(0),
            max_time: times.iter().copied().max().unwrap_or(0),
        };
        self.end(at, &content);
        Ok(())
    }

    fn begin(&mut self) -> usize {
        let at = self.bytes.len();
        self.bytes.resize(at + BLOCK_HEADER_LEN + MARK_LEN, 0);
        at
    }

    fn end(&mut self, at: usize, content: &HeaderFields) {
        let at_body = at + BLOCK_HEADER_LEN;
        let mut header = BlockHeader {
            format: FORMAT_VERSION,
            kind: content.kind,
            body_len: u32::try_from(self.bytes.len() - at_body).unwrap_or(u32::MAX),
            rows: content.rows,
            table: content.table,
            schema_version: content.schema_version,
            first_lsn: self.tip.lsn,
            group_lsn: self.start,
            min_time: content.min_time,
            max_time: content.max_time,
            committed_at: self.committed_at,
            prev: self.tip.chain,
            body_hash: 0,
            chain: Chain::default(),
        };
        let mark = header.mark(self.seed);
        self.bytes[at_body..at_body + MARK_LEN].copy_from_slice(&mark.to_le_bytes());
        header.body_hash = checksum(&self.bytes[at_body..]);
        let (bytes, chain) = header.encode();
        header.chain = chain;
        self.bytes[at..at + BLOCK_HEADER_LEN].copy_from_slice(&bytes);
        self.entries.push(BlockEntry::of(&header, at as u64));
        self.tip = header.end();
    }

    pub(crate) fn finish(self) -> Group {
        Group {
            bytes: Bytes::from(self.bytes),
            entries: self.entries,
            controls: self.controls,
            end: self.tip,
            committed_at: self.committed_at,
            seals: self.seals,
        }
    }
}

impl HeaderFields {
    fn control(kind: BlockKind, table: TableId, schema_version: u32) -> Self {
        Self {
            kind,
            table,
            schema_version,
            rows: 0,
            min_time: 0,
            max_time: 0,
        }
    }
}

/// Random bytes that nobody can foresee: each standard hasher has keys of the operating system's.
fn secret() -> [u8; SECRET_LEN] {
    let mut secret = [0; SECRET_LEN];
    for (at, word) in secret.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&RandomState::new().hash_one(at).to_le_bytes());
    }
    secret
}

/// Merging pads columns that only one side has: worth it while that adds little.
fn worth_merging(a: &TableRows, b: &TableRows) -> bool {
    let width = |piece: &TableRows| piece.columns.iter().flatten().count();
    let shared = a
        .columns
        .iter()
        .zip(&b.columns)
        .filter(|(a, b)| a.is_some() && b.is_some());
    let union = width(a) + width(b) - shared.count();
    let (rows_a, rows_b) = (a.times.len(), b.times.len());
    let apart = rows_a * width(a) + rows_b * width(b);
    (rows_a + rows_b) * union <= 2 * apart + 4096
}

/// Appends `piece` to `into`, both brought to `schema`.
fn merge(into: &mut TableRows, piece: TableRows, schema: &TableSchema) -> Result<(), ArrowError> {
    let (rows, more) = (into.times.len(), piece.times.len());
    let mut columns = Vec::with_capacity(schema.columns.len());
    for (at, column) in schema.columns.iter().enumerate() {
        let side = |piece: &TableRows, rows: usize| -> Option<ArrayRef> {
            let array = piece.columns.get(at)?.as_ref()?;
            debug_assert_eq!(array.len(), rows);
            Some(brought(array, column))
        };
        let kind = column.arrow_type();
        columns.push(match (side(into, rows), side(&piece, more)) {
            (None, None) => None,
            (a, b) => {
                let a = a.unwrap_or_else(|| new_null_array(&kind, rows));
                let b = b.unwrap_or_else(|| new_null_array(&kind, more));
                Some(concat(&[a.as_ref(), b.as_ref()])?)
            }
        });
    }
    into.times.extend_from_slice(&piece.times);
    into.columns = columns;
    Ok(())
}

/// The slots of the columns a piece has, and a batch of them.
fn record_batch(
    schema: &TableSchema,
    piece: &TableRows,
) -> Result<(Vec<usize>, RecordBatch), ArrowError> {
    let times = TimestampNanosecondArray::from(piece.times.clone()).with_timezone("+00:00");
    let mut slots = vec![0];
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(times)];
    let mut fields = vec![schema.columns[0].arrow_field()];
    for (at, array) in piece.columns.iter().enumerate() {
        if let Some(array) = array {
            let column = &schema.columns[at];
            slots.push(usize::from(column.slot));
            fields.push(column.arrow_field());
            arrays.push(brought(array, column));
        }
    }
    let arrow = Arc::new(Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(piece.times.len()));
    Ok((
        slots,
        RecordBatch::try_new_with_options(arrow, arrays, &options)?,
    ))
}

fn has_value(array: &ArrayRef) -> bool {
    array.null_count() < array.len()
}

/// Values and nulls that a block of these rows has.
fn cells(rows: &RecordBatch) -> usize {
    let present = rows.columns().iter().filter(|array| has_value(array));
    present.count() * rows.num_rows()
}

/// Whether more than half of a block of these rows would be nulls.
fn is_sparse(rows: &RecordBatch) -> bool {
    let values = |array: &ArrayRef| array.len() - array.null_count();
    let values: usize = rows.columns().iter().map(values).sum();
    cells(rows) > 2 * values + FEW_CELLS
}

/// The rows without the columns that none of them has a value for.
fn with_values(
    slots: &[usize],
    rows: &RecordBatch,
) -> Result<(Vec<usize>, RecordBatch), ArrowError> {
    let present = rows.columns().iter().enumerate();
    let present = present.filter(|(_, array)| has_value(array));
    let present: Vec<usize> = present.map(|(at, _)| at).collect();
    let slots = present.iter().filter_map(|at| slots.get(*at).copied());
    Ok((slots.collect(), rows.project(&present)?))
}

/// Fewer are not worth a block of their own.
const FEW_CELLS: usize = 1_024;
/// Rows per data block at most, so that one block never strains a reader.
const MAX_BLOCK_ROWS: usize = 65_536;
