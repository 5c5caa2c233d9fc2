//! The table for people: few enough rows that it can be read, and drawn in a moment. Owns how many it
//! shows; must never leave rows out without saying so.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::pretty::pretty_format_batches;

use crate::bounds::value_bytes;

/// The rows that are shown.
#[derive(Debug)]
pub(super) struct Table {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rows: usize,
    /// Of each column, as far as is known without drawing it.
    widths: Vec<u64>,
    cut: bool,
}

impl Table {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let names = schema.fields().iter().map(|field| field.name().len());
        Self {
            widths: names.map(|bytes| bytes as u64 + BORDER).collect(),
            schema: SchemaRef::clone(schema),
            batches: Vec::new(),
            rows: 0,
            cut: false,
        }
    }

    /// Whether there are more rows than are shown.
    pub(super) fn is_full(&self) -> bool {
        self.cut
    }

    /// What drawing it takes.
    pub(super) fn bytes(&self) -> u64 {
        let cells = (self.rows as u64).saturating_mul(self.widths.len() as u64);
        let drawn = self.drawn(self.rows).saturating_mul(DRAWN_COPIES);
        drawn.saturating_add(cells.saturating_mul(CELL_BYTES))
    }

    /// Takes the first of `batch` that there is room for.
    pub(super) fn push(&mut self, batch: &RecordBatch) {
        if self.cut {
            return;
        }
        let columns = self.widths.len().max(1) as u64;
        let most = MOST_ROWS.min(MOST_CELLS / columns).max(1);
        let mut shown = 0;
        while shown < batch.num_rows() {
            let before = self.widths.clone();
            for (width, column) in self.widths.iter_mut().zip(batch.columns()) {
                let bytes = match column.data_type().primitive_width() {
                    Some(_) => NUMBER_BYTES,
                    None => value_bytes(column.as_ref(), shown),
                };
                *width = (*width).max(bytes.saturating_add(BORDER));
            }
            let rows = self.rows + shown + 1;
            if rows as u64 > most || (rows > 1 && self.drawn(rows) > MOST_BYTES) {
                self.widths = before;
                self.cut = true;
                break;
            }
            shown += 1;
        }
        self.rows += shown;
        self.batches.push(batch.slice(0, shown));
    }

    /// The table as text.
    pub(super) fn draw(&mut self) -> Result<Vec<u8>, ArrowError> {
        let mut batches = std::mem::take(&mut self.batches);
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(SchemaRef::clone(&self.schema)));
        }
        let mut text = format!("{}\n", pretty_format_batches(&batches)?);
        if self.cut {
            let rows = self.rows;
            text.push_str(&format!(
                "(the first {rows} rows; other formats give all)\n"
            ));
        }
        Ok(text.into_bytes())
    }

    /// Bytes of a table of so many rows, which are all as wide as the widest.
    fn drawn(&self, rows: usize) -> u64 {
        let line = self
            .widths
            .iter()
            .fold(0, |sum: u64, w| sum.saturating_add(*w));
        line.saturating_mul(rows as u64 + FRAME_LINES)
    }
}

const MOST_ROWS: u64 = 10_000;
/// Each takes some hundreds of bytes until it is drawn.
pub(super) const MOST_CELLS: u64 = 60_000;
/// Of the whole table, but for a single row.
const MOST_BYTES: u64 = 4 << 20;
/// What a cell takes beside its text.
pub(super) const CELL_BYTES: u64 = 256;
/// The table is there as lines, as text and as bytes.
const DRAWN_COPIES: u64 = 4;
/// What a number or a time takes at least.
const NUMBER_BYTES: u64 = 8;
/// Around a value.
const BORDER: u64 = 3;
/// The name's line, and those above, below and at the end.
const FRAME_LINES: u64 = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn table(columns: usize, name: &str, column: &ArrayRef) -> Table {
        let named = (0..columns).map(|n| (format!("{name}{n}"), Arc::clone(column)));
        let batch = RecordBatch::try_from_iter(named).expect("a batch");
        let mut table = Table::new(&batch.schema());
        table.push(&batch);
        table
    }

    #[test]
    fn a_table_is_small_however_wide_it_is() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
        let long = "x".repeat(1 << 20);
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values([&long; 20]));
        for (mut table, rows) in [
            (table(1, "a", &numbers), 10_000),
            (table(6, "a", &numbers), 10_000),
            (table(20, "a", &numbers), 3_000),
            (table(2_000, "a", &numbers), 30),
            (table(1_000, &"x".repeat(200), &numbers), 16),
            (table(1, "a", &texts), 1),
        ] {
            assert!(table.is_full());
            assert_eq!(table.rows, rows);
            let most = table.bytes();
            let text = String::from_utf8(table.draw().expect("a table")).expect("text");
            assert!((text.len() as u64) < most.max(8 << 20), "{}", text.len());
            assert!(text.ends_with(&format!(
                "(the first {rows} rows; other formats give all)\n"
            )));
        }
        let few: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
        let mut whole = table(2, "a", &few);
        assert!(!whole.is_full());
        let text = String::from_utf8(whole.draw().expect("a table")).expect("text");
        assert_eq!(text.lines().count(), 7);
    }
}
