//! JSON to rows: an object, an array of objects, or JSON lines. serde_json reads it, each value as
//! it is written, so that no digit is lost. Objects in objects become columns with joined names,
//! arrays the JSON text that they are. Values are borrowed from the payload where they can be.
//! Pure; must never panic on any text, nor lose digits unnoticed.

mod fault;
mod raw;

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use wal::Value;

use crate::decoded::{Decoded, TimeField, TimeRank};
use crate::error::PayloadError;
use crate::number;
use crate::timestamp::{self, Times};
use crate::zone::Zone;
use raw::{MAX_DEPTH, Refused, Text};

/// Decodes a text that begins with a bracket, whole or not at all, to at most so many rows.
pub(crate) fn decode(
    text: &str,
    times: impl Into<Times>,
    max_rows: usize,
) -> Result<Decoded<'_>, PayloadError> {
    decode_joined(text, times.into(), max_rows, JOINER)
}

/// A number, boolean or quoted text that is all there is; none if it is something else.
pub(crate) fn scalar(text: &str) -> Option<Result<Value<'_>, String>> {
    let piece = serde_json::from_str::<&RawValue>(text).ok()?.get();
    match piece.as_bytes().first()? {
        b'"' => raw::string(piece).ok().map(|text| Ok(Value::Text(text))),
        b't' => Some(Ok(Value::Bool(true))),
        b'f' => Some(Ok(Value::Bool(false))),
        b'n' | b'[' | b'{' => None,
        _ => Some(number::value(piece)),
    }
}

/// The paths of the first two fields of a row that are both called `column`, with the row.
pub(crate) fn clash(text: &str, column: &str) -> Option<(usize, [String; 2])> {
    // The same fields in the same order, under the names that tell where they come from.
    let times = Times {
        zone: Some(Zone::UTC),
        ..Times::default()
    };
    let joined = decode_joined(text, times, usize::MAX, JOINER).ok()?;
    let dotted = decode_joined(text, times, usize::MAX, '.').ok()?;
    let mut rows = joined.into_rows().zip(dotted.into_rows()).zip(1..);
    rows.find_map(|((joined, dotted), row)| {
        let names = joined.fields.iter().zip(&dotted.fields);
        let mut same = names.filter(|((name, _), _)| *name == *column);
        let mut path = || same.next().map(|(_, (path, _))| number::clipped(path));
        Some((row, [path()?, path()?]))
    })
}

fn decode_joined(
    text: &str,
    times: Times,
    max_rows: usize,
    joiner: char,
) -> Result<Decoded<'_>, PayloadError> {
    let mut reader = Reader {
        text,
        out: Decoded::new(max_rows),
        times,
        joiner,
        again: text.len().saturating_mul(MOST_AGAIN).max(LEAST_AGAIN),
        refused: None,
    };
    reader.read()?;
    if reader.out.is_empty() {
        return Err(PayloadError::NoRows);
    }
    Ok(reader.out)
}

