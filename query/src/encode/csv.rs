//! CSV as PostgreSQL writes it: NULL is nothing, an empty text is `""`. Must never write the two
//! alike, nor a line that readers take for two.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::QueryError;

/// The header line.
///
/// # Errors
/// When a column is of a type that CSV has no form for.
pub(crate) fn header(schema: &Schema) -> Result<Vec<u8>, QueryError> {
    let mut out = Vec::new();
    for (at, field) in schema.fields().iter().enumerate() {
        if field.data_type().is_nested() {
            return Err(QueryError::Execution(format!(
                "column {:?} holds lists or structures, which CSV cannot: cast it to text, or ask \
                 for another format",
                field.name()
            )));
        }
        if at > 0 {
            out.push(b',');
        }
        put(&mut out, field.name());
    }
    out.push(b'\n');
    Ok(out)
}

/// One line for each row.
pub(crate) fn lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter();
    let columns = columns
        .map(|column| Ok((column, ArrayFormatter::try_new(column.as_ref(), &options)?)))
        .collect::<Result<Vec<_>, ArrowError>>()?;
    // A line without anything is skipped by most readers. Only a text needs it to say NULL.
    let lone = matches!(columns.as_slice(), [(column, _)] if !is_text(column.data_type()));
    let mut out = Vec::new();
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (at, (column, formatter)) in columns.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            if !column.is_null(row) {
                text.clear();
                formatter.value(row).write(&mut text)?;
                put(&mut out, &text);
            } else if lone {
                out.extend_from_slice(b"\"\"");
            }
        }
        out.push(b'\n');
    }
    Ok(out)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        other => other.is_string(),
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    if !text.is_empty() && !text.as_bytes().iter().any(special) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;

    fn text(columns: Vec<(&str, ArrayRef)>) -> String {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, column)| (name, column, true)),
        );
        let batch = batch.expect("a batch");
        let mut bytes = header(batch.schema_ref()).expect("a header");
        bytes.extend(lines(&batch).expect("lines"));
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn null_and_empty_are_told_apart() {
        let texts = || Arc::new(StringArray::from(vec![None, Some(""), Some("a\r\nb")]));
        let numbers = || Arc::new(Float64Array::from(vec![None, Some(f64::NAN), Some(0.5)]));
        let both = text(vec![("s", texts()), ("v,\"1\"", numbers())]);
        assert_eq!(both, "s,\"v,\"\"1\"\"\"\n,\n\"\",NaN\n\"a\r\nb\",0.5\n");
        assert_eq!(text(vec![("s", texts())]), "s\n\n\"\"\n\"a\r\nb\"\n");
        assert_eq!(text(vec![("v", numbers())]), "v\n\"\"\nNaN\n0.5\n");
    }
}
