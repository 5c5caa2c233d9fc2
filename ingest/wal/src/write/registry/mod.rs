//! The schemas as producers see them: possibly ahead of the log, never behind it. It must never
//! give two appenders different schemas of one version.
//!
//! Rows that need a new table or column ask here for a proposal; once they have been found to fit
//! it, it is entered together with them, so a refusal leaves nothing behind. The committer writes a
//! schema block before the first data block that follows it. The one shared map of the write path:
//! a mutex, taken only when a schema changes or is first met.

mod operator;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config::Limits;
use crate::error::WalError;
use crate::format::catalog::Catalog;
use crate::format::control::Control;
use crate::format::options::{Dedup, TableDef};
use crate::format::row::Refusal;
use crate::format::schema::{Column, DEAD_LETTERS, MAX_COLUMNS, TableSchema};
use crate::ids::TableId;
use crate::share::{Held, Share};
use crate::write::declared::{declared, strict_refusal};
use crate::write::demand::{Demand, evolved};
use crate::write::quota::{New, Quota};

/// All schemas, agreed between appenders.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    changes: AtomicU64,
    share: Share,
    /// What all schemas take of it; touched only under the lock of the state.
    memory: Mutex<Held>,
    limits: Limits,
    /// What clients have brought into being; touched only under the lock of the state.
    quota: Mutex<Quota>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    tables: HashMap<String, Arc<TableSchema>>,
    /// Tables of the conf, with the columns that it gives them.
    declared: HashMap<String, Vec<Column>>,
    /// Tables that take no other columns and no wider values than they have.
    strict: HashSet<String>,
    /// Tables in which one key has one row.
    keyed: HashSet<String>,
    /// To be written though no row needs them, oldest first: schemas and drops.
    unwritten: Vec<Control>,
    next_id: TableId,
}

/// A schema that would hold what was asked for, and what it was made from.
#[derive(Debug)]
pub(crate) struct Proposal {
    /// In force when it was made; none: there was no such table.
    before: Option<Arc<TableSchema>>,
    schema: Arc<TableSchema>,
    keyed: bool,
}

impl Registry {
    /// What is in the log already takes its part of `share`, however much that is.
    pub(crate) fn new(catalog: &Catalog, share: &Share, limits: Limits) -> Self {
        let tables = catalog
            .tables()
            .map(|schema| (schema.name.clone(), Arc::clone(schema)));
        let state = State {
            tables: tables.collect(),
            declared: HashMap::new(),
            strict: HashSet::new(),
            keyed: HashSet::new(),
            unwritten: Vec::new(),
            next_id: catalog.next_id(),
        };
        Self {
            state: Mutex::new(state),
            changes: AtomicU64::new(0),
            memory: Mutex::new(share.take_beyond(catalog.memory() as u64)),
            share: share.clone(),
            limits,
            quota: Mutex::new(Quota::new(&limits)),
        }
    }

    /// Takes memory for a schema in the place of the one before. What is refused elsewhere finds
    /// room always, and so does what people ask for.
    fn charge(
        &self,
        before: Option<&TableSchema>,
        after: &TableSchema,
        must: bool,
    ) -> Result<(), Refusal> {
        let (before, now) = (before.map_or(0, TableSchema::memory), after.memory());
        let more = now.saturating_sub(before) as u64;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.shrink(before.saturating_sub(now) as u64);
        if must || after.name == DEAD_LETTERS {
            memory.grow_beyond(more);
        } else if more > 0 && !memory.grow(more) {
            let (table, limit) = (after.name.clone(), self.share.limit());
            return Err(Refusal::SchemaMemory { table, limit });
        }
        Ok(())
    }

    /// Puts in force what is there already, or what people ask for.
    fn put(&self, state: &mut State, new: &Arc<TableSchema>) {
        let before = state.by_id(new);
        // It cannot be refused.
        let _ = self.charge(before.as_deref(), new, true);
        state.insert(Arc::clone(new));
    }

