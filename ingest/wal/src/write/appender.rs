//! The producers' end of the write path. One `Appender` per producer thread: it checks rows against
//! their schema and gathers them as columns until the committer takes them. It must never do I/O.
//!
//! The mutex around the gathered rows is shared with the committer alone, which holds it for the
//! time of a pointer swap. Nothing here does I/O.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::WalError;
use crate::format::row::{Refusal, Row};
use crate::format::schema::{Column, ColumnRole, ColumnType, DEAD_LETTERS, MAX_NAME, TableSchema};
use crate::ids::Lsn;
use crate::write::inbox::{GroupId, Inbox, lock};
use crate::write::registry::Registry;

/// Why rows were not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The rows do not fit; none of them was taken.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much waits for the next commit: try again after it.
    #[error("too many bytes wait for a commit")]
    Full,
    /// The log has failed or is closed: nothing will be acknowledged any more.
    #[error("the log accepts no more rows")]
    Closed,
}

/// A producer's handle to the log.
#[derive(Debug)]
pub struct Appender {
    pub(crate) inbox: Arc<Inbox>,
    registry: Arc<Registry>,
    schemas: HashMap<String, Known>,
    slots: Vec<usize>,
    limit: usize,
}

/// A schema this appender has met.
#[derive(Debug)]
struct Known {
    schema: Arc<TableSchema>,
    index: HashMap<String, usize>,
}

impl Appender {
    pub(crate) fn new(inbox: Arc<Inbox>, registry: Arc<Registry>, limit: usize) -> Self {
        Self {
            inbox,
            registry,
            schemas: HashMap::new(),
            slots: Vec::new(),
            limit,
        }
    }

