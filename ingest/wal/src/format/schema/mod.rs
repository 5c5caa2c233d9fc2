//! Table schemas: columns, roles, types, their bytes in the log and their Arrow form. It must never
//! let a column go, or change in a way that loses a value.
//!
//! A schema only grows: columns are appended, `Int` widens to `Float` or becomes `BigInt`, `OldInt`
//! turns out to be one or the other, a column becomes text, or a tag a field and a field a tag,
//! columns and the table get other names, nothing else changes. So a block written under any version can
//! be read under every later one.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::bytes::u32_at;
use crate::error::WalError;
use crate::ids::TableId;

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ColumnRole {
    Time = 1,
    Tag = 2,
    Field = 3,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ColumnType {
    /// Unix nanoseconds, UTC.
    Time = 1,
    /// Integers within 2^53, all of which a float holds exactly: it may widen.
    Int = 2,
    Float = 3,
    Bool = 4,
    Text = 5,
    /// Integers, one of which at least was beyond 2^53.
    BigInt = 6,
    /// Integers of a log that does not say whether one was beyond 2^53.
    OldInt = 7,
}

impl ColumnType {
    /// The type's name in messages to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "a time",
            Self::Int => "an integer",
            Self::Float => "a float",
            Self::Bool => "a boolean",
            Self::Text => "text",
            Self::BigInt => "integers beyond 2^53",
            Self::OldInt => "integers that may be beyond 2^53",
        }
    }

    /// Whether it holds integers, of whatever size.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int | Self::BigInt | Self::OldInt)
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub role: ColumnRole,
    pub kind: ColumnType,
    /// What it held until an operator made it text that takes any value: `Int` (of any size),
    /// `Float`, `Bool` or `Text`.
    pub(crate) was: Option<ColumnType>,
    /// An operator has changed its role: files are sorted as if it had the other one, for ever.
    pub(crate) moved: bool,
}

impl Column {
    /// A column that nobody has changed.
    #[must_use]
    pub fn new(name: &str, role: ColumnRole, kind: ColumnType) -> Self {
        Self {
            name: name.to_owned(),
            role,
            kind,
            was: None,
            moved: false,
        }
    }

    /// Whether rows of files are sorted by it.
    pub(crate) fn sorts(&self) -> bool {
        (self.role == ColumnRole::Tag) != self.moved
    }

    /// The same column, of text, in the other role. Either takes any value.
    pub(crate) fn with_role(&self, role: ColumnRole) -> Self {
        Self {
            role,
            was: self.was.or(Some(ColumnType::Text)),
            moved: self.moved != (self.role != role),
            ..self.clone()
        }
    }

    /// Its role in a schema body.
    fn role_code(&self) -> u8 {
        match (self.role, self.moved) {
            (ColumnRole::Tag, true) => TAG_LIKE_A_FIELD,
            (ColumnRole::Field, true) => FIELD_LIKE_A_TAG,
            (role, _) => role as u8,
        }
    }

    /// The same column as text, made of whatever it held and takes from now on.
    pub(crate) fn as_text(&self) -> Self {
        let was = match self.kind {
            kind if kind.is_integer() => ColumnType::Int,
            kind => kind,
        };
        Self {
            kind: ColumnType::Text,
            was: Some(was),
            ..self.clone()
        }
    }

    /// Its type in a schema body.
    fn type_code(&self) -> u8 {
        match self.was {
            None => self.kind as u8,
            Some(ColumnType::Float) => TEXT_OF_FLOATS,
            Some(ColumnType::Bool) => TEXT_OF_BOOLEANS,
            Some(ColumnType::Text) => TEXT_OF_TEXTS,
            Some(_) => TEXT_OF_INTEGERS,
        }
    }

    /// The Arrow type a query sees and a block holds.
    pub(crate) fn arrow_type(&self) -> DataType {
        match (self.role, self.kind) {
            (ColumnRole::Tag, _) => DataType::Utf8View,
            (_, ColumnType::Time) => {
                DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()))
            }
            (_, ColumnType::Int | ColumnType::BigInt | ColumnType::OldInt) => DataType::Int64,
            (_, ColumnType::Float) => DataType::Float64,
            (_, ColumnType::Bool) => DataType::Boolean,
            (_, ColumnType::Text) => DataType::Utf8,
        }
    }

    /// The Arrow field of this column.
    pub(crate) fn arrow_field(&self) -> Field {
        Field::new(&self.name, self.arrow_type(), self.role != ColumnRole::Time)
    }
}

/// One version of one table's schema. `columns[0]` is always `time`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    pub id: TableId,
    /// Counts from 1; each change is a block in the log.
    pub version: u32,
    pub name: String,
    pub columns: Vec<Column>,
    /// What Parquet files call the columns that they know under another name, ascending.
    pub(crate) stored: Vec<(usize, String)>,
}

