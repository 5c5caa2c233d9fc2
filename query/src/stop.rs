//! Whether a statement's answer is still wanted. Owns the flag and the time until which it is; must
//! never end a statement whose answer is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::QueryError;

/// Of one statement, seen by all that compute it.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stopped: AtomicBool,
    deadline: Instant,
    limit: Duration,
}

impl Stop {
    /// After `limit` nobody waits any more.
    pub(crate) fn after(limit: Duration) -> Self {
        let now = Instant::now();
        Self(Arc::new(Inner {
            stopped: AtomicBool::new(false),
            deadline: now.checked_add(limit).unwrap_or(now),
            limit,
        }))
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// Tells all that compute the statement that nobody wants its answer any more.
    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// Why the statement is to end, if it is.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.0.stopped.load(Ordering::Relaxed) {
            return Err(QueryError::Cancelled);
        }
        if Instant::now() > self.0.deadline {
            return Err(self.late());
        }
        Ok(())
    }

    pub(crate) fn late(&self) -> QueryError {
        QueryError::Timeout {
            limit: self.0.limit,
        }
    }
}

/// Stops a statement when it is dropped.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
