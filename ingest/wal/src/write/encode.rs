//! In which order the rows and changes of one group become blocks. It must never write a row behind
//! the drop of its table, nor before the schema that it follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::WalError;
use crate::format::catalog::Catalog;
use crate::format::control::Control;
use crate::format::schema::TableSchema;
use crate::ids::TableId;
use crate::write::batch::{Batch, TableRows};
use crate::write::group::GroupBuilder;

/// The rows of one group, by table.
pub(crate) type Tables = BTreeMap<TableId, Vec<TableRows>>;

/// Adds what one appender has gathered.
pub(crate) fn gather(tables: &mut Tables, batch: Batch) {
    for table in batch.into_tables() {
        tables
            .entry(table.schema.id)
            .or_default()
            .push(table.finish());
    }
}

pub(crate) fn is_drop(control: &Control) -> bool {
    matches!(control, Control::Drop(_))
}

/// The group with all of it: changes in the order in which they were made, the rows of a table that
/// is dropped before that, all others at the end.
pub(crate) fn encoded<'a>(
    group: GroupBuilder<'a>,
    catalog: &'a Catalog,
    controls: Vec<Control>,
    mut tables: Tables,
) -> Result<GroupBuilder<'a>, WalError> {
    let mut encoder = Encoder {
        catalog,
        group,
        begun: BTreeMap::new(),
    };
    for control in controls {
        match control {
            Control::Schema(schema) => encoder.schema(schema),
            Control::Drop(table) => {
                encoder.rows(table, tables.remove(&table).unwrap_or_default())?;
                encoder.drop_table(table);
            }
            control => encoder.group.control(control),
        }
    }
    for (table, pieces) in tables {
        encoder.rows(table, pieces)?;
    }
    Ok(encoder.group)
}

/// A group while it is encoded, and the schemas that it begins.
struct Encoder<'a> {
    catalog: &'a Catalog,
    group: GroupBuilder<'a>,
    begun: BTreeMap<TableId, Arc<TableSchema>>,
}

impl Encoder<'_> {
    fn written(&self, table: TableId) -> Option<&Arc<TableSchema>> {
        let begun = self.begun.get(&table);
        begun.or_else(|| self.catalog.newest(table))
    }

    fn schema(&mut self, schema: Arc<TableSchema>) {
        let written = self.written(schema.id).map(Arc::clone);
        self.group.schema(Arc::clone(&schema), written.as_deref());
        self.begun.insert(schema.id, schema);
    }

    fn rows(&mut self, table: TableId, pieces: Vec<TableRows>) -> Result<(), WalError> {
        let written = self.written(table);
        let written_version = written.map_or(0, |written| written.version);
        let Some(schema) = newest(written, &pieces).filter(|_| !pieces.is_empty()) else {
            return Ok(());
        };
        if written_version < schema.version {
            self.schema(Arc::clone(&schema));
        }
        let encoded = self.group.rows(&schema, pieces);
        encoded.map_err(|error| WalError::InvalidBlock(error.to_string()))
    }

    /// A table that was never written needs no word.
    fn drop_table(&mut self, table: TableId) {
        if self.written(table).is_some() {
            self.group.control(Control::Drop(table));
        }
    }
}

/// The newest schema among those the rows were gathered under and the one last written.
fn newest(written: Option<&Arc<TableSchema>>, pieces: &[TableRows]) -> Option<Arc<TableSchema>> {
    let gathered = pieces.iter().map(|piece| &piece.schema);
    gathered
        .chain(written)
        .max_by_key(|schema| schema.version)
        .map(Arc::clone)
}
