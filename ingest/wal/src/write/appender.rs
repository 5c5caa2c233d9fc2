//! The producers' end of the write path. One `Appender` per producer thread: it checks rows against
//! their schema and gathers them as columns until the committer takes them. It must never do I/O.
//!
//! The mutex around the gathered rows is shared with the committer alone, which holds it for the
//! time of a pointer swap. Nothing here does I/O.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use crate::error::WalError;
use crate::format::row::{Refusal, Row};
use crate::format::schema::TableSchema;
use crate::ids::Lsn;
use crate::write::demand::{check_table_name, demands, holds, holds_tag};
use crate::write::inbox::{GroupId, Inbox, Pending, lock};
use crate::write::registry::{Proposal, Registry};

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

/// A producer's handle to the log. A copy, for another thread of the same producer, gathers into the
/// same groups.
#[derive(Clone, Debug)]
pub struct Appender {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) registry: Arc<Registry>,
    schemas: HashMap<String, Known>,
    /// An operator's changes when they were learnt.
    changes: u64,
    slots: Vec<usize>,
    limit: usize,
}

/// A schema this appender has met.
#[derive(Clone, Debug)]
struct Known {
    schema: Arc<TableSchema>,
    /// One key has one row, and a key is made of tags.
    keyed: bool,
}

impl Appender {
    pub(crate) fn new(inbox: Arc<Inbox>, registry: Arc<Registry>, limit: usize) -> Self {
        Self {
            inbox,
            registry,
            schemas: HashMap::new(),
            changes: 0,
            slots: Vec::new(),
            limit,
        }
    }

