//! The rows of one payload whose fields are all of one table, borrowed from it, and which of their
//! fields is the time. Pure; must never give out a row that is not finished.

use std::borrow::Cow;

use wal::{ColumnType, Row, Value};

use crate::error::PayloadError;
use crate::record::Field;

/// The rows of one payload.
#[derive(Debug, Default)]
pub struct Decoded<'a> {
    fields: Vec<Field<'a>>,
    rows: Vec<DecodedRow>,
    /// How many of the fields are in those rows.
    finished: usize,
    max_rows: usize,
    /// Fields of the row that is being read which may be its time.
    times: Vec<TimeField<'a>>,
    not_a_time: Option<NotATime>,
    /// The text of a value that came alone, which says nothing of its type.
    pub(crate) bare: Option<&'a str>,
}

#[derive(Debug)]
struct DecodedRow {
    time: Option<i64>,
    /// Where the row begins, from 1; 0 where rows are counted instead.
    line: usize,
    /// How many of the fields are its own; they follow those of the row before.
    fields: usize,
}

/// A field that may be the time of its row.
#[derive(Debug)]
pub(crate) struct TimeField<'a> {
    pub(crate) rank: TimeRank,
    pub(crate) name: Cow<'a, str>,
    /// What it is if it is not the time.
    pub(crate) value: Result<Value<'a>, String>,
    pub(crate) time: Result<i64, String>,
}

/// How good a name is for a time: the lower the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimeRank(usize);

impl TimeRank {
    /// The rank of a field's name, if it has one.
    pub(crate) fn of(name: &str) -> Option<Self> {
        // Most fields are called otherwise.
        if !matches!(name.as_bytes(), [b't' | b'T' | b'd' | b'D', ..]) || name.len() > 9 {
            return None;
        }
        if let Some(rank) = TIME_FIELDS.iter().position(|field| *field == name) {
            return Some(Self(rank));
        }
        let rank = OTHER_TIME_FIELDS
            .iter()
            .position(|field| field.eq_ignore_ascii_case(name))?;
        Some(Self(TIME_FIELDS.len() + rank))
    }

    /// Whether a field of this name must be a time, or is one only if it reads as one.
    pub(crate) fn is_certain(self) -> bool {
        self.0 < TIME_FIELDS.len()
    }
}

/// A field that has a time's name and does not read as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotATime {
    pub(crate) field: String,
    pub(crate) reason: String,
}

/// A row taken out.
pub(crate) struct TakenRow<'a> {
    pub(crate) time: Option<i64>,
    pub(crate) line: usize,
    pub(crate) fields: Vec<Field<'a>>,
}

impl<'a> Decoded<'a> {
    pub(crate) fn new(max_rows: usize) -> Self {
        Self {
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

    /// Suits a value that came alone to the column `value` of its table: where that holds text, any
    /// text goes in as it is. Whether that made a difference.
    pub fn fit(&mut self, kind_of: impl FnOnce(&str) -> Option<ColumnType>) -> bool {
        let (Some(text), Some((name, value))) = (self.bare, self.fields.first_mut()) else {
            return false;
        };
        let differs = kind_of(name) == Some(ColumnType::Text) && value.kind() != ColumnType::Text;
        if differs {
            *value = Value::Text(Cow::Borrowed(text));
        }
        differs
    }

    /// Drops fields that say what the rows say already: of this name, with this text. Whether there
    /// were any.
    pub fn drop_repeated(&mut self, name: &str, text: &str) -> bool {
        let all = self.fields.len();
        let mut fields = std::mem::take(&mut self.fields).into_iter();
        let is_repeated = |field: &Field<'_>| {
            field.0 == name && matches!(&field.1, Value::Text(own) if own == text)
        };
        for row in &mut self.rows {
            let before = self.fields.len();
            let own = fields.by_ref().take(row.fields);
            self.fields.extend(own.filter(|field| !is_repeated(field)));
            row.fields = self.fields.len() - before;
        }
        self.finished = self.fields.len();
        self.finished < all
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

    /// The rows, taken out.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = TakenRow<'a>> {
        let mut fields = self.fields.into_iter();
        self.rows.into_iter().map(move |row| TakenRow {
            time: row.time,
            line: row.line,
            fields: fields.by_ref().take(row.fields).collect(),
        })
    }

    /// The first field with a time's name that is none, and stays a field.
    pub(crate) fn not_a_time(&self) -> Option<&NotATime> {
        self.not_a_time.as_ref()
    }

    /// Adds a value to the row that is being read.
    pub(crate) fn put(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        self.fields.push((name, value));
    }

    /// Adds a field that may be the time of the row that is being read.
    pub(crate) fn put_time(&mut self, field: TimeField<'a>) {
        self.times.push(field);
    }

    /// Says that a field is none, though it is called so.
    pub(crate) fn tell_not_a_time(&mut self, name: &str, reason: &str) {
        self.not_a_time.get_or_insert_with(|| NotATime {
            field: name.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Ends the row that is being read. Its time is the field of the best name; one that need not
    /// be a time is passed over if it is none. Those that are not it stay fields.
    pub(crate) fn finish_row(&mut self) -> Result<(), PayloadError> {
        let mut times = std::mem::take(&mut self.times);
        times.sort_by_key(|field| field.rank);
        let mut time = None;
        for field in times.drain(..) {
            let row = self.rows.len() + 1;
            let fault = |reason| PayloadError::Field {
                row,
                field: field.name.to_string(),
                reason,
            };
            match &field.time {
                Ok(nanos) if time.is_none() => {
                    time = Some(*nanos);
                    continue;
                }
                Ok(_) => {}
                Err(reason) if field.rank.is_certain() && time.is_none() => {
                    return Err(fault(format!("it is the row's time, and {reason}")));
                }
                Err(reason) if time.is_none() => self.tell_not_a_time(&field.name, reason),
                Err(_) => {}
            }
            if field.rank == TimeRank(0) {
                return Err(fault("it is given twice in one row".to_owned()));
            }
            let value = field.value.map_err(fault)?;
            self.fields.push((field.name, value));
        }
        self.times = times;
        self.finish_timed_row(time, 0)
    }

    /// The same for a row whose time is known.
    pub(crate) fn finish_timed_row(
        &mut self,
        time: Option<i64>,
        line: usize,
    ) -> Result<(), PayloadError> {
        if self.rows.len() >= self.max_rows {
            let limit = self.max_rows;
            return Err(PayloadError::TooManyRows { limit });
        }
        self.rows.push(DecodedRow {
            time,
            line,
            fields: self.fields.len() - self.finished,
        });
        self.finished = self.fields.len();
        Ok(())
    }
}

/// Most rows of one payload.
pub(crate) const MAX_ROWS: usize = 200_000;

/// Payload fields that say when, the first one present wins.
const TIME_FIELDS: [&str; 3] = ["time", "ts", "timestamp"];

/// Fields that say when if they read as a time, in any case; after those.
const OTHER_TIME_FIELDS: [&str; 4] = ["time", "ts", "timestamp", "datetime"];
