//! What an engine counts, from its start on. Owns the numbers behind `/metrics`; must never keep a
//! statement, nor more than a bounded number of times.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::QueryError;

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered to the last byte.
    Ok,
    /// Any failure that has no name of its own here.
    Error,
    /// It ran out of time.
    Timeout,
    /// It ran out of memory.
    Memory,
    /// Nobody waited for the answer any more.
    Cancelled,
    /// It never ran: too many did, and its turn had not come when it was refused or went away.
    Refused,
    /// Its reader stopped reading while others needed its place or its memory.
    Stalled,
}

impl Outcome {
    /// All there are.
    pub const ALL: [Self; OUTCOMES] = [
        Self::Ok,
        Self::Error,
        Self::Timeout,
        Self::Memory,
        Self::Cancelled,
        Self::Refused,
        Self::Stalled,
    ];

    /// As metrics call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Stalled => "stalled",
        }
    }

    /// That of a query that ran.
    pub(crate) fn of(result: &Result<(), QueryError>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(QueryError::Timeout { .. }) => Self::Timeout,
            Err(QueryError::Memory(_)) => Self::Memory,
            Err(QueryError::Cancelled) => Self::Cancelled,
            Err(QueryError::Stalled { .. }) => Self::Stalled,
            Err(_) => Self::Error,
        }
    }
}

/// What an engine has counted so far.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryStats {
    /// Queries that have begun and not ended.
    pub running: u64,
    /// Queries that wait for a slot.
    pub waiting: u64,
    /// Running ones that wait for their readers, without a slot.
    pub paused: u64,
    /// Seconds that all queries together have waited before they began.
    pub waited_seconds: f64,
    pub ended: [(Outcome, u64); OUTCOMES],
    /// Seconds that all queries together have run.
    pub seconds: f64,
    /// Queries that ran and ended.
    pub count: u64,
    /// Quantiles of the seconds of the queries that ended of late, 0 where none did.
    pub quantiles: [(f64, f64); 7],
    pub blocks_read: u64,
    pub row_groups_read: u64,
    /// Those that a filter excluded.
    pub blocks_pruned: u64,
    /// Likewise, of files that were looked into.
    pub row_groups_pruned: u64,
    /// Bytes that running queries hold, as the process's allocator counts them, or have reserved of
    /// `Config::memory_limit` where that is more.
    pub memory_bytes: u64,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    running: AtomicU64,
    ended: [AtomicU64; OUTCOMES],
    waited_nanos: AtomicU64,
    nanos: AtomicU64,
    recent: Mutex<Recent>,
    blocks_read: AtomicU64,
    row_groups_read: AtomicU64,
    blocks_pruned: AtomicU64,
    row_groups_pruned: AtomicU64,
}

impl Counters {
    pub(crate) fn refused(&self) {
        self.count(Outcome::Refused);
    }

