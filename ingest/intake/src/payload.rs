//! The rows of a payload that nobody has said anything about: JSON, or one value that came alone.
//! Pure; must never panic on any text, nor take for a value what is rows in another format.

use std::borrow::Cow;

use wal::Value;

use crate::decoded::{Decoded, MAX_ROWS};
use crate::error::PayloadError;
use crate::json::{self, VALUE};
use crate::number;
use crate::sniff::other_format;
use crate::timestamp::{Times, Unit};
use crate::zone::Zone;

/// How messages and writes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Of times that name none; without it they are none.
    pub zone: Option<Zone>,
    /// Most rows of one message or write.
    pub max_rows: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            zone: None,
            max_rows: MAX_ROWS,
        }
    }
}

/// Decodes a payload's text, whole or not at all: JSON, or a bare number or word, which is column
/// `value`.
///
/// # Errors
/// What is wrong with the payload.
pub fn decode(text: &str, reading: Reading) -> Result<Decoded<'_>, PayloadError> {
    let Reading { zone, max_rows } = reading;
    if is_json(text) {
        let unit = Unit::Auto;
        return json::decode(text, Times { unit, zone }, max_rows);
    }
    let text = text.trim();
    match bare_json(text)? {
        Some(value) => bare(text, value),
        None => bare(text, word(text)?),
    }
}

/// The same where only JSON is expected: a word must have quotes.
pub(crate) fn decode_json(
    text: &str,
    times: Times,
    max_rows: usize,
) -> Result<Decoded<'_>, PayloadError> {
    if is_json(text) {
        return json::decode(text, times, max_rows);
    }
    let text = text.trim();
    match bare_json(text)? {
        Some(value) => bare(text, value),
        None => Err(not_json(
            other_format(text).unwrap_or("it begins with neither { nor ["),
        )),
    }
}

/// Whether a text is JSON rather than anything else.
pub(crate) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// Whether a text is one value of JSON, which is no column's name: a number, a boolean, a quoted
/// text.
pub(crate) fn is_bare_json(text: &str) -> bool {
    !matches!(bare_json(text.trim()), Ok(None))
}

fn bare<'a>(text: &'a str, value: Value<'a>) -> Result<Decoded<'a>, PayloadError> {
    let mut out = Decoded::new(MAX_ROWS);
    out.put(Cow::Borrowed(VALUE), value);
    out.finish_row()?;
    // Quotes say that it is a text; all else says nothing of its type.
    out.bare = Some(text).filter(|text| !text.starts_with('"'));
    Ok(out)
}

/// A value as JSON writes it; none if it is something else.
fn bare_json(text: &str) -> Result<Option<Value<'_>>, PayloadError> {
    if text.is_empty() {
        return Err(PayloadError::Empty);
    }
    let nothing = ["null", "nan", "inf", "infinity"];
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if nothing
        .iter()
        .any(|word| unsigned.eq_ignore_ascii_case(word))
    {
        return Err(field(format!("{text} is no value that can be stored")));
    }
    let value = json::scalar(text).transpose();
    value.map_err(field)
}

