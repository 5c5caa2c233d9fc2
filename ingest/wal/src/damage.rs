//! What is known to be damaged on this node's disk and not repaired yet. Filled by whoever reads;
//! emptied by repair. Holds names and reasons, never bytes. It must never hold bytes.

use serde::{Deserialize, Serialize};

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// One damaged file of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Relative to the log's directory.
    pub name: String,
    /// The length it should have; 0: not known.
    #[serde(default)]
    pub bytes: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// The list, and what it has seen.
#[derive(Debug)]
pub(crate) struct DamageList {
    list: watch::Sender<Vec<Damaged>>,
    segments: AtomicU64,
    files: AtomicU64,
    repaired: AtomicU64,
}

impl Default for DamageList {
    fn default() -> Self {
        Self {
            list: watch::Sender::new(Vec::new()),
            segments: AtomicU64::new(0),
            files: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
        }
    }
}

impl DamageList {
    /// Puts a file on the list, once.
    pub(crate) fn report(&self, name: &str, bytes: u64, reason: &str) {
        let new = self.list.send_if_modified(|list| {
            let known = list.iter().any(|entry| entry.name == name);
            if known || list.len() >= MAX_ENTRIES {
                return false;
            }
            list.push(Damaged {
                name: name.to_owned(),
                bytes,
                reason: reason.to_owned(),
            });
            true
        });
        if new {
            let counter = match crate::paths::segment_first(name) {
                Some(_) => &self.segments,
                None => &self.files,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a file off the list: it is whole again, or not needed any more.
    pub(crate) fn clear(&self, name: &str, repaired: bool) {
        let found = self.list.send_if_modified(|list| {
            let before = list.len();
            list.retain(|entry| entry.name != name);
            list.len() != before
        });
        if found && repaired {
            self.repaired.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn holds(&self, name: &str) -> bool {
        self.list.borrow().iter().any(|entry| entry.name == name)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Vec<Damaged>> {
        self.list.subscribe()
    }

    /// Segments and files found damaged, and repaired ones, since the log was opened.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (
            read(&self.segments),
            read(&self.files),
            read(&self.repaired),
        )
    }
}

/// Most entries kept; verification lists the rest.
const MAX_ENTRIES: usize = 1024;
