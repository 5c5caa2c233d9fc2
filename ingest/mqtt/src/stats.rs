//! Counters of the listener: written by one worker each, added up when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the listener has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open connections.
    pub connections: u64,
    /// PUBLISH packets of any QoS.
    pub received: u64,
    /// PUBACK and PUBREC packets sent, each after the fsync of its message.
    pub acknowledged: u64,
    /// Rows handed to the log, dead letters not counted.
    pub rows: u64,
    pub dead_letters: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Connections refused at CONNECT or closed for a protocol error.
    pub refused_connections: u64,
}

/// One worker's counters, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
}

/// Adds to a counter that only one thread writes.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

impl Counters {
    pub(crate) fn add_to(&self, sum: &mut Stats) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        sum.connections += read(&self.connections);
        sum.received += read(&self.received);
        sum.acknowledged += read(&self.acknowledged);
        sum.rows += read(&self.rows);
        sum.dead_letters += read(&self.dead_letters);
        sum.bytes += read(&self.bytes);
        sum.refused_connections += read(&self.refused_connections);
    }
}
