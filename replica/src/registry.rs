//! The secondaries a primary knows: those connected and those it remembers. It owns their statuses
//! and the rule that one node has one connection; it must never wait or do network I/O. What it
//! remembers is bounded.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use wal::{Log, Lsn, Position};

use crate::clock;
use crate::codec::Status;
use crate::handshake::RefuseReason;
use crate::lag::{Freshness, bytes_between};
use crate::status::{SecondaryState, SecondaryStatus};

/// Every secondary the primary has seen since it started, the oldest disconnected ones forgotten
/// beyond a limit. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    log: Log,
    /// A std mutex: sections are short and never wait.
    book: Mutex<Book>,
}

impl Registry {
    pub(crate) fn new(log: Log, limit: usize) -> Self {
        let book = Mutex::new(Book::new(limit));
        Self {
            inner: Arc::new(Inner { log, book }),
        }
    }

    /// All of them, by name, then id.
    #[must_use]
    pub fn secondaries(&self) -> Vec<SecondaryStatus> {
        let durable = self.inner.log.durable().borrow().lsn;
        let mut all = self.book().statuses(durable, Instant::now());
        all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        // Sizes are summed up over every block: only when somebody lags, and outside the lock.
        if all.iter().any(|status| status.lag_rows > 0) {
            let segments = self.inner.log.snapshot().segments();
            for status in &mut all {
                let pieces = segments.iter().map(|s| (s.first, s.end, s.bytes));
                status.lag_bytes = bytes_between(pieces, status.applied, durable);
            }
        }
        all
    }

    /// A secondary begins to stream at `position`. An older connection of the same id is ended.
    pub(crate) fn register(
        &self,
        peer: Peer,
        position: Position,
    ) -> Result<Registration, RefuseReason> {
        let id = peer.id.clone();
        let live = self.book().register(peer, position, clock::unix_ms())?;
        Ok(Registration {
            registry: self.clone(),
            id,
            live,
        })
    }

    /// A secondary was turned away.
    pub(crate) fn refused(&self, peer: Peer, position: Position, reason: String) {
        self.book()
            .refused(peer, position, reason, clock::unix_ms());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every section leaves the book consistent, so a panic elsewhere does not spoil it.
        self.inner
            .book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("secondaries", &self.book().entries.len())
            .finish_non_exhaustive()
    }
}

/// Who connected, from where.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Common name of the certificate.
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
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
    pub(crate) fn beat(&self, durable: Lsn, now_ns: i64) {
        self.update(|entry| entry.freshness.beat(durable, now_ns, Instant::now()));
    }

    /// The secondary reported.
    pub(crate) fn status(&self, status: &Status, caught_up: bool) {
        self.update(|entry| entry.status(status, caught_up, clock::unix_ms()));
    }

    /// Why the connection ends.
    pub(crate) fn ended(&self, reason: String) {
        self.update(|entry| entry.reason = Some(reason));
    }

    fn update(&self, change: impl FnOnce(&mut Entry)) {
        let mut book = self.registry.book();
        if let Some(entry) = book.entries.get_mut(&self.id)
            && entry.is_of(&self.live)
        {
            change(entry);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.update(|entry| {
            entry.state = SecondaryState::Disconnected;
            entry.live = None;
        });
    }
}

/// A connection, told from every other.
#[derive(Clone, Debug)]
struct Live {
    number: u64,
    superseded: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    state: SecondaryState,
    sent: Lsn,
    received: Lsn,
    flushed: Lsn,
    applied: Lsn,
    freshness: Freshness,
    connected_at_unix_ms: u64,
    last_seen_unix_ms: u64,
    reason: Option<String>,
    live: Option<Live>,
}

impl Entry {
    fn new(peer: Peer, position: Position, now_ms: u64) -> Self {
        Self {
            peer,
            state: SecondaryState::Refused,
            sent: position.lsn,
            received: position.lsn,
            flushed: position.lsn,
            applied: Lsn(0),
            freshness: Freshness::default(),
            connected_at_unix_ms: now_ms,
            last_seen_unix_ms: now_ms,
            reason: None,
            live: None,
        }
    }

    fn is_of(&self, live: &Live) -> bool {
        self.live
            .as_ref()
            .is_some_and(|own| own.number == live.number)
    }

