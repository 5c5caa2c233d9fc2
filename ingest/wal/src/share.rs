//! A named share of the node's memory, and what is held of it. Owns one count of bytes; must never
//! wait, and never let what is taken by asking pass its limit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes for one part of a node; copies are the same share.
///
/// Bytes are taken before they are allocated. Who gets none refuses, waits or drops something of
/// its own: the share only counts.
#[derive(Clone)]
pub struct Share {
    counted: Arc<Counted>,
}

struct Counted {
    name: &'static str,
    limit: u64,
    used: AtomicU64,
}

impl Share {
    /// A share of `limit` bytes.
    pub fn new(name: &'static str, limit: u64) -> Self {
        Self {
            counted: Arc::new(Counted {
                name,
                limit,
                used: AtomicU64::new(0),
            }),
        }
    }

    /// A share that only counts: for tests, and for who works on a log without a node.
    pub fn unlimited(name: &'static str) -> Self {
        Self::new(name, u64::MAX)
    }

    /// Whose it is, as `/metrics` names it.
    pub fn name(&self) -> &'static str {
        self.counted.name
    }

    /// Bytes that there are.
    pub fn limit(&self) -> u64 {
        self.counted.limit
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.counted.used.load(Ordering::Relaxed)
    }

    /// Bytes that can be taken.
    pub fn left(&self) -> u64 {
        self.limit().saturating_sub(self.used())
    }

    /// Takes `bytes`; none if not all of them are left.
    pub fn try_take(&self, bytes: u64) -> Option<Held> {
        self.add(bytes).then(|| self.held(bytes))
    }

    /// Takes `bytes` whatever is left: for what is there already and cannot be refused. Others get
    /// nothing until there is room again.
    pub fn take_beyond(&self, bytes: u64) -> Held {
        self.add_beyond(bytes);
        self.held(bytes)
    }

    fn held(&self, bytes: u64) -> Held {
        Held {
            share: self.clone(),
            bytes,
        }
    }

    fn add(&self, bytes: u64) -> bool {
        let limit = self.limit();
        self.counted
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= limit)
            })
            .is_ok()
    }

    fn add_beyond(&self, bytes: u64) {
        self.counted.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        self.counted.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} of {} bytes",
            self.name(),
            self.used(),
            self.limit()
        )
    }
}

/// Bytes of a share, given back when dropped.
#[derive(Debug)]
#[must_use = "they are given back at once"]
pub struct Held {
    share: Share,
    bytes: u64,
}

impl Held {
    /// How many.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes so many more, all of them or none.
    #[must_use = "false: there are none, and they must not be used"]
    pub fn grow(&mut self, more: u64) -> bool {
        let grown = self.share.add(more);
        if grown {
            self.bytes += more;
        }
        grown
    }

    /// Takes so many more whatever is left, as [`Share::take_beyond`] does.
    pub fn grow_beyond(&mut self, more: u64) {
        self.share.add_beyond(more);
        self.bytes += more;
    }

    /// Gives so many back, at most all.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.share.give_back(less);
    }

    /// Holds exactly so many from now on; false, and as before, if it would have to take more than
    /// are left.
    #[must_use = "false: there are none, and they must not be used"]
    pub fn resize(&mut self, bytes: u64) -> bool {
        if let Some(more) = bytes.checked_sub(self.bytes) {
            return self.grow(more);
        }
        self.shrink(self.bytes - bytes);
        true
    }
}

impl Held {
    /// Holds exactly so many from now on, whatever is left.
    pub fn resize_beyond(&mut self, bytes: u64) {
        self.grow_beyond(bytes.saturating_sub(self.bytes));
        self.shrink(self.bytes.saturating_sub(bytes));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_and_never_passes_the_limit() {
        let share = Share::new("test", 100);
        let mut first = share.try_take(60).unwrap();
        assert!(share.try_take(41).is_none());
        let second = share.clone().try_take(40).unwrap();
        assert_eq!((share.used(), share.left()), (100, 0));
        assert!(!first.grow(1));
        assert!(share.try_take(u64::MAX).is_none());
        drop(second);
        assert!(first.grow(40));
        assert_eq!((first.bytes(), share.used()), (100, 100));
        first.shrink(70);
        assert_eq!((first.bytes(), share.used()), (30, 30));
        assert!(first.resize(50) && !first.resize(101) && first.resize(10));
        assert_eq!((first.bytes(), share.used()), (10, 10));
        first.shrink(u64::MAX);
        assert_eq!((first.bytes(), share.used()), (0, 0));
        drop(first);
        assert_eq!(format!("{share:?}"), "test: 0 of 100 bytes");
    }

    #[test]
    fn what_cannot_be_refused_keeps_others_out() {
        let share = Share::new("test", 100);
        let mut there = share.take_beyond(90);
        there.grow_beyond(60);
        assert_eq!((share.used(), share.left()), (150, 0));
        assert!(share.try_take(0).is_none());
        there.shrink(51);
        assert!(share.try_take(1).is_some());
        drop(there);
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn many_threads_never_hold_more_than_there_is() {
        let share = Share::new("test", 1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for step in 0..10_000 {
                        let held = share.try_take(step % 700);
                        assert!(share.used() <= share.limit());
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(share.used(), 0);
    }
}
