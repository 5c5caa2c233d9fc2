//! The rows of one payload whose fields are all of one table, borrowed from it. Pure; must never give
//! out a row that is not finished.

use std::borrow::Cow;
use std::ops::Range;

use wal::{Row, Value};

use crate::error::PayloadError;
use crate::timestamp::{self, Unit};

/// The rows of one payload.
#[derive(Debug, Default)]
pub struct Decoded<'a> {
    pub(crate) fields: Vec<(Cow<'a, str>, Value<'a>)>,
    rows: Vec<Span>,
    max_rows: Option<usize>,
    /// What numbers mean where a time is expected.
    unit: Unit,
    /// A number too large for 64 bits came by as a float.
    pub(crate) has_huge_numbers: bool,
    /// Values of `TIME_FIELDS` in the row that is being read.
    pub(crate) times: [Option<Value<'a>>; TIME_FIELDS.len()],
    /// Why a row could not be finished.
    pub(crate) error: Option<PayloadError>,
}

#[derive(Debug)]
struct Span {
    time: Option<i64>,
    fields: Range<usize>,
}

impl<'a> Decoded<'a> {
    pub(crate) fn new(unit: Unit, max_rows: Option<usize>) -> Self {
        Self {
            unit,
            max_rows,
            ..Self::default()
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, with `arrival` where the payload has no time.
    pub fn rows<'s>(
        &'s self,
        tags: &'s [(&'s str, &'s str)],
        arrival: i64,
    ) -> impl Iterator<Item = Row<'s>> {
        self.rows.iter().map(move |span| Row {
            time: span.time.unwrap_or(arrival),
            tags,
            fields: &self.fields[span.fields.clone()],
        })
    }

    /// The time and fields of each row, taken out.
    pub(crate) fn into_rows(
        self,
    ) -> impl Iterator<Item = (Option<i64>, Vec<(Cow<'a, str>, Value<'a>)>)> {
        let mut fields = self.fields.into_iter();
        self.rows.into_iter().map(move |span| {
            let fields = fields.by_ref().take(span.fields.len()).collect();
            (span.time, fields)
        })
    }

    /// Ends the row whose fields begin at `start`: the first time field that was given is its time,
    /// the others stay ordinary fields.
    pub(crate) fn finish_row(&mut self, start: usize) -> Result<(), PayloadError> {
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
        self.rows.push(Span {
            time,
            fields: start..self.fields.len(),
        });
        Ok(())
    }
}

/// Payload fields that say when, the first one present wins.
pub(crate) const TIME_FIELDS: [&str; 3] = ["time", "ts", "timestamp"];
