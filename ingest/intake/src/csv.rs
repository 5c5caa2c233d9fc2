//! CSV to rows: the first line names the columns. An empty cell is no value; a cell is an integer,
//! a float or a boolean where it reads as one, else text. Pure; must never panic on any bytes.

use std::borrow::Cow;

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use wal::Value;

use crate::decoded::Decoded;
use crate::error::PayloadError;
use crate::timestamp::Unit;

/// Decodes a payload, whole or not at all; at most `max_rows`. What is in `tags` stays the text it
/// is.
pub(crate) fn decode(
    payload: &[u8],
    unit: Unit,
    tags: &[String],
    max_rows: usize,
) -> Result<Decoded<'static>, PayloadError> {
    let mut reader = ReaderBuilder::new().from_reader(payload);
    let header = reader
        .headers()
        .map_err(|error| payload_error(&error))?
        .clone();
    if header.is_empty() {
        return Err(PayloadError::Empty);
    }
    if header.iter().any(|name| name.trim().len() > wal::MAX_NAME) {
        let reason = format!("a name is longer than {} bytes", wal::MAX_NAME);
        return Err(PayloadError::Csv { line: 1, reason });
    }
    let is_tag: Vec<bool> = header
        .iter()
        .map(|name| tags.iter().any(|tag| tag == name.trim()))
        .collect();
    let mut out = Decoded::new(unit, Some(max_rows));
    let mut record = StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|error| payload_error(&error))?
    {
        for ((name, cell), is_tag) in header.iter().zip(&record).zip(&is_tag) {
            let (name, cell) = (name.trim(), cell.trim());
            if cell.is_empty() {
                continue;
            }
            let value = if *is_tag {
                Value::Text(Cow::Owned(cell.to_owned()))
            } else {
                value(cell).map_err(|reason| PayloadError::Csv {
                    line: record.position().map_or(0, csv::Position::line),
                    reason,
                })?
            };
            out.put(Cow::Owned(name.to_owned()), value);
        }
        out.finish_row()?;
    }
    if out.is_empty() {
        return Err(PayloadError::NoRows);
    }
    Ok(out)
}

fn value(cell: &str) -> Result<Value<'static>, String> {
    if let Ok(number) = cell.parse() {
        return Ok(Value::Int(number));
    }
    let digits = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // As a float it would lose digits unnoticed.
        let shown: String = cell.chars().take(40).collect();
        return Err(format!("integer {shown} exceeds 64 bits"));
    }
    // Words such as `inf` and `nan` are text here, and so is what no float can hold.
    let numeric = cell.bytes().any(|byte| byte.is_ascii_digit());
    match cell.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => return Ok(Value::Float(number)),
        _ => {}
    }
    Ok(match cell {
        "true" | "TRUE" | "True" => Value::Bool(true),
        "false" | "FALSE" | "False" => Value::Bool(false),
        text => Value::Text(Cow::Owned(text.to_owned())),
    })
}

fn payload_error(error: &csv::Error) -> PayloadError {
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
        let decoded =
            decode(payload.as_bytes(), Unit::Auto, &["id".to_owned()], 100).expect("decodes");
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
        decode(payload, Unit::Auto, &[], 2)
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
    fn what_says_who_is_not_read_as_a_number() {
        let rows = rows("id,v\n0042,1\n1.50,1\n99999999999999999999,1\n");
        let ids: Vec<&str> = rows.iter().map(|row| row.1[0].1.as_str()).collect();
        let expected = [
            "Text(\"0042\")",
            "Text(\"1.50\")",
            "Text(\"99999999999999999999\")",
        ];
        assert_eq!(ids, expected);
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
        assert_eq!(
            reason(b"a\n9223372036854775808\n"),
            "invalid CSV in line 2: integer 9223372036854775808 exceeds 64 bits"
        );
        let long = format!("{}\n1\n", "n".repeat(257));
        assert!(reason(long.as_bytes()).contains("a name is longer than 256 bytes"));
        assert!(reason(b"time,a\nnoon,1\n").starts_with("time field \"time\""));
        assert_eq!(reason(b"a\n1\n2\n3\n"), "the payload has more than 2 rows");
    }
}
