//! The secondaries a node serves: those connected and those it remembers. It owns the lock around
//! the [`Entries`] of them and what the log is told of their positions; it must never wait or do
//! network I/O.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wal::{Log, LogId, Lsn, Position, Replicated, clock};

use crate::lag::bytes_between;
use crate::serve::entries::{
    Contest, Entries, Entry, ForeignLog, Forgotten, Live, Peer, Reach, Vouched,
};
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
    /// The log that what is confirmed of secondaries is of.
    confirmed_of: Mutex<Option<Log>>,
    changes: watch::Sender<u64>,
}

impl Registry {
    /// The limit counts those remembered too.
    pub(crate) fn new(source: Source, limit: usize, members: Vec<Member>) -> Self {
        let mut entries = Entries::new(limit);
        let log = source.log().filter(|_| source.lineage().is_primary());
        for member in members {
            let (id, position) = (member.id.clone(), member.position);
            entries.restore(member);
            let own = log.as_ref().and_then(|log| log.chain_at(position.lsn));
            if own == Some(position.chain) {
                entries.confirm(&id, position);
            }
        }
        Self {
            inner: Arc::new(Inner {
                source,
                entries: Mutex::new(entries),
                confirmed_of: Mutex::new(log),
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

    /// Secondaries that lately asked for another log, as long as none has followed this node's: the
    /// wrong data directory may have been mounted here. The one that has most of it comes first.
    #[must_use]
    pub fn foreign_logs(&self) -> Vec<ForeignLog> {
        self.entries().foreign(clock::unix_ms())
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
        let (id, now) = (peer.id.clone(), clock::unix_ms());
        let mut entries = self.entries();
        let away_ms = entries.away_ms(&id, now);
        let live = entries.register(peer, position, bootstrapping, now)?;
        drop(entries);
        self.tell_log();
        self.changed(true);
        Ok(Registration {
            registry: self.clone(),
            id,
            live,
            away: away_ms.map(Duration::from_millis),
        })
    }

    /// Certificates' names that are known of which nobody is connected.
    pub(crate) fn absent(&self) -> usize {
        self.entries().absent()
    }

    /// Whether this node, which came at `arrived`, may take its place.
    pub(crate) fn contest(&self, peer: &Peer, arrived: Instant) -> Contest {
        self.entries().contest(peer, arrived, Instant::now())
    }

    /// Another node than the one that is connected came under its id.
    pub(crate) fn twin(&self, peer: &Peer) {
        self.entries().twin(peer, Instant::now());
    }

    /// The last end of a block that this secondary and `log` are known to have had both.
    pub(crate) fn confirmed(&self, id: &str, log: &Log) -> Option<Position> {
        let held = self.confirmed_of(log);
        held.then(|| self.entries().confirmed(id)).flatten()
    }

    /// Whether what is confirmed is of this log. Of another one nothing is any more.
    fn confirmed_of(&self, log: &Log) -> bool {
        let of = self.inner.confirmed_of.lock();
        let of = of.unwrap_or_else(PoisonError::into_inner);
        of.as_ref().is_some_and(|of| of.is_same(log))
    }

    fn confirm_of(&self, log: &Log) {
        let mut of = self
            .inner
            .confirmed_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !of.as_ref().is_some_and(|of| of.is_same(log)) {
            self.entries().unconfirm();
            *of = Some(log.clone());
        }
    }

    /// A secondary was turned away.
    /// `foreign` is the log it asked for, if that is not the one that is served.
    pub(crate) fn refused(
        &self,
        peer: Peer,
        position: Position,
        (reason, foreign): (String, Option<LogId>),
    ) {
        self.entries()
            .refused(peer, position, (reason, foreign), clock::unix_ms());
        self.changed(true);
    }

    /// Somebody with this name in the certificate got no connection.
    pub(crate) fn turned_away(&self, name: &str, address: SocketAddr, reason: &str) {
        let changed = self.entries().turned_away(name, address, reason);
        self.changed(changed);
    }

    /// The primary's clock, as far as it is known here.
    fn primary_ns(&self) -> Option<i64> {
        let lineage = self.inner.source.lineage();
        if lineage.is_primary() {
            return Some(clock::unix_nanos());
        }
        lineage.primary_clock.map(|clock| clock.now_unix_ns)
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
    /// What they and those below them vouch for.
    pub(crate) fn vouched(&self) -> Vec<Vouched> {
        self.0.entries().vouched()
    }

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
    away: Option<Duration>,
}

impl Registration {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// How long it was not heard, if it was here before.
    pub(crate) fn away(&self) -> Option<Duration> {
        self.away
    }

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
        let primary_ns = self.registry.primary_ns();
        let moved = self.update(|entry| {
            let mut moved = entry.report(report, caught_up, now);
            moved.flushed |= entry.count_vouched(primary_ns);
            moved
        });
        let moved = moved.unwrap_or_default();
        if moved.flushed {
            self.registry.tell_log();
        }
        self.registry.changed(moved.noteworthy);
    }

    /// Those behind the secondary vouch for this.
    pub(crate) fn vouched(&self, vouched: Vec<Vouched>) {
        let primary_ns = self.registry.primary_ns();
        let changed = self.update(|entry| {
            entry.vouched = vouched;
            entry.count_vouched(primary_ns)
        });
        if changed.unwrap_or_default() {
            self.registry.tell_log();
        }
    }

    /// A block of `log` ends there, where one on the secondary's disk does.
    pub(crate) fn confirm(&self, log: &Log, position: Position) {
        self.registry.confirm_of(log);
        self.update(|entry| entry.confirm(position));
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
            entry.vouched.clear();
        });
        if ended.is_some() {
            self.registry.tell_log();
            self.registry.changed(true);
        }
    }
}
