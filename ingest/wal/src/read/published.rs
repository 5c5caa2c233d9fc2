//! What the log shows to its readers: the newest snapshot, the durable position, and whether
//! writing goes on. Each of the log's writer, compaction and repair replaces only its own part of
//! the snapshot. A position must never be shown before the snapshot that holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::format::catalog::Catalog;
use crate::ids::Position;
use crate::parquet::FileSet;
use crate::read::replicas::Replicated;
use crate::read::sealed::Sealed;
use crate::read::snapshot::Snapshot;
use crate::read::tail::Tail;

/// What the writer shows after a commit.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) position: Position,
    pub(crate) committed_at: i64,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) tail_len: usize,
    pub(crate) tail_bytes: u64,
    /// A segment that has just been sealed.
    pub(crate) sealed: Option<Arc<Sealed>>,
}

/// The view of the log, and word of it.
#[derive(Debug)]
pub(crate) struct Published {
    snapshot: Mutex<Arc<Snapshot>>,
    pub(crate) durable: watch::Sender<Position>,
    pub(crate) failed: watch::Sender<Option<String>>,
    pub(crate) stalled: watch::Sender<Option<String>>,
    pub(crate) replicated: watch::Sender<Replicated>,
}

impl Published {
    pub(crate) fn new(snapshot: Snapshot, position: Position) -> Self {
        Self {
            durable: watch::Sender::new(position),
            failed: watch::Sender::new(None),
            stalled: watch::Sender::new(None),
            replicated: watch::Sender::new(Replicated::default()),
            snapshot: Mutex::new(Arc::new(snapshot)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock())
    }

    /// Shows other Parquet files from now on.
    pub(crate) fn set_files(&self, files: Arc<FileSet>) {
        let mut held = self.lock();
        *held = Arc::new(Snapshot {
            files,
            ..Snapshot::clone(&held)
        });
    }

    /// Shows other sealed segments from now on: what `change` makes of them.
    pub(crate) fn change_sealed<T>(&self, change: impl FnOnce(&mut Vec<Arc<Sealed>>) -> T) -> T {
        let mut held = self.lock();
        let mut snapshot = Snapshot::clone(&held);
        let result = change(Arc::make_mut(&mut snapshot.sealed));
        *held = Arc::new(snapshot);
        result
    }

    /// Whether this is the segment that readers see: it has not been repaired or retired meanwhile.
    pub(crate) fn shows(&self, segment: &Arc<Sealed>) -> bool {
        self.snapshot()
            .sealed
            .iter()
            .any(|held| Arc::ptr_eq(held, segment))
    }

    /// Shows what is now durable: the snapshot first, then its position.
    pub(crate) fn publish(&self, committed: Committed) {
        let position = committed.position;
        let mut held = self.lock();
        assert!(
            position.lsn >= held.end.lsn,
            "the durable position goes back from {} to {position}",
            held.end
        );
        let mut sealed = Arc::clone(&held.sealed);
        if let Some(segment) = committed.sealed {
            Arc::make_mut(&mut sealed).push(segment);
        }
        *held = Arc::new(Snapshot {
            log: held.log,
            epoch: held.epoch,
            end: position.into(),
            committed_at: committed.committed_at,
            catalog: committed.catalog,
            sealed,
            files: Arc::clone(&held.files),
            tail: committed.tail,
            tail_len: committed.tail_len,
            tail_bytes: committed.tail_bytes,
        });
        drop(held);
        self.durable.send_if_modified(|durable| {
            let moved = *durable != position;
            *durable = position;
            moved
        });
    }

    /// Says that nothing will be committed any more, and why.
    pub(crate) fn fail(&self, reason: &str) {
        self.failed.send_replace(Some(reason.to_owned()));
    }

    /// Says why nothing is committed at the moment, or that it is again. True when that is news.
    pub(crate) fn stall(&self, reason: Option<String>) -> bool {
        self.stalled.send_if_modified(|stalled| {
            // Free space changes all the time; only the fact is news.
            let news = stalled.is_some() != reason.is_some();
            *stalled = reason;
            news
        })
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.borrow().is_some()
    }
}