/// A value as devices write it that know nothing of JSON: one printable line.
fn word(text: &str) -> Result<Value<'_>, PayloadError> {
    if let Some(what) = other_format(text) {
        return Err(not_json(what));
    }
    if text.contains(['\n', '\r']) {
        return Err(not_json(
            "it has several lines, and a bare value has one. CSV and line protocol come in over \
             HTTP",
        ));
    }
    if text.len() > MAX_BARE {
        return Err(not_json(
            "it is too long for a bare value: send {\"value\": \"...\"}",
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(not_json("there are control characters in it"));
    }
    if text.starts_with('"') {
        return Err(not_json(
            "it begins with a quote and is not one quoted text",
        ));
    }
    match text {
        "True" | "TRUE" => Ok(Value::Bool(true)),
        "False" | "FALSE" => Ok(Value::Bool(false)),
        _ if number::is_decimal(text) && !number::is_name(text) => {
            number::value(text).map_err(field)
        }
        _ => Ok(Value::Text(Cow::Borrowed(text))),
    }
}

fn field(reason: String) -> PayloadError {
    PayloadError::Field {
        row: 1,
        field: VALUE.to_owned(),
        reason,
    }
}

fn not_json(what: &str) -> PayloadError {
    PayloadError::NotJson(what.to_owned())
}

/// Most bytes of a bare word.
const MAX_BARE: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use wal::ColumnType;

    use super::*;

    fn value(text: &str) -> Value<'_> {
        let decoded = decode(text, Reading::default()).expect(text);
        let mut rows = decoded.into_rows();
        let row = rows.next().expect("a row");
        assert_eq!(row.fields.len(), 1, "{text}");
        let (name, value) = row.fields.into_iter().next().expect("a field");
        assert_eq!((&*name, row.time), (VALUE, None), "{text}");
        value
    }

    fn reason(text: &str) -> String {
        decode(text, Reading::default())
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn what_comes_alone_is_the_column_value() {
        for (text, expected) in [
            ("8.1", Value::Float(8.1)),
            ("-3", Value::Int(-3)),
            ("1e3", Value::Float(1e3)),
            (" 0 \n", Value::Int(0)),
            ("+21.5", Value::Float(21.5)),
            (".5", Value::Float(0.5)),
            ("true", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("ON", Value::Text("ON".into())),
            ("online", Value::Text("online".into())),
            ("007", Value::Text("007".into())),
            ("21.5 °C", Value::Text("21.5 °C".into())),
            ("\"8.1\"", Value::Text("8.1".into())),
            ("\"a\\u00e9\"", Value::Text("aé".into())),
            ("not json", Value::Text("not json".into())),
            (
                "2023-11-14T22:13:20Z",
                Value::Text("2023-11-14T22:13:20Z".into()),
            ),
            ("[1, 2.50]", Value::Text("[1,2.50]".into())),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn where_the_column_holds_text_it_goes_in_as_it_is() {
        for (text, expected) in [("8.10", "8.10"), ("true", "true"), ("\"a\"", "a")] {
            let mut decoded = decode(text, Reading::default()).expect(text);
            decoded.fit(|name| (name == VALUE).then_some(ColumnType::Text));
            let row = decoded.into_rows().next().expect("a row");
            assert_eq!(row.fields[0].1, Value::Text(expected.into()));
        }
        let mut decoded = decode("8", Reading::default()).expect("decodes");
        decoded.fit(|_| Some(ColumnType::Float));
        let row = decoded.into_rows().next().expect("a row");
        assert_eq!(row.fields[0].1, Value::Int(8));
        let mut object = decode(r#"{"value": 8}"#, Reading::default()).expect("decodes");
        object.fit(|_| Some(ColumnType::Text));
        let row = object.into_rows().next().expect("a row");
        assert_eq!(row.fields[0].1, Value::Int(8));
    }

    #[test]
    fn what_is_no_value_is_refused_by_name() {
        let long = "x".repeat(MAX_BARE + 1);
        for (text, expected) in [
            ("", "the payload is empty"),
            ("  \n", "the payload is empty"),
            ("null", "null is no value"),
            ("NULL", "no value"),
            ("NaN", "no value"),
            ("-inf", "no value"),
            ("99999999999999999999", "exceeds 64 bits"),
            ("1e999", "out of range"),
            ("{\"a\":", "invalid JSON"),
            ("[1, 2", "invalid JSON"),
            ("\"open", "begins with a quote"),
            ("\"a\" \"b\"", "begins with a quote"),
            ("a\tb", "control characters"),
            ("a,b\n1,2", "several lines"),
            ("<html></html>", "HTML or XML"),
            ("cpu,host=a v=1 17", "line protocol"),
            (&long, "too long"),
        ] {
            assert!(reason(text).contains(expected), "{text}: {}", reason(text));
        }
    }

    #[test]
    fn only_values_of_json_come_alone_where_json_is_expected() {
        let decode =
            |text| decode_json(text, Times::default(), MAX_ROWS).map(|decoded| decoded.len());
        for text in ["8.1", "true", "\"ON\"", "{\"a\":1}", "[{\"a\":1}]"] {
            assert_eq!(decode(text), Ok(1), "{text}");
        }
        for text in ["ON", "null", "cpu v=1", "a,b\n1,2"] {
            assert!(decode(text).is_err(), "{text}");
        }
        assert!(is_bare_json("8.1") && is_bare_json("\"x\"") && !is_bare_json("\"x\",y\n1,2"));
        assert!(!is_bare_json("ON") && is_bare_json("null"));
    }
}
