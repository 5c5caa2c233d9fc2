//! The oldest row time that a table takes: what is older would be gone at once, without a word.
//! Looked at by every appender, set by the committer. It must never take a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::format::row::{Refusal, Row};

/// The oldest times of the tables whose rows expire.
#[derive(Debug, Default)]
pub(crate) struct OldestTaken {
    tables: HashMap<String, AtomicI64>,
    refused: Arc<AtomicU64>,
}

impl OldestTaken {
    /// Of tables that take any time so far. All others do so for ever.
    /// Refusals are counted in `refused`.
    pub(crate) fn new(tables: impl Iterator<Item = String>, refused: Arc<AtomicU64>) -> Self {
        let tables = tables.map(|table| (table, AtomicI64::new(i64::MIN)));
        Self {
            tables: tables.collect(),
            refused,
        }
    }

    /// From when on rows are taken; `None`: all.
    pub(crate) fn set(&self, table: &str, oldest: Option<i64>) {
        if let Some(held) = self.tables.get(table) {
            held.store(oldest.unwrap_or(i64::MIN), Ordering::Relaxed);
        }
    }

    /// Whether every row is young enough.
    pub(crate) fn check(&self, table: &str, rows: &[Row<'_>]) -> Result<(), Refusal> {
        if self.tables.is_empty() {
            return Ok(());
        }
        let Some(oldest) = self.tables.get(table) else {
            return Ok(());
        };
        let cut = oldest.load(Ordering::Relaxed);
        match rows.iter().find(|row| row.time < cut) {
            None => Ok(()),
            Some(row) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Refusal::Expired {
                    table: table.to_owned(),
                    time: row.time,
                    cut,
                })
            }
        }
    }
}
