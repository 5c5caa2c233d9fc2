//! Which queries there are right now: those that wait for a slot, that run, and that wait for their
//! reader. Owns the list behind `system.queries`; must never hold more than a shortened text of a
//! statement.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The queries there are, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    next_id: u64,
    queries: BTreeMap<u64, Arc<RunningQuery>>,
}

impl Running {
    pub(crate) fn list(&self) -> Vec<Arc<RunningQuery>> {
        self.lock().queries.values().cloned().collect()
    }

    /// Lists a query until what is given back is dropped.
    pub(crate) fn enter(&self, sql: &str) -> Listed {
        let mut list = self.lock();
        list.next_id += 1;
        let query = Arc::new(RunningQuery {
            id: list.next_id,
            sql: shortened(sql),
            started_ns: wal::clock::unix_nanos(),
            begun: Instant::now(),
            state: AtomicU8::new(State::Waiting as u8),
            waited_ms: AtomicU64::new(0),
            rows: AtomicU64::new(0),
        });
        list.queries.insert(query.id, Arc::clone(&query));
        Listed {
            query,
            running: self.clone(),
        }
    }

    /// A panic while the lock was held leaves a list that is still whole.
    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query's place in the list.
#[derive(Debug)]
pub(crate) struct Listed {
    query: Arc<RunningQuery>,
    running: Running,
}

impl Listed {
    /// When the query came.
    pub(crate) fn begun(&self) -> Instant {
        self.query.begun
    }

    pub(crate) fn add_rows(&self, rows: usize) {
        self.query.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, state: State) {
        self.query.state.store(state as u8, Ordering::Relaxed);
    }

    /// Its turn has come after it waited since it came.
    pub(crate) fn run(&self) {
        self.query
            .waited_ms
            .store(self.query.elapsed_ms(), Ordering::Relaxed);
        self.set(State::Running);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.lock().queries.remove(&self.query.id);
    }
}

/// What a query is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits for a slot.
    Waiting,
    Running,
    /// It waits for its reader, and holds no slot.
    Paused,
    /// It has ended, and what computes for it has not yet.
    Ending,
}

impl State {
    const ALL: [Self; 4] = [Self::Waiting, Self::Running, Self::Paused, Self::Ending];

    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ending => "ending",
        }
    }
}

/// One row of `system.queries`.
#[derive(Debug)]
pub(crate) struct RunningQuery {
    pub(crate) id: u64,
    pub(crate) sql: String,
    pub(crate) started_ns: i64,
    begun: Instant,
    state: AtomicU8,
    waited_ms: AtomicU64,
    rows: AtomicU64,
}

impl RunningQuery {
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long it waited for its slot, so far or in all.
    pub(crate) fn waited_ms(&self) -> u64 {
        if self.state() == State::Waiting.name() {
            self.elapsed_ms()
        } else {
            self.waited_ms.load(Ordering::Relaxed)
        }
    }

    pub(crate) fn state(&self) -> &'static str {
        let at = usize::from(self.state.load(Ordering::Relaxed));
        State::ALL.get(at).map_or("unknown", |state| state.name())
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

fn shortened(sql: &str) -> String {
    let end = sql.floor_char_boundary(MAX_LISTED_SQL);
    sql[..end].to_owned()
}

/// Bytes of a statement that `system.queries` shows.
const MAX_LISTED_SQL: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_listed_until_it_ends_with_what_it_does() {
        let running = Running::default();
        let listed = running.enter("SELECT 1");
        let state = |running: &Running| running.list()[0].state();
        assert_eq!(state(&running), "waiting");
        listed.run();
        assert_eq!(state(&running), "running");
        listed.set(State::Paused);
        assert_eq!(state(&running), "paused");
        drop(listed);
        assert!(running.list().is_empty());
    }

    #[test]
    fn long_texts_are_shortened_at_a_character() {
        let sql = "ü".repeat(MAX_LISTED_SQL);
        assert!(shortened(&sql).len() <= MAX_LISTED_SQL);
        assert_eq!(shortened("SELECT 1"), "SELECT 1");
    }
}
