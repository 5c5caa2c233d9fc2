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
