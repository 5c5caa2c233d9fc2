//! The sessions of one worker whose first message waits for secondaries, sorted by what it waits
//! for: whether a report moves any of them takes one comparison per number of secondaries, however
//! many sessions wait. One entry per session: it must be updated after every change of the
//! session's first message, and removed when the session ends. Pure; must never decide who is
//! answered.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

use wal::Lsn;

use crate::ack::Wait;

/// What can wait for secondaries: a session, or what a test puts in its place.
pub(crate) trait ReplicaWaiter {
    /// What its first message waits for now; `None` when no secondary holds it up.
    fn waits_for(&self) -> Option<Wait>;

    /// What its entry says; only `ReplicaWaiters` sets it.
    fn replica_entry(&self) -> &Cell<Option<Wait>>;
}

/// Those that wait for the same number of secondaries. By LSN, then by address: each keeps its own
/// address taken.
type ByLsn<T> = BTreeMap<(Lsn, *const T), Rc<T>>;

/// All that wait for secondaries.
pub(crate) struct ReplicaWaiters<T> {
    /// By number of secondaries, at most `MAX_REPLICAS` of them; no map is empty.
    by_replicas: BTreeMap<u8, ByLsn<T>>,
}

impl<T: ReplicaWaiter> ReplicaWaiters<T> {
    pub(crate) fn new() -> Self {
        Self {
            by_replicas: BTreeMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_replicas.is_empty()
    }

    /// Puts a waiter where its first message belongs: in, elsewhere, or out.
    pub(crate) fn update(&mut self, waiter: &Rc<T>) {
        let now = waiter.waits_for();
        if waiter.replica_entry().get() == now {
            return;
        }
        self.remove(waiter);
        let Some(wait) = now else {
            return;
        };
        waiter.replica_entry().set(now);
        self.by_replicas
            .entry(wait.replicas)
            .or_default()
            .insert((wait.lsn, Rc::as_ptr(waiter)), Rc::clone(waiter));
    }

    pub(crate) fn remove(&mut self, waiter: &Rc<T>) {
        let Some(wait) = waiter.replica_entry().take() else {
            return;
        };
        if let Entry::Occupied(mut by_lsn) = self.by_replicas.entry(wait.replicas) {
            by_lsn.get_mut().remove(&(wait.lsn, Rc::as_ptr(waiter)));
            if by_lsn.get().is_empty() {
                by_lsn.remove();
            }
        }
    }

    /// Takes out a waiter whose wait is over. `over` must hold for every lower LSN if it holds for
    /// one, so that the first of each number of secondaries speaks for all of them.
    pub(crate) fn take_ready(&mut self, over: impl Fn(Wait) -> bool) -> Option<Rc<T>> {
        let ready = self.by_replicas.iter().find_map(|(&replicas, by_lsn)| {
            let (&(lsn, _), waiter) = by_lsn.first_key_value()?;
            over(Wait { replicas, lsn }).then(|| Rc::clone(waiter))
        })?;
        self.remove(&ready);
        Some(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that waits for what the test says.
    #[derive(Default)]
    struct Client {
        waits: Cell<Option<Wait>>,
        entry: Cell<Option<Wait>>,
    }

    impl ReplicaWaiter for Client {
        fn waits_for(&self) -> Option<Wait> {
            self.waits.get()
        }

        fn replica_entry(&self) -> &Cell<Option<Wait>> {
            &self.entry
        }
    }

    impl<T> ReplicaWaiters<T> {
        pub(crate) fn len(&self) -> usize {
            self.by_replicas.values().map(BTreeMap::len).sum()
        }
    }

    fn wait(replicas: u8, lsn: u64) -> Option<Wait> {
        Some(Wait {
            replicas,
            lsn: Lsn(lsn),
        })
    }

    #[test]
    fn a_report_that_moves_nobody_costs_a_comparison_per_number_of_secondaries() {
        let mut waiters = ReplicaWaiters::new();
        for (lsn, replicas) in (0..10_000).zip((1..=8).cycle()) {
            let client = Rc::new(Client::default());
            client.waits.set(wait(replicas, 1_000 + lsn));
            waiters.update(&client);
        }
        let compared = Cell::new(0);
        for report in 0..1_000 {
            let over = |wait: Wait| {
                compared.update(|compared| compared + 1);
                wait.lsn <= Lsn(report)
            };
            assert!(waiters.take_ready(over).is_none());
        }
        assert_eq!((compared.get(), waiters.len()), (8 * 1_000, 10_000));
    }

    #[test]
    fn each_has_one_entry_where_its_first_message_belongs() {
        let mut waiters = ReplicaWaiters::new();
        let clients: Vec<Rc<Client>> = (0..3).map(|_| Rc::default()).collect();
        for client in &clients {
            client.waits.set(wait(2, 10));
            waiters.update(client);
            waiters.update(client);
        }
        assert_eq!(waiters.len(), 3);
        for next in [wait(2, 20), wait(5, 20), None, None, wait(1, 30)] {
            clients[1].waits.set(next);
            waiters.update(&clients[1]);
            assert_eq!(waiters.len(), 2 + usize::from(next.is_some()));
        }
        waiters.remove(&clients[0]);
        waiters.remove(&clients[0]);
        let order: Vec<Rc<Client>> = std::iter::from_fn(|| waiters.take_ready(|_| true)).collect();
        assert!(Rc::ptr_eq(&order[0], &clients[1]) && Rc::ptr_eq(&order[1], &clients[2]));
        assert!(order.len() == 2 && waiters.is_empty());
        drop(order);
        assert!(clients.iter().all(|client| Rc::strong_count(client) == 1));
    }
}
