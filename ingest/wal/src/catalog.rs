//! Every schema version the log has written, as an immutable value. Grown only by schema blocks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::WalError;
use crate::ids::TableId;
use crate::schema::TableSchema;

/// All tables of a log at one position.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    versions: BTreeMap<TableId, Vec<Arc<TableSchema>>>,
    by_name: HashMap<String, TableId>,
}

impl Catalog {
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
