//! What bootstrapping nodes still fetch: the manifest that each was given, and a lease on the files
//! it names. It owns how many are kept and for how long, and must never keep one for a node that
//! does not ask any more, of a log that is not served any more, or while this node has no room to
//! write: held files take room on the disk. A node that loses its lease takes the next manifest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use wal::{Bundle, Log};

/// Leases by node id. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    table: Arc<Mutex<Table<Bundle>>>,
}

impl Leases {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The manifest in force, for this node; the one it had before is let go.
    pub(crate) fn take(&self, id: &str, log: &Log) -> Bundle {
        let bundle = log.bundle();
        let dropped = lock(&self.table).put(id, bundle.clone(), log.stalled(), Instant::now());
        // Letting go may unmap files: not under the lock.
        drop(dropped);
        self.sweep_later();
        bundle
    }

    /// This node still fetches.
    pub(crate) fn touch(&self, id: &str) {
        lock(&self.table).touch(id, Instant::now());
    }

    /// This node has what it needs.
    pub(crate) fn release(&self, id: &str) {
        let released = lock(&self.table).remove(id);
        drop(released);
    }

    /// Leases go even when nobody asks any more.
    fn sweep_later(&self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !std::mem::replace(&mut lock(&self.table).sweeping, true) {
            let table = Arc::downgrade(&self.table);
            runtime.spawn(async move {
                let _sweeping = Sweeping(&table);
                while sweep(&table) {
                    sleep(SWEEP_EVERY).await;
                }
            });
        }
    }
}

/// However the sweeping ends, the next lease begins it again.
struct Sweeping<'a, T>(&'a Weak<Mutex<Table<T>>>);

impl<T> Drop for Sweeping<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(table) = self.0.upgrade()
        {
            lock(&table).sweeping = false;
        }
    }
}

/// Lets leases go that must not stay; whether there may be more to do later.
fn sweep<T>(table: &Weak<Mutex<Table<T>>>) -> bool {
    let Some(table) = table.upgrade() else {
        return false;
    };
    let mut leases = lock(&table);
    let mut old = leases.take_old(Instant::now());
    // One at a time: it may be enough.
    old.extend(leases.take_stalled());
    leases.sweeping = !leases.by_node.is_empty();
    let more = leases.sweeping;
    drop(leases);
    drop(old);
    more
}

fn lock<T>(table: &Mutex<Table<T>>) -> MutexGuard<'_, Table<T>> {
    // Every section leaves it consistent.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a log cannot write, as it says itself. It also tells logs apart, and ends with its log,
/// which is not kept open by it.
type Stall = watch::Receiver<Option<String>>;

#[derive(Debug)]
struct Lease<T> {
    what: T,
    /// Of the log it is of.
    stall: Stall,
    taken: Instant,
    touched: Instant,
}

/// The leases by node. Pure: the caller brings the time.
#[derive(Debug)]
struct Table<T> {
    by_node: HashMap<String, Lease<T>>,
    /// Whether a task looks after it.
    sweeping: bool,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            by_node: HashMap::new(),
            sweeping: false,
        }
    }
}

impl<T> Table<T> {
    /// Keeps a lease; what is let go for it. The node serves the log of the newest one only.
    fn put(&mut self, id: &str, what: T, stall: Stall, now: Instant) -> Vec<T> {
        let mut dropped = self.take_old(now);
        let another = |lease: &Lease<T>| !lease.stall.same_channel(&stall);
        let gone = self.by_node.extract_if(|_, lease| another(lease));
        dropped.extend(gone.map(|(_, lease)| lease.what));
        dropped.extend(self.remove(id));
        if self.by_node.len() >= MOST {
            dropped.extend(self.take_first(|_| true, |lease| lease.touched));
        }
        let lease = Lease {
            what,
            stall,
            taken: now,
            touched: now,
        };
        self.by_node.insert(id.to_owned(), lease);
        dropped
    }

    fn touch(&mut self, id: &str, now: Instant) {
        if let Some(lease) = self.by_node.get_mut(id) {
            lease.touched = now;
        }
    }

    fn remove(&mut self, id: &str) -> Option<T> {
        self.by_node.remove(id).map(|lease| lease.what)
    }

    /// Those that nobody has asked for, and those of a log that has been closed.
    fn take_old(&mut self, now: Instant) -> Vec<T> {
        let old = |lease: &Lease<T>| {
            let idle = now.saturating_duration_since(lease.touched);
            idle >= KEPT_FOR || lease.stall.has_changed().is_err()
        };
        let gone = self.by_node.extract_if(|_, lease| old(lease));
        gone.map(|(_, lease)| lease.what).collect()
    }

    /// The oldest of a log that has no room: it has the most files that are in force no more.
    fn take_stalled(&mut self) -> Option<T> {
        self.take_first(|lease| lease.stall.borrow().is_some(), |lease| lease.taken)
    }

    /// Of those that are meant the one that comes first.
    fn take_first(
        &mut self,
        is_meant: impl Fn(&Lease<T>) -> bool,
        order: impl Fn(&Lease<T>) -> Instant,
    ) -> Option<T> {
        let meant = self.by_node.iter().filter(|(_, lease)| is_meant(lease));
        let first = meant.min_by_key(|(_, lease)| order(lease));
        let id = first.map(|(id, _)| id.clone())?;
        self.remove(&id)
    }
}