    /// Takes `rows` of one table, all or none. A new table or column comes into being; an integer
    /// column that meets a float widens. When it refuses, nothing has.
    ///
    /// # Errors
    /// `Refused` when the rows do not fit, `Full` when they must wait for the next commit.
    pub fn append(&mut self, table: &str, rows: &[Row<'_>]) -> Result<GroupId, AppendError> {
        self.append_of(None, table, rows)
    }

    /// The same for rows that `client` has sent, whose quota of new tables and columns it keeps to.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_from(
        &mut self,
        client: &str,
        table: &str,
        rows: &[Row<'_>],
    ) -> Result<GroupId, AppendError> {
        self.append_of(Some(client), table, rows)
    }

    fn append_of(
        &mut self,
        client: Option<&str>,
        table: &str,
        rows: &[Row<'_>],
    ) -> Result<GroupId, AppendError> {
        if self.inbox.is_closed() {
            return Err(AppendError::Closed);
        }
        if rows.is_empty() {
            return Err(Refusal::Empty.into());
        }
        self.inbox.times.check(table, rows)?;
        let mut slots = std::mem::take(&mut self.slots);
        let taken = self.take(client, table, rows, &mut slots);
        self.slots = slots;
        taken
    }

    fn take(
        &mut self,
        client: Option<&str>,
        table: &str,
        rows: &[Row<'_>],
        slots: &mut Vec<usize>,
    ) -> Result<GroupId, AppendError> {
        loop {
            let changes = self.registry.changes();
            if changes != self.changes {
                self.schemas.clear();
                self.changes = changes;
            }
            let Some(known) = self.schemas.get(table) else {
                break;
            };
            if !known.resolve(rows, slots) {
                break;
            }
            check_rows(rows, slots, &known.schema)?;
            if let Some(group) = self.gather(&known.schema, rows, slots)? {
                return Ok(group);
            }
        }
        check_table_name(table)?;
        let demands = demands(table, rows)?;
        // Again only when another producer has changed the table meanwhile.
        loop {
            let proposal = self.registry.propose(table, &demands)?;
            let known = Known::new(&proposal);
            if !known.resolve(rows, slots) {
                return Err(Refusal::Empty.into());
            }
            check_rows(rows, slots, &known.schema)?;
            if let Some(group) = self.enter(client, &proposal, rows, slots)? {
                self.schemas.insert(table.to_owned(), known);
                return Ok(group);
            }
        }
    }

    /// Rows under a schema that was in force; `None` when an operator has changed something since.
    fn gather(
        &self,
        schema: &Arc<TableSchema>,
        rows: &[Row<'_>],
        slots: &[usize],
    ) -> Result<Option<GroupId>, AppendError> {
        let room = self.room(schema, slots)?;
        // Now that the committer cannot take what waits: it writes no row of a table behind its drop.
        let in_force = self.registry.changes() == self.changes;
        Ok(in_force.then(|| self.push(room, schema, rows, slots)))
    }

    /// Rows and the schema that they need, both or neither; `None` when the table is not any more
    /// what the proposal was made from.
    fn enter(
        &self,
        client: Option<&str>,
        proposal: &Proposal,
        rows: &[Row<'_>],
        slots: &[usize],
    ) -> Result<Option<GroupId>, AppendError> {
        let schema = proposal.schema();
        let room = self.room(schema, slots)?;
        let entered = self.registry.enter(proposal, client)?;
        Ok(entered.then(|| self.push(room, schema, rows, slots)))
    }

    /// The rows that wait, if there is room for more of these columns among them.
    fn room(
        &self,
        schema: &TableSchema,
        slots: &[usize],
    ) -> Result<MutexGuard<'_, Pending>, AppendError> {
        let pending = lock(&self.inbox.pending);
        let growth = pending.batch.growth(schema, slots);
        if !pending.batch.is_empty() && pending.batch.bytes() + growth >= self.limit {
            return Err(AppendError::Full);
        }
        Ok(pending)
    }

    fn push(
        &self,
        mut pending: MutexGuard<'_, Pending>,
        schema: &Arc<TableSchema>,
        rows: &[Row<'_>],
        slots: &[usize],
    ) -> GroupId {
        let idle = pending.batch.is_empty();
        pending.batch.push(schema, rows, slots);
        let group = GroupId(pending.group);
        drop(pending);
        if idle {
            self.inbox.bell.ring();
        }
        group
    }

    /// The table's columns so far, as all appenders know them.
    #[must_use]
    pub fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        self.registry.schema(table)
    }

    /// Blocks until the rows of `group` are on disk; returns an LSN above all of them.
    ///
    /// # Errors
    /// When the log failed or was closed before.
    pub fn wait(&self, group: GroupId) -> Result<Lsn, WalError> {
        self.inbox.wait(group)
    }
}

impl Known {
    fn new(proposal: &Proposal) -> Self {
        Self {
            schema: Arc::clone(proposal.schema()),
            keyed: proposal.keyed(),
        }
    }

    /// Finds the column of every value; false when the schema does not hold them all.
    fn resolve(&self, rows: &[Row<'_>], slots: &mut Vec<usize>) -> bool {
        slots.clear();
        for row in rows {
            let mut guess = 1;
            for (name, _) in row.tags {
                let Some(at) = self.find(name, guess) else {
                    return false;
                };
                if !holds_tag(&self.schema.columns[at], self.keyed) {
                    return false;
                }
                guess = at + 1;
                slots.push(at);
            }
            for (name, value) in row.fields {
                let Some(at) = self.find(name, guess) else {
                    return false;
                };
                if !holds(&self.schema.columns[at], value) {
                    return false;
                }
                guess = at + 1;
                slots.push(at);
            }
        }
        true
    }

    /// Devices send their fields in one order: try the column after the last one first.
    fn find(&self, name: &str, guess: usize) -> Option<usize> {
        match self.schema.columns.get(guess) {
            Some(column) if *column.name == *name => Some(guess),
            _ => self.schema.column(name),
        }
    }
}

/// What may be wrong with rows that fit their schema.
fn check_rows(rows: &[Row<'_>], slots: &[usize], schema: &TableSchema) -> Result<(), Refusal> {
    check_once(rows, slots, schema)?;
    check_size(rows, slots)
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
                column: schema.columns[pair[0]].name.to_string(),
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
