//! A row as a producer hands it over, and why one may be refused. It must never change a value.

use std::borrow::Cow;

use crate::format::schema::ColumnType;

/// One row, borrowed from the message it came in.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Unix nanoseconds, UTC.
    pub time: i64,
    /// Who or where: name and value.
    pub tags: &'a [(&'a str, &'a str)],
    /// What was measured: name and value, each name once.
    pub fields: &'a [(Cow<'a, str>, Value<'a>)],
}

/// A field's value. A null is a field that is not there.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(Cow<'a, str>),
}

impl Value<'_> {
    /// The column type that holds this value as it is.
    pub fn kind(&self) -> ColumnType {
        match self {
            Self::Int(_) => ColumnType::Int,
            Self::Float(_) => ColumnType::Float,
            Self::Bool(_) => ColumnType::Bool,
            Self::Text(_) => ColumnType::Text,
        }
    }
}

/// Why rows do not fit their table. Nothing of the call's rows was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("table name {name:?}: {reason}")]
    TableName { name: String, reason: &'static str },
    #[error("column name {name:?}: {reason}")]
    ColumnName { name: String, reason: &'static str },
    #[error("column {column:?} of table {table:?} holds {holds}, the value is {value}")]
    Type {
        table: String,
        column: String,
        holds: &'static str,
        value: &'static str,
    },
    #[error(
        "column {column:?} of table {table:?} is new, and the rows have both {one} and {other} for it"
    )]
    Mixed {
        table: String,
        column: String,
        one: &'static str,
        other: &'static str,
    },
    #[error("table {table:?} is strict and has no column {column:?}")]
    Strict { table: String, column: String },
    #[error("column {column:?} is given twice in one row")]
    Twice { column: String },
    #[error("table {table:?} would have more than {limit} columns")]
    TooManyColumns { table: String, limit: usize },
    #[error("there would be more than {limit} tables")]
    TooManyTables { limit: usize },
    #[error("the rows of one message need {bytes} bytes, more than the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("a message without a value")]
    Empty,
}
