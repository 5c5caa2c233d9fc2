//! One column: what it is for, what it holds, and what an operator has made of it. It must never
//! change in a way that loses a value.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::format::shared::names::interned;

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
    pub name: Arc<str>,
    pub role: ColumnRole,
    pub kind: ColumnType,
    /// What it held until an operator made it text that takes any value: `Int` (of any size),
    /// `Float`, `Bool` or `Text`.
    pub(crate) was: Option<ColumnType>,
    /// An operator has changed its role: files are sorted as if it had the other one, for ever.
    pub(crate) moved: bool,
    /// What blocks call it, in its table: counts all that there have been.
    pub(crate) slot: u16,
}

impl Column {
    /// A column that nobody has changed.
    #[must_use]
    pub fn new(name: &str, role: ColumnRole, kind: ColumnType) -> Self {
        Self {
            name: interned(name),
            role,
            kind,
            was: None,
            moved: false,
            slot: 0,
        }
    }

    /// The same column under another name.
    pub(crate) fn called(&self, name: &str) -> Self {
        Self {
            name: interned(name),
            ..self.clone()
        }
    }

    /// The same column, holding another type.
    pub(crate) fn of_kind(&self, kind: ColumnType) -> Self {
        Self {
            kind,
            ..self.clone()
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
    pub(super) fn role_code(&self) -> u8 {
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
    pub(super) fn type_code(&self) -> u8 {
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
        Field::new(
            &*self.name,
            self.arrow_type(),
            self.role != ColumnRole::Time,
        )
    }
}

/// Roles of columns to which an operator has given the other one.
pub(super) const TAG_LIKE_A_FIELD: u8 = 4;
pub(super) const FIELD_LIKE_A_TAG: u8 = 5;
/// Types of columns that an operator has made text, by what they held before.
pub(super) const TEXT_OF_INTEGERS: u8 = 8;
pub(super) const TEXT_OF_FLOATS: u8 = 9;
pub(super) const TEXT_OF_BOOLEANS: u8 = 10;
pub(super) const TEXT_OF_TEXTS: u8 = 11;
