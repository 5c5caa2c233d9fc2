//! Rows that wait for one commit, as columns per table. Filled by one appender, taken whole by the
//! committer. Every row here fits its schema: the registry has been asked before. It must never
//! refuse a row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;

use crate::format::column::ColumnBuilder;
use crate::format::row::Row;
use crate::format::schema::{ColumnRole, ColumnType, TableSchema};
use crate::ids::TableId;

/// Rows of one table.
#[derive(Debug)]
pub(crate) struct TableBatch {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) times: Vec<i64>,
    /// One per schema column after `time`; `None` until a row has a value for it.
    columns: Vec<Option<ColumnBuilder>>,
    present: usize,
}

/// A table's rows as arrays: `columns[i]` belongs to column `i` of `schema`.
#[derive(Debug)]
pub(crate) struct TableRows {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) times: Vec<i64>,
    pub(crate) columns: Vec<Option<ArrayRef>>,
}

impl TableBatch {
    fn new(schema: Arc<TableSchema>) -> Self {
        let columns = schema.columns.iter().map(|_| None).collect();
        Self {
            schema,
            times: Vec::new(),
            columns,
            present: 0,
        }
    }

    /// Goes over to a newer version of the schema.
    fn adopt(&mut self, schema: &Arc<TableSchema>) {
        if Arc::ptr_eq(&self.schema, schema) || self.schema.version >= schema.version {
            return;
        }
        self.columns.resize_with(schema.columns.len(), || None);
        for at in self.schema.columns.differing(&schema.columns) {
            let (old, new) = (&self.schema.columns[at], &schema.columns[at]);
            let Some(builder) = &mut self.columns[at] else {
                continue;
            };
            if old.kind.is_integer() && new.kind == ColumnType::Float {
                builder.widen();
            } else if new.was.is_some()
                && (old.role, old.kind, old.was) != (new.role, new.kind, new.was)
            {
                let built = self.columns[at].take();
                self.columns[at] = built.map(|built| built.into_text(new));
            }
        }
        self.schema = Arc::clone(schema);
    }

    fn column(&mut self, at: usize, rows: usize) -> &mut ColumnBuilder {
        let schema = &self.schema;
        let present = &mut self.present;
        let builder = self.columns[at].get_or_insert_with(|| {
            *present += 1;
            ColumnBuilder::new(&schema.columns[at])
        });
        builder.pad_to(rows);
        builder
    }

    /// Appends a row; `slots` names the column of each tag, then of each field.
    fn push(&mut self, row: &Row<'_>, slots: &[usize]) -> usize {
        let rows = self.times.len();
        let mut bytes = 8;
        let (tag_slots, field_slots) = slots.split_at(row.tags.len());
        for ((_, value), at) in row.tags.iter().zip(tag_slots) {
            self.column(*at, rows).push_tag(value);
            bytes += 16;
            if self.schema.columns[*at].role != ColumnRole::Tag {
                // Each text is there as often as it comes, not once.
                bytes += value.len();
            }
        }
        for ((_, value), at) in row.fields.iter().zip(field_slots) {
            self.column(*at, rows).push(value);
            if let crate::format::row::Value::Text(text) = value {
                bytes += text.len();
            }
        }
        self.times.push(row.time);
        bytes + self.present * 8
    }

    /// The rows as arrays.
    pub(crate) fn finish(self) -> TableRows {
        let rows = self.times.len();
        let columns = self
            .columns
            .into_iter()
            .map(|column| column.map(|built| built.finish(rows)))
            .collect();
        TableRows {
            schema: self.schema,
            times: self.times,
            columns,
        }
    }
}

/// What one appender has gathered since the committer last took from it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    tables: Vec<TableBatch>,
    index: HashMap<TableId, usize>,
    bytes: usize,
}

impl Batch {
    /// Rough size in memory and in the log.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Bytes of nulls that earlier rows would need for the columns that `slots` brings in.
    pub(crate) fn growth(&self, schema: &TableSchema, slots: &[usize]) -> usize {
        let Some(table) = self
            .index
            .get(&schema.id)
            .and_then(|at| self.tables.get(*at))
        else {
            return 0;
        };
        let absent = |at: &&usize| table.columns.get(**at).is_none_or(Option::is_none);
        slots.iter().filter(absent).count() * table.times.len() * 8
    }

    /// Appends rows of one table. `slots` holds the columns of all rows back to back.
    pub(crate) fn push(&mut self, schema: &Arc<TableSchema>, rows: &[Row<'_>], slots: &[usize]) {
        let at = *self.index.entry(schema.id).or_insert_with(|| {
            self.tables.push(TableBatch::new(Arc::clone(schema)));
            self.tables.len() - 1
        });
        let table = &mut self.tables[at];
        table.adopt(schema);
        let mut rest = slots;
        for row in rows {
            let (slots, after) = rest.split_at(row.tags.len() + row.fields.len());
            rest = after;
            self.bytes += table.push(row, slots);
        }
    }

    /// The tables, each once.
    pub(crate) fn into_tables(self) -> Vec<TableBatch> {
        self.tables
    }
}
