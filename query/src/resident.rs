//! What the process has in memory, as its system sees it: what statements are known to hold, and what
//! else there is, freed memory that the allocator keeps among it. Owns when that is looked at and
//! given back; must never end a statement itself, nor look often enough to cost anything.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::node::Node;

/// The process's memory, beside its limit.
pub(crate) struct Resident {
    node: Arc<dyn Node>,
    limit: u64,
    begun: Instant,
    /// When it is looked at again, in milliseconds.
    next: AtomicU64,
    /// When what is free is given back again although there is no need yet, likewise.
    give_back: AtomicU64,
    bytes: AtomicU64,
}

impl Resident {
    /// Of the process that `node` runs in, which is to have no more than `limit` bytes, about.
    pub(crate) fn new(node: Arc<dyn Node>, limit: u64) -> Self {
        Self {
            node,
            limit,
            begun: Instant::now(),
            next: AtomicU64::new(0),
            give_back: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// What the process had in memory a moment ago, if that with `more` is so much above the limit
    /// that statements must hold less.
    pub(crate) fn too_much(&self, more: u64) -> Option<u64> {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        if now >= next {
            let later = now.saturating_add(LOOK_MILLIS);
            let mine =
                self.next
                    .compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed);
            if mine.is_ok() {
                self.look(now);
            }
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        let most = self.limit.saturating_add(self.limit / BEYOND);
        (bytes.saturating_add(more) > most).then_some(bytes)
    }

    /// The limit.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    fn look(&self, now: u64) {
        let mut bytes = self.node.resident_bytes();
        let above = |limit: u64| bytes.is_some_and(|bytes| bytes > limit);
        let often = above(self.limit);
        let due = now >= self.give_back.load(Ordering::Relaxed);
        if often || (due && above(self.limit / 4 * 3)) {
            self.give_back
                .store(now.saturating_add(GIVE_BACK_MILLIS), Ordering::Relaxed);
            self.node.give_back();
            bytes = self.node.resident_bytes();
        }
        self.bytes.store(bytes.unwrap_or(0), Ordering::Relaxed);
    }
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resident")
            .field("limit", &self.limit)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// The part of the limit that the process may have beyond it for a moment.
const BEYOND: u64 = 16;
/// Time between two looks. What a statement can take in it is little.
const LOOK_MILLIS: u64 = 5;
/// What is given back has to be asked for again soon.
const GIVE_BACK_MILLIS: u64 = 200;