    fn status(&mut self, status: &Status, caught_up: bool, now_ms: u64) {
        self.received = Lsn(status.received);
        self.flushed = Lsn(status.flushed);
        self.applied = Lsn(status.applied);
        self.freshness.apply(self.applied, 0);
        self.last_seen_unix_ms = now_ms;
        if caught_up {
            self.state = SecondaryState::Streaming;
        }
    }

    fn view(&self, durable: Lsn, at: Instant) -> SecondaryStatus {
        let lag_rows = durable.0.saturating_sub(self.applied.0);
        let lag_ms = match lag_rows {
            0 if self.freshness.is_known() => Some(0),
            _ => self.freshness.lag_ms(self.applied, at),
        };
        SecondaryStatus {
            name: self.peer.name.clone(),
            id: self.peer.id.clone(),
            address: self.peer.address,
            state: self.state.as_str(),
            sent: self.sent,
            received: self.received,
            flushed: self.flushed,
            applied: self.applied,
            lag_rows,
            lag_bytes: 0,
            lag_ms,
            connected_at_unix_ms: self.connected_at_unix_ms,
            last_seen_unix_ms: self.last_seen_unix_ms,
            reason: self.reason.clone(),
        }
    }
}

/// The entries and the rules over them, without locks or clocks.
#[derive(Debug)]
struct Book {
    entries: HashMap<String, Entry>,
    limit: usize,
    connections: u64,
}

