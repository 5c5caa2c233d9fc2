//! Who may compute. Owns the slots, the queue before them and what becomes of a query whose reader
//! does not read; must never let a query wait without a bound, nor one overtake another that came
//! before it.
//!
//! A slot is for computing: a query whose reader is slow gives it back while it waits for the
//! reader, and takes its turn again afterwards. So that paused queries have a bound, too, only as
//! many as there are slots can be without one; those beyond keep theirs, and end when others wait
//! and they have not been read from for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::error::QueryError;
use crate::running::{Listed, Running, State};
use crate::seat::Seat;
use crate::stats::{Counters, Outcome};

/// The gate every query passes.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    gate: Arc<Gate>,
    running: Running,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Gate {
    /// Fair: whoever came first is next.
    slots: Arc<Semaphore>,
    limit: usize,
    /// Places for queries that wait for their readers without a slot.
    pauses: Arc<Semaphore>,
    /// Those that wait for a slot.
    waiting: AtomicUsize,
    most_waiting: usize,
    longest_wait: Duration,
    reader_timeout: Duration,
    /// For long texts, whose trees and plans are large: one is planned at a time.
    long_texts: Arc<Semaphore>,
}

impl Admission {
    pub(crate) fn new(config: &Config, counters: Arc<Counters>) -> Self {
        let limit = config
            .max_concurrent_queries
            .clamp(1, Semaphore::MAX_PERMITS);
        let gate = Gate {
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            pauses: Arc::new(Semaphore::new(limit)),
            waiting: AtomicUsize::new(0),
            most_waiting: config.max_queued_queries,
            longest_wait: config.query_queue_timeout,
            reader_timeout: config.reader_timeout,
            long_texts: Arc::new(Semaphore::new(1)),
        };
        Self {
            gate: Arc::new(gate),
            running: Running::default(),
            counters,
        }
    }

    /// Takes a slot, if need be after a wait, or refuses the query. Dropping the future leaves the
    /// queue.
    pub(crate) async fn admit(&self, sql: &str) -> Result<Admitted, QueryError> {
        let listed = Arc::new(self.running.enter(sql));
        // Before the slot, which others could use meanwhile.
        let alone = match sql.len() > LONG_TEXT {
            true => Some(self.turn(&self.gate.long_texts, 1).await?),
            false => None,
        };
        let slot = self.turn(&self.gate.slots, self.gate.limit).await?;
        let seat = Seat::default();
        seat.take(slot, &listed);
        listed.run();
        self.counters.begun(listed.begun().elapsed());
        Ok(Admitted {
            gate: Arc::clone(&self.gate),
            listed,
            counters: Arc::clone(&self.counters),
            outcome: Outcome::Cancelled,
            begun: Instant::now(),
            seat,
            alone,
        })
    }

    pub(crate) fn running(&self) -> Running {
        self.running.clone()
    }

    /// Queries that wait for a slot, and that wait for their readers without one.
    pub(crate) fn idle(&self) -> (usize, usize) {
        let paused = self.gate.limit - self.gate.pauses.available_permits();
        (self.gate.waiting.load(Ordering::Relaxed), paused)
    }

    /// One of the `limit` places of `places`, if need be after a wait.
    async fn turn(
        &self,
        places: &Arc<Semaphore>,
        limit: usize,
    ) -> Result<OwnedSemaphorePermit, QueryError> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(place);
        }
        let gate = &self.gate;
        // Whoever leaves the queue without a slot, also by going away, never ran.
        let mut refusal = Refusal(Some(&self.counters));
        let Some(_waiting) = Waiting::within(gate, gate.most_waiting) else {
            return Err(QueryError::TooMany {
                limit,
                waiting: gate.most_waiting,
            });
        };
        let turn = Arc::clone(places).acquire_owned();
        match tokio::time::timeout(gate.longest_wait, turn).await {
            Ok(Ok(slot)) => {
                refusal.0 = None;
                Ok(slot)
            }
            Ok(Err(_)) => Err(QueryError::Cancelled),
            Err(_) => Err(QueryError::NoTurn {
                limit,
                waited: gate.longest_wait,
            }),
        }
    }
}

/// Counts a refusal unless it is taken back.
struct Refusal<'a>(Option<&'a Counters>);

impl Drop for Refusal<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.refused();
        }
    }
}

