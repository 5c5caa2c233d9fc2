//! What a table is kept like: how long, and whether a second row of one key replaces the first.
//! Options are part of the log, so every node applies the same. Knows no files. It must never know
//! a file.

use std::time::Duration;

use crate::format::schema::Column;

/// What happens to rows of equal tags and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Dedup {
    /// All are kept.
    #[default]
    None = 0,
    /// The last write wins, column by column; a null does not erase a value.
    Key = 1,
}

/// Options of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    pub dedup: Dedup,
    /// Rows older than this go; `None`: never. Whole nanoseconds.
    pub retention: Option<Duration>,
}

/// How far a table's rows have expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Rows older than this are not seen. It may move back: they are seen again then.
    pub(crate) cut: Option<i64>,
    /// Rows older than this may have left the files. Never moves back.
    pub(crate) purged: Option<i64>,
}

impl Expiry {
    /// Rows older than this are gone for every reader.
    pub(crate) fn seen_from(self) -> Option<i64> {
        self.cut.max(self.purged)
    }
}

/// A table as a primary's conf declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDef {
    pub name: String,
    /// Tags and fields; the time column is there by itself.
    pub columns: Vec<Column>,
    /// Rows with other columns or wider values are refused.
    pub strict: bool,
    pub options: TableOptions,
}

impl TableOptions {
    /// The retention in nanoseconds; `None`: for ever.
    pub(crate) fn retention_nanos(&self) -> Option<i64> {
        self.retention
            .map(|time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
    }
}
