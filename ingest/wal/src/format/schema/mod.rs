//! Table schemas: columns, roles, types, their bytes in the log and their Arrow form. It must never
//! let a column go, or change in a way that loses a value.
//!
//! A schema only grows: columns are appended, `Int` widens to `Float` or becomes `BigInt`, `OldInt`
//! turns out to be one or the other, a column becomes text, or a tag a field and a field a tag,
//! columns and the table get other names, nothing else changes. So a block written under any version can
//! be read under every later one. Versions share what is equal.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod bytes;
pub(crate) mod change;
pub(crate) mod column;
pub(crate) mod columns;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

pub use crate::format::schema::column::{Column, ColumnRole, ColumnType};
pub use crate::format::schema::columns::Columns;
use crate::format::shared::worked;
use crate::ids::TableId;

/// One version of one table's schema. `columns[0]` is always `time`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    pub id: TableId,
    /// Counts from 1; each change is a block in the log.
    pub version: u32,
    pub name: String,
    pub columns: Columns,
    /// What Parquet files call the columns that they know under another name, by slot, ascending.
    pub(crate) stored: Arc<Vec<(u16, Arc<str>)>>,
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
            columns: std::iter::once(time).collect(),
            stored: Arc::default(),
        }
    }

    /// What Parquet files call a column: as it was first called, whatever it is called now.
    pub(crate) fn stored_name(&self, at: usize) -> &str {
        let Some(column) = self.columns.get(at) else {
            return "";
        };
        self.stored_otherwise(column.slot).unwrap_or(&column.name)
    }

    /// What Parquet files call a column that they know under another name.
    pub(super) fn stored_otherwise(&self, slot: u16) -> Option<&str> {
        let at = self.stored.binary_search_by_key(&slot, |(slot, _)| *slot);
        self.stored.get(at.ok()?).map(|(_, name)| &**name)
    }

    /// The next version, with these columns: those it has, changed or not, and new ones behind.
    pub(crate) fn grown(&self, columns: Columns) -> Self {
        let mut new = Self {
            version: self.version + 1,
            columns,
            ..self.clone()
        };
        if !new.stored.is_empty() {
            new.name_stored(self.columns.len());
        }
        new
    }

    /// The next version, in which column `at` has another name.
    pub(crate) fn renamed(&self, at: usize, name: &str) -> Self {
        let Some(column) = self.columns.get(at) else {
            return self.clone();
        };
        let mut new = self.with_column(at, column.called(name));
        let stored = self.stored_name(at);
        let named = Arc::make_mut(&mut new.stored);
        named.retain(|(slot, _)| *slot != column.slot);
        if stored != name {
            named.push((column.slot, stored.into()));
            named.sort_unstable();
        }
        new
    }

    /// The next version, in which column `at` is another one.
    pub(crate) fn with_column(&self, at: usize, column: Column) -> Self {
        let mut new = self.clone();
        new.version += 1;
        new.columns.set(at, column);
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

    /// Gives the columns from `first` on names of their own in files, where a renamed one has
    /// theirs already.
    fn name_stored(&mut self, first: usize) {
        let columns = self.columns.clone();
        let mut named = Vec::clone(&self.stored);
        let slots: HashSet<u16> = named.iter().map(|(slot, _)| *slot).collect();
        let mut names: HashSet<Arc<str>> = named.iter().map(|(_, name)| Arc::clone(name)).collect();
        worked(named.len());
        for (at, column) in columns.iter().enumerate().skip(first) {
            let is_taken = |name: &str| {
                worked(1);
                let other = columns.position(name).filter(|other| *other < at);
                let other = other.and_then(|other| columns.get(other));
                names.contains(name) || other.is_some_and(|other| !slots.contains(&other.slot))
            };
            if is_taken(&column.name) {
                let mut free = (2..).map(|number| format!("{} ({number})", column.name));
                let free: Arc<str> = free.find(|name| !is_taken(name)).unwrap_or_default().into();
                names.insert(Arc::clone(&free));
                named.push((column.slot, free));
            }
        }
        self.stored = Arc::new(named);
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
        self.columns.position(name)
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn memory(&self) -> usize {
        let stored = self.stored.iter();
        let stored: usize = stored.map(|(_, name)| STORED_BYTES + name.len()).sum();
        SCHEMA_BYTES + self.name.len() + self.columns.memory() + stored
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
/// What a table takes beside its names and columns: here, in the catalog's indices, in its settings
/// and in what producers know of it.
const SCHEMA_BYTES: usize = 1_024;
/// What a name in files takes beside its letters.
const STORED_BYTES: usize = 64;

#[cfg(test)]
mod tests;
