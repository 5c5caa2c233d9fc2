//! The schemas and settings in force at one position of the log, as an immutable value, and what
//! reading blocks of older versions needs. Grown only by control blocks; copies share what they
//! have in common. It must never forget a version that a block behind the last segment header may
//! follow.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use crate::error::WalError;
use crate::format::control::Control;
use crate::format::options::{Expiry, TableOptions};
use crate::format::schema::TableSchema;
use crate::format::schema::change::SchemaChange;
use crate::format::shared::map::NumberMap;
use crate::format::shared::names::NameIndex;
use crate::format::table::{Table, Written};
use crate::ids::{Lsn, TableId};

/// What holds for one table beside its schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) options: TableOptions,
    pub(crate) expiry: Expiry,
}

/// What the head of a segment or manifest says of the log's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Newest schema of every table, in the order of their ids.
    pub(crate) schemas: Vec<Arc<TableSchema>>,
    /// Options and expiry in force, of the tables that have any, in the order of their ids.
    pub(crate) settings: Vec<(TableId, Settings)>,
    /// Above the ids of all tables that there have been.
    pub(crate) next_table: TableId,
}

/// All tables of a log at one position.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    tables: NumberMap<Arc<Table>>,
    /// Dropped behind the last segment header, which blocks before may be of.
    dropped: NumberMap<Arc<Table>>,
    names: NameIndex,
    settings: NumberMap<Settings>,
    retired: Lsn,
    /// Above the ids of all tables that there have been.
    next: u32,
    /// Bytes that the schemas take, about.
    memory: usize,
}

impl Catalog {
    /// What the head of a segment or manifest says. Schemas that `known` has as they are here are
    /// shared with it.
    pub(crate) fn of_head(head: &Head, known: &Self) -> Result<Self, WalError> {
        let mut new = Self {
            retired: known.retired,
            next: head.next_table.0,
            ..Self::default()
        };
        for schema in &head.schemas {
            let same = known.newest(schema.id).filter(|held| *held == schema);
            new.insert(Arc::clone(same.unwrap_or(schema)))?;
        }
        for (id, settings) in &head.settings {
            new.settings.insert(id.0, *settings);
        }
        Ok(new)
    }

    /// What the head of a segment that begins here says.
    pub(crate) fn head(&self) -> Head {
        Head {
            schemas: self.tables().map(Arc::clone).collect(),
            settings: self.all_settings(),
            next_table: self.next_id(),
        }
    }

    /// The same without older versions: what the blocks of a segment that begins here may follow.
    pub(crate) fn at_segment_start(&self) -> Self {
        let mut new = self.clone();
        new.dropped = NumberMap::default();
        let grown = self.tables.iter().filter(|(_, table)| !table.is_plain());
        for (id, table) in grown {
            let plain = Table::new(Arc::clone(&table.schema));
            new.tables.insert(id, Arc::new(plain));
        }
        new
    }

    /// A table's options.
    pub fn options(&self, id: TableId) -> TableOptions {
        self.settings(id).options
    }

    /// Rows of the table older than this are gone.
    pub(crate) fn cut(&self, id: TableId) -> Option<i64> {
        self.expiry(id).seen_from()
    }

    /// Rows of the table older than this are left out when files are written.
    pub(crate) fn purged(&self, id: TableId) -> Option<i64> {
        self.expiry(id).purged
    }

    /// How far the table's rows have expired.
    pub(crate) fn expiry(&self, id: TableId) -> Expiry {
        self.settings(id).expiry
    }

    fn settings(&self, id: TableId) -> Settings {
        self.settings.get(id.0).copied().unwrap_or_default()
    }

    /// Segments that end at or below this need no longer be kept.
    pub(crate) fn retired(&self) -> Lsn {
        self.retired
    }

    /// Settings of all tables that have any, in the order of their ids.
    fn all_settings(&self) -> Vec<(TableId, Settings)> {
        let all = self.settings.iter();
        all.map(|(id, settings)| (TableId(id), *settings)).collect()
    }

    /// Takes in what a control block says.
    pub(crate) fn apply(&mut self, control: &Control) -> Result<(), WalError> {
        let id = control.table();
        let mut settings = self.settings(id);
        match control {
            Control::Schema(schema) => return self.insert(Arc::clone(schema)),
            Control::Change(change) => return self.change(change),
            Control::Options(_, options) => settings.options = *options,
            Control::Cut(_, time) => {
                let expiry = &mut settings.expiry;
                expiry.cut = expiry.cut.max(Some(*time));
                expiry.purged = expiry.purged.max(Some(*time));
            }
            Control::Expiry(_, expiry) => settings.expiry = *expiry,
            Control::Drop(_) => return self.drop_table(id),
            Control::Retire(lsn) => {
                self.retired = self.retired.max(*lsn);
                return Ok(());
            }
        }
        self.settings.insert(id.0, settings);
        Ok(())
    }

