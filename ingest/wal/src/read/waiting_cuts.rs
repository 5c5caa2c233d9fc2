//! Cuts by retention that wait, and the word of whoever says that one is right. Keeps what it is
//! told; it must never decide whether a clock is believed.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A cut that would remove rows out of turn: the clock has jumped, or the retention is shorter than
/// it was. It is made once the process has run for long enough, or when somebody says that it is
/// right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingCut {
    pub table: String,
    pub retention_s: u64,
    /// Rows older than this would be gone.
    pub cut_unix_ms: i64,
    /// How far it lies ahead of the cut in force; none is in force.
    pub ahead_s: Option<u64>,
    /// About how many rows would go, of how many.
    pub rows: u64,
    pub of_rows: u64,
    /// For how long the process must still run.
    pub left_s: u64,
}

/// The cuts that wait in one log.
#[derive(Debug, Default)]
pub(crate) struct WaitingCuts {
    list: watch::Sender<Vec<WaitingCut>>,
    approved: Mutex<BTreeSet<String>>,
}

impl WaitingCuts {
    pub(crate) fn watch(&self) -> watch::Receiver<Vec<WaitingCut>> {
        self.list.subscribe()
    }

    /// What waits now. Wakes readers only when it is for other tables than before.
    pub(crate) fn set(&self, waiting: Vec<WaitingCut>) {
        self.list.send_if_modified(|held| {
            let tables = |list: &[WaitingCut]| -> Vec<String> {
                list.iter().map(|waits| waits.table.clone()).collect()
            };
            let news = tables(held) != tables(&waiting);
            *held = waiting;
            news
        });
    }

    /// Takes note that the cut of a table is right. False: none waits.
    pub(crate) fn approve(&self, table: &str) -> bool {
        let waits = self.list.borrow().iter().any(|waits| waits.table == table);
        if waits {
            let mut approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner);
            approved.insert(table.to_owned());
        }
        waits
    }

    /// Tables whose cuts have been said to be right since the last time.
    pub(crate) fn take_approved(&self) -> BTreeSet<String> {
        let mut approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut approved)
    }
}