struct Reader<'a> {
    text: &'a str,
    out: Decoded<'a>,
    times: Times,
    /// What is between the names of an object and of a field in it.
    joiner: char,
    /// Bytes that may be read once more yet: what is in an object in an object is.
    again: usize,
    /// Why reading ended, unless serde_json ended it.
    refused: Option<PayloadError>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), PayloadError> {
        let text = self.text;
        let Some(inner) = text.trim_start().strip_prefix('[') else {
            return self.lines();
        };
        let mut from = serde_json::Deserializer::from_str(text);
        if inner.trim_start().starts_with(['{', ']']) {
            let read = from.deserialize_seq(Rows(self));
            self.checked(read, text)?;
        } else {
            let array = <&RawValue>::deserialize(&mut from);
            let array = self.checked(array, text)?.get();
            let array = self.array(array, 0)?;
            self.out.put(Cow::Borrowed(VALUE), Value::Text(array));
            self.out.finish_row()?;
        }
        let end = from.end();
        self.checked(end, text)
    }

    /// Objects one after the other, with or without white space between them.
    fn lines(&mut self) -> Result<(), PayloadError> {
        let mut rest = self.text;
        while !rest.is_empty() {
            let mut from = serde_json::Deserializer::from_str(rest);
            let row = Object::row(self).deserialize(&mut from);
            self.checked(row, rest)?;
            let taken = from.into_iter::<IgnoredAny>().byte_offset();
            rest = rest.get(taken..).unwrap_or_default();
            rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        }
        Ok(())
    }

    /// The value of a field. Only a row's own fields can be its time.
    fn field(
        &mut self,
        name: Cow<'a, str>,
        piece: &'a str,
        depth: usize,
    ) -> Result<(), PayloadError> {
        let rank = if depth == 1 {
            TimeRank::of(&name)
        } else {
            None
        };
        let no_time = |what: &str| rank.map_or(Ok(0), |_| Err(format!("{what} is no time")));
        let (value, time) = match piece.as_bytes().first() {
            Some(b'{') => return self.object(&name, piece, depth + 1),
            Some(b'[') => {
                let value = Ok(Value::Text(self.array(piece, depth)?));
                (value, no_time("an array"))
            }
            Some(b'"') => {
                let text = self.checked(raw::string(piece), piece)?;
                let time = rank.map_or(Ok(0), |_| timestamp::parse(&text, self.times));
                (Ok(Value::Text(text)), time)
            }
            Some(b't') => (Ok(Value::Bool(true)), no_time("a boolean")),
            Some(b'f') => (Ok(Value::Bool(false)), no_time("a boolean")),
            Some(b'n') | None => return Ok(()),
            Some(_) => {
                let time = rank.map_or(Ok(0), |_| timestamp::parse(piece, self.times));
                (number::value(piece), time)
            }
        };
        match rank {
            Some(rank) => self.out.put_time(TimeField {
                rank,
                name,
                value,
                time,
            }),
            None => match value {
                Ok(value) => self.out.put(name, value),
                Err(reason) => return Err(self.fault(&name, reason)),
            },
        }
        Ok(())
    }

    /// An object that is the field of this name in so many others.
    fn object(&mut self, name: &str, piece: &'a str, depth: usize) -> Result<(), PayloadError> {
        if depth >= MAX_DEPTH {
            return Err(self.too_deep(piece, 0));
        }
        self.again = self.again.checked_sub(piece.len()).ok_or_else(|| {
            let reason = "there are too many objects in each other in a long payload";
            fault::at(self.text, self.begin(piece), reason.to_owned())
        })?;
        let object = Object {
            prefix: Some(name),
            depth,
            reader: self,
        };
        let read = object.deserialize(&mut serde_json::Deserializer::from_str(piece));
        self.checked(read, piece)
    }

    fn array(&self, piece: &'a str, depth: usize) -> Result<Cow<'a, str>, PayloadError> {
        raw::compact(piece, depth).map_err(|refused| match refused {
            Refused::TooDeep { at } => self.too_deep(piece, at),
            Refused::String { at, error } => {
                fault::located(&error, self.text, self.begin(piece) + at)
            }
        })
    }

    /// What has been read of a piece of the payload, or why it is not taken.
    fn checked<T>(
        &mut self,
        read: serde_json::Result<T>,
        piece: &'a str,
    ) -> Result<T, PayloadError> {
        read.map_err(|error| {
            let refused = self.refused.take();
            refused.unwrap_or_else(|| fault::located(&error, self.text, self.begin(piece)))
        })
    }

    fn too_deep(&self, piece: &str, at: usize) -> PayloadError {
        let reason = format!("recursion limit of {MAX_DEPTH} levels exceeded");
        fault::at(self.text, self.begin(piece) + at, reason)
    }

    /// At which byte of the payload this piece of it begins.
    fn begin(&self, piece: &str) -> usize {
        fault::offset(piece, self.text)
    }

    fn fault(&self, field: &str, reason: String) -> PayloadError {
        PayloadError::Field {
            row: self.out.len() + 1,
            field: number::clipped(field),
            reason,
        }
    }
}

/// What is in an array of objects.
struct Rows<'r, 'a>(&'r mut Reader<'a>);

impl<'a> Visitor<'a> for Rows<'_, 'a> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows.next_element_seed(Object::row(self.0))?.is_some() {}
        Ok(())
    }
}

/// An object in so many others: the row itself, or the field of this name in it.
struct Object<'r, 'a> {
    reader: &'r mut Reader<'a>,
    prefix: Option<&'r str>,
    depth: usize,
}

impl<'r, 'a> Object<'r, 'a> {
    fn row(reader: &'r mut Reader<'a>) -> Self {
        Self {
            reader,
            prefix: None,
            depth: 1,
        }
    }

    fn field(&mut self, own: Cow<'a, str>, piece: &'a str) -> Result<(), PayloadError> {
        let Some(prefix) = self.prefix else {
            return self.reader.field(own, piece, self.depth);
        };
        if prefix.len() + own.len() >= wal::MAX_NAME {
            let reason = format!("a field's name is longer than {} bytes", wal::MAX_NAME);
            return Err(self.reader.fault(prefix, reason));
        }
        let name = format!("{prefix}{}{own}", self.reader.joiner);
        self.reader.field(Cow::Owned(name), piece, self.depth)
    }
}

impl<'a> DeserializeSeed<'a> for Object<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Object<'_, 'a> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut fields: A) -> Result<(), A::Error> {
        let mut read = Ok(());
        while read.is_ok()
            && let Some(own) = fields.next_key_seed(Text)?
        {
            let value: &'a RawValue = fields.next_value()?;
            read = self.field(own, value.get());
        }
        if read.is_ok() && self.prefix.is_none() {
            read = self.reader.out.finish_row();
        }
        read.map_err(|refused| {
            self.reader.refused = Some(refused);
            A::Error::custom("it is refused")
        })
    }
}

/// The column of a value that comes without a name.
pub(crate) const VALUE: &str = "value";

/// Between the names of an object and of a field in it.
const JOINER: char = '_';

/// How many times its length, or how many bytes, of a payload may be read once more.
const MOST_AGAIN: usize = 16;
const LEAST_AGAIN: usize = 1 << 20;

#[cfg(test)]
mod tests;