    /// Takes in schemas that are newer than the log's.
    pub(crate) fn adopt(&self, schemas: &[Arc<TableSchema>]) {
        let mut state = self.lock();
        for schema in schemas {
            self.put(&mut state, schema);
        }
    }

    /// Takes in the tables of a conf; the schemas that the log does not have yet.
    pub(crate) fn declare(&self, tables: &[TableDef]) -> Result<Vec<Arc<TableSchema>>, WalError> {
        let mut new = Vec::new();
        for table in tables {
            let before = self.version(&table.name);
            let schema = self
                .take_in(&table.name, &table.columns)
                .map_err(|refusal| WalError::Declaration {
                    table: table.name.clone(),
                    reason: refusal.to_string(),
                })?;
            if before != Some(schema.version) {
                new.push(Arc::clone(&schema));
            }
            let columns = table.columns.clone();
            self.lock().declared.insert(table.name.clone(), columns);
            if table.strict {
                self.lock().strict.insert(table.name.clone());
            }
            if table.options.dedup == Dedup::Key {
                if let Some(column) = schema.columns.iter().find(|column| column.moved) {
                    return Err(WalError::Declaration {
                        table: table.name.clone(),
                        reason: format!(
                            "column {:?} has changed its role, and files are in the order of the \
                             tags as they were: with dedup = \"key\" it must have its first role \
                             again: start without, and use `headwater table change-role`",
                            column.name
                        ),
                    });
                }
                self.lock().keyed.insert(table.name.clone());
            }
        }
        Ok(new)
    }

