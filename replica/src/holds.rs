//! What joining nodes still fetch: the manifest that each was given, and a hold on the files it
//! names. It owns how many are kept and for how long, and must never keep one for a node that does
//! not ask any more: held files take room on the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::sleep;
use wal::{Bundle, Log};

/// Holds by node id. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds {
    kept: Arc<Mutex<Kept<Bundle>>>,
}

impl Holds {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The manifest in force, for this node; the one it had before is let go.
    pub(crate) fn take(&self, id: &str, log: &Log) -> Bundle {
        let bundle = log.bundle();
        let dropped = lock(&self.kept).put(id, bundle.clone(), Instant::now());
        // Letting go may unmap files: not under the lock.
        drop(dropped);
        self.sweep_later();
        bundle
    }

    /// This node still fetches.
    pub(crate) fn touch(&self, id: &str) {
        lock(&self.kept).touch(id, Instant::now());
    }

    /// This node has what it needs.
    pub(crate) fn release(&self, id: &str) {
        let released = lock(&self.kept).held.remove(id);
        drop(released);
    }

    /// Old holds go even when nobody asks any more.
    fn sweep_later(&self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !std::mem::replace(&mut lock(&self.kept).sweeping, true) {
            let kept = Arc::downgrade(&self.kept);
            runtime.spawn(async move {
                while sweep(&kept) {
                    sleep(SWEEP_EVERY).await;
                }
            });
        }
    }
}

/// Lets old holds go; whether there may be more to do later.
fn sweep<T>(kept: &Weak<Mutex<Kept<T>>>) -> bool {
    let Some(kept) = kept.upgrade() else {
        return false;
    };
    let mut book = lock(&kept);
    let old = book.take_old(Instant::now());
    book.sweeping = !book.held.is_empty();
    let more = book.sweeping;
    drop(book);
    drop(old);
    more
}

fn lock<T>(kept: &Mutex<Kept<T>>) -> MutexGuard<'_, Kept<T>> {
    // Every section leaves it consistent.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The book of holds. Pure: the caller brings the time.
#[derive(Debug)]
struct Kept<T> {
    held: HashMap<String, (T, Instant)>,
    /// Whether a task looks after it.
    sweeping: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            held: HashMap::new(),
            sweeping: false,
        }
    }
}

impl<T> Kept<T> {
    /// Keeps a hold; what is let go for it.
    fn put(&mut self, id: &str, hold: T, now: Instant) -> Vec<T> {
        let mut dropped = self.take_old(now);
        dropped.extend(self.held.remove(id).map(|(hold, _)| hold));
        if self.held.len() >= MOST {
            let oldest = self.held.iter().min_by_key(|(_, (_, touched))| *touched);
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                dropped.extend(self.held.remove(&id).map(|(hold, _)| hold));
            }
        }
        self.held.insert(id.to_owned(), (hold, now));
        dropped
    }

    fn touch(&mut self, id: &str, now: Instant) {
        if let Some((_, touched)) = self.held.get_mut(id) {
            *touched = now;
        }
    }

    fn take_old(&mut self, now: Instant) -> Vec<T> {
        let old = |touched: Instant| now.saturating_duration_since(touched) >= KEPT_FOR;
        let gone = self.held.extract_if(|_, (_, touched)| old(*touched));
        gone.map(|(_, (hold, _))| hold).collect()
    }
}

/// Holds at once; beyond that the one used longest ago is let go.
const MOST: usize = 32;

/// Time after which a node that has asked for nothing is taken to have gone.
const KEPT_FOR: Duration = Duration::from_secs(600);

const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<T>(kept: &Kept<T>) -> Vec<&str> {
        let mut ids: Vec<&str> = kept.held.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_node_has_one_hold_and_the_newer_replaces_the_older() {
        let now = Instant::now();
        let mut kept = Kept::default();
        assert!(kept.put("a", 1, now).is_empty());
        assert!(kept.put("b", 2, now).is_empty());
        assert_eq!(kept.put("a", 3, now), [1]);
        assert_eq!(ids(&kept), ["a", "b"]);
    }

    #[test]
    fn what_is_not_asked_for_any_more_is_let_go() {
        let begin = Instant::now();
        let mut kept = Kept::default();
        kept.put("a", 1, begin);
        kept.put("b", 2, begin);
        kept.touch("b", begin + KEPT_FOR / 2);
        kept.touch("nobody", begin + KEPT_FOR / 2);
        assert_eq!(kept.take_old(begin + KEPT_FOR), [1]);
        assert_eq!(ids(&kept), ["b"]);
        assert_eq!(kept.put("c", 3, begin + KEPT_FOR * 2), [2]);
    }

    #[test]
    fn a_bounded_number_is_kept_and_the_idle_one_goes_first() {
        let begin = Instant::now();
        let mut kept = Kept::default();
        for nth in 0..MOST {
            let now = begin + Duration::from_secs(1);
            assert!(kept.put(&nth.to_string(), nth, now).is_empty());
        }
        kept.held.get_mut("7").expect("held").1 = begin;
        assert_eq!(kept.put("new", 99, begin + Duration::from_secs(2)), [7]);
        assert_eq!(kept.held.len(), MOST);
        assert!(kept.put("new", 100, begin + Duration::from_secs(2)) == [99]);
        assert_eq!(kept.held.len(), MOST);
    }

    #[test]
    fn the_sweeper_ends_with_the_last_hold_and_with_its_owner() {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let weak = Arc::downgrade(&kept);
        lock(&kept).put("a", 1, Instant::now());
        assert!(sweep(&weak));
        lock(&kept).held.clear();
        assert!(!sweep(&weak));
        assert!(!lock(&kept).sweeping);
        drop(kept);
        assert!(!sweep(&weak));
    }
}
