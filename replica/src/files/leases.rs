//! What bootstrapping nodes still fetch: the manifest that each was given, and a hold on the files it
//! names. It owns how many are kept and for how long, and must never keep one for a node that does
//! not ask any more, of a log that is not served any more, or while this node has no room to write:
//! held files take room on the disk. A node that loses its hold takes the next manifest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
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
        let dropped = lock(&self.kept).put(id, bundle.clone(), log.stalled(), Instant::now());
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
        let released = lock(&self.kept).remove(id);
        drop(released);
    }

    /// Holds go even when nobody asks any more.
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

/// Lets holds go that must not stay; whether there may be more to do later.
fn sweep<T>(kept: &Weak<Mutex<Kept<T>>>) -> bool {
    let Some(kept) = kept.upgrade() else {
        return false;
    };
    let mut book = lock(&kept);
    let mut old = book.take_old(Instant::now());
    // One at a time: it may be enough.
    old.extend(book.take_stalled());
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

/// Why a log cannot write, as it says itself. It also tells logs apart, and ends with its log, which
/// is not kept open by it.
type Stall = watch::Receiver<Option<String>>;

#[derive(Debug)]
struct Hold<T> {
    what: T,
    /// Of the log it is of.
    stall: Stall,
    taken: Instant,
    touched: Instant,
}

/// The book of holds. Pure: the caller brings the time.
#[derive(Debug)]
struct Kept<T> {
    held: HashMap<String, Hold<T>>,
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
    /// Keeps a hold; what is let go for it. The node serves the log of the newest one only.
    fn put(&mut self, id: &str, what: T, stall: Stall, now: Instant) -> Vec<T> {
        let mut dropped = self.take_old(now);
        let another = |hold: &Hold<T>| !hold.stall.same_channel(&stall);
        let gone = self.held.extract_if(|_, hold| another(hold));
        dropped.extend(gone.map(|(_, hold)| hold.what));
        dropped.extend(self.remove(id));
        if self.held.len() >= MOST {
            dropped.extend(self.take_first(|_| true, |hold| hold.touched));
        }
        let hold = Hold {
            what,
            stall,
            taken: now,
            touched: now,
        };
        self.held.insert(id.to_owned(), hold);
        dropped
    }

    fn touch(&mut self, id: &str, now: Instant) {
        if let Some(hold) = self.held.get_mut(id) {
            hold.touched = now;
        }
    }

    fn remove(&mut self, id: &str) -> Option<T> {
        self.held.remove(id).map(|hold| hold.what)
    }

    /// Those that nobody has asked for, and those of a log that has been closed.
    fn take_old(&mut self, now: Instant) -> Vec<T> {
        let old = |hold: &Hold<T>| {
            let idle = now.saturating_duration_since(hold.touched);
            idle >= KEPT_FOR || hold.stall.has_changed().is_err()
        };
        let gone = self.held.extract_if(|_, hold| old(hold));
        gone.map(|(_, hold)| hold.what).collect()
    }

    /// The oldest of a log that has no room: it has the most files that are in force no more.
    fn take_stalled(&mut self) -> Option<T> {
        self.take_first(|hold| hold.stall.borrow().is_some(), |hold| hold.taken)
    }

    /// Of those that are meant the one that comes first.
    fn take_first(
        &mut self,
        is_meant: impl Fn(&Hold<T>) -> bool,
        order: impl Fn(&Hold<T>) -> Instant,
    ) -> Option<T> {
        let meant = self.held.iter().filter(|(_, hold)| is_meant(hold));
        let first = meant.min_by_key(|(_, hold)| order(hold));
        let id = first.map(|(id, _)| id.clone())?;
        self.remove(&id)
    }
}

/// Holds at once; beyond that the one used longest ago is let go.
const MOST: usize = 32;

/// Time after which a node that has asked for nothing is taken to have gone.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// While anything is held: a full disk is to be relieved soon.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<T>(kept: &Kept<T>) -> Vec<&str> {
        let mut ids: Vec<&str> = kept.held.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids
    }

    /// A log that has room.
    fn log() -> watch::Sender<Option<String>> {
        watch::Sender::new(None)
    }

    #[test]
    fn a_node_has_one_hold_and_the_newer_replaces_the_older() {
        let (now, log) = (Instant::now(), log());
        let mut kept = Kept::default();
        assert!(kept.put("a", 1, log.subscribe(), now).is_empty());
        assert!(kept.put("b", 2, log.subscribe(), now).is_empty());
        assert_eq!(kept.put("a", 3, log.subscribe(), now), [1]);
        assert_eq!(ids(&kept), ["a", "b"]);
    }

    #[test]
    fn what_is_not_asked_for_any_more_is_let_go() {
        let (begin, log) = (Instant::now(), log());
        let mut kept = Kept::default();
        kept.put("a", 1, log.subscribe(), begin);
        kept.put("b", 2, log.subscribe(), begin);
        kept.touch("b", begin + KEPT_FOR / 2);
        kept.touch("nobody", begin + KEPT_FOR / 2);
        assert_eq!(kept.take_old(begin + KEPT_FOR), [1]);
        assert_eq!(ids(&kept), ["b"]);
        let late = begin + KEPT_FOR * 2;
        assert_eq!(kept.put("c", 3, log.subscribe(), late), [2]);
    }

    #[test]
    fn a_bounded_number_is_kept_and_the_idle_one_goes_first() {
        let (begin, log) = (Instant::now(), log());
        let put = |kept: &mut Kept<usize>, id: &str, what, seconds| {
            let now = begin + Duration::from_secs(seconds);
            kept.put(id, what, log.subscribe(), now)
        };
        let mut kept = Kept::default();
        for nth in 0..MOST {
            assert!(put(&mut kept, &nth.to_string(), nth, 1).is_empty());
        }
        kept.held.get_mut("7").expect("held").touched = begin;
        assert_eq!(put(&mut kept, "new", 99, 2), [7]);
        assert_eq!(kept.held.len(), MOST);
        assert_eq!(put(&mut kept, "new", 100, 2), [99]);
        assert_eq!(kept.held.len(), MOST);
    }

    #[test]
    fn while_a_log_has_no_room_its_holds_go_the_oldest_first() {
        let (begin, log) = (Instant::now(), log());
        let kept = Arc::new(Mutex::new(Kept::default()));
        let weak = Arc::downgrade(&kept);
        for (nth, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let now = begin + Duration::from_millis(u64::try_from(nth).expect("small"));
            lock(&kept).put(id, nth, log.subscribe(), now);
        }
        // Being asked for does not save it.
        lock(&kept).touch("a", begin + Duration::from_secs(1));
        assert!(sweep(&weak));
        assert_eq!(ids(&lock(&kept)), ["a", "b", "c", "d"]);
        log.send_replace(Some("the disk is full".to_owned()));
        for left in [vec!["b", "c", "d"], vec!["c", "d"]] {
            assert!(sweep(&weak));
            assert_eq!(ids(&lock(&kept)), left);
        }
        log.send_replace(None);
        assert!(sweep(&weak));
        assert_eq!(ids(&lock(&kept)), ["c", "d"]);
    }

    #[test]
    fn nothing_is_held_of_a_log_that_another_has_replaced_or_that_is_closed() {
        let (now, old, new) = (Instant::now(), log(), log());
        let mut kept = Kept::default();
        kept.put("a", 1, old.subscribe(), now);
        kept.put("b", 2, old.subscribe(), now);
        let mut dropped = kept.put("c", 3, new.subscribe(), now);
        dropped.sort_unstable();
        assert_eq!(dropped, [1, 2]);
        drop(new);
        assert_eq!(kept.take_old(now), [3]);
    }

    #[test]
    fn a_hold_keeps_no_log_open() {
        let dir = tempfile::tempdir().expect("dir");
        let open = || wal::open_primary(wal::OsDisk::new(), dir.path(), &wal::Config::default());
        let (primary, _) = open().expect("opens");
        let holds = Holds::new();
        holds.take("a", primary.log());
        let weak = Arc::downgrade(&holds.kept);
        assert!(sweep(&weak));
        primary.stop().expect("stops");
        assert!(!sweep(&weak), "the log is closed");
    }

    #[test]
    fn the_sweeper_ends_with_the_last_hold_and_with_its_owner() {
        let (log, kept) = (log(), Arc::new(Mutex::new(Kept::default())));
        let weak = Arc::downgrade(&kept);
        lock(&kept).put("a", 1, log.subscribe(), Instant::now());
        assert!(sweep(&weak));
        lock(&kept).held.clear();
        assert!(!sweep(&weak));
        assert!(!lock(&kept).sweeping);
        drop(kept);
        assert!(!sweep(&weak));
    }
}
