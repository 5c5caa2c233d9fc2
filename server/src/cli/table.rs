//! Rows of a JSON answer as an aligned table for people. Must never let a stored text move the
//! terminal's cursor.

use std::fmt;
use std::io::{self, Write};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// One row, its columns in the order they were written.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Row(pub(crate) Vec<(String, Value)>);

impl Row {
    /// The value of a column.
    pub(crate) fn get(&self, column: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(name, _)| name == column)
            .map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;

        impl<'de> Visitor<'de> for Columns {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Row(columns))
            }
        }

        deserializer.deserialize_map(Columns)
    }
}

/// Writes `rows` with a line of column names above and their number below.
pub(crate) fn render(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let columns = columns(rows);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|column| cell(row.get(column))).collect())
        .collect();
    if !columns.is_empty() {
        render_cells(rows, &columns, &cells, out)?;
    }
    let plural = if rows.len() == 1 { "" } else { "s" };
    writeln!(out, "({} row{plural})", rows.len())
}

fn render_cells(
    rows: &[Row],
    columns: &[&str],
    cells: &[Vec<String>],
    out: &mut impl Write,
) -> io::Result<()> {
    let names: Vec<String> = columns.iter().map(|column| printable(column)).collect();
    let width = |text: &String| text.chars().count();
    let widths: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            cells
                .iter()
                .map(|row| width(&row[at]))
                .fold(width(name), usize::max)
        })
        .collect();
    let numeric: Vec<bool> = columns
        .iter()
        .map(|column| {
            rows.iter()
                .any(|row| matches!(row.get(column), Some(Value::Number(_))))
        })
        .collect();
    line(&names, &widths, &vec![false; widths.len()], out)?;
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    writeln!(out, "{}", rule.join("+"))?;
    cells
        .iter()
        .try_for_each(|row| line(row, &widths, &numeric, out))
}

fn line(
    cells: &[String],
    widths: &[usize],
    right: &[bool],
    out: &mut impl Write,
) -> io::Result<()> {
    let padded = cells
        .iter()
        .zip(widths)
        .zip(right)
        .map(|((cell, &width), &right)| {
            if right {
                format!(" {cell:>width$} ")
            } else {
                format!(" {cell:<width$} ")
            }
        });
    writeln!(out, "{}", padded.collect::<Vec<_>>().join("|").trim_end())
}

/// Every column of any row, in the order of first sight: a null may not have been written.
fn columns(rows: &[Row]) -> Vec<&str> {
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.0) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    columns
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => printable(text),
        Some(value) => printable(&value.to_string()),
    }
}

fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let escape = |character: char| {
        if character.is_control() {
            character.escape_default().to_string()
        } else {
            character.to_string()
        }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(json: &str) -> String {
        let rows: Vec<Row> = serde_json::from_str(json).unwrap();
        let mut out = Vec::new();
        render(&rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_keep_their_order_and_numbers_stand_right() {
        let text = rendered(r#"[{"z": "a", "n": 5}, {"z": null, "n": 12345, "b": true}]"#);
        assert_eq!(
            text,
            " z | n     | b\n---+-------+------\n a |     5 |\n   | 12345 | true\n(2 rows)\n"
        );
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(rendered("[]"), "(0 rows)\n");
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        let text = rendered("[{\"a\": \"x\\u001b[2J\\ny\"}]");
        assert_eq!(text, " a\n---------------\n x\\u{1b}[2J\\ny\n(1 row)\n");
    }
}
