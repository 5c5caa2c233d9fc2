//! A message that could not be stored where it was meant to go, as a row of `system.dead_letters`:
//! its payload, or the beginning of a long one with the length and the SHA-256 of all of it. Must
//! never change a byte of what came in, nor cut one without saying so: what is no text is kept in
//! hexadecimal.

use std::borrow::Cow;

use wal::{AppendError, Appender, DEAD_LETTERS, GroupId, Refusal, Row, Value};

use crate::topic::TOPIC;

/// Stores the message with the reason.
pub(crate) fn store(
    appender: &mut Appender,
    topic: &str,
    payload: &[u8],
    client: &str,
    reason: &str,
    time: i64,
) -> Result<GroupId, AppendError> {
    let kept = kept(payload);
    let mut fields = vec![
        text("client", client.into()),
        text("reason", begin(reason, MOST_REASON).into()),
        text("payload", kept.text),
        text("encoding", kept.encoding.into()),
    ];
    if kept.is_cut {
        let bytes = i64::try_from(payload.len()).unwrap_or(i64::MAX);
        fields.push((Cow::Borrowed("bytes"), Value::Int(bytes)));
        fields.push(text("sha256", hex(&wal::sha256(payload)).into()));
    }
    let mut row = Row {
        time,
        tags: &[(TOPIC, topic)],
        fields: &fields,
    };
    match appender.append(DEAD_LETTERS, &[row]) {
        // A clock that has gone back: what is refused elsewhere has its place here all the same.
        Err(AppendError::Refused(Refusal::Expired { cut, .. })) => {
            row.time = cut;
            appender.append(DEAD_LETTERS, &[row])
        }
        stored => stored,
    }
}

/// Bytes that the message takes there, about.
pub(crate) fn size(topic: &str, payload: &[u8]) -> usize {
    topic.len() + payload.len().min(MOST_KEPT)
}

fn text<'v>(name: &'static str, text: Cow<'v, str>) -> (Cow<'v, str>, Value<'v>) {
    (Cow::Borrowed(name), Value::Text(text))
}

/// How a payload is kept.
#[derive(Debug, PartialEq, Eq)]
struct Portion<'p> {
    encoding: &'static str,
    text: Cow<'p, str>,
    is_cut: bool,
}

fn kept(payload: &[u8]) -> Portion<'_> {
    let head = payload.get(..MOST_KEPT).unwrap_or(payload);
    let is_cut = head.len() < payload.len();
    // A character that is cut in two is left out.
    let text = match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(error) if is_cut && error.error_len().is_none() => {
            let whole = head.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(whole).ok()
        }
        Err(_) => None,
    };
    let (encoding, text) = match (text, is_cut) {
        (Some(text), false) => ("utf8", text.into()),
        (Some(text), true) => ("utf8_clipped", text.into()),
        (None, false) => ("hex", hex(head).into()),
        (None, true) => ("hex_clipped", hex(head).into()),
    };
    Portion {
        encoding,
        text,
        is_cut,
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

/// The beginning of a text.
fn begin(text: &str, most: usize) -> &str {
    let mut ends = (0..=text.len().min(most)).rev();
    let end = ends.find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Most bytes that are kept of a payload.
const MOST_KEPT: usize = 64 << 10;

/// The same of a reason, which may repeat what was sent.
const MOST_REASON: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_kept(payload: &[u8], encoding: &str, bytes: usize, is_cut: bool) {
        let kept = kept(payload);
        let told = (kept.encoding, kept.text.len(), kept.is_cut);
        assert_eq!(told, (encoding, bytes, is_cut));
    }

    #[test]
    fn what_is_no_text_is_kept_in_hexadecimal_and_of_what_is_long_the_beginning() {
        is_kept(b"{", "utf8", 1, false);
        is_kept(&[0, 255], "hex", 4, false);
        is_kept(b"", "utf8", 0, false);
        is_kept(&[b'x'; MOST_KEPT], "utf8", MOST_KEPT, false);
        is_kept(&[b'x'; MOST_KEPT + 1], "utf8_clipped", MOST_KEPT, true);
        is_kept(&[0xab; MOST_KEPT + 1], "hex_clipped", 2 * MOST_KEPT, true);
        // The text is cut before a character that would be cut in two, and no text stays none.
        let wide = format!("x{}", "\u{20ac}".repeat(MOST_KEPT / 3 + 9));
        is_kept(wide.as_bytes(), "utf8_clipped", MOST_KEPT, true);
        let wide = "\u{20ac}".repeat(MOST_KEPT / 3 + 9);
        is_kept(wide.as_bytes(), "utf8_clipped", MOST_KEPT - 1, true);
        let broken = [&vec![b'x'; MOST_KEPT - 1][..], b"\xe2xx"].concat();
        is_kept(&broken, "utf8_clipped", MOST_KEPT - 1, true);
        assert_eq!(begin("\u{20ac}\u{20ac}", 5), "\u{20ac}");
    }
}
