//! What the log has written since it was opened, as numbers. Counts what it is told; it must never
//! decide anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::damage::DamageList;

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
    /// Unfinished writes that were cut when the log was opened.
    pub torn_tails: u64,
    /// Segments and Parquet files found damaged.
    pub damaged_segments: u64,
    pub damaged_files: u64,
    /// Damaged files that were replaced by whole ones.
    pub repaired: u64,
    /// Retention cuts written.
    pub cuts: u64,
    /// Times that rows were refused because their table no longer keeps such old ones. A call that
    /// is made again with fewer rows counts again.
    pub expired: u64,
    /// Dead letters that have gone, about, because they were more than may be kept.
    pub given_up: u64,
    /// Segments deleted because their rows are in files.
    pub retired_segments: u64,
}

/// The numbers behind [`LogStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    groups: AtomicU64,
    blocks: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    torn_tails: u64,
    cuts: AtomicU64,
    given_up: AtomicU64,
    retired: AtomicU64,
    /// Counted by appenders.
    pub(crate) expired: Arc<AtomicU64>,
}

impl Counters {
    pub(crate) fn new(torn_tails: u64) -> Self {
        Self {
            torn_tails,
            ..Self::default()
        }
    }

    pub(crate) fn count_group(&self, blocks: usize, rows: u64, bytes: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.blocks.fetch_add(blocks as u64, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_sync(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn count_cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_given_up(&self, rows: u64) {
        self.given_up.store(rows, Ordering::Relaxed);
    }

    pub(crate) fn count_retired(&self, segments: usize) {
        self.retired.fetch_add(segments as u64, Ordering::Relaxed);
    }

    /// Bytes of blocks that were written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self, damage: &DamageList) -> LogStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (damaged_segments, damaged_files, repaired) = damage.counts();
        LogStats {
            groups: read(&self.groups),
            blocks: read(&self.blocks),
            rows: read(&self.rows),
            bytes: read(&self.bytes),
            syncs: read(&self.syncs),
            sync_nanos: read(&self.sync_nanos),
            torn_tails: self.torn_tails,
            damaged_segments,
            damaged_files,
            repaired,
            cuts: read(&self.cuts),
            expired: read(&self.expired),
            given_up: read(&self.given_up),
            retired_segments: read(&self.retired),
        }
    }
}
