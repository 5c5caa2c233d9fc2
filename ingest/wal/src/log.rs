//! The read side of an open log, shared by everyone who reads: snapshots, cursors, positions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::block::{BLOCK_HEADER_LEN, BlockHeader};
use crate::cursor::Cursor;
use crate::error::WalError;
use crate::ids::{Epoch, LogId, Lsn, Position};
use crate::snapshot::Snapshot;

/// Read handle of a log: cheap to clone, never writes.
#[derive(Clone, Debug)]
pub struct Log {
    state: Arc<LogState>,
}

/// What the one writer publishes.
#[derive(Debug)]
pub(crate) struct LogState {
    id: LogId,
    epoch: Epoch,
    snapshot: Mutex<Arc<Snapshot>>,
    durable: watch::Sender<Position>,
    failed: watch::Sender<Option<String>>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    groups: AtomicU64,
    blocks: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
}

/// What the log has written since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Group commits.
    pub groups: u64,
    pub blocks: u64,
    pub rows: u64,
    /// Block bytes, headers and padding included.
    pub bytes: u64,
    /// `fdatasync` calls that covered a group.
    pub syncs: u64,
    /// Time spent in them, nanoseconds.
    pub sync_nanos: u64,
}

impl LogState {
    pub(crate) fn new(snapshot: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            id: snapshot.log,
            epoch: snapshot.epoch,
            durable: watch::Sender::new(snapshot.position),
            failed: watch::Sender::new(None),
            snapshot: Mutex::new(Arc::new(snapshot)),
            counters: Counters::default(),
        })
    }

    /// Publishes what is now durable: the snapshot first, then its position.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let position = snapshot.position;
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.durable.send_if_modified(|durable| {
            let moved = *durable != position;
            *durable = position;
            moved
        });
    }

    pub(crate) fn fail(&self, reason: &str) {
        self.failed.send_replace(Some(reason.to_owned()));
    }

    pub(crate) fn count_group(&self, blocks: usize, rows: u64, bytes: usize) {
        let counters = &self.counters;
        counters.groups.fetch_add(1, Ordering::Relaxed);
        counters.blocks.fetch_add(blocks as u64, Ordering::Relaxed);
        counters.rows.fetch_add(rows, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_sync(&self, took: Duration) {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counters.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Log {
    pub(crate) fn new(state: Arc<LogState>) -> Self {
        Self { state }
    }

    pub fn id(&self) -> LogId {
        self.state.id
    }

    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// The view at the durable position.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(
            &self
                .state
                .snapshot
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The durable position; changes after the snapshot that holds it is there to be taken.
    pub fn durable(&self) -> watch::Receiver<Position> {
        self.state.durable.subscribe()
    }

    /// Becomes the reason, once, when a write or fsync has failed.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.state.failed.subscribe()
    }

    /// Start of the oldest segment still held.
    pub fn oldest(&self) -> Position {
        let snapshot = self.snapshot();
        snapshot
            .sealed
            .first()
            .map_or(snapshot.tail.start, |segment| segment.start())
    }

    /// The chain value of a log that ends at `lsn`; `None` when that is no block boundary or not
    /// held here.
    pub fn chain_at(&self, lsn: Lsn) -> Option<u64> {
        let snapshot = self.snapshot();
        if lsn == snapshot.position.lsn {
            return Some(snapshot.position.chain);
        }
        if lsn >= snapshot.tail.start.lsn {
            let blocks = snapshot.tail.run(lsn, snapshot.tail_len, 0)?;
            let header = BlockHeader::decode(&blocks.first()?.bytes).ok()?;
            return Some(header.prev);
        }
        let at = snapshot
            .sealed
            .partition_point(|segment| segment.end.lsn <= lsn);
        let segment = snapshot.sealed.get(at)?;
        let bytes = segment.block(&segment.entries[segment.block_at(lsn)?]);
        BlockHeader::decode(bytes.get(..BLOCK_HEADER_LEN)?)
            .ok()
            .map(|header| header.prev)
    }

    /// A reader of blocks from `from` on.
    ///
    /// # Errors
    /// `NotHeld` when the log has no block boundary with that chain value there.
    pub fn cursor(&self, from: Position) -> Result<Cursor, WalError> {
        if self.chain_at(from.lsn) != Some(from.chain) {
            return Err(WalError::NotHeld(from));
        }
        Ok(Cursor::new(self.clone(), from))
    }

    /// Counters since the log was opened.
    pub fn stats(&self) -> LogStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.state.counters;
        LogStats {
            groups: read(&counters.groups),
            blocks: read(&counters.blocks),
            rows: read(&counters.rows),
            bytes: read(&counters.bytes),
            syncs: read(&counters.syncs),
            sync_nanos: read(&counters.sync_nanos),
        }
    }
}
