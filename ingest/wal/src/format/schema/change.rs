//! What one version of a schema has otherwise than the one before: all that the log says of it, so
//! that a column more costs the log a column and not a table. See `FORMAT.md`, "Change body". Pure;
//! it must never be applied to another version than the one it was made from.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use crate::error::WalError;
use crate::format::schema::bytes::{MAX_STORED_NAME, Reader, count16, put_column, put_name};
use crate::format::schema::column::{Column, ColumnRole};
use crate::format::schema::{MAX_COLUMNS, MAX_NAME, TableSchema};
use crate::ids::TableId;

/// The way from one version of a table's schema to a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SchemaChange {
    pub(crate) table: TableId,
    pub(crate) version: u32,
    /// The version that it goes on from.
    before: u32,
    /// The table's name, if it is another.
    name: Option<String>,
    /// Columns that are otherwise, by slot, ascending.
    changed: Vec<(u16, Column)>,
    added: Vec<Column>,
    /// Columns that files call otherwise than before; none: as they are called.
    stored: Vec<(u16, Option<Arc<str>>)>,
}

impl SchemaChange {
    /// What `after` has otherwise than `before`, an earlier version of the same schema.
    pub(crate) fn between(before: &TableSchema, after: &TableSchema) -> Self {
        let changed = before.columns.differing(&after.columns);
        let changed = changed.filter_map(|at| after.columns.get(at));
        let added = after.columns.iter().skip(before.columns.len());
        Self {
            table: after.id,
            version: after.version,
            before: before.version,
            name: (before.name != after.name).then(|| after.name.clone()),
            changed: changed
                .map(|column| (column.slot, column.clone()))
                .collect(),
            added: added.cloned().collect(),
            stored: stored_otherwise(before, after),
        }
    }

    /// The later version, made of the one that it goes on from; `None` when `before` is another, or
    /// nothing that a schema may be comes of it.
    pub(crate) fn onto(&self, before: &TableSchema) -> Option<TableSchema> {
        let follows = before.id == self.table && before.version == self.before;
        (follows && self.version > self.before).then_some(())?;
        let mut after = before.clone();
        after.version = self.version;
        if let Some(name) = &self.name {
            after.name.clone_from(name);
        }
        for (slot, column) in &self.changed {
            let at = usize::from(*slot);
            after.columns.get(at)?;
            let column = column.clone();
            after.columns.set(
                at,
                Column {
                    slot: *slot,
                    ..column
                },
            );
        }
        after.columns.extend(self.added.iter().cloned());
        (after.columns.len() <= MAX_COLUMNS).then_some(())?;
        if !self.stored.is_empty() {
            let named = Arc::make_mut(&mut after.stored);
            for (slot, name) in &self.stored {
                (usize::from(*slot) < after.columns.len()).then_some(())?;
                match (named.binary_search_by_key(slot, |(slot, _)| *slot), name) {
                    (Ok(at), Some(name)) => named.get_mut(at)?.1 = Arc::clone(name),
                    (Ok(at), None) => drop(named.remove(at)),
                    (Err(at), Some(name)) => named.insert(at, (*slot, Arc::clone(name))),
                    (Err(_), None) => return None,
                }
            }
        }
        Some(after)
    }

    /// The bytes, padded to 8.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        for word in [self.table.0, self.version, self.before] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for count in [self.changed.len(), self.added.len(), self.stored.len()] {
            out.extend_from_slice(&count16(count).to_le_bytes());
        }
        put_name(&mut out, self.name.as_deref().unwrap_or_default());
        for (slot, column) in &self.changed {
            out.extend_from_slice(&slot.to_le_bytes());
            put_column(&mut out, column);
        }
        for column in &self.added {
            put_column(&mut out, column);
        }
        for (slot, name) in &self.stored {
            out.extend_from_slice(&slot.to_le_bytes());
            put_name(&mut out, name.as_deref().unwrap_or_default());
        }
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    /// Reads what `encode` wrote.
    pub(crate) fn decode(bytes: &[u8], format: u32) -> Result<Self, WalError> {
        let rest = bytes;
        let change = (format >= CHANGES_SINCE).then_some(Reader { rest, format });
        change
            .and_then(Reader::change)
            .ok_or_else(|| WalError::InvalidBlock("schema change body is malformed".to_owned()))
    }
}

/// Where files call a column otherwise under `after`.
fn stored_otherwise(before: &TableSchema, after: &TableSchema) -> Vec<(u16, Option<Arc<str>>)> {
    if Arc::ptr_eq(&before.stored, &after.stored) {
        return Vec::new();
    }
    let new = after.stored.iter();
    let new = new.filter(|(slot, name)| before.stored_otherwise(*slot) != Some(name));
    let new = new.map(|(slot, name)| (*slot, Some(Arc::clone(name))));
    let gone = before.stored.iter();
    let gone = gone.filter(|(slot, _)| after.stored_otherwise(*slot).is_none());
    let mut all: Vec<_> = new.chain(gone.map(|(slot, _)| (*slot, None))).collect();
    all.sort_unstable();
    all
}

impl Reader<'_> {
    fn change(mut self) -> Option<SchemaChange> {
        let (table, version, before) = (TableId(self.u32()?), self.u32()?, self.u32()?);
        let counts = (self.u16()?, self.u16()?, self.u16()?);
        let name = Some(self.name(MAX_NAME)?).filter(|name| !name.is_empty());
        let mut changed: Vec<(u16, Column)> = Vec::new();
        for _ in 0..counts.0 {
            let slot = self.u16()?;
            let ascends = changed.last().map_or(0, |(last, _)| *last) < slot;
            let column = Column {
                slot,
                ..self.column_beside_time()?
            };
            ascends.then(|| changed.push((slot, column)))?;
        }
        let added = (0..counts.1).map(|_| self.column_beside_time());
        let added = added.collect::<Option<Vec<Column>>>()?;
        let mut stored: Vec<(u16, Option<Arc<str>>)> = Vec::new();
        for _ in 0..counts.2 {
            let slot = self.u16()?;
            let ascends = stored.last().is_none_or(|(last, _)| *last < slot);
            let name = Some(self.name(MAX_STORED_NAME)?).filter(|name| !name.is_empty());
            ascends.then(|| stored.push((slot, name.map(Into::into))))?;
        }
        (before > 0 && version > before && self.ends()).then_some(SchemaChange {
            table,
            version,
            before,
            name: name.map(str::to_owned),
            changed,
            added,
            stored,
        })
    }

    fn column_beside_time(&mut self) -> Option<Column> {
        let column = self.column()?;
        (column.role != ColumnRole::Time).then_some(column)
    }
}

/// The first version of the format that has such blocks.
const CHANGES_SINCE: u32 = 4;
