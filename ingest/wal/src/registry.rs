//! The schemas as producers see them: possibly ahead of the log, never behind it.
//!
//! A row that needs a new table or column asks here; the answer is one schema that all appenders
//! agree on. The committer writes a schema block before the first data block that follows it. The
//! one shared map of the write path: a mutex, taken only when a schema changes or is first met.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::Catalog;
use crate::ids::TableId;
use crate::row::Refusal;
use crate::schema::{Column, ColumnType, MAX_COLUMNS, MAX_TABLES, TableSchema};

/// All schemas, agreed between appenders.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tables: HashMap<String, Arc<TableSchema>>,
    next_id: TableId,
}

impl Registry {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let tables = catalog
            .tables()
            .map(|schema| (schema.name.clone(), Arc::clone(schema)));
        let state = State {
            tables: tables.collect(),
            next_id: catalog.next_id(),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// The schema of `table` after it has taken in `wanted`: absent columns are added, integer
    /// columns that meet a float widen, and anything else that differs is refused.
    pub(crate) fn evolve(
        &self,
        table: &str,
        wanted: &[Column],
    ) -> Result<Arc<TableSchema>, Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.tables.get(table).cloned();
        let new = match &known {
            Some(schema) => evolved(schema, wanted)?,
            None => {
                if state.tables.len() >= MAX_TABLES {
                    return Err(Refusal::TooManyTables { limit: MAX_TABLES });
                }
                let mut schema = TableSchema::new(state.next_id, table);
                if let Some(more) = evolved(&schema, wanted)? {
                    schema.columns = more.columns;
                }
                Some(schema)
            }
        };
        let Some(new) = new else {
            return known.ok_or(Refusal::Empty);
        };
        if known.is_none() {
            state.next_id = TableId(state.next_id.0 + 1);
        }
        let new = Arc::new(new);
        state.tables.insert(table.to_owned(), Arc::clone(&new));
        Ok(new)
    }
}

/// `schema` with `wanted` taken in; `None` when it holds them already.
fn evolved(schema: &TableSchema, wanted: &[Column]) -> Result<Option<TableSchema>, Refusal> {
    let mut new = schema.clone();
    for column in wanted {
        let Some(at) = new.column(&column.name) else {
            new.columns.push(column.clone());
            continue;
        };
        let held = &mut new.columns[at];
        match (held.kind, column.kind) {
            _ if held.role != column.role => return Err(type_refusal(schema, held, column.kind)),
            (held, wanted) if held == wanted => {}
            (ColumnType::Float, ColumnType::Int) => {}
            (ColumnType::Int, ColumnType::Float) => held.kind = ColumnType::Float,
            _ => return Err(type_refusal(schema, held, column.kind)),
        }
    }
    if new.columns.len() > MAX_COLUMNS {
        return Err(Refusal::TooManyColumns {
            table: schema.name.clone(),
            limit: MAX_COLUMNS,
        });
    }
    if new.columns == schema.columns {
        return Ok(None);
    }
    new.version += 1;
    Ok(Some(new))
}

fn type_refusal(schema: &TableSchema, held: &Column, value: ColumnType) -> Refusal {
    let holds = if held.role == crate::schema::ColumnRole::Tag {
        "a tag"
    } else {
        held.kind.name()
    };
    Refusal::Type {
        table: schema.name.clone(),
        column: held.name.clone(),
        holds,
        value: value.name(),
    }
}
