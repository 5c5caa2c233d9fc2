//! Every schema version the log has written and the settings in force, as an immutable value. Grown
//! only by control blocks. It must never forget a version.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::WalError;
use crate::format::control::Control;
use crate::format::options::{Expiry, TableOptions};
use crate::format::schema::TableSchema;
use crate::ids::{Lsn, TableId};

/// What holds for one table beside its schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) options: TableOptions,
    pub(crate) expiry: Expiry,
}

/// All tables of a log at one position.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    versions: BTreeMap<TableId, Vec<Arc<TableSchema>>>,
    by_name: HashMap<String, TableId>,
    settings: BTreeMap<TableId, Settings>,
    retired: Lsn,
}

impl Catalog {
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
        self.settings.get(&id).copied().unwrap_or_default()
    }

    /// Segments that end at or below this need no longer be kept.
    pub(crate) fn retired(&self) -> Lsn {
        self.retired
    }

    /// Settings of all tables that have any, in the order of their ids.
    pub(crate) fn all_settings(&self) -> Vec<(TableId, Settings)> {
        let all = self.settings.iter().map(|(id, settings)| (*id, *settings));
        all.collect()
    }

    /// Takes in the schemas and settings at the head of a segment or manifest.
    pub(crate) fn adopt(
        &mut self,
        schemas: &[Arc<TableSchema>],
        settings: &[(TableId, Settings)],
    ) -> Result<(), WalError> {
        for schema in schemas {
            self.insert(Arc::clone(schema))?;
        }
        self.settings = settings.iter().copied().collect();
        Ok(())
    }

    /// Takes in what a control block says.
    pub(crate) fn apply(&mut self, control: &Control) -> Result<(), WalError> {
        match control {
            Control::Schema(schema) => return self.insert(Arc::clone(schema)),
            Control::Options(table, options) => {
                self.settings.entry(*table).or_default().options = *options;
            }
            Control::Cut(table, time) => {
                let expiry = &mut self.settings.entry(*table).or_default().expiry;
                expiry.cut = expiry.cut.max(Some(*time));
                expiry.purged = expiry.purged.max(Some(*time));
            }
            Control::Expiry(table, expiry) => {
                self.settings.entry(*table).or_default().expiry = *expiry;
            }
            Control::Retire(lsn) => self.retired = self.retired.max(*lsn),
        }
        Ok(())
    }

    /// The newest version of every table, in the order of their ids.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableSchema>> {
        self.versions
            .values()
            .filter_map(|versions| versions.last())
    }

    /// The newest version of the table of this name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.newest(*self.by_name.get(name)?)
    }

    /// The newest version of a table.
    pub fn newest(&self, id: TableId) -> Option<&Arc<TableSchema>> {
        self.versions.get(&id)?.last()
    }

    /// One version of a table.
    pub fn version(&self, id: TableId, version: u32) -> Option<&Arc<TableSchema>> {
        self.versions
            .get(&id)?
            .iter()
            .find(|schema| schema.version == version)
    }

    /// The id the next new table gets.
    pub(crate) fn next_id(&self) -> TableId {
        TableId(self.versions.last_key_value().map_or(1, |(id, _)| id.0 + 1))
    }

    /// Takes in one schema version. Taking in the same again changes nothing.
    pub(crate) fn insert(&mut self, schema: Arc<TableSchema>) -> Result<(), WalError> {
        let invalid = |reason: String| Err(WalError::InvalidBlock(reason));
        if let Some(known) = self.version(schema.id, schema.version) {
            return if **known == *schema {
                Ok(())
            } else {
                invalid(format!(
                    "table {:?} has two schemas of version {}",
                    schema.name, schema.version
                ))
            };
        }
        match self.by_name.get(&schema.name) {
            Some(id) if *id != schema.id => {
                return invalid(format!("table {:?} has two ids", schema.name));
            }
            _ => {}
        }
        let newest = self.newest(schema.id).map_or(0, |newest| newest.version);
        if schema.version <= newest {
            return invalid(format!(
                "table {:?} goes back to an older schema",
                schema.name
            ));
        }
        self.by_name.insert(schema.name.clone(), schema.id);
        self.versions.entry(schema.id).or_default().push(schema);
        Ok(())
    }
}
