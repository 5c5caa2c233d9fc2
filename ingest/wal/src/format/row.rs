//! A row as a producer hands it over, and why one may be refused. It must never change a value.

use std::borrow::Cow;
use std::fmt;

use crate::format::number::is_exact;
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
            Self::Int(value) if is_exact(*value) => ColumnType::Int,
            Self::Int(_) => ColumnType::BigInt,
            Self::Float(_) => ColumnType::Float,
            Self::Bool(_) => ColumnType::Bool,
            Self::Text(_) => ColumnType::Text,
        }
    }
}

/// Times from one to another, both among them; unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub from: i64,
    pub to: i64,
}

impl TimeRange {
    /// Whether a time is one of these.
    #[must_use]
    pub fn contains(&self, time: i64) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

impl Default for TimeRange {
    /// All times there are.
    fn default() -> Self {
        Self {
            from: i64::MIN,
            to: i64::MAX,
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
    #[error(
        "column {column:?} of table {table:?} holds {holds}, the value is {value}: a column keeps \
         its type, unless `headwater table change-type {table:?} {column:?} text` lets it hold both \
         as text; else give this value another name, or send it to another table"
    )]
    Type {
        table: String,
        column: String,
        holds: &'static str,
        value: &'static str,
    },
    #[error(
        "column {column:?} of table {table:?} holds floats, which hold integers exactly up to 2^53 \
         only: {value} would be rounded; send it under another name, or let the column hold any \
         value as text with `headwater table change-type {table:?} {column:?} text`"
    )]
    Rounds {
        table: String,
        column: String,
        value: i64,
    },
    #[error(
        "column {column:?} of table {table:?} holds {holds}, which floats would round, so it stays \
         a column of integers: {value} is no integer of 64 bits; send it under another name, or let \
         the column hold any value as text with `headwater table change-type {table:?} {column:?} \
         text`"
    )]
    NotWhole {
        table: String,
        column: String,
        holds: &'static str,
        value: String,
    },
    #[error(
        "column {column:?} of table {table:?} would have to hold both {integer}, which floats would \
         round, and {float}, which is no integer of 64 bits: send them under two names"
    )]
    BothNumbers {
        table: String,
        column: String,
        integer: i64,
        float: String,
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
    #[error(
        "column {column:?} of table {table:?} is a field that holds {holds}, and the rows have it as \
         a tag, whose text only a text field takes: `headwater table change-type {table:?} \
         {column:?} text` makes it one, and `change-role` then a tag; else send it as a field, or under another name, or free this \
         one with `headwater table rename-column`"
    )]
    TagForField {
        table: String,
        column: String,
        holds: &'static str,
    },
    #[error(
        "column {column:?} of table {table:?} is a field, and the rows have it as a tag, which says \
         what is one row where dedup is \"key\": send it as a field, or under another name"
    )]
    TagOutsideKey { table: String, column: String },
    #[error(
        "column {column:?} of table {table:?} is a field that holds {holds} and cannot become the \
         declared tag: start without the declaration, give the field another name with `headwater \
         table rename-column`, and declare the tag then"
    )]
    DeclaredTag {
        table: String,
        column: String,
        holds: &'static str,
    },
    #[error(
        "table {table:?} is one of the conf's: take its [[table]] out, start the node again, and do \
         this then"
    )]
    DeclaredTable { table: String },
    #[error(
        "column {column:?} of table {table:?} holds {holds} and cannot be made {wanted}: {reason}"
    )]
    NoChange {
        table: String,
        column: String,
        holds: &'static str,
        wanted: &'static str,
        reason: &'static str,
    },
    #[error(
        "column {column:?} is declared otherwise by the [[table]] {table:?} of the conf: take it out \
         of there, start the node again, change it then, and declare it as it is"
    )]
    DeclaredColumn { table: String, column: String },
    #[error("there is no table {table:?}{}", no_column(column.as_deref()))]
    Unknown {
        table: String,
        /// None: the table is unknown.
        column: Option<String>,
    },
    #[error(
        "table {table:?} is strict and has no column {column:?}: add it to columns of its \
         [[table]], or send this to another table"
    )]
    Strict { table: String, column: String },
    #[error("column {column:?} is given twice in one row")]
    Twice { column: String },
    #[error(
        "table {table:?} would have more than {limit} columns (ingest.max_columns): send some of this \
         to another table"
    )]
    TooManyColumns { table: String, limit: usize },
    #[error(
        "the columns of all tables take all of the {} KiB of memory that there are for them, and \
         table {table:?} would need more: send only names that are there already, take away what \
         makes ever new ones, or raise node.memory_limit",
        .limit >> 10
    )]
    SchemaMemory { table: String, limit: u64 },
    #[error(
        "there would be more than {limit} tables (ingest.max_tables): send this to one that is there"
    )]
    TooManyTables { limit: usize },
    #[error(
        "client {client:?} has brought as many new {what} into being within a minute as one may, \
         {limit} (ingest.new_{what}_per_minute): for table {table:?} there are no more for now; rows \
         for what is there are taken as ever"
    )]
    TooManyNew {
        client: String,
        table: String,
        what: NewNames,
        limit: u64,
    },
    #[error("the rows of one message need {bytes} bytes, more than the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error(
        "{} is older than what table {table:?} keeps, which begins at {}: the row would be gone \
         at once; see the table's retention in the conf",
        shown(.time),
        shown(.cut)
    )]
    Expired { table: String, time: i64, cut: i64 },
    #[error(
        "the time {} is none that this node takes, which are those from {} to {} (ingest.min_time, \
         ingest.max_time): look at the clock, and at the unit that its times are sent in",
        shown(.time),
        shown(&.range.from),
        shown(&.range.to)
    )]
    OutOfRange { time: i64, range: TimeRange },
    #[error("a message without a value")]
    Empty,
}

/// What a client brings into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewNames {
    Tables,
    Columns,
}

impl fmt::Display for NewNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tables => "tables",
            Self::Columns => "columns",
        })
    }
}

/// How the refusal of an unknown column goes on.
fn no_column(column: Option<&str>) -> String {
    column.map_or_else(String::new, |column| format!(" with a column {column:?}"))
}

/// A time as people write it.
fn shown(time: &i64) -> String {
    let known = arrow::temporal_conversions::timestamp_ns_to_datetime(*time);
    known.map_or_else(
        || format!("{time} ns"),
        |time| time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string(),
    )
}