    /// A query begins after it `waited`.
    pub(crate) fn begun(&self, waited: Duration) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.waited_nanos
            .fetch_add(nanos(waited), Ordering::Relaxed);
    }

    /// How many queries have so far.
    pub(crate) fn ran_out_of_memory(&self) -> u64 {
        self.ended[Outcome::Memory as usize].load(Ordering::Relaxed)
    }

    /// A query that had begun at `begun` has ended.
    pub(crate) fn ended(&self, outcome: Outcome, begun: Instant) {
        let (now, took) = (Instant::now(), begun.elapsed());
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.count(outcome);
        self.nanos.fetch_add(nanos(took), Ordering::Relaxed);
        self.recent().add(now, took);
    }

    pub(crate) fn read(&self, blocks: usize, row_groups: usize) {
        add(&self.blocks_read, blocks);
        add(&self.row_groups_read, row_groups);
    }

    pub(crate) fn pruned(&self, blocks: usize, row_groups: usize) {
        add(&self.blocks_pruned, blocks);
        add(&self.row_groups_pruned, row_groups);
    }

    pub(crate) fn stats(&self) -> QueryStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let ended = Outcome::ALL.map(|outcome| (outcome, load(&self.ended[outcome as usize])));
        let ran = ended.iter().filter(|(how, _)| *how != Outcome::Refused);
        QueryStats {
            running: load(&self.running),
            waiting: 0,
            paused: 0,
            waited_seconds: Duration::from_nanos(load(&self.waited_nanos)).as_secs_f64(),
            ended,
            seconds: Duration::from_nanos(load(&self.nanos)).as_secs_f64(),
            count: ran.map(|(_, count)| count).sum(),
            quantiles: self.recent().quantiles(Instant::now()),
            blocks_read: load(&self.blocks_read),
            row_groups_read: load(&self.row_groups_read),
            blocks_pruned: load(&self.blocks_pruned),
            row_groups_pruned: load(&self.row_groups_pruned),
            memory_bytes: 0,
        }
    }

    fn count(&self, outcome: Outcome) {
        self.ended[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A panic while the lock was held leaves times that are still whole.
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// When the last queries ended and how long each took, oldest first.
#[derive(Debug, Default)]
struct Recent(VecDeque<(Instant, Duration)>);

impl Recent {
    fn add(&mut self, now: Instant, took: Duration) {
        if self.0.len() == MOST_RECENT {
            self.0.pop_front();
        }
        self.0.push_back((now, took));
    }

    /// In seconds, each the time that this share of the queries of the window did not exceed.
    fn quantiles(&mut self, now: Instant) -> [(f64, f64); 7] {
        self.0
            .retain(|(ended, _)| now.saturating_duration_since(*ended) < WINDOW);
        let mut times: Vec<Duration> = self.0.iter().map(|(_, took)| *took).collect();
        times.sort_unstable();
        QUANTILES.map(|(quantile, thousandths)| {
            let rank = times.len().saturating_sub(1) * thousandths / 1000;
            let time = times.get(rank).copied().unwrap_or_default();
            (quantile, time.as_secs_f64())
        })
    }
}

const OUTCOMES: usize = 7;

/// How long a query counts as one of late, and how many do at most.
const WINDOW: Duration = Duration::from_secs(60);
const MOST_RECENT: usize = 4_096;

/// Each as a share and in thousandths.
const QUANTILES: [(f64, usize); 7] = [
    (0.0, 0),
    (0.5, 500),
    (0.9, 900),
    (0.95, 950),
    (0.99, 990),
    (0.999, 999),
    (1.0, 1000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted_once_and_refusals_never_ran() {
        let counters = Counters::default();
        counters.refused();
        for result in [Ok(()), Err(QueryError::Cancelled), Err(QueryError::NoLog)] {
            counters.begun(Duration::from_secs(2));
            counters.ended(Outcome::of(&result), Instant::now());
        }
        counters.begun(Duration::ZERO);
        let stats = counters.stats();
        let ended = stats.ended.map(|(outcome, count)| (outcome.name(), count));
        let expected = [
            ("ok", 1),
            ("error", 1),
            ("timeout", 0),
            ("memory", 0),
            ("cancelled", 1),
            ("refused", 1),
            ("stalled", 0),
        ];
        assert_eq!(ended, expected);
        assert!((stats.waited_seconds - 6.0).abs() < 1e-9);
        assert_eq!((stats.running, stats.count), (1, 3));
    }

    #[test]
    fn quantiles_are_of_the_last_minute_and_of_so_many() {
        let mut recent = Recent::default();
        let start = Instant::now();
        let times = |recent: &mut Recent, now| recent.quantiles(now).map(|(_, seconds)| seconds);
        assert_eq!(times(&mut recent, start), [0.0; 7]);
        for second in 0..=100 {
            recent.add(start, Duration::from_secs(second));
        }
        let expected = [0.0, 50.0, 90.0, 95.0, 99.0, 99.0, 100.0];
        assert_eq!(times(&mut recent, start), expected);
        let later = start + WINDOW;
        recent.add(later, Duration::from_secs(7));
        assert_eq!(times(&mut recent, later), [7.0; 7]);
        for _ in 0..2 * MOST_RECENT {
            recent.add(later, Duration::from_secs(1));
        }
        assert_eq!(recent.0.len(), MOST_RECENT);
        assert_eq!(times(&mut recent, later), [1.0; 7]);
    }
}