impl Book {
    fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            limit: limit.max(1),
            connections: 0,
        }
    }

    fn register(
        &mut self,
        peer: Peer,
        position: Position,
        now_ms: u64,
    ) -> Result<Live, RefuseReason> {
        if !self.make_room(&peer.id) {
            return Err(RefuseReason::Full { limit: self.limit });
        }
        self.connections += 1;
        let live = Live {
            number: self.connections,
            superseded: CancellationToken::new(),
        };
        let entry = match self.entries.remove(&peer.id) {
            Some(mut entry) => {
                if let Some(older) = entry.live.take() {
                    older.superseded.cancel();
                }
                entry.peer = peer.clone();
                entry
            }
            None => Entry::new(peer.clone(), position, now_ms),
        };
        let entry = Entry {
            state: SecondaryState::CatchingUp,
            sent: position.lsn,
            received: position.lsn,
            connected_at_unix_ms: now_ms,
            last_seen_unix_ms: now_ms,
            reason: None,
            live: Some(live.clone()),
            ..entry
        };
        self.entries.insert(peer.id, entry);
        Ok(live)
    }

    fn refused(&mut self, peer: Peer, position: Position, reason: String, now_ms: u64) {
        let connected = self
            .entries
            .get(&peer.id)
            .is_some_and(|entry| entry.live.is_some());
        // A live connection of that id is not to be hidden by another node that claims to be it.
        if connected || !self.make_room(&peer.id) {
            return;
        }
        let known = self.entries.remove(&peer.id);
        let entry = known.unwrap_or_else(|| Entry::new(peer.clone(), position, now_ms));
        let id = peer.id.clone();
        let entry = Entry {
            peer,
            state: SecondaryState::Refused,
            last_seen_unix_ms: now_ms,
            reason: Some(reason),
            ..entry
        };
        self.entries.insert(id, entry);
    }

    /// Whether `id` is known or fits, once the one not connected for longest is forgotten.
    fn make_room(&mut self, id: &str) -> bool {
        if self.entries.contains_key(id) || self.entries.len() < self.limit {
            return true;
        }
        let gone = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.live.is_none());
        let oldest = gone.min_by_key(|(_, entry)| entry.last_seen_unix_ms);
        match oldest.map(|(id, _)| id.clone()) {
            Some(oldest) => self.entries.remove(&oldest).is_some(),
            None => false,
        }
    }

    /// Every status but for its bytes.
    fn statuses(&self, durable: Lsn, at: Instant) -> Vec<SecondaryStatus> {
        let view = |entry: &Entry| entry.view(durable, at);
        self.entries.values().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: &str) -> Peer {
        Peer {
            name: format!("name-{id}"),
            id: id.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 4000)),
        }
    }

    fn at(lsn: u64) -> Position {
        Position {
            lsn: Lsn(lsn),
            chain: 1,
        }
    }

    fn status(lsn: u64) -> Status {
        Status {
            received: lsn,
            flushed: lsn,
            applied: lsn,
            chain: 1,
        }
    }

    fn disconnect(book: &mut Book, id: &str) {
        let entry = book.entries.get_mut(id).expect("an entry");
        entry.live = None;
        entry.state = SecondaryState::Disconnected;
    }

    fn view(book: &Book, id: &str, durable: u64) -> SecondaryStatus {
        let all = book.statuses(Lsn(durable), Instant::now());
        all.into_iter().find(|s| s.id == id).expect("a status")
    }

    #[test]
    fn a_secondary_connects_catches_up_and_streams() {
        let mut book = Book::new(4);
        book.register(peer("a"), at(10), 1_000).expect("room");
        let seen = view(&book, "a", 100);
        assert_eq!(
            (seen.state, seen.sent, seen.lag_ms),
            ("catching_up", Lsn(10), None)
        );
        assert_eq!(seen.connected_at_unix_ms, 1_000);
        let entry = book.entries.get_mut("a").expect("an entry");
        entry.freshness.beat(Lsn(100), 5_000_000, Instant::now());
        entry.status(&status(60), false, 1_500);
        let seen = view(&book, "a", 100);
        assert_eq!((seen.state, seen.lag_rows), ("catching_up", 40));
        let entry = book.entries.get_mut("a").expect("an entry");
        entry.status(&status(100), true, 2_000);
        let seen = view(&book, "a", 100);
        assert_eq!(
            (seen.state, seen.lag_rows, seen.lag_ms),
            ("streaming", 0, Some(0))
        );
        assert_eq!(seen.last_seen_unix_ms, 2_000);
    }

    #[test]
    fn a_newer_connection_supersedes_the_older() {
        let mut book = Book::new(4);
        let first = book.register(peer("a"), at(0), 1).expect("room");
        let second = book.register(peer("a"), at(5), 2).expect("room");
        assert!(first.superseded.is_cancelled());
        assert!(!second.superseded.is_cancelled());
        assert_eq!(book.entries.len(), 1);
        let entry = &book.entries["a"];
        assert!(entry.is_of(&second) && !entry.is_of(&first));
    }

    #[test]
    fn what_was_known_survives_a_reconnect() {
        let mut book = Book::new(4);
        book.register(peer("a"), at(0), 1).expect("room");
        book.entries
            .get_mut("a")
            .expect("an entry")
            .status(&status(50), true, 2);
        disconnect(&mut book, "a");
        book.register(peer("a"), at(50), 3).expect("room");
        let seen = view(&book, "a", 50);
        assert_eq!(
            (seen.state, seen.applied, seen.connected_at_unix_ms),
            ("catching_up", Lsn(50), 3)
        );
    }

    #[test]
    fn the_one_gone_longest_is_forgotten_first() {
        let mut book = Book::new(2);
        book.register(peer("a"), at(0), 1).expect("room");
        book.register(peer("b"), at(0), 2).expect("room");
        let full = book
            .register(peer("c"), at(0), 3)
            .expect_err("all connected");
        assert_eq!(full, RefuseReason::Full { limit: 2 });
        disconnect(&mut book, "b");
        disconnect(&mut book, "a");
        book.register(peer("c"), at(0), 4).expect("room");
        assert!(book.entries.contains_key("b") && !book.entries.contains_key("a"));
    }

    #[test]
    fn a_refusal_is_remembered_but_never_hides_a_live_connection() {
        let mut book = Book::new(2);
        book.refused(peer("a"), at(7), "another log".to_owned(), 1);
        let seen = view(&book, "a", 100);
        assert_eq!(seen.state, "refused");
        assert_eq!(seen.reason.as_deref(), Some("another log"));
        book.register(peer("a"), at(7), 2).expect("room");
        assert_eq!(view(&book, "a", 100).reason, None);
        book.refused(peer("a"), at(9), "another log".to_owned(), 3);
        assert_eq!(view(&book, "a", 100).state, "catching_up");
        book.register(peer("b"), at(0), 4).expect("room");
        book.refused(peer("c"), at(0), "no room".to_owned(), 5);
        assert_eq!(book.entries.len(), 2);
    }
}
