//! Which queries run right now. Owns the concurrency cap and the list behind `system.queries`; must
//! never wait for a slot: one query too many is refused at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::QueryError;
use crate::stats::{Counters, Outcome};

/// The gate every query passes.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    slots: Arc<Semaphore>,
    limit: usize,
    running: Running,
    counters: Arc<Counters>,
}

impl Admission {
    pub(crate) fn new(limit: usize, counters: Arc<Counters>) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            running: Running::default(),
            counters,
        }
    }

    /// Takes a slot and lists the query, or refuses it.
    pub(crate) fn admit(&self, sql: &str) -> Result<Admitted, QueryError> {
        let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.counters.refused();
            return Err(QueryError::TooMany { limit: self.limit });
        };
        let query = self.running.enter(sql);
        self.counters.begun();
        Ok(Admitted {
            query,
            running: self.running.clone(),
            counters: Arc::clone(&self.counters),
            outcome: Outcome::Cancelled,
            _permit: permit,
        })
    }

    pub(crate) fn running(&self) -> Running {
        self.running.clone()
    }
}

/// The running queries, oldest first.
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

    fn enter(&self, sql: &str) -> Arc<RunningQuery> {
        let mut list = self.lock();
        list.next_id += 1;
        let query = Arc::new(RunningQuery {
            id: list.next_id,
            sql: shortened(sql),
            started_ns: wal::clock::unix_nanos(),
            begun: Instant::now(),
            rows: AtomicU64::new(0),
        });
        list.queries.insert(query.id, Arc::clone(&query));
        query
    }

    fn leave(&self, id: u64) {
        self.lock().queries.remove(&id);
    }

    /// A panic while the lock was held leaves a list that is still whole.
    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One row of `system.queries`.
#[derive(Debug)]
pub(crate) struct RunningQuery {
    pub(crate) id: u64,
    pub(crate) sql: String,
    pub(crate) started_ns: i64,
    begun: Instant,
    rows: AtomicU64,
}

impl RunningQuery {
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// A running query's hold on its slot. Dropping it without [`Admitted::finish`] counts as
/// cancelled.
#[derive(Debug)]
pub(crate) struct Admitted {
    query: Arc<RunningQuery>,
    running: Running,
    counters: Arc<Counters>,
    outcome: Outcome,
    _permit: OwnedSemaphorePermit,
}

impl Admitted {
    pub(crate) fn add_rows(&self, rows: usize) {
        self.query.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn finish(mut self, result: &Result<(), QueryError>) {
        self.outcome = Outcome::of(result);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.running.leave(self.query.id);
        self.counters.ended(self.outcome, self.query.begun);
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
    fn one_too_many_is_refused_and_a_slot_comes_back() {
        let counters = Arc::new(Counters::default());
        let admission = Admission::new(1, Arc::clone(&counters));
        let first = admission.admit("SELECT 1").expect("the first fits");
        assert_eq!(admission.running().list().len(), 1);
        let refused = admission
            .admit("SELECT 2")
            .expect_err("the second does not");
        assert_eq!(refused, QueryError::TooMany { limit: 1 });
        first.finish(&Ok(()));
        assert!(admission.running().list().is_empty());
        admission.admit("SELECT 3").expect("the slot is free again");
        let stats = counters.stats();
        assert_eq!((stats.running, stats.count), (0, 2));
    }

    #[test]
    fn long_texts_are_shortened_at_a_character() {
        let sql = "ü".repeat(MAX_LISTED_SQL);
        assert!(shortened(&sql).len() <= MAX_LISTED_SQL);
        assert_eq!(shortened("SELECT 1"), "SELECT 1");
    }
}
