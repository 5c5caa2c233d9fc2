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
        // All at once: what one of them is called now may be what another was called.
        for schema in schemas {
            self.leave_name(schema);
        }
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
        self.leave_name(&schema);
        self.by_name.insert(schema.name.clone(), schema.id);
        self.versions.entry(schema.id).or_default().push(schema);
        Ok(())
    }

    /// Frees the name that the table has no more once `newer` is taken in.
    fn leave_name(&mut self, newer: &TableSchema) {
        let held = self.newest(newer.id);
        let renamed = held.filter(|held| held.version < newer.version && held.name != newer.name);
        let Some(name) = renamed.map(|held| held.name.clone()) else {
            return;
        };
        if self.by_name.get(&name) == Some(&newer.id) {
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(id: u32, version: u32, name: &str) -> Arc<TableSchema> {
        let schema = TableSchema::new(TableId(id), name);
        Arc::new(TableSchema { version, ..schema })
    }

    fn names(catalog: &Catalog) -> Vec<(String, u32)> {
        let mut names: Vec<_> = catalog.by_name.iter().collect();
        names.sort();
        let names = names.into_iter();
        names.map(|(name, id)| (name.clone(), id.0)).collect()
    }

    #[test]
    fn a_renamed_table_leaves_its_name_to_others() {
        let mut catalog = Catalog::default();
        for schema in [schema(1, 1, "a"), schema(2, 1, "b")] {
            catalog.insert(schema).expect("new");
        }
        // In their place in the log, one after the other.
        let mut blocks = catalog.clone();
        let taken = blocks.insert(schema(2, 2, "a"));
        taken.expect_err("two tables of one name");
        for schema in [schema(1, 2, "c"), schema(2, 2, "a"), schema(1, 3, "b")] {
            blocks.insert(schema).expect("the name is free");
        }
        let expected = [("a".to_owned(), 2), ("b".to_owned(), 1)];
        assert_eq!(names(&blocks), expected);
        assert_eq!(blocks.table("b").map(|table| table.version), Some(3));
        assert!(blocks.version(TableId(1), 1).is_some());
        // Known versions change nothing.
        blocks.insert(schema(1, 1, "a")).expect("known");
        assert_eq!(names(&blocks), expected);
        // As a segment's head has them: what came between is not told.
        let swapped = [schema(1, 3, "b"), schema(2, 2, "a")];
        catalog.adopt(&swapped, &[]).expect("each name once");
        assert_eq!(names(&catalog), expected);
        let same = [schema(1, 4, "b"), schema(2, 3, "b")];
        catalog
            .adopt(&same, &[])
            .expect_err("two tables of one name");
    }
}
