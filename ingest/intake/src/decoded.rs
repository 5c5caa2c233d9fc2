//! The rows of one payload whose fields are all of one table, borrowed from it. Pure; must never
//! give out a row that is not finished.

use std::borrow::Cow;

use wal::{Row, Value};

use crate::error::PayloadError;
use crate::timestamp::{self, Unit};

/// The rows of one payload.
#[derive(Debug, Default)]
pub struct Decoded<'a> {
    fields: Vec<(Cow<'a, str>, Value<'a>)>,
    rows: Vec<DecodedRow>,
    /// How many of the fields are in those rows.
    finished: usize,
    max_rows: Option<usize>,
    /// What numbers mean where a time is expected.
    unit: Unit,
    /// A number too large for 64 bits came by as a float.
    pub(crate) has_huge_numbers: bool,
    /// Values of `TIME_FIELDS` in the row that is being read.
    times: [Option<Value<'a>>; TIME_FIELDS.len()],
    /// Why a row could not be finished.
    pub(crate) error: Option<PayloadError>,
}

#[derive(Debug)]
struct DecodedRow {
    time: Option<i64>,
    /// How many of the fields are its own; they follow those of the row before.
    fields: usize,
}

impl<'a> Decoded<'a> {
    pub(crate) fn new(unit: Unit, max_rows: Option<usize>) -> Self {
        Self {
            unit,
            max_rows,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, with `arrival` where the payload has no time.
    pub fn rows<'s>(
        &'s self,
        tags: &'s [(&'s str, &'s str)],
        arrival: i64,
    ) -> impl Iterator<Item = Row<'s>> {
        let mut rest = self.fields.as_slice();
        self.rows.iter().map(move |row| {
            let (fields, after) = rest.split_at(row.fields);
            rest = after;
            Row {
                time: row.time.unwrap_or(arrival),
                tags,
                fields,
            }
        })
    }

    /// The time and fields of each row, taken out.
    pub(crate) fn into_rows(
        self,
    ) -> impl Iterator<Item = (Option<i64>, Vec<(Cow<'a, str>, Value<'a>)>)> {
        let mut fields = self.fields.into_iter();
        self.rows
            .into_iter()
            .map(move |row| (row.time, fields.by_ref().take(row.fields).collect()))
    }

    /// Adds a value to the row that is being read, one of its fields or its time.
    pub(crate) fn put(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        let mut times = TIME_FIELDS.into_iter().zip(&mut self.times);
        match times.find(|(field, _)| *field == name) {
            Some((_, time)) => *time = Some(value),
            None => self.fields.push((name, value)),
        }
    }

    /// Adds a value from inside an object: never a time.
    pub(crate) fn put_nested(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        self.fields.push((name, value));
    }

    /// Ends the row that is being read: the first time field that was given is its time,
    /// the others stay ordinary fields.
    pub(crate) fn finish_row(&mut self) -> Result<(), PayloadError> {
        if let Some(limit) = self.max_rows.filter(|max| self.rows.len() >= *max) {
            return Err(PayloadError::TooManyRows { limit });
        }
        let mut time = None;
        for (field, slot) in TIME_FIELDS.into_iter().zip(&mut self.times) {
            let Some(value) = slot.take() else { continue };
            if time.is_some() {
                self.fields.push((Cow::Borrowed(field), value));
                continue;
            }
            let parsed = timestamp::parse(&value, self.unit);
            time = Some(parsed.map_err(|reason| PayloadError::Time { field, reason })?);
        }
        self.rows.push(DecodedRow {
            time,
            fields: self.fields.len() - self.finished,
        });
        self.finished = self.fields.len();
        Ok(())
    }
}

/// Payload fields that say when, the first one present wins.
const TIME_FIELDS: [&str; 3] = ["time", "ts", "timestamp"];
