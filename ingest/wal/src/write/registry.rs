//! The schemas as producers see them: possibly ahead of the log, never behind it. It must never
//! give two appenders different schemas of one version.
//!
//! A row that needs a new table or column asks here; the answer is one schema that all appenders
//! agree on. The committer writes a schema block before the first data block that follows it. The
//! one shared map of the write path: a mutex, taken only when a schema changes or is first met.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::WalError;
use crate::format::catalog::Catalog;
use crate::format::options::TableDef;
use crate::format::row::Refusal;
use crate::format::schema::{Column, ColumnRole, ColumnType, MAX_COLUMNS, MAX_TABLES, TableSchema};
use crate::ids::TableId;

/// All schemas, agreed between appenders.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tables: HashMap<String, Arc<TableSchema>>,
    /// Tables that take no other columns and no wider values than they have.
    strict: HashSet<String>,
    next_id: TableId,
}

impl Registry {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let tables = catalog
            .tables()
            .map(|schema| (schema.name.clone(), Arc::clone(schema)));
        let state = State {
            tables: tables.collect(),
            strict: HashSet::new(),
            next_id: catalog.next_id(),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Takes in the tables of a conf; the schemas that the log does not have yet.
    pub(crate) fn declare(&self, tables: &[TableDef]) -> Result<Vec<Arc<TableSchema>>, WalError> {
        let mut new = Vec::new();
        for table in tables {
            let before = self.version(&table.name);
            let schema = self
                .evolve(&table.name, &table.columns)
                .map_err(|refusal| WalError::Declaration {
                    table: table.name.clone(),
                    reason: refusal.to_string(),
                })?;
            if before != Some(schema.version) {
                new.push(schema);
            }
            if table.strict {
                self.lock().strict.insert(table.name.clone());
            }
        }
        Ok(new)
    }

    fn version(&self, table: &str) -> Option<u32> {
        let state = self.lock();
        state.tables.get(table).map(|schema| schema.version)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schema of `table` after it has taken in `wanted`: absent columns are added, integer
    /// columns that meet a float widen, and anything else that differs is refused.
    pub(crate) fn evolve(
        &self,
        table: &str,
        wanted: &[Column],
    ) -> Result<Arc<TableSchema>, Refusal> {
        let mut state = self.lock();
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
        if state.strict.contains(table)
            && let Some(known) = &known
            && let Some(refusal) = strict_refusal(known, &new)
        {
            return Err(refusal);
        }
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
            // A field that the conf declares to be a tag.
            _ if held.role == ColumnRole::Tag && column.role == ColumnRole::Field => {}
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

/// The first field by which `wanted` goes beyond what a strict table has; none when it only has
/// more tags, which are not the devices' choice.
fn strict_refusal(held: &TableSchema, wanted: &TableSchema) -> Option<Refusal> {
    let differs = |(at, column): &(usize, &Column)| {
        column.role != ColumnRole::Tag && held.columns.get(*at) != Some(column)
    };
    let (at, column) = wanted.columns.iter().enumerate().find(differs)?;
    Some(match held.columns.get(at) {
        Some(held_column) => type_refusal(held, held_column, column.kind),
        None => Refusal::Strict {
            table: held.name.clone(),
            column: column.name.clone(),
        },
    })
}

fn type_refusal(schema: &TableSchema, held: &Column, value: ColumnType) -> Refusal {
    let holds = if held.role == ColumnRole::Tag {
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
