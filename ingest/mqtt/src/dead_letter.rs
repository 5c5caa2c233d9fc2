//! A message that could not be stored where it was meant to go, as a row of `system.dead_letters`.
//! Must never change a byte of what came in: what is no text is kept in hexadecimal, and
//! where that would be too long its beginning, which is said.

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
    let (encoding, text, reason) = kept(payload, reason);
    let fields = [
        (Cow::Borrowed("client"), Value::Text(Cow::Borrowed(client))),
        (Cow::Borrowed("reason"), Value::Text(reason)),
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

/// How a payload is kept, and what is said of it.
fn kept<'p>(payload: &'p [u8], reason: &'p str) -> (&'static str, Cow<'p, str>, Cow<'p, str>) {
    let begin = payload.get(..MOST_HEX);
    let clipped = begin.filter(|begin| begin.len() < payload.len());
    match (std::str::from_utf8(payload), clipped) {
        (Ok(text), _) => ("utf8", text.into(), reason.into()),
        (Err(_), None) => ("hex", hex(payload).into(), reason.into()),
        (Err(_), Some(begin)) => {
            let (kept, len) = (begin.len(), payload.len());
            let reason = format!("{reason}; of its {len} bytes the first {kept} are kept");
            ("hex_clipped", hex(begin).into(), reason.into())
        }
    }
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

/// Most bytes that are kept of a payload that is no text: the log takes 32 MiB at a time, topic and
/// all.
const MOST_HEX: usize = 15 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_kept_in_hexadecimal_or_its_beginning() {
        assert_eq!(kept(b"{", "odd"), ("utf8", "{".into(), "odd".into()));
        assert_eq!(kept(&[0, 255], "odd"), ("hex", "00ff".into(), "odd".into()));
        let (encoding, text, reason) = kept(&[0xab; MOST_HEX + 1], "odd");
        assert_eq!((encoding, text.len()), ("hex_clipped", 2 * MOST_HEX));
        assert_eq!(
            reason,
            "odd; of its 15728641 bytes the first 15728640 are kept"
        );
    }
}
