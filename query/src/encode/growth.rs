//! What writing rows takes, from their values alone. Owns one estimate for each format; must never be
//! lower than what the writers take for long values, nor count short ones.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;

use super::format::Format;
use super::pretty;
use crate::bounds::value_bytes;

/// Bytes that are taken while `rows` are written, beside `before` for those that are kept already; 0
/// for what is little.
pub(super) fn writing(rows: &RecordBatch, format: Format, before: u64) -> usize {
    let (mut texts, mut nested, mut controls) = (0_u64, 0_u64, 0_u64);
    for column in rows.columns() {
        if column.data_type().is_primitive() {
            continue;
        }
        let bytes = (0..column.len()).map(|row| value_bytes(column.as_ref(), row));
        let bytes = bytes.fold(0, u64::saturating_add);
        if is_text(column.data_type()) {
            texts = texts.saturating_add(bytes);
            if bytes > LITTLE && is_json(format) {
                controls = controls.saturating_add(escaped(column.as_ref()));
            }
        } else {
            nested = nested.saturating_add(bytes);
        }
    }
    if texts.saturating_add(nested).saturating_add(before) <= LITTLE {
        return 0;
    }
    let wanted = match format {
        // A buffer that grows is there twice for a moment.
        Format::Json | Format::JsonLines | Format::JsonColumns => {
            let texts = texts.saturating_add(controls.saturating_mul(ESCAPE));
            (texts.saturating_add(nested.saturating_mul(3))).saturating_mul(2)
        }
        Format::Csv => texts.saturating_add(nested).saturating_mul(4),
        Format::Arrow => texts.saturating_add(nested).saturating_mul(3),
        // Each value of a list has levels, and a place in a dictionary.
        Format::Parquet => (texts.saturating_mul(4)).saturating_add(nested.saturating_mul(14)),
        Format::Pretty => {
            let cells = (rows.num_rows() as u64).saturating_mul(rows.num_columns() as u64);
            let values = (texts.saturating_mul(6)).saturating_add(nested.saturating_mul(12));
            let cells = cells
                .min(pretty::MOST_CELLS)
                .saturating_mul(pretty::CELL_BYTES);
            values.saturating_add(before).saturating_add(cells)
        }
    };
    usize::try_from(wanted).unwrap_or(usize::MAX)
}

fn is_json(format: Format) -> bool {
    matches!(
        format,
        Format::Json | Format::JsonLines | Format::JsonColumns
    )
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Letters that JSON writes as several.
fn escaped(texts: &dyn Array) -> u64 {
    let count = |text: Option<&str>| {
        let letters = text.unwrap_or_default().bytes();
        letters
            .filter(|letter| *letter < b' ' || matches!(letter, b'"' | b'\\'))
            .count() as u64
    };
    match texts.data_type() {
        DataType::Utf8 => texts.as_string::<i32>().iter().map(count).sum(),
        DataType::LargeUtf8 => texts.as_string::<i64>().iter().map(count).sum(),
        DataType::Utf8View => texts.as_string_view().iter().map(count).sum(),
        _ => 0,
    }
}

/// Not counted.
const LITTLE: u64 = 1 << 20;
/// What such a letter takes beside its own place, as in `\\u0001`.
const ESCAPE: u64 = 5;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn only_what_is_long_is_counted_and_by_what_it_becomes() {
        let rows = |letter: &str, length: usize| {
            let texts: ArrayRef = Arc::new(StringArray::from(vec![letter.repeat(length)]));
            RecordBatch::try_from_iter([("a", texts)]).expect("a batch")
        };
        assert_eq!(writing(&rows("x", 1 << 20), Format::Json, 0), 0);
        let long = 2 << 20;
        assert_eq!(writing(&rows("x", long), Format::Json, 0), 2 * long);
        assert_eq!(writing(&rows("\u{1}", long), Format::Json, 0), 12 * long);
        assert_eq!(writing(&rows("x", long), Format::Parquet, 0), 4 * long);
        assert_eq!(
            writing(&rows("x", 1), Format::Pretty, 1 << 20),
            (1 << 20) + 6 + 256
        );
    }
}
