//! Counts of writes: each is in one place at any time; a write must never leave uncounted, however
//! it ends.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has come in this way since the node started. `received` is `written + refused + failed +
/// dropped + waiting`, exactly so when nothing moves while it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntakeStats {
    /// Writes of any kind.
    pub received: u64,
    /// Answered once their rows were on disk; lines that could not be read may have been left out.
    pub written: u64,
    /// Refused for what they hold; nothing of them is stored.
    pub refused: u64,
    /// Not known to be on disk: the log took nothing, or not in time.
    pub failed: u64,
    /// Nobody waited for the answer any more: stored or not.
    pub dropped: u64,
    /// Writes whose answer is due now.
    pub waiting: u64,
    /// Rows handed to the log.
    pub rows: u64,
    /// Payload bytes, as received.
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    received: AtomicU64,
    written: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Written,
    Refused,
    Failed,
}

/// A write that has begun; counted as dropped unless it is told how it ended.
#[must_use = "dropped at once it counts as dropped"]
pub(crate) struct Begun<'a> {
    counters: &'a Counters,
    end: Option<End>,
}

impl Counters {
    pub(crate) fn begin(&self, bytes: usize) -> Begun<'_> {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Begun {
            counters: self,
            end: None,
        }
    }

    pub(crate) fn took(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> IntakeStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (written, refused) = (read(&self.written), read(&self.refused));
        let (failed, dropped) = (read(&self.failed), read(&self.dropped));
        // Last: what has ended was received.
        let received = read(&self.received);
        let ended = written + refused + failed + dropped;
        IntakeStats {
            received,
            written,
            refused,
            failed,
            dropped,
            waiting: received.saturating_sub(ended),
            rows: read(&self.rows),
            bytes: read(&self.bytes),
        }
    }
}

impl Begun<'_> {
    pub(crate) fn ended(mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let counter = match self.end {
            Some(End::Written) => &self.counters.written,
            Some(End::Refused) => &self.counters.refused,
            Some(End::Failed) => &self.counters.failed,
            None => &self.counters.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_in_one_place() {
        let counters = Counters::default();
        let (first, second) = (counters.begin(3), counters.begin(4));
        let third = counters.begin(0);
        assert_eq!((counters.stats().waiting, counters.stats().bytes), (3, 7));
        first.ended(End::Written);
        second.ended(End::Refused);
        drop(third);
        counters.begin(0).ended(End::Failed);
        let stats = counters.stats();
        assert_eq!((stats.received, stats.waiting), (4, 0));
        let ends = (stats.written, stats.refused, stats.failed, stats.dropped);
        assert_eq!(ends, (1, 1, 1, 1));
    }
}
