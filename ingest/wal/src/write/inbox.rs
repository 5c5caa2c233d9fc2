//! What an appender and the committer share: gathered rows on their way to a commit, and word of
//! the commit on its way back. The mutex around the rows is held for the time of a pointer swap; it
//! must never do I/O.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::error::WalError;
use crate::ids::Lsn;
use crate::write::batch::Batch;
use crate::write::taken_times::TakenTimes;

/// Names the group that rows will be committed with: they are durable once `Durable::group` of the
/// same appender has reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// Everything an appender took up to and including `group` is on disk, below `lsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    pub group: GroupId,
    pub lsn: Lsn,
}

/// Called on the committer's thread after each group: must not block.
pub(crate) type OnDurable = Box<dyn Fn(Durable) + Send + Sync>;

/// What appender and committer share.
pub(crate) struct Inbox {
    pub(crate) pending: Mutex<Pending>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) times: Arc<TakenTimes>,
    closed: AtomicBool,
    /// Gone once the inbox is closed: whoever waits at its other end learns that.
    on_durable: Mutex<Option<OnDurable>>,
    done: Mutex<Progress>,
    woken: Condvar,
}

/// Rows that wait for the next commit.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) group: u64,
    pub(crate) batch: Batch,
}

/// How far the group commits have come.
#[derive(Clone, Copy, Default)]
struct Progress {
    durable: Option<Durable>,
    closed: bool,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Inbox {
    pub(crate) fn new(bell: Arc<Bell>, times: Arc<TakenTimes>, on_durable: OnDurable) -> Self {
        Self {
            pending: Mutex::default(),
            bell,
            times,
            closed: AtomicBool::new(false),
            on_durable: Mutex::new(Some(on_durable)),
            done: Mutex::default(),
            woken: Condvar::new(),
        }
    }

    /// Takes what has been gathered; the group of its rows comes with it.
    pub(crate) fn take(&self) -> Result<Option<(GroupId, Batch)>, WalError> {
        // A producer that panicked may have left half a row behind.
        let mut pending = self.pending.lock().map_err(|_| {
            WalError::Poisoned("a producer panicked while it appended rows".to_owned())
        })?;
        if pending.batch.is_empty() {
            return Ok(None);
        }
        let group = GroupId(pending.group);
        pending.group += 1;
        Ok(Some((group, std::mem::take(&mut pending.batch))))
    }

    /// Bytes of rows, roughly, that wait for their commit.
    pub(crate) fn pending_bytes(&self) -> usize {
        lock(&self.pending).batch.bytes()
    }

    pub(crate) fn complete(&self, durable: Durable) {
        lock(&self.done).durable = Some(durable);
        self.woken.notify_all();
        if let Some(on_durable) = &*lock(&self.on_durable) {
            on_durable(durable);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Blocks until the rows of `group` are on disk; returns an LSN above all of them.
    pub(crate) fn wait(&self, group: GroupId) -> Result<Lsn, WalError> {
        let mut done = lock(&self.done);
        loop {
            match *done {
                Progress {
                    durable: Some(durable),
                    ..
                } if durable.group >= group => {
                    return Ok(durable.lsn);
                }
                Progress { closed: true, .. } => return Err(WalError::Closed),
                _ => {
                    done = self
                        .woken
                        .wait(done)
                        .unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
    }

    /// Refuses everything from now on and fails whoever waits.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        lock(&self.done).closed = true;
        self.woken.notify_all();
        drop(lock(&self.on_durable).take());
    }
}

/// Wakes the committer. Ringing twice before it looks is ringing once.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Bell {
    /// Names the thread to wake; before anybody rings, so that no ring is lost.
    pub(crate) fn belongs_to(&self, thread: Thread) {
        let _ = self.thread.set(thread);
    }

    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Returns once rung, or after `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.rung.swap(false, Ordering::AcqRel) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }
}

/// Also after a panic: what is guarded so is always whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
