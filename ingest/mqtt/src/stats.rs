//! Counters of the listener: written by one worker each, added up when somebody asks. Must never
//! have two writers to one counter.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::replica_waits::Waits;

/// What the listener has done since it started. Every PUBLISH is in one place: `received` is
/// `acknowledged + qos0 + duplicates + refused_messages + dropped + waiting`, exactly so when
/// nothing moves while it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open connections.
    pub connections: u64,
    /// PUBLISH packets of any QoS.
    pub received: u64,
    /// Messages answered with PUBACK or PUBREC, each after its fsync; repeats not counted.
    pub acknowledged: u64,
    /// Those of them that as many secondaries have as was asked.
    pub acknowledged_replicated: u64,
    /// Those of them that asked for more secondaries than were connected.
    pub fell_back: u64,
    /// Messages of QoS 0 handed to the log: nobody is told what became of them.
    pub qos0: u64,
    /// QoS 2 messages that came again and were not stored again.
    pub duplicates: u64,
    /// Messages refused for what they asked for, or that neither their table nor the dead letters
    /// could take; nothing of them is stored.
    pub refused_messages: u64,
    /// Messages whose connection ended before their answer: stored or not, the client sends them
    /// again.
    pub dropped: u64,
    /// Messages whose answer is due now.
    pub waiting: u64,
    /// Of those, messages that are durable here and wait for secondaries; looked at twice a second.
    pub awaiting_secondaries: u64,
    /// Since when the first of them has waited; 0: none does.
    pub awaiting_since_unix_ms: u64,
    /// Rows handed to the log, dead letters not counted.
    pub rows: u64,
    pub dead_letters: u64,
    /// Messages that neither their table nor the dead letters took: of the refused, and of those
    /// whose clients are told nothing.
    pub unkept: u64,
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
    pub(crate) acknowledged_replicated: AtomicU64,
    pub(crate) fell_back: AtomicU64,
    pub(crate) qos0: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) refused_messages: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) awaiting: AtomicU64,
    pub(crate) awaiting_since_unix_ms: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) unkept: AtomicU64,
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
        sum.acknowledged_replicated += read(&self.acknowledged_replicated);
        sum.fell_back += read(&self.fell_back);
        sum.qos0 += read(&self.qos0);
        sum.duplicates += read(&self.duplicates);
        sum.refused_messages += read(&self.refused_messages);
        sum.dropped += read(&self.dropped);
        sum.waiting += read(&self.waiting);
        let waits = Waits {
            messages: sum.awaiting_secondaries,
            since_unix_ms: sum.awaiting_since_unix_ms,
        };
        let waits = waits.and(Waits {
            messages: read(&self.awaiting),
            since_unix_ms: read(&self.awaiting_since_unix_ms),
        });
        sum.awaiting_secondaries = waits.messages;
        sum.awaiting_since_unix_ms = waits.since_unix_ms;
        sum.rows += read(&self.rows);
        sum.dead_letters += read(&self.dead_letters);
        sum.unkept += read(&self.unkept);
        sum.bytes += read(&self.bytes);
        sum.refused_connections += read(&self.refused_connections);
    }
}
