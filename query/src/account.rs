//! What each statement holds, as the process's allocator sees it, and whether it may go on. Owns the
//! count and the ceiling for all statements together, the second line behind the memory pool and the
//! bounds of functions, which only know what they are told; must never end a statement while all
//! together are below the ceiling and the process has no more memory than it may.
//!
//! The allocator counts per thread; whoever works for a statement enters its account, and what the
//! thread has taken and given back meanwhile is the statement's. Nothing is counted where the
//! allocator does not tell, as in tests of this crate.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use crate::error::QueryError;
use crate::resident::Resident;
use crate::seat::{Seat, Slot};
use crate::stop::Stop;

/// To be called by the process's allocator for each piece of memory that it gives. Allocates nothing.
#[inline]
pub fn allocated(bytes: usize) {
    NET.with(|net| net.set(net.get().wrapping_add(bytes.cast_signed())));
}

/// Likewise for each piece that it takes back.
#[inline]
pub fn freed(bytes: usize) {
    NET.with(|net| net.set(net.get().wrapping_sub(bytes.cast_signed())));
}

/// What all statements of an engine hold.
#[derive(Debug)]
pub(crate) struct Ledger {
    ceiling: isize,
    total: AtomicIsize,
    open: AtomicIsize,
    /// The last line: what no count knows of.
    resident: Resident,
}

impl Ledger {
    pub(crate) fn new(ceiling: u64, resident: Resident) -> Self {
        Self {
            ceiling: isize::try_from(ceiling).unwrap_or(isize::MAX),
            total: AtomicIsize::new(0),
            open: AtomicIsize::new(0),
            resident,
        }
    }

    /// What all statements hold now.
    pub(crate) fn total(&self) -> u64 {
        u64::try_from(self.total.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// An account for one statement.
    pub(crate) fn open(self: &Arc<Self>, stop: Stop, seat: Seat) -> Account {
        self.open.fetch_add(1, Ordering::Relaxed);
        Account(Arc::new(Inner {
            ledger: Arc::clone(self),
            own: AtomicIsize::new(0),
            stop,
            seat,
        }))
    }
}

/// What one statement holds.
#[derive(Debug, Clone)]
pub(crate) struct Account(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ledger: Arc<Ledger>,
    own: AtomicIsize,
    stop: Stop,
    seat: Seat,
}

impl Account {
    /// What this thread does is the statement's, until the guard is dropped.
    pub(crate) fn enter(&self, work: Work) -> Entered {
        let outer = CURRENT.with_borrow_mut(|current| {
            if current.as_ref().is_some_and(|c| c.account.is(self)) {
                return None;
            }
            let mut outer = current.take();
            if let Some(outer) = &mut outer {
                outer.settle();
            }
            *current = Some(Current {
                account: self.clone(),
                work,
                since: NET.get(),
                _slot: self.0.seat.hold(),
            });
            Some(outer)
        });
        Entered {
            outer,
            here: PhantomData,
        }
    }

    /// Whether the statement may go on.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        self.check_with(0)
    }

    /// Whether it may go on and take so many bytes more.
    fn check_with(&self, more: isize) -> Result<(), QueryError> {
        self.0.stop.check()?;
        let ledger = &self.0.ledger;
        let total = ledger.total.load(Ordering::Relaxed).saturating_add(more);
        let above = total > ledger.ceiling;
        let resident = ledger.resident.too_much(u64::try_from(more).unwrap_or(0));
        if !above && resident.is_none() {
            return Ok(());
        }
        // The largest holds at least its part, so one ends, and none that holds little.
        let own = self.0.own.load(Ordering::Relaxed).saturating_add(more);
        let open = ledger.open.load(Ordering::Relaxed).max(1);
        let largest = own.saturating_mul(open) >= total;
        match resident {
            _ if above && largest => Err(QueryError::Memory(format!(
                "it would hold {} MiB, all queries {} MiB",
                own >> 20,
                total >> 20
            ))),
            // What is not of statements does not become less by their ends.
            Some(bytes) if largest && own >= ledger.ceiling / LARGE_PART => {
                Err(QueryError::Memory(format!(
                    "it would hold {} MiB, and the whole process has {} MiB in memory, of {} MiB",
                    own >> 20,
                    bytes >> 20,
                    ledger.resident.limit() >> 20
                )))
            }
            _ => Ok(()),
        }
    }

    /// A plan may double from one look to the next, so it has less than its rows have.
    fn check_plan(&self) -> Result<(), QueryError> {
        let own = self.0.own.load(Ordering::Relaxed);
        if own <= self.0.ledger.ceiling / PLAN_PART {
            return Ok(());
        }
        Err(QueryError::Memory(format!(
            "its plan alone takes {} MiB",
            own >> 20
        )))
    }

    /// What was the statement's is somebody else's from now on.
    pub(crate) fn hand_over(&self, bytes: usize) {
        self.0.add(bytes.cast_signed().wrapping_neg());
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Inner {
    fn add(&self, bytes: isize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.ledger.total.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ledger.open.fetch_sub(1, Ordering::Relaxed);
        let own = self.own.load(Ordering::Relaxed);
        self.ledger.total.fetch_sub(own, Ordering::Relaxed);
    }
}

/// What a thread does for a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Planning,
    Running,
}

#[derive(Debug)]
struct Current {
    account: Account,
    work: Work,
    /// The thread's count when it was last settled.
    since: isize,
    _slot: Option<Slot>,
}

impl Current {
    fn settle(&mut self) {
        let now = NET.get();
        let bytes = now.wrapping_sub(self.since);
        self.since = now;
        if bytes != 0 {
            self.account.0.add(bytes);
        }
    }
}

/// Ends a thread's work for a statement when it is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    /// What the thread did before; none where it was in the same account already.
    outer: Option<Option<Current>>,
    here: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(mut outer) = self.outer.take() else {
            return;
        };
        if let Some(outer) = &mut outer {
            outer.since = NET.get();
        }
        let mut ended = CURRENT.replace(outer);
        if let Some(ended) = &mut ended {
            ended.settle();
        }
    }
}