/// One of those that wait for a slot.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    /// None if there are `most` already.
    fn within(gate: &'a Gate, most: usize) -> Option<Self> {
        let room = |count: usize| (count < most).then_some(count + 1);
        let entered = gate
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        entered.ok().map(|_| Self(gate))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A query's hold on its slot. Dropping it without [`Admitted::finish`] counts as cancelled.
#[derive(Debug)]
pub(crate) struct Admitted {
    gate: Arc<Gate>,
    listed: Arc<Listed>,
    counters: Arc<Counters>,
    outcome: Outcome,
    /// When it got its first slot.
    begun: Instant,
    seat: Seat,
    /// Held while the plan of a long text is made.
    alone: Option<OwnedSemaphorePermit>,
}

impl Admitted {
    /// Where its slot is: whoever computes for the query holds it.
    pub(crate) fn seat(&self) -> Seat {
        self.seat.clone()
    }

    /// What keeps other long texts waiting; to be dropped once there is a plan.
    pub(crate) fn take_alone(&mut self) -> Option<OwnedSemaphorePermit> {
        self.alone.take()
    }

    pub(crate) fn add_rows(&self, rows: usize) {
        self.listed.add_rows(rows);
    }

    pub(crate) fn finish(mut self, result: &Result<(), QueryError>) {
        self.outcome = Outcome::of(result);
    }

    /// Waits for `reader` to take something, without a slot if that takes a while. A reader for
    /// whom others have to wait too long loses its answer.
    pub(crate) async fn pause<T>(
        &mut self,
        reader: impl Future<Output = T>,
    ) -> Result<T, QueryError> {
        let mut reader = std::pin::pin!(reader);
        if let Ok(taken) = tokio::time::timeout(PAUSE_AFTER, reader.as_mut()).await {
            return Ok(taken);
        }
        let place = Arc::clone(&self.gate.pauses).try_acquire_owned().ok();
        if place.is_some() {
            self.seat.leave();
            self.listed.set(State::Paused);
        }
        let taken = tokio::select! {
            taken = reader => taken,
            () = self.in_the_way() => {
                return Err(QueryError::Stalled { limit: self.gate.reader_timeout });
            }
        };
        if !self.seat.is_taken() {
            self.resume().await?;
        }
        Ok(taken)
    }

    /// Ends once the reader has taken nothing for too long, and others suffer from it: there is no
    /// slot for them where this query kept its own, or no memory.
    async fn in_the_way(&self) {
        let ran_out = self.counters.ran_out_of_memory();
        tokio::time::sleep(self.gate.reader_timeout).await;
        loop {
            let blocks = self.seat.is_taken() && self.gate.waiting.load(Ordering::Relaxed) > 0;
            if blocks || self.counters.ran_out_of_memory() > ran_out {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes its turn again; bounded by the time that the query has.
    async fn resume(&mut self) -> Result<(), QueryError> {
        let _waiting = Waiting::within(&self.gate, usize::MAX);
        let slot = Arc::clone(&self.gate.slots).acquire_owned().await;
        let slot = slot.map_err(|_| QueryError::Cancelled)?;
        self.seat.take(slot, &self.listed);
        self.listed.set(State::Running);
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.listed.set(State::Ending);
        self.seat.leave();
        self.counters.ended(self.outcome, self.begun);
    }
}

/// A reader may be this much slower than its query before that gives back its slot.
const PAUSE_AFTER: Duration = Duration::from_millis(100);
/// Texts beyond this are planned one at a time.
const LONG_TEXT: usize = 32 << 10;
/// How often a query that is not read from looks whether it is in the way.
const LOOK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const READER: Duration = Duration::from_millis(1);

    fn admission(slots: usize, queued: usize, wait: Duration) -> (Admission, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let config = Config {
            max_concurrent_queries: slots,
            max_queued_queries: queued,
            query_queue_timeout: wait,
            reader_timeout: READER,
            ..Config::default()
        };
        (Admission::new(&config, Arc::clone(&counters)), counters)
    }

    fn states(admission: &Admission) -> Vec<&'static str> {
        let list = admission.running().list();
        list.iter().map(|query| query.state()).collect()
    }

    fn now(admission: &Admission) -> Admitted {
        let admitted = admission.admit("SELECT 1").now_or_never();
        admitted.expect("no wait").expect("a slot")
    }

    async fn until(condition: impl Fn() -> bool) {
        let holds = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, holds).await.expect("in time");
    }

    #[tokio::test]
    async fn queries_wait_in_order_and_the_queue_has_a_bound() {
        let (admission, counters) = admission(1, 2, LONG);
        let first = now(&admission);
        let mut second = Box::pin(admission.admit("SELECT 2"));
        let mut third = Box::pin(admission.admit("SELECT 3"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(states(&admission), ["running", "waiting", "waiting"]);
        assert_eq!(admission.idle(), (2, 0));
        let refused = admission.admit("SELECT 4").await.expect_err("no room");
        let expected = QueryError::TooMany {
            limit: 1,
            waiting: 2,
        };
        assert_eq!(refused, expected);
        first.finish(&Ok(()));
        assert!(third.as_mut().now_or_never().is_none(), "not its turn");
        let second = second.await.expect("its turn");
        // A client that goes away leaves the queue.
        drop(third);
        assert_eq!(states(&admission), ["running"]);
        second.finish(&Ok(()));
        now(&admission).finish(&Ok(()));
        let stats = counters.stats();
        assert_eq!(
            (stats.running, stats.count, admission.idle()),
            (0, 3, (0, 0))
        );
        assert_eq!(stats.ended[Outcome::Refused as usize].1, 2);
    }

    #[tokio::test]
    async fn a_wait_ends_and_says_how_long_it_was() {
        let (admission, _) = admission(1, 8, Duration::from_millis(1));
        let _first = now(&admission);
        let refused = admission.admit("SELECT 2").await.expect_err("no turn");
        let waited = Duration::from_millis(1);
        assert_eq!(refused, QueryError::NoTurn { limit: 1, waited });
        assert_eq!(admission.idle(), (0, 0));
    }

    #[tokio::test]
    async fn a_query_is_listed_until_nothing_computes_for_it() {
        let (admission, counters) = admission(1, 8, LONG);
        let query = now(&admission);
        let thread = query.seat().hold().expect("a slot");
        query.finish(&Err(QueryError::Cancelled));
        assert_eq!(states(&admission), ["ending"]);
        assert_eq!(counters.stats().running, 0);
        let next = admission.admit("SELECT 2");
        let mut next = Box::pin(next);
        assert!(next.as_mut().now_or_never().is_none(), "no slot");
        drop(thread);
        next.await.expect("a slot").finish(&Ok(()));
        assert!(states(&admission).is_empty());
    }

    #[tokio::test]
    async fn a_query_that_is_not_read_from_gives_its_slot_to_others() {
        let (admission, counters) = admission(1, 8, LONG);
        let mut stalled = now(&admission);
        let unread = tokio::spawn(async move { stalled.pause(pending::<()>()).await });
        until(|| states(&admission) == ["paused"]).await;
        // Only one may be without a slot: the other keeps its own, but not while others wait.
        let mut other = now(&admission);
        let kept = tokio::spawn(async move { other.pause(pending::<()>()).await });
        let third = admission.admit("SELECT 3").await.expect("a turn");
        let limit = READER;
        let ended = kept.await.expect("no panic").expect_err("in the way");
        assert_eq!(ended, QueryError::Stalled { limit });
        // Nobody needs what the paused one holds, until somebody lacks memory.
        assert!(!unread.is_finished());
        third.finish(&Err(QueryError::Memory(String::new())));
        let ended = unread.await.expect("no panic").expect_err("memory");
        assert_eq!(ended, QueryError::Stalled { limit });
        assert_eq!((counters.stats().running, admission.idle()), (0, (0, 0)));
    }

    #[tokio::test]
    async fn a_reader_that_goes_on_gets_its_answer_after_those_who_wait() {
        let (admission, _) = admission(1, 8, LONG);
        let mut slow = now(&admission);
        let (reads, reader) = oneshot::channel::<()>();
        let paused = tokio::spawn(async move { slow.pause(reader).await.map(|_| slow) });
        until(|| states(&admission) == ["paused"]).await;
        let other = now(&admission);
        reads.send(()).expect("a query");
        until(|| admission.idle() == (1, 1)).await;
        other.finish(&Ok(()));
        let slow = paused.await.expect("no panic").expect("its turn");
        assert_eq!(states(&admission), ["running"]);
        slow.finish(&Ok(()));
        assert_eq!(admission.idle(), (0, 0));
    }
}
