//! What a message would become, without storing it: for `check-conf --topic --payload`. Pure;
//! must never say anything but what the listener would do.

use crate::error::Rejection;
use crate::topic::{TOPIC, is_publishable, table};

/// The rows a message would become.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    pub table: String,
    pub tags: Vec<(String, String)>,
    /// Unix nanoseconds and fields of each row.
    pub rows: Vec<(i64, Vec<(String, wal::Value<'static>)>)>,
}

/// Decodes a message as the listener would. `now` is the arrival time in unix nanoseconds.
///
/// # Errors
/// The reason the message would go to the dead letters with.
pub fn explain(topic: &str, bytes: &[u8], now: i64) -> Result<Explained, Rejection> {
    if !is_publishable(topic) {
        return Err(Rejection::NoTable(topic.to_owned()));
    }
    let table = table(topic)?.to_owned();
    let text = intake::text_of(bytes)?;
    let decoded = intake::decode(&text)?;
    let rows = decoded.rows(&[], now).map(|row| {
        let fields = row
            .fields
            .iter()
            .map(|(name, value)| (name.to_string(), owned(value)));
        (row.time, fields.collect())
    });
    let tags = vec![(TOPIC.to_owned(), topic.to_owned())];
    Ok(Explained {
        table,
        tags,
        rows: rows.collect(),
    })
}

fn owned(value: &wal::Value<'_>) -> wal::Value<'static> {
    use wal::Value;
    match value {
        Value::Int(value) => Value::Int(*value),
        Value::Float(value) => Value::Float(*value),
        Value::Bool(value) => Value::Bool(*value),
        Value::Text(value) => Value::Text(value.to_string().into()),
    }
}