    /// The schema of `table`, if there is one.
    pub(crate) fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        self.lock().tables.get(table).map(Arc::clone)
    }

    fn version(&self, table: &str) -> Option<u32> {
        self.schema(table).map(|schema| schema.version)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schema of `table` that holds `demands` as well. Nothing has changed until it is entered.
    pub(crate) fn propose(&self, table: &str, demands: &[Demand<'_>]) -> Result<Proposal, Refusal> {
        let (before, strict, keyed, next_id) = {
            let state = self.lock();
            let before = state.tables.get(table).cloned();
            if before.is_none() {
                state.check_room(table, self.limits.max_tables)?;
            }
            let (strict, keyed) = (&state.strict, &state.keyed);
            let (strict, keyed) = (strict.contains(table), keyed.contains(table));
            (before, strict, keyed, state.next_id)
        };
        let most = match table {
            DEAD_LETTERS => MAX_COLUMNS,
            _ => self.limits.max_columns.min(MAX_COLUMNS),
        };
        let proposed = |schema, before| Proposal {
            before,
            schema,
            keyed,
        };
        let Some(held) = before else {
            let empty = TableSchema::new(next_id, table);
            let columns = match evolved(&empty, demands, keyed, most)? {
                Some(more) => more.columns,
                None => empty.columns.clone(),
            };
            let new = Arc::new(TableSchema { columns, ..empty });
            return Ok(proposed(new, None));
        };
        let Some(new) = evolved(&held, demands, keyed, most)? else {
            return Ok(proposed(Arc::clone(&held), Some(held)));
        };
        match strict.then(|| strict_refusal(&held, &new)).flatten() {
            Some(refusal) => Err(refusal),
            None => Ok(proposed(Arc::new(new), Some(held))),
        }
    }

    /// Puts a proposal in force; false when the table is not what it was made from any more. What is
    /// new is counted for `client`, if one sends it.
    ///
    /// # Errors
    /// When there is no memory for it, or the client's quota is used up; nothing has changed then.
    pub(crate) fn enter(&self, proposal: &Proposal, client: Option<&str>) -> Result<bool, Refusal> {
        let schema = &proposal.schema;
        if let Some(before) = &proposal.before
            && Arc::ptr_eq(before, schema)
        {
            // Schemas only grow: one that was in force is never wrong, while there is the table.
            let now = self.schema(&schema.name);
            return Ok(now.is_some_and(|now| now.id == schema.id));
        }
        let mut state = self.lock();
        let same = match (&proposal.before, state.tables.get(&schema.name)) {
            (Some(before), Some(now)) => (before.id, before.version) == (now.id, now.version),
            (None, None) => {
                schema.id == state.next_id
                    && state
                        .check_room(&schema.name, self.limits.max_tables)
                        .is_ok()
            }
            _ => false,
        };
        if same {
            let mut quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
            let (new, now) = (proposal.new_names(), Instant::now());
            let client = client.filter(|_| schema.name != DEAD_LETTERS);
            if let Some(client) = client {
                quota.check(client, &schema.name, new, now)?;
            }
            self.charge(proposal.before.as_deref(), schema, false)?;
            if let Some(client) = client {
                quota.note(client, new, now);
            }
            state.insert(Arc::clone(schema));
        }
        Ok(same)
    }

    /// The schema of `table` after it has taken in the columns of its declaration.
    fn take_in(&self, table: &str, wanted: &[Column]) -> Result<Arc<TableSchema>, Refusal> {
        let mut state = self.lock();
        let known = state.tables.get(table).cloned();
        let held = match &known {
            Some(held) => TableSchema::clone(held),
            None => TableSchema::new(state.next_id, table),
        };
        let columns = declared(&held, wanted)?;
        match known {
            Some(known) if known.columns == columns => Ok(known),
            known => {
                let new = Arc::new(match known {
                    Some(_) => held.grown(columns),
                    None => TableSchema { columns, ..held },
                });
                self.put(&mut state, &new);
                Ok(new)
            }
        }
    }

    /// Changes that wait without rows, but for schemas of which the log has a newer one: that holds
    /// them as well.
    pub(crate) fn unwritten(&self, written: &Catalog) -> Vec<Control> {
        let waiting = std::mem::take(&mut self.lock().unwritten);
        let is_news = |control: &Control| match control {
            Control::Schema(schema) => {
                let newest = written.newest(schema.id);
                newest.is_none_or(|newest| newest.version < schema.version)
            }
            _ => true,
        };
        waiting.into_iter().filter(is_news).collect()
    }

    /// How often an operator has changed a schema: those that were learnt before are not to be
    /// written under any more.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// All that it holds, to be compared.
    #[cfg(test)]
    pub(crate) fn state(&self) -> State {
        self.lock().clone()
    }
}

impl Proposal {
    pub(crate) fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// What would come into being with it.
    fn new_names(&self) -> New {
        let before = self.before.as_ref();
        // Each table has its time by itself.
        let held = before.map_or(1, |before| before.columns.len());
        New {
            tables: usize::from(before.is_none()),
            columns: self.schema.columns.len().saturating_sub(held),
        }
    }

    /// Whether one key has one row in its table.
    pub(crate) fn keyed(&self) -> bool {
        self.keyed
    }
}

impl State {
    /// The dead letters find room always: what is refused elsewhere goes there.
    fn check_room(&self, table: &str, limit: usize) -> Result<(), Refusal> {
        let others = self.tables.len() - usize::from(self.tables.contains_key(DEAD_LETTERS));
        if others >= limit && table != DEAD_LETTERS {
            return Err(Refusal::TooManyTables { limit });
        }
        Ok(())
    }

    /// The version of the same table that is in force, whatever its name.
    fn by_id(&self, schema: &TableSchema) -> Option<Arc<TableSchema>> {
        let of_name = self.tables.get(&schema.name);
        let held = of_name.filter(|held| held.id == schema.id);
        let mut others = self.tables.values().filter(|held| held.id == schema.id);
        held.or_else(|| others.next()).map(Arc::clone)
    }

    fn insert(&mut self, schema: Arc<TableSchema>) {
        self.next_id = self.next_id.max(TableId(schema.id.0 + 1));
        self.tables.insert(schema.name.clone(), schema);
    }
}
