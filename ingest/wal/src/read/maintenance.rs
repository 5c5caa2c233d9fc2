//! Who may change the files of an open log besides its writer. Compaction and repair ask here; it
//! must never let them cross, nor let either go on once the log is dismissed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::WalError;

/// The locks and flags of compaction and repair.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    /// Held while files are exchanged, so that compaction and repair do not cross.
    exchange: Mutex<()>,
    /// Held for as long as a compactor lives.
    compacting: Mutex<()>,
    /// The manifest on disk may be the next one or the last: no file is touched before a restart.
    in_doubt: AtomicBool,
    /// Another log takes the place of this one on the disk: nothing is written any more.
    dismissed: AtomicBool,
}

impl Maintenance {
    /// Nobody else exchanges files while this is held.
    pub(crate) fn exchange(&self) -> MutexGuard<'_, ()> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by the one compactor for as long as it lives.
    pub(crate) fn compacting(&self) -> MutexGuard<'_, ()> {
        self.compacting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the manifest after writing it failed.
    pub(crate) fn manifest_failed(&self, error: &WalError) {
        let in_doubt = matches!(error, WalError::Io { operation, .. } if operation.moves_names());
        self.in_doubt.store(in_doubt, Ordering::Release);
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Acquire)
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Acquire)
    }

    /// Ends compaction and repairs for good. Blocks until nothing is written any more.
    pub(crate) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        drop(self.compacting());
        drop(self.exchange());
    }
}
