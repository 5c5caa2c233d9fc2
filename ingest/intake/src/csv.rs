//! CSV to rows: the first line names the columns. An empty cell is no value; a cell is an integer, a
//! float or a boolean where it reads as one, else text. Pure; never panics on any bytes.

use std::borrow::Cow;

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use wal::Value;

use crate::decoded::{Decoded, TIME_FIELDS};
use crate::error::PayloadError;
use crate::timestamp::Unit;

/// Decodes a payload, whole or not at all; at most `most` rows.
pub(crate) fn decode(
    payload: &[u8],
    unit: Unit,
    most: usize,
) -> Result<Decoded<'static>, PayloadError> {
    let mut reader = ReaderBuilder::new().from_reader(payload);
    let header = reader.headers().map_err(|error| fault(&error))?.clone();
    if header.is_empty() {
        return Err(PayloadError::Empty);
    }
    let mut out = Decoded::new(unit, Some(most));
    let mut record = StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|error| fault(&error))?
    {
        let start = out.fields.len();
        for (name, cell) in header.iter().zip(&record) {
            let (name, cell) = (name.trim(), cell.trim());
            if cell.is_empty() {
                continue;
            }
            let value = value(cell);
            match TIME_FIELDS.iter().position(|field| *field == name) {
                Some(at) => out.times[at] = Some(value),
                None => out.fields.push((Cow::Owned(name.to_owned()), value)),
            }
        }
        out.finish_row(start)?;
    }
    if out.is_empty() {
        return Err(PayloadError::NoRows);
    }
    Ok(out)
}

fn value(cell: &str) -> Value<'static> {
    if let Ok(number) = cell.parse() {
        return Value::Int(number);
    }
    // Words such as `inf` and `nan` are text here, and so is what no float can hold.
    let numeric = cell.bytes().any(|byte| byte.is_ascii_digit());
    match cell.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => return Value::Float(number),
        _ => {}
    }
    match cell {
        "true" | "TRUE" | "True" => Value::Bool(true),
        "false" | "FALSE" | "False" => Value::Bool(false),
        text => Value::Text(Cow::Owned(text.to_owned())),
    }
}

fn fault(error: &csv::Error) -> PayloadError {
    let line = error.position().map_or(0, csv::Position::line);
    let reason = match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("it has {len} cells, the header has {expected_len}"),
        ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    PayloadError::Csv { line, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Shape = (Option<i64>, Vec<(String, String)>);

    fn rows(payload: &str) -> Vec<Shape> {
        let decoded = decode(payload.as_bytes(), Unit::Auto, 100).expect("decodes");
        decoded
            .into_rows()
            .map(|(time, fields)| {
                let fields = fields
                    .iter()
                    .map(|(k, v)| (k.to_string(), format!("{v:?}")));
                (time, fields.collect())
            })
            .collect()
    }

    fn reason(payload: &[u8]) -> String {
        decode(payload, Unit::Auto, 2)
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn the_first_line_names_the_columns_and_empty_cells_are_no_values() {
        let rows = rows("ts,site,t,n,ok\n1700000000,\"a, b\",21.5,3,true\n,,-1e3,,\n");
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let first = vec![
            field("site", "Text(\"a, b\")"),
            field("t", "Float(21.5)"),
            field("n", "Int(3)"),
            field("ok", "Bool(true)"),
        ];
        assert_eq!(rows[0], (Some(1_700_000_000_000_000_000), first));
        assert_eq!(rows[1], (None, vec![field("t", "Float(-1000.0)")]));
    }

    #[test]
    fn words_that_look_like_numbers_to_a_machine_stay_words() {
        let rows = rows("a,b,c,d\ninf,nan,1e999,007\n");
        let values: Vec<&str> = rows[0].1.iter().map(|(_, value)| value.as_str()).collect();
        let expected = [
            "Text(\"inf\")",
            "Text(\"nan\")",
            "Text(\"1e999\")",
            "Int(7)",
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert_eq!(reason(b""), "the payload is empty");
        assert_eq!(reason(b"a,b\n"), "an array without rows");
        assert_eq!(
            reason(b"a,b\n1,2\n3\n"),
            "invalid CSV in line 3: it has 1 cells, the header has 2"
        );
        assert!(reason(b"a\n\xff\n").contains("line 2: it is not UTF-8"));
        assert!(reason(b"time,a\nnoon,1\n").starts_with("time field \"time\""));
        assert_eq!(reason(b"a\n1\n2\n3\n"), "the payload has more than 2 rows");
    }
}