impl TableSchema {
    /// A table with nothing but its time column.
    #[must_use]
    pub fn new(id: TableId, name: &str) -> Self {
        let time = Column::new("time", ColumnRole::Time, ColumnType::Time);
        Self {
            id,
            version: 1,
            name: name.to_owned(),
            columns: vec![time],
            stored: Vec::new(),
        }
    }

    /// What Parquet files call a column: as it was first called, whatever it is called now.
    pub(crate) fn stored_name(&self, at: usize) -> &str {
        let other = self.stored.iter().find(|(other, _)| *other == at);
        match (other, self.columns.get(at)) {
            (Some((_, name)), _) => name,
            (None, Some(column)) => &column.name,
            (None, None) => "",
        }
    }

    /// The next version, with these columns: those it has, changed or not, and new ones behind.
    pub(crate) fn grown(&self, columns: Vec<Column>) -> Self {
        let mut new = Self {
            version: self.version + 1,
            columns,
            ..self.clone()
        };
        if !new.stored.is_empty() {
            (self.columns.len()..new.columns.len()).for_each(|at| new.name_stored(at));
        }
        new
    }

    /// The next version, in which column `at` has another name.
    pub(crate) fn renamed(&self, at: usize, name: &str) -> Self {
        let mut new = self.clone();
        new.version += 1;
        let stored = self.stored_name(at).to_owned();
        new.stored.retain(|(other, _)| *other != at);
        if let Some(column) = new.columns.get_mut(at) {
            name.clone_into(&mut column.name);
        }
        if stored != name {
            new.stored.push((at, stored));
            new.stored.sort_unstable();
        }
        new
    }

    /// The next version, in which column `at` is another one.
    pub(crate) fn with_column(&self, at: usize, column: Column) -> Self {
        let mut new = self.clone();
        new.version += 1;
        if let Some(held) = new.columns.get_mut(at) {
            *held = column;
        }
        new
    }

    /// The next version, in which the table has another name.
    pub(crate) fn called(&self, name: &str) -> Self {
        Self {
            version: self.version + 1,
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// Gives a new column a name of its own in files, if a renamed one has that already.
    fn name_stored(&mut self, at: usize) {
        let name = self.stored_name(at).to_owned();
        let taken = |name: &str| (0..at).any(|other| self.stored_name(other) == name);
        if taken(&name) {
            let mut free = (2..).map(|number| format!("{name} ({number})"));
            let free = free.find(|name| !taken(name)).unwrap_or_default();
            self.stored.push((at, free));
        }
    }

    /// The Arrow schema of the whole table.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns
                .iter()
                .map(Column::arrow_field)
                .collect::<Vec<_>>(),
        ))
    }

    /// Index of the column of this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The bytes of the schema, padded to 8; see `FORMAT.md`, "Schema body".
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.columns.len() * 24);
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        put_name(&mut out, &self.name);
        let renamed = if self.stored.is_empty() { 0 } else { RENAMED };
        out.extend_from_slice(&(count16(self.columns.len()) | renamed).to_le_bytes());
        for column in &self.columns {
            out.push(column.role_code());
            out.push(column.type_code());
            put_name(&mut out, &column.name);
        }
        if !self.stored.is_empty() {
            out.extend_from_slice(&count16(self.stored.len()).to_le_bytes());
        }
        for (at, name) in &self.stored {
            out.extend_from_slice(&count16(*at).to_le_bytes());
            put_name(&mut out, name);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    /// Reads what `encode` wrote, now or in an older version of the format.
    pub(crate) fn decode(bytes: &[u8], format: u32) -> Result<Self, WalError> {
        let rest = bytes;
        Reader { rest, format }
            .schema()
            .ok_or_else(|| WalError::InvalidBlock("schema body is malformed".to_owned()))
    }
}

/// Lengths are bounded by `MAX_NAME` and `MAX_COLUMNS`, which fit 16 bits.
fn count16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&count16(name.len()).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