    /// Takes `rows` of one table, all or none. A new table or column comes into being; an integer
    /// column that meets a float widens.
    ///
    /// # Errors
    /// `Refused` when the rows do not fit, `Full` when they must wait for the next commit.
    pub fn append(&mut self, table: &str, rows: &[Row<'_>]) -> Result<GroupId, AppendError> {
        if self.inbox.is_closed() {
            return Err(AppendError::Closed);
        }
        if rows.is_empty() {
            return Err(Refusal::Empty.into());
        }
        if !self.resolve(table, rows) {
            self.evolve(table, rows)?;
            if !self.resolve(table, rows) {
                return Err(Refusal::Empty.into());
            }
        }
        let Some(known) = self.schemas.get(table) else {
            return Err(AppendError::Closed);
        };
        check_once(rows, &self.slots, &known.schema)?;
        check_size(rows, &self.slots)?;
        let mut pending = lock(&self.inbox.pending);
        let idle = pending.batch.is_empty();
        let growth = pending.batch.growth(&known.schema, &self.slots);
        if !idle && pending.batch.bytes() + growth >= self.limit {
            return Err(AppendError::Full);
        }
        pending.batch.push(&known.schema, rows, &self.slots);
        let group = GroupId(pending.group);
        drop(pending);
        if idle {
            self.inbox.bell.ring();
        }
        Ok(group)
    }

    /// Blocks until the rows of `group` are on disk; returns an LSN above all of them.
    ///
    /// # Errors
    /// When the log failed or was closed before.
    pub fn wait(&self, group: GroupId) -> Result<Lsn, WalError> {
        self.inbox.wait(group)
    }

    /// Finds the column of every value; false when the schema known here does not hold them all.
    fn resolve(&mut self, table: &str, rows: &[Row<'_>]) -> bool {
        self.slots.clear();
        let Some(known) = self.schemas.get(table) else {
            return false;
        };
        for row in rows {
            let mut guess = 1;
            for (name, _) in row.tags {
                let Some(at) = known.find(name, guess) else {
                    return false;
                };
                if known.schema.columns[at].role != ColumnRole::Tag {
                    return false;
                }
                guess = at + 1;
                self.slots.push(at);
            }
            for (name, value) in row.fields {
                let Some(at) = known.find(name, guess) else {
                    return false;
                };
                let column = &known.schema.columns[at];
                // A conf may declare a payload's field to be a tag: it says who, whatever it holds.
                let fits = column.role == ColumnRole::Tag
                    || column.kind == value.kind()
                    || (column.kind == ColumnType::Float && value.kind() == ColumnType::Int);
                if column.role == ColumnRole::Time || !fits {
                    return false;
                }
                guess = at + 1;
                self.slots.push(at);
            }
        }
        true
    }

    /// Asks for a schema that holds every value of `rows`.
    fn evolve(&mut self, table: &str, rows: &[Row<'_>]) -> Result<(), Refusal> {
        check_table_name(table)?;
        let mut wanted: Vec<Column> = Vec::new();
        for row in rows {
            let tags = row
                .tags
                .iter()
                .map(|(name, _)| (*name, ColumnRole::Tag, ColumnType::Text));
            let fields = row
                .fields
                .iter()
                .map(|(name, value)| (name.as_ref(), ColumnRole::Field, value.kind()));
            for (name, role, kind) in tags.chain(fields) {
                if wanted
                    .iter()
                    .any(|column| column.name == name && column.kind == kind)
                {
                    continue;
                }
                check_column_name(name)?;
                wanted.push(Column {
                    name: name.to_owned(),
                    role,
                    kind,
                });
                if wanted.len() > 2 * crate::format::schema::MAX_COLUMNS {
                    let limit = crate::format::schema::MAX_COLUMNS;
                    return Err(Refusal::TooManyColumns {
                        table: table.to_owned(),
                        limit,
                    });
                }
            }
        }
        let schema = self.registry.evolve(table, &wanted)?;
        self.schemas.insert(table.to_owned(), Known::new(schema));
        Ok(())
    }
}

impl Known {
    fn new(schema: Arc<TableSchema>) -> Self {
        let names = schema.columns.iter().enumerate();
        let index = names
            .map(|(at, column)| (column.name.clone(), at))
            .collect();
        Self { schema, index }
    }

    /// Devices send their fields in one order: try the column after the last one first.
    fn find(&self, name: &str, guess: usize) -> Option<usize> {
        match self.schema.columns.get(guess) {
            Some(column) if column.name == name => Some(guess),
            _ => self.index.get(name).copied(),
        }
    }
}

fn check_table_name(name: &str) -> Result<(), Refusal> {
    let refuse = |reason| {
        Err(Refusal::TableName {
            name: shorten(name),
            reason,
        })
    };
    if name == DEAD_LETTERS {
        return Ok(());
    }
    if name == "system" || name == "information_schema" || name.starts_with("system.") {
        return refuse("is reserved");
    }
    match name_fault(name) {
        Some(reason) => refuse(reason),
        None => Ok(()),
    }
}

fn check_column_name(name: &str) -> Result<(), Refusal> {
    match name_fault(name) {
        Some(reason) => Err(Refusal::ColumnName {
            name: shorten(name),
            reason,
        }),
        None => Ok(()),
    }
}

fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME {
        Some("is longer than 256 bytes")
    } else if name.chars().any(char::is_control) {
        Some("has control characters")
    } else {
        None
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(64).collect()
}

/// A row has each column once: a second value would shift the rows after it.
fn check_once(rows: &[Row<'_>], slots: &[usize], schema: &TableSchema) -> Result<(), Refusal> {
    let mut rest = slots;
    for row in rows {
        let (slots, after) = rest.split_at(row.tags.len() + row.fields.len());
        rest = after;
        if slots.is_sorted_by(|a, b| a < b) {
            continue;
        }
        let mut sorted = slots.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Refusal::Twice {
                column: schema.columns[pair[0]].name.clone(),
            });
        }
    }
    Ok(())
}

/// Rows of one call become columns with a value or a null in every row, so wide and sparse rows
/// cost far more than their text.
fn check_size(rows: &[Row<'_>], slots: &[usize]) -> Result<(), Refusal> {
    // A block must stay well below its limit, or nobody could read it again.
    let texts = rows.iter().flat_map(|row| {
        let tags = row.tags.iter().map(|(_, value)| value.len());
        tags.chain(row.fields.iter().map(|(_, value)| match value {
            crate::format::row::Value::Text(text) => text.len(),
            _ => 0,
        }))
    });
    let (bytes, limit) = (texts.sum(), MAX_CALL_BYTES);
    if bytes > limit {
        return Err(Refusal::TooLarge { bytes, limit });
    }
    if rows.len() < 64 {
        return Ok(());
    }
    let mut touched = vec![false; slots.iter().max().map_or(0, |max| max + 1)];
    slots.iter().for_each(|at| touched[*at] = true);
    let width = 1 + touched.iter().filter(|touched| **touched).count();
    let bytes = rows.len().saturating_mul(width).saturating_mul(8);
    if bytes > MAX_CALL_BYTES {
        return Err(Refusal::TooLarge {
            bytes,
            limit: MAX_CALL_BYTES,
        });
    }
    Ok(())
}

/// Most bytes the rows of one call may take as columns.
const MAX_CALL_BYTES: usize = 32 << 20;