    /// The newest version of every table, in the order of their ids.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableSchema>> {
        self.tables.values().map(|table| &table.schema)
    }

    /// Bytes of memory that the newest schemas take, about; older versions share it.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// How many tables there are.
    pub fn count(&self) -> usize {
        self.tables.len()
    }

    /// The newest version of the table of this name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        let mut found = self.names.candidates(name);
        found.find_map(|id| {
            let schema = self.newest(TableId(id))?;
            (schema.name == name).then_some(schema)
        })
    }

    /// The newest version of a table.
    pub fn newest(&self, id: TableId) -> Option<&Arc<TableSchema>> {
        self.tables.get(id.0).map(|table| &table.schema)
    }

    /// Whether blocks of this version of a table can be read.
    pub(crate) fn knows(&self, id: TableId, version: u32) -> bool {
        self.of_blocks(id).is_some_and(|table| table.knows(version))
    }

    /// What blocks of this version of a table were written under.
    pub(crate) fn written(&self, id: TableId, version: u32) -> Option<Written> {
        self.of_blocks(id)?.written(version)
    }

    /// A table that blocks behind the last segment header may be of.
    fn of_blocks(&self, id: TableId) -> Option<&Arc<Table>> {
        let dropped = || self.dropped.get(id.0);
        self.tables.get(id.0).or_else(dropped)
    }

    /// Whether a table has been dropped since the last segment header.
    pub(crate) fn has_dropped(&self, id: TableId) -> bool {
        self.dropped.get(id.0).is_some()
    }

    /// The id the next new table gets: above those of all that there have been.
    pub(crate) fn next_id(&self) -> TableId {
        TableId(self.next.max(1))
    }

    /// Nobody sees its rows from here on, and its name is free.
    fn drop_table(&mut self, id: TableId) -> Result<(), WalError> {
        let Some(table) = self.tables.remove(id.0) else {
            let reason = format!("table {} is dropped, and there is none", id.0);
            return Err(WalError::InvalidBlock(reason));
        };
        self.names.remove(&table.schema.name, id.0);
        self.settings.remove(id.0);
        self.memory -= table.schema.memory();
        self.dropped.insert(id.0, table);
        Ok(())
    }

    fn change(&mut self, change: &SchemaChange) -> Result<(), WalError> {
        let after = self.newest(change.table);
        let after = after.and_then(|before| change.onto(before));
        let after = after.ok_or_else(|| {
            WalError::InvalidBlock(format!(
                "version {} of table {} does not follow from the one before",
                change.version, change.table.0
            ))
        })?;
        self.insert(Arc::new(after))
    }

    /// Takes in one schema version. Taking in the same again changes nothing.
    pub(crate) fn insert(&mut self, schema: Arc<TableSchema>) -> Result<(), WalError> {
        let refuse = |what: &str| {
            Err(WalError::InvalidBlock(format!(
                "table {:?} {what} {}",
                schema.name, schema.version
            )))
        };
        let other = self.table(&schema.name);
        if other.is_some_and(|other| other.id != schema.id) {
            return refuse("has two ids, of another table at version");
        }
        let id = schema.id.0;
        if self.has_dropped(schema.id) {
            return refuse("has been dropped, and comes again with version");
        }
        let Some(table) = self.tables.get(id) else {
            self.next = self.next.max(id.saturating_add(1));
            self.names.insert(&schema.name, id);
            self.memory += schema.memory();
            self.tables.insert(id, Arc::new(Table::new(schema)));
            return Ok(());
        };
        let held = &table.schema;
        if schema.version == held.version {
            return if schema == *held {
                Ok(())
            } else {
                refuse("has two schemas of version")
            };
        }
        if schema.version < held.version {
            return refuse("goes back to an older schema: version");
        }
        if held.name != schema.name {
            self.names.remove(&held.name, id);
            self.names.insert(&schema.name, id);
        }
        self.memory = self.memory - held.memory() + schema.memory();
        let mut table = Table::clone(table);
        table.advance(schema);
        self.tables.insert(id, Arc::new(table));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