struct Reader<'a> {
    rest: &'a [u8],
    format: u32,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|raw| u32_at(raw, 0))
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    fn name(&mut self, limit: usize) -> Option<String> {
        let len = self.u16()? as usize;
        let raw = self.take(len)?;
        (len <= limit).then_some(())?;
        std::str::from_utf8(raw).ok().map(str::to_owned)
    }

    fn column(&mut self) -> Option<Column> {
        let [role, kind] = *self.take(2)?.first_chunk()?;
        let moved = matches!(role, TAG_LIKE_A_FIELD | FIELD_LIKE_A_TAG);
        (!moved || self.format >= BIG_INT_FORMAT).then_some(())?;
        let role = match role {
            TAG_LIKE_A_FIELD => ColumnRole::Tag,
            FIELD_LIKE_A_TAG => ColumnRole::Field,
            1 => ColumnRole::Time,
            2 => ColumnRole::Tag,
            3 => ColumnRole::Field,
            _ => return None,
        };
        let was = match kind {
            TEXT_OF_INTEGERS => Some(ColumnType::Int),
            TEXT_OF_FLOATS => Some(ColumnType::Float),
            TEXT_OF_BOOLEANS => Some(ColumnType::Bool),
            TEXT_OF_TEXTS => Some(ColumnType::Text),
            _ => None,
        };
        let kind = match kind {
            _ if was.is_some() && self.format >= BIG_INT_FORMAT => ColumnType::Text,
            1 => ColumnType::Time,
            2 if self.format < BIG_INT_FORMAT => ColumnType::OldInt,
            2 => ColumnType::Int,
            3 => ColumnType::Float,
            4 => ColumnType::Bool,
            5 => ColumnType::Text,
            6 if self.format >= BIG_INT_FORMAT => ColumnType::BigInt,
            7 if self.format >= BIG_INT_FORMAT => ColumnType::OldInt,
            _ => return None,
        };
        let fits = match role {
            ColumnRole::Time => kind == ColumnType::Time,
            ColumnRole::Tag => kind == ColumnType::Text,
            ColumnRole::Field if moved => kind == ColumnType::Text,
            ColumnRole::Field => kind != ColumnType::Time,
        };
        fits.then_some(())?;
        Some(Column {
            name: self.name(MAX_NAME)?,
            role,
            kind,
            was,
            moved,
        })
    }

    fn schema(mut self) -> Option<TableSchema> {
        let id = TableId(self.u32()?);
        let version = self.u32()?;
        let name = self.name(MAX_NAME)?;
        let count = self.u16()?;
        let renamed = count & RENAMED != 0;
        let count = usize::from(count & !RENAMED);
        if version == 0 || count == 0 || count > MAX_COLUMNS {
            return None;
        }
        let columns: Vec<Column> = (0..count).map(|_| self.column()).collect::<Option<_>>()?;
        let stored = if renamed {
            self.stored(count)?
        } else {
            Vec::new()
        };
        let times = columns
            .iter()
            .filter(|column| column.role == ColumnRole::Time)
            .count();
        let ends = self.rest.len() < 8 && self.rest.iter().all(|byte| *byte == 0);
        let time_first = columns.first()?.role == ColumnRole::Time;
        (times == 1 && time_first && ends).then_some(())?;
        Some(TableSchema {
            id,
            version,
            name,
            columns,
            stored,
        })
    }

    /// Names in files, of those columns that have another one now.
    fn stored(&mut self, columns: usize) -> Option<Vec<(usize, String)>> {
        (self.format >= BIG_INT_FORMAT).then_some(())?;
        let count = self.u16()?;
        let mut stored: Vec<(usize, String)> = Vec::new();
        for _ in 0..count {
            let at = usize::from(self.u16()?);
            let ascends = stored.last().is_none_or(|(last, _)| *last < at);
            (ascends && at < columns).then_some(())?;
            stored.push((at, self.name(MAX_STORED_NAME)?));
        }
        (!stored.is_empty()).then_some(stored)
    }
}

/// The table that keeps what could not be stored where it was meant to go.
pub const DEAD_LETTERS: &str = "system.dead_letters";
/// Most columns of one table, `time` included.
pub const MAX_COLUMNS: usize = 1024;
/// Most tables of one log.
pub const MAX_TABLES: usize = 10_000;
/// Longest table or column name, in bytes.
pub const MAX_NAME: usize = 256;
/// In the number of columns: names in files follow.
const RENAMED: u16 = 1 << 15;
const _: () = assert!(MAX_COLUMNS < RENAMED as usize);
/// Longest name in a file: one that is taken has a number behind it.
const MAX_STORED_NAME: usize = MAX_NAME + 16;
/// Roles of columns to which an operator has given the other one.
const TAG_LIKE_A_FIELD: u8 = 4;
const FIELD_LIKE_A_TAG: u8 = 5;
/// Types of columns that an operator has made text, by what they held before.
const TEXT_OF_INTEGERS: u8 = 8;
const TEXT_OF_FLOATS: u8 = 9;
const TEXT_OF_BOOLEANS: u8 = 10;
const TEXT_OF_TEXTS: u8 = 11;
/// The first version of the format that tells integers beyond 2^53 from others.
const BIG_INT_FORMAT: u32 = 3;

#[cfg(test)]
mod tests;
