//! One look at a log, shared by all that one answer tells of it. Must never sum up the log's blocks
//! twice.

use std::cell::OnceCell;
use std::sync::Arc;

use wal::{Log, Lsn, SegmentInfo, Snapshot};

/// A log as it is at one moment.
pub(crate) struct View {
    log: Log,
    durable: Lsn,
    snapshot: Arc<Snapshot>,
    segments: OnceCell<Vec<SegmentInfo>>,
}

impl View {
    pub(crate) fn of(log: Log) -> Self {
        let durable = log.durable().borrow().lsn;
        // After it: what is durable is in the snapshot.
        let snapshot = log.snapshot();
        Self {
            log,
            durable,
            snapshot,
            segments: OnceCell::new(),
        }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Everything below is on disk.
    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Every segment, oldest first. The first call walks every block.
    pub(crate) fn segments(&self) -> &[SegmentInfo] {
        self.segments.get_or_init(|| self.snapshot.segments())
    }

    /// Whether queries get every row of every table.
    pub(crate) fn is_whole(&self) -> bool {
        let mut tables = self.snapshot.catalog().tables();
        tables.all(|table| self.snapshot.damaged(table.id).is_none())
    }
}
