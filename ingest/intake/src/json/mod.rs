//! JSON to rows: an object, an array of objects, or JSON lines. Objects in objects become columns
//! with joined names, arrays the JSON text that they are. Values are borrowed from the payload
//! where they can be. Pure; must never panic on any text, nor lose digits unnoticed.

mod scan;

use std::borrow::Cow;

use wal::Value;

use crate::decoded::{Decoded, TimeField, TimeRank};
use crate::error::PayloadError;
use crate::number;
use crate::timestamp::{self, Unit};
use scan::{Fault, Scan};

/// Decodes a text that begins with a bracket, whole or not at all, to at most so many rows.
pub(crate) fn decode(text: &str, unit: Unit, max_rows: usize) -> Result<Decoded<'_>, PayloadError> {
    decode_joined(text, unit, max_rows, JOINER)
}

/// A number, boolean or quoted text that is all there is; none if it is something else.
pub(crate) fn scalar(text: &str) -> Option<Result<Value<'_>, String>> {
    let mut scan = Scan::new(text);
    let value = match scan.peek()? {
        b'"' => Ok(Value::Text(scan.string().ok()?)),
        b'-' | b'0'..=b'9' => number::value(scan.number().ok()?),
        _ => Ok(Value::Bool(scan.literal().ok()??)),
    };
    scan.peek().is_none().then_some(value)
}

/// The paths of the first two fields of a row that are both called `column`, with the row.
pub(crate) fn clash(text: &str, column: &str) -> Option<(usize, [String; 2])> {
    // The same fields in the same order, under the names that tell where they come from.
    let joined = decode_joined(text, Unit::Auto, usize::MAX, JOINER).ok()?;
    let dotted = decode_joined(text, Unit::Auto, usize::MAX, '.').ok()?;
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
    unit: Unit,
    max_rows: usize,
    joiner: char,
) -> Result<Decoded<'_>, PayloadError> {
    let mut reader = Reader {
        scan: Scan::new(text),
        out: Decoded::new(max_rows),
        unit,
        joiner,
    };
    match reader.read() {
        Ok(()) if reader.out.is_empty() => Err(PayloadError::NoRows),
        Ok(()) => Ok(reader.out),
        Err(Stop::Payload(error)) => Err(error),
        Err(Stop::Syntax(Fault { at, reason })) => {
            let before = text.get(..at).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default();
            Err(PayloadError::Json {
                line,
                column: column.chars().count() + 1,
                reason,
            })
        }
    }
}

/// Why reading ends before the end.
enum Stop {
    Syntax(Fault),
    Payload(PayloadError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Syntax(fault)
    }
}

impl From<PayloadError> for Stop {
    fn from(error: PayloadError) -> Self {
        Self::Payload(error)
    }
}

struct Reader<'a> {
    scan: Scan<'a>,
    out: Decoded<'a>,
    unit: Unit,
    /// What is between the names of an object and of a field in it.
    joiner: char,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), Stop> {
        if self.scan.peek() != Some(b'[') {
            return self.lines();
        }
        if self.scan.is_array_of_rows() {
            self.scan.expect(b'[')?;
            self.rows()?;
        } else {
            let array = self.scan.raw(0)?;
            self.out.put(Cow::Borrowed(VALUE), Value::Text(array));
            self.out.finish_row()?;
        }
        match self.scan.peek() {
            None => Ok(()),
            Some(_) => Err(self.scan.expected("the end").into()),
        }
    }

    /// Objects one after the other, with or without white space between them.
    fn lines(&mut self) -> Result<(), Stop> {
        loop {
            self.row()?;
            if self.scan.peek().is_none() {
                return Ok(());
            }
        }
    }

    /// What is in an array of objects, and its end.
    fn rows(&mut self) -> Result<(), Stop> {
        if self.scan.take(b']') {
            return Ok(());
        }
        loop {
            self.row()?;
            if self.scan.take(b']') {
                return Ok(());
            }
            if !self.scan.take(b',') {
                return Err(self.scan.expected("`,` or `]`").into());
            }
        }
    }

    fn row(&mut self) -> Result<(), Stop> {
        if self.scan.peek() != Some(b'{') {
            return Err(self.scan.expected("an object").into());
        }
        self.object("", 1)?;
        Ok(self.out.finish_row()?)
    }

    /// An object in so many others: the row itself, or the field of this name in it.
    fn object(&mut self, prefix: &str, depth: usize) -> Result<(), Stop> {
        self.scan.enter(depth)?;
        self.scan.expect(b'{')?;
        if self.scan.take(b'}') {
            return Ok(());
        }
        loop {
            if self.scan.peek() != Some(b'"') {
                return Err(self.scan.expected("a name in quotes").into());
            }
            let own = self.scan.string()?;
            self.scan.expect(b':')?;
            if depth == 1 {
                self.field(own, depth)?;
            } else {
                if prefix.len() + own.len() >= wal::MAX_NAME {
                    let reason = format!("a field's name is longer than {} bytes", wal::MAX_NAME);
                    return Err(self.fault(prefix, reason).into());
                }
                let name = format!("{prefix}{}{own}", self.joiner);
                self.field(Cow::Owned(name), depth)?;
            }
            if self.scan.take(b'}') {
                return Ok(());
            }
            if !self.scan.take(b',') {
                return Err(self.scan.expected("`,` or `}`").into());
            }
        }
    }

    /// The value of a field. Only a row's own fields can be its time.
    fn field(&mut self, name: Cow<'a, str>, depth: usize) -> Result<(), Stop> {
        let rank = if depth == 1 {
            TimeRank::of(&name)
        } else {
            None
        };
        let no_time = |what: &str| rank.map_or(Ok(0), |_| Err(format!("{what} is no time")));
        let (value, time) = match self.scan.peek() {
            Some(b'{') => return self.object(&name, depth + 1),
            Some(b'[') => {
                let value = Ok(Value::Text(self.scan.raw(depth)?));
                (value, no_time("an array"))
            }
            Some(b'"') => {
                let text = self.scan.string()?;
                let time = rank.map_or(Ok(0), |_| timestamp::parse(&text, self.unit));
                (Ok(Value::Text(text)), time)
            }
            Some(b'-' | b'0'..=b'9') => {
                let text = self.scan.number()?;
                let time = rank.map_or(Ok(0), |_| timestamp::parse(text, self.unit));
                (number::value(text), time)
            }
            _ => match self.scan.literal()? {
                None => return Ok(()),
                Some(truth) => (Ok(Value::Bool(truth)), no_time("a boolean")),
            },
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
                Err(reason) => return Err(self.fault(&name, reason).into()),
            },
        }
        Ok(())
    }

    fn fault(&self, field: &str, reason: String) -> PayloadError {
        PayloadError::Field {
            row: self.out.len() + 1,
            field: number::clipped(field),
            reason,
        }
    }
}

/// The column of a value that comes without a name.
pub(crate) const VALUE: &str = "value";

/// Between the names of an object and of a field in it.
const JOINER: char = '_';

#[cfg(test)]
mod tests;
