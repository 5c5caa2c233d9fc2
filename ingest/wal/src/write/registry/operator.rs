//! What an operator changes about tables that are there, in the registry: names, types, roles, and
//! that a table goes. It must never change what a conf declares, nor the dead letters.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::{Registry, State};
use crate::format::control::Control;
use crate::format::row::Refusal;
use crate::format::schema::{ColumnRole, ColumnType, DEAD_LETTERS, TableSchema};
use crate::ids::TableId;
use crate::write::change::{no_change, no_other_role};
use crate::write::declared::declared;
use crate::write::demand::{check_column_name, check_table_name, holds_what};

impl Registry {
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

    /// Takes a table away, with all its rows, if it is still the one of this id. Whatever rows come
    /// under its name from now on are of a table of its own.
    pub(crate) fn drop_table(&self, table: &str, id: TableId) -> Result<bool, Refusal> {
        let mut state = self.lock();
        let held = state.held(table)?;
        if state.declared.contains_key(table) {
            let table = table.to_owned();
            return Err(Refusal::DeclaredTable { table });
        }
        if held.id != id {
            return Ok(false);
        }
        state.tables.remove(table);
        state.unwritten.push(Control::Drop(id));
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.shrink(held.memory() as u64);
        // Under the lock: whoever sees the drop sees that something has changed.
        self.changes.fetch_add(1, Ordering::Release);
        Ok(true)
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
        state.unwritten.push(Control::Schema(Arc::clone(new)));
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl State {
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
}

fn unknown(table: &str, column: Option<&str>) -> Refusal {
    Refusal::Unknown {
        table: table.to_owned(),
        column: column.map(str::to_owned),
    }
}
