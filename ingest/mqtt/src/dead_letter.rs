//! A message that could not be stored where it was meant to go, as a row of `system.dead_letters`.
//! Must never change a byte of what came in: what is no text is kept in hexadecimal.

use std::borrow::Cow;

use wal::{AppendError, Appender, DEAD_LETTERS, GroupId, Row, Value};

use crate::topic::TOPIC;

/// Stores the message with the reason; the payload as text, or in hexadecimal when it is none.
pub(crate) fn store(
    appender: &mut Appender,
    topic: &str,
    payload: &[u8],
    client: &str,
    reason: &str,
    time: i64,
) -> Result<GroupId, AppendError> {
    let (encoding, text) = match std::str::from_utf8(payload) {
        Ok(text) => ("utf8", Cow::Borrowed(text)),
        Err(_) => ("hex", Cow::Owned(hex(payload))),
    };
    let fields = [
        (Cow::Borrowed("client"), Value::Text(Cow::Borrowed(client))),
        (Cow::Borrowed("reason"), Value::Text(Cow::Borrowed(reason))),
        (Cow::Borrowed("payload"), Value::Text(text)),
        (
            Cow::Borrowed("encoding"),
            Value::Text(Cow::Borrowed(encoding)),
        ),
    ];
    let row = Row {
        time,
        tags: &[(TOPIC, topic)],
        fields: &fields,
    };
    appender.append(DEAD_LETTERS, &[row])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}