/// Leases at once; beyond that the one used longest ago is let go.
const MOST: usize = 32;

/// Time after which a node that has asked for nothing is taken to have gone.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// While anything is held: a full disk is to be relieved soon.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<T>(table: &Table<T>) -> Vec<&str> {
        let mut ids: Vec<&str> = table.by_node.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids
    }

    /// A log that has room.
    fn log() -> watch::Sender<Option<String>> {
        watch::Sender::new(None)
    }

    #[test]
    fn a_node_has_one_lease_and_the_newer_replaces_the_older() {
        let (now, log) = (Instant::now(), log());
        let mut table = Table::default();
        assert!(table.put("a", 1, log.subscribe(), now).is_empty());
        assert!(table.put("b", 2, log.subscribe(), now).is_empty());
        assert_eq!(table.put("a", 3, log.subscribe(), now), [1]);
        assert_eq!(ids(&table), ["a", "b"]);
    }

    #[test]
    fn what_is_not_asked_for_any_more_is_let_go() {
        let (begin, log) = (Instant::now(), log());
        let mut table = Table::default();
        table.put("a", 1, log.subscribe(), begin);
        table.put("b", 2, log.subscribe(), begin);
        table.touch("b", begin + KEPT_FOR / 2);
        table.touch("nobody", begin + KEPT_FOR / 2);
        assert_eq!(table.take_old(begin + KEPT_FOR), [1]);
        assert_eq!(ids(&table), ["b"]);
        let late = begin + KEPT_FOR * 2;
        assert_eq!(table.put("c", 3, log.subscribe(), late), [2]);
    }

    #[test]
    fn a_bounded_number_is_kept_and_the_idle_one_goes_first() {
        let (begin, log) = (Instant::now(), log());
        let put = |table: &mut Table<usize>, id: &str, what, seconds| {
            let now = begin + Duration::from_secs(seconds);
            table.put(id, what, log.subscribe(), now)
        };
        let mut table = Table::default();
        for nth in 0..MOST {
            assert!(put(&mut table, &nth.to_string(), nth, 1).is_empty());
        }
        table.by_node.get_mut("7").expect("held").touched = begin;
        assert_eq!(put(&mut table, "new", 99, 2), [7]);
        assert_eq!(table.by_node.len(), MOST);
        assert_eq!(put(&mut table, "new", 100, 2), [99]);
        assert_eq!(table.by_node.len(), MOST);
    }

    #[test]
    fn while_a_log_has_no_room_its_leases_go_the_oldest_first() {
        let (begin, log) = (Instant::now(), log());
        let table = Arc::new(Mutex::new(Table::default()));
        let weak = Arc::downgrade(&table);
        for (nth, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let now = begin + Duration::from_millis(u64::try_from(nth).expect("small"));
            lock(&table).put(id, nth, log.subscribe(), now);
        }
        // Being asked for does not save it.
        lock(&table).touch("a", begin + Duration::from_secs(1));
        assert!(sweep(&weak));
        assert_eq!(ids(&lock(&table)), ["a", "b", "c", "d"]);
        log.send_replace(Some("the disk is full".to_owned()));
        for left in [vec!["b", "c", "d"], vec!["c", "d"]] {
            assert!(sweep(&weak));
            assert_eq!(ids(&lock(&table)), left);
        }
        log.send_replace(None);
        assert!(sweep(&weak));
        assert_eq!(ids(&lock(&table)), ["c", "d"]);
    }

    #[test]
    fn nothing_is_held_of_a_log_that_another_has_replaced_or_that_is_closed() {
        let (now, old, new) = (Instant::now(), log(), log());
        let mut table = Table::default();
        table.put("a", 1, old.subscribe(), now);
        table.put("b", 2, old.subscribe(), now);
        let mut dropped = table.put("c", 3, new.subscribe(), now);
        dropped.sort_unstable();
        assert_eq!(dropped, [1, 2]);
        drop(new);
        assert_eq!(table.take_old(now), [3]);
    }

    #[test]
    fn a_lease_keeps_no_log_open() {
        let dir = tempfile::tempdir().expect("dir");
        let open = || wal::open_primary(wal::OsDisk::new(), dir.path(), &wal::Config::default());
        let (primary, _) = open().expect("opens");
        let leases = Leases::new();
        leases.take("a", primary.log());
        let weak = Arc::downgrade(&leases.table);
        assert!(sweep(&weak));
        primary.stop().expect("stops");
        assert!(!sweep(&weak), "the log is closed");
    }

    #[test]
    fn the_sweeper_ends_with_the_last_lease_and_with_its_owner() {
        let (log, table) = (log(), Arc::new(Mutex::new(Table::default())));
        let weak = Arc::downgrade(&table);
        lock(&table).put("a", 1, log.subscribe(), Instant::now());
        assert!(sweep(&weak));
        lock(&table).by_node.clear();
        assert!(!sweep(&weak));
        assert!(!lock(&table).sweeping);
        drop(table);
        assert!(!sweep(&weak));
    }
}
