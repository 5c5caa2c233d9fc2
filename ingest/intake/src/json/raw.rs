//! Pieces of JSON as they are written, read by serde_json: strings borrowed where they can be,
//! numbers with their digits, arrays as text. Pure; must never let a half of a surrogate pair
//! through, nor a piece that is deeper than it may be.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, Visitor};

/// Reads a string, without its quotes.
pub(super) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// The string that a valid piece of JSON is.
pub(super) fn string(piece: &str) -> serde_json::Result<Cow<'_, str>> {
    Text.deserialize(&mut serde_json::Deserializer::from_str(piece))
}

/// Why a valid piece of JSON is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nothing may be in so many others.
    TooDeep { at: usize },
    /// The string that begins at this byte.
    String { at: usize, error: serde_json::Error },
}

/// A valid piece of JSON without the white space that is outside its strings; `depth` counts what
/// it is in.
pub(super) fn compact(piece: &str, depth: usize) -> Result<Cow<'_, str>, Refused> {
    let mut out: Option<String> = None;
    let (mut depth, mut kept) = (depth, 0);
    // Where the string begins that this is in, and whether an escape is in it.
    let mut open: Option<(usize, bool)> = None;
    let mut escaped = false;
    for (at, byte) in piece.bytes().enumerate() {
        match (&mut open, byte) {
            _ if escaped => escaped = false,
            (Some((_, escapes)), b'\\') => (escaped, *escapes) = (true, true),
            (Some((begin, escapes)), b'"') => {
                let text = piece.get(*begin..=at).filter(|_| *escapes);
                // Escapes have been looked at one by one, which does not tell halves of pairs.
                if let Some(Err(error)) = text.map(string) {
                    return Err(Refused::String { at: *begin, error });
                }
                open = None;
            }
            (Some(_), _) => {}
            (None, b'"') => open = Some((at, false)),
            (None, b'[' | b'{') if depth >= MAX_DEPTH => return Err(Refused::TooDeep { at }),
            (None, b'[' | b'{') => depth += 1,
            (None, b']' | b'}') => depth = depth.saturating_sub(1),
            (None, b' ' | b'\t' | b'\n' | b'\r') => {
                let out = out.get_or_insert_with(|| String::with_capacity(piece.len()));
                out.push_str(piece.get(kept..at).unwrap_or_default());
                kept = at + 1;
            }
            (None, _) => {}
        }
    }
    Ok(match out {
        None => Cow::Borrowed(piece),
        Some(mut out) => {
            out.push_str(piece.get(kept..).unwrap_or_default());
            Cow::Owned(out)
        }
    })
}

/// How many values may be in each other.
pub(super) const MAX_DEPTH: usize = 128;
