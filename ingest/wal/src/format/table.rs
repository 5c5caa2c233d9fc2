//! One table of a catalog: its newest schema, and what older versions had otherwise, so that blocks
//! which were written under them can be read. It must never keep an older version whole.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Field;

use crate::format::schema::{Column, TableSchema};
use crate::format::shared::list::List;

/// A table at one position of the log.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) schema: Arc<TableSchema>,
    /// Versions before that blocks may follow, ascending: each with the first slot it had not.
    older: List<(u32, u16)>,
    /// Columns that were otherwise before a version, in the order of versions.
    otherwise: List<(u32, Column)>,
}

/// What a block was written under: one version of its table.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    table: Arc<Table>,
    version: u32,
    /// Slots that there were.
    slots: u16,
}

impl Table {
    pub(crate) fn new(schema: Arc<TableSchema>) -> Self {
        Self {
            schema,
            older: List::default(),
            otherwise: List::default(),
        }
    }

    /// Whether it knows no version but the newest.
    pub(crate) fn is_plain(&self) -> bool {
        self.older.is_empty()
    }

    /// Goes over to a later version.
    pub(crate) fn advance(&mut self, schema: Arc<TableSchema>) {
        let held = &self.schema;
        self.older.push((held.version, held.columns.slots()));
        for at in held.columns.differing(&schema.columns) {
            let (Some(before), Some(after)) = (held.columns.get(at), schema.columns.get(at)) else {
                continue;
            };
            let of = |column: &Column| (column.role, column.kind);
            if of(before) != of(after) {
                self.otherwise.push((schema.version, before.clone()));
            }
        }
        self.schema = schema;
    }

    /// Whether it knows this version.
    pub(crate) fn knows(&self, version: u32) -> bool {
        self.slots(version).is_some()
    }

    /// The first slot that this version had not.
    fn slots(&self, version: u32) -> Option<u16> {
        if version == self.schema.version {
            return Some(self.schema.columns.slots());
        }
        let at = self.older.partition_point(|(older, _)| *older < version);
        let (older, slots) = self.older.get(at)?;
        (*older == version).then_some(*slots)
    }

    /// What a block of this version was written under; none when it is not known.
    pub(crate) fn written(self: &Arc<Self>, version: u32) -> Option<Written> {
        Some(Written {
            slots: self.slots(version)?,
            table: Arc::clone(self),
            version,
        })
    }
}

impl Written {
    /// The first slot that there was not.
    pub(crate) fn slots(&self) -> usize {
        usize::from(self.slots)
    }

    /// The Arrow fields of these columns as they were then, but for their names.
    pub(crate) fn fields(&self, slots: &[usize]) -> Option<Vec<Field>> {
        let otherwise = &self.table.otherwise;
        let from = otherwise.partition_point(|(version, _)| *version <= self.version);
        let mut then: HashMap<u16, &Column> = HashMap::new();
        for (_, column) in otherwise.iter().skip(from) {
            then.entry(column.slot).or_insert(column);
        }
        let field = |slot: &usize| {
            let slot = u16::try_from(*slot)
                .ok()
                .filter(|slot| *slot < self.slots)?;
            let now = || self.table.schema.columns.at_slot(slot);
            let column = then.get(&slot).copied().or_else(now)?;
            Some(column.arrow_field())
        };
        slots.iter().map(field).collect()
    }
}