/// Whether the statement that this thread works for may go on; always where it works for none.
pub(crate) fn check() -> Result<(), QueryError> {
    check_with(0)
}

/// Likewise, and whether it may take so many bytes more.
pub(crate) fn check_with(more: u64) -> Result<(), QueryError> {
    let more = isize::try_from(more).unwrap_or(isize::MAX);
    CURRENT.with_borrow_mut(|current| match current {
        Some(current) => {
            current.settle();
            current.account.check_with(more)?;
            match current.work {
                Work::Planning => current.account.check_plan(),
                Work::Running => Ok(()),
            }
        }
        None => Ok(()),
    })
}

/// Whether this thread makes a statement's plan.
pub(crate) fn is_planning() -> bool {
    CURRENT.with_borrow(|current| {
        let work = current.as_ref().map(|current| current.work);
        work == Some(Work::Planning)
    })
}

/// Does `work` as if rows were made already, within planning.
pub(crate) fn while_running<T>(work: impl FnOnce() -> T) -> T {
    let set = |work| {
        CURRENT.with_borrow_mut(|current| {
            current
                .as_mut()
                .map(|current| std::mem::replace(&mut current.work, work))
        })
    };
    let before = set(Work::Running);
    let done = work();
    if let Some(before) = before {
        set(before);
    }
    done
}

/// A plan may take this part of what all statements may.
const PLAN_PART: isize = 3;
/// A statement that holds less than this part has no say in how large the process is.
const LARGE_PART: isize = 8;

thread_local! {
    /// Bytes that this thread has taken and not given back; below 0 where it gives back those of
    /// others.
    static NET: Cell<isize> = const { Cell::new(0) };
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;
    use crate::node::{Node, ReplicationRow};

    /// Of a process that has this much in memory, and may have a gigabyte.
    struct Process(AtomicU64);

    impl Node for Process {
        fn log(&self) -> Option<wal::Log> {
            None
        }

        fn lag_ms(&self) -> Option<u64> {
            None
        }

        fn replication(&self) -> Vec<ReplicationRow> {
            Vec::new()
        }

        fn resident_bytes(&self) -> Option<u64> {
            Some(self.0.load(Ordering::Relaxed))
        }
    }

    fn ledger(resident: u64) -> Arc<Ledger> {
        let process = Arc::new(Process(AtomicU64::new(resident)));
        Arc::new(Ledger::new(1_000, Resident::new(process, 1 << 30)))
    }

    fn account(ledger: &Arc<Ledger>) -> Account {
        ledger.open(Stop::after(Duration::from_secs(600)), Seat::default())
    }

    #[test]
    fn only_the_largest_ends_and_only_above_the_ceiling() {
        let ledger = ledger(0);
        let (large, small) = (account(&ledger), account(&ledger));
        {
            let _work = large.enter(Work::Planning);
            assert!(is_planning());
            allocated(400);
            assert!(matches!(check(), Err(QueryError::Memory(_))), "a plan");
            freed(400);
        }
        {
            let _work = large.enter(Work::Running);
            allocated(900);
            assert_eq!(check(), Ok(()));
            assert!(check_with(200).is_err(), "too much more");
            {
                let _other = small.enter(Work::Running);
                assert!(!is_planning());
                allocated(300);
                assert_eq!(check(), Ok(()), "the other is larger");
                let _nested = small.enter(Work::Running);
            }
            assert!(matches!(check(), Err(QueryError::Memory(_))));
            freed(300);
            assert_eq!(check(), Ok(()));
        }
        small.hand_over(300);
        allocated(5_000);
        assert_eq!(ledger.total.load(Ordering::Relaxed), 600);
        assert_eq!(check(), Ok(()), "nobody's");
        drop((large, small));
        assert_eq!(ledger.total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn where_the_process_is_too_large_who_holds_much_ends() {
        for (resident, refused) in [(1 << 29, false), (1 << 30, false), (2 << 30, true)] {
            let ledger = ledger(resident);
            let (large, small) = (account(&ledger), account(&ledger));
            let _work = large.enter(Work::Running);
            allocated(500);
            assert_eq!(check().is_err(), refused, "{resident}");
            let _other = small.enter(Work::Running);
            allocated(100);
            assert_eq!(check(), Ok(()), "what it holds does not matter");
        }
    }

    #[test]
    fn a_statement_that_is_stopped_or_late_ends() {
        let ledger = ledger(0);
        let stop = Stop::after(Duration::from_secs(600));
        let wanted = ledger.open(stop.clone(), Seat::default());
        assert_eq!(wanted.check(), Ok(()));
        stop.stop();
        assert_eq!(wanted.check(), Err(QueryError::Cancelled));
        let late = ledger.open(Stop::after(Duration::ZERO), Seat::default());
        let limit = Duration::ZERO;
        while late.check() == Ok(()) {
            std::thread::yield_now();
        }
        assert_eq!(late.check(), Err(QueryError::Timeout { limit }));
    }
}
