//! The secondaries a node serves: those connected and those it remembers. It owns the lock around
//! the [`Entries`] of them and what the log is told of their positions; it must never wait or do
//! network I/O.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wal::{Lsn, Position, Replicated, clock};

use crate::lag::bytes_between;
use crate::serve::entries::{Entries, Entry, Forgotten, Live, Peer, Reach};
use crate::serve::source::Source;
use crate::status::{Member, SecondaryState, SecondaryStatus};
use crate::wire::refusal::RefuseReason;
use crate::wire::{Heartbeat, NodeSummary, Report};

/// Every secondary the node has seen, the oldest disconnected ones forgotten beyond a limit. Cheap
/// to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    /// A std mutex: sections are short and never wait.
    entries: Mutex<Entries>,
    changes: watch::Sender<u64>,
}

impl Registry {
    /// The limit counts those remembered too.
    pub(crate) fn new(source: Source, limit: usize, members: Vec<Member>) -> Self {
        let mut entries = Entries::new(limit);
        members
            .into_iter()
            .for_each(|member| entries.restore(member));
        Self {
            inner: Arc::new(Inner {
                source,
                entries: Mutex::new(entries),
                changes: watch::Sender::new(0),
            }),
        }
    }

    /// All of them, by name, then id.
    #[must_use]
    pub fn secondaries(&self) -> Vec<SecondaryStatus> {
        let log = self.inner.source.log();
        let durable = log
            .as_ref()
            .map_or(Lsn(0), |log| log.durable().borrow().lsn);
        let primary = self.inner.source.lineage().primary_end(durable);
        let end = Reach {
            lsn: primary.unwrap_or(durable),
            is_primary: primary.is_some(),
        };
        let mut all = self.entries().statuses(end, Instant::now());
        all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let lags = |status: &SecondaryStatus| status.lag_rows.is_some_and(|rows| rows > 0);
        // Sizes are summed up over every block: only when somebody lags, and outside the lock.
        let segments = log
            .filter(|_| all.iter().any(lags))
            .map_or_else(Vec::new, |log| log.snapshot().segments());
        for status in &mut all {
            let pieces = segments.iter().map(|s| (s.first, s.end, s.bytes));
            let applied = status.applied;
            status.lag_bytes = status
                .lag_rows
                .map(|_| bytes_between(pieces, applied, durable));
        }
        all
    }

    /// What to keep for the next start.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.entries().members()
    }

    /// Moves when [`Registry::members`] is worth keeping again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Forgets a secondary that is not connected.
    #[must_use]
    pub fn forget(&self, name_or_id: &str) -> Forgotten {
        let forgotten = self.entries().forget(name_or_id);
        self.changed(forgotten == Forgotten::Done);
        forgotten
    }

    /// For a relay to tell its own upstream who follows it.
    #[must_use]
    pub fn summaries(&self) -> Summaries {
        Summaries(self.clone())
    }

    /// A secondary begins to stream at `position`. An older connection of the same id is ended.
    pub(crate) fn register(
        &self,
        peer: Peer,
        position: Position,
        bootstrapping: bool,
    ) -> Result<Registration, RefuseReason> {
        let id = peer.id.clone();
        let live = self
            .entries()
            .register(peer, position, bootstrapping, clock::unix_ms())?;
        self.tell_log();
        self.changed(true);
        Ok(Registration {
            registry: self.clone(),
            id,
            live,
        })
    }

    /// A secondary was turned away.
    pub(crate) fn refused(&self, peer: Peer, position: Position, reason: String) {
        self.entries()
            .refused(peer, position, reason, clock::unix_ms());
        self.changed(true);
    }

    fn changed(&self, really: bool) {
        if really {
            self.inner.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Tells the log how many other disks hold it, and up to where.
    fn tell_log(&self) {
        if let Some(log) = self.inner.source.log() {
            // Told under the lock, so that an older view cannot overtake a newer one.
            let entries = self.entries();
            log.set_replicated(Replicated::new(entries.copies()));
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Every section leaves the entries consistent, so a panic elsewhere does not spoil it.
        self.inner
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("secondaries", &self.entries().len())
            .finish_non_exhaustive()
    }
}

/// Those who follow a relay, in summary.
#[derive(Clone, Debug)]
pub struct Summaries(Registry);

impl Summaries {
    /// All of them, those below them included; `via` is the id of this node.
    pub(crate) fn list(&self, via: &str) -> Vec<NodeSummary> {
        self.0.entries().summaries(via)
    }
}

/// A connection's entry; the end of it marks the secondary as disconnected.
pub(crate) struct Registration {
    registry: Registry,
    id: String,
    live: Live,
}

impl Registration {
    /// Ends when a newer connection of the same node takes over.
    pub(crate) fn superseded(&self) -> &CancellationToken {
        &self.live.superseded
    }

    /// Blocks below `lsn` were handed to the connection.
    pub(crate) fn sent(&self, lsn: Lsn) {
        self.update(|entry| entry.sent = lsn);
    }

    /// A heartbeat went out.
    pub(crate) fn beat(&self, beat: &Heartbeat) {
        self.update(|entry| entry.beat(beat, Instant::now()));
    }

    /// The secondary reported.
    pub(crate) fn report(&self, report: &Report, caught_up: bool) {
        let now = clock::unix_ms();
        let moved = self.update(|entry| entry.report(report, caught_up, now));
        let moved = moved.unwrap_or_default();
        if moved.flushed {
            self.registry.tell_log();
        }
        self.registry.changed(moved.noteworthy);
    }

    /// Who follows the secondary.
    pub(crate) fn descendants(&self, descendants: Vec<NodeSummary>) {
        self.update(|entry| entry.descendants = descendants);
    }

    /// Its Parquet files are not those of this node. True when that is news.
    pub(crate) fn files_differ(&self, differ: bool) -> bool {
        let news = self.update(|entry| std::mem::replace(&mut entry.files_differ, differ));
        differ && news == Some(false)
    }

    /// Why the connection ends.
    pub(crate) fn ended(&self, reason: String) {
        self.update(|entry| entry.reason = Some(reason));
    }

    fn update<T>(&self, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut entries = self.registry.entries();
        let entry = entries.live_mut(&self.id, &self.live)?;
        Some(change(entry))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let ended = self.update(|entry| {
            entry.state = SecondaryState::Disconnected;
            entry.live = None;
            entry.descendants.clear();
        });
        if ended.is_some() {
            self.registry.tell_log();
            self.registry.changed(true);
        }
    }
}
