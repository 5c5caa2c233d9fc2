//! The schemas as producers see them: possibly ahead of the log, never behind it. It must never
//! give two appenders different schemas of one version.
//!
//! Rows that need a new table or column ask here for a proposal; once they have been found to fit
//! it, it is entered together with them, so a refusal leaves nothing behind. The committer writes a
//! schema block before the first data block that follows it. The one shared map of the write path:
//! a mutex, taken only when a schema changes or is first met.

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
use crate::format::schema::{
    Column, ColumnRole, ColumnType, DEAD_LETTERS, MAX_COLUMNS, TableSchema,
};
use crate::ids::TableId;
use crate::share::{Held, Share};
use crate::write::change::{no_change, no_other_role};
use crate::write::declared::{declared, strict_refusal};
use crate::write::demand::{Demand, check_column_name, check_table_name, evolved, holds_what};
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
    /// To be written though no row needs them, oldest first.
    unwritten: Vec<Arc<TableSchema>>,
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
            // Schemas only grow: one that was in force is never wrong.
            return Ok(true);
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

    /// Gives a column another name. Whatever rows have under the old one from now on is a column of
    /// its own.
    pub(crate) fn rename_column(
        &self,
        table: &str,
        from: &str,
        to: &str,
    ) -> Result<Arc<TableSchema>, Refusal> {
        check_column_name(to)?;
        let mut state = self.lock();
        let (held, at) = state.find(table, from)?;
        let reason = match held.column(to) {
            _ if at == 0 => Some((from, "is the time of every table")),
            Some(_) => Some((to, "is a column of the table already")),
            None => None,
        };
        if let Some((name, reason)) = reason {
            let name = name.to_owned();
            return Err(Refusal::ColumnName { name, reason });
        }
        let new = Arc::new(held.renamed(at, to));
        self.change(&mut state, &new);
        Ok(new)
    }

    /// Gives a table another name. Whatever rows come under the old one from now on are of a table
    /// of its own.
    pub(crate) fn rename_table(&self, from: &str, to: &str) -> Result<Arc<TableSchema>, Refusal> {
        let mut state = self.lock();
        let held = state.held(from)?;
        check_table_name(to)?;
        let declared = [from, to].into_iter();
        let mut declared = declared.filter(|name| state.declared.contains_key(*name));
        if let Some(table) = declared.next() {
            let table = table.to_owned();
            return Err(Refusal::DeclaredTable { table });
        }
        if to == DEAD_LETTERS || state.tables.contains_key(to) {
            let (name, reason) = (to.to_owned(), "is a table already");
            return Err(Refusal::TableName { name, reason });
        }
        let new = Arc::new(held.called(to));
        self.change(&mut state, &new);
        state.tables.remove(from);
        Ok(new)
    }

    /// Gives a column another type, which holds all that it has held as well.
    pub(crate) fn change_type(
        &self,
        table: &str,
        column: &str,
        kind: ColumnType,
    ) -> Result<Arc<TableSchema>, Refusal> {
        let mut state = self.lock();
        let (held, at) = state.find(table, column)?;
        let before = &held.columns[at];
        if let Some(reason) = no_change(before, kind) {
            return Err(Refusal::NoChange {
                table: table.to_owned(),
                column: column.to_owned(),
                holds: before.kind.name(),
                wanted: kind.name(),
                reason,
            });
        }
        let after = match kind {
            ColumnType::Text => before.as_text(),
            kind => before.of_kind(kind),
        };
        let new = Arc::new(held.with_column(at, after));
        state.check_declared(&new, column)?;
        self.change(&mut state, &new);
        Ok(new)
    }

    /// Makes a field of text a tag, or a tag a field.
    pub(crate) fn change_role(
        &self,
        table: &str,
        column: &str,
        role: ColumnRole,
    ) -> Result<Arc<TableSchema>, Refusal> {
        let mut state = self.lock();
        let (held, at) = state.find(table, column)?;
        let before = &held.columns[at];
        let keyed = state.keyed.contains(table);
        if let Some(reason) = no_other_role(before, role, keyed) {
            return Err(Refusal::NoChange {
                table: table.to_owned(),
                column: column.to_owned(),
                holds: holds_what(before),
                wanted: match role {
                    ColumnRole::Time => "the time",
                    ColumnRole::Tag => "a tag",
                    ColumnRole::Field => "a field",
                },
                reason,
            });
        }
        let new = Arc::new(held.with_column(at, before.with_role(role)));
        state.check_declared(&new, column)?;
        self.change(&mut state, &new);
        Ok(new)
    }

    /// Puts in force what an operator has asked for; it is written though no row needs it.
    fn change(&self, state: &mut State, new: &Arc<TableSchema>) {
        self.put(state, new);
        state.unwritten.push(Arc::clone(new));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Schemas that wait without rows, but for those of which the log has a newer one: that holds
    /// them as well.
    pub(crate) fn unwritten(&self, written: &Catalog) -> Vec<Control> {
        let waiting = std::mem::take(&mut self.lock().unwritten);
        let newest = |schema: &TableSchema| {
            let newest = written.newest(schema.id);
            newest.map_or(0, |newest| newest.version)
        };
        let new = waiting.into_iter();
        new.filter(|schema| schema.version > newest(schema))
            .map(Control::Schema)
            .collect()
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

    /// A table that an operator may change.
    fn held(&self, table: &str) -> Result<Arc<TableSchema>, Refusal> {
        if table == DEAD_LETTERS {
            let (name, reason) = (table.to_owned(), "is Headwater's own, and stays as it is");
            return Err(Refusal::TableName { name, reason });
        }
        let held = self.tables.get(table).map(Arc::clone);
        held.ok_or_else(|| unknown(table, None))
    }

    /// The same, and one of its columns.
    fn find(&self, table: &str, column: &str) -> Result<(Arc<TableSchema>, usize), Refusal> {
        let held = self.held(table)?;
        let at = held.column(column);
        let at = at.ok_or_else(|| unknown(table, Some(column)))?;
        Ok((held, at))
    }

    /// Whether the conf lets its table be so: with the same conf a node must start again.
    fn check_declared(&self, schema: &TableSchema, column: &str) -> Result<(), Refusal> {
        let Some(wanted) = self.declared.get(&schema.name) else {
            return Ok(());
        };
        match declared(schema, wanted) {
            Ok(columns) if columns == schema.columns => Ok(()),
            _ => Err(Refusal::DeclaredColumn {
                table: schema.name.clone(),
                column: column.to_owned(),
            }),
        }
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

fn unknown(table: &str, column: Option<&str>) -> Refusal {
    Refusal::Unknown {
        table: table.to_owned(),
        column: column.map(str::to_owned),
    }
}
