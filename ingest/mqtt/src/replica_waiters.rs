//! The sessions of one worker whose first message waits for secondaries, sorted by what it waits
//! for: whether a report moves any of them takes one comparison per number of secondaries, however
//! many sessions wait. One entry per session; a session must be placed again after every change of
//! its first message, and removed when it ends. Pure.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

use wal::Lsn;

use crate::ack::Wait;

/// What can be held: a session, or what a test puts in its place.
pub(crate) trait Hold {
    /// What its first message waits for now; `None` when no secondary holds it up.
    fn waits_for(&self) -> Option<Wait>;

    /// What it was placed for; only `Held` sets it.
    fn held_for(&self) -> &Cell<Option<Wait>>;
}

/// Those that wait for the same number of secondaries. By LSN, then by address: each keeps its own
/// address taken.
type Line<T> = BTreeMap<(Lsn, *const T), Rc<T>>;

/// Everything held.
pub(crate) struct Held<T> {
    /// By number of secondaries, at most `MAX_REPLICAS` of them; no line is empty.
    lines: BTreeMap<u8, Line<T>>,
}

impl<T: Hold> Held<T> {
    pub(crate) fn new() -> Self {
        Self {
            lines: BTreeMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Puts it where its first message belongs: in, elsewhere, or out.
    pub(crate) fn place(&mut self, one: &Rc<T>) {
        let now = one.waits_for();
        if one.held_for().get() == now {
            return;
        }
        self.remove(one);
        let Some(wait) = now else {
            return;
        };
        one.held_for().set(now);
        let line = self.lines.entry(wait.replicas).or_default();
        line.insert((wait.lsn, Rc::as_ptr(one)), Rc::clone(one));
    }

    pub(crate) fn remove(&mut self, one: &Rc<T>) {
        let Some(wait) = one.held_for().take() else {
            return;
        };
        if let Entry::Occupied(mut line) = self.lines.entry(wait.replicas) {
            line.get_mut().remove(&(wait.lsn, Rc::as_ptr(one)));
            if line.get().is_empty() {
                line.remove();
            }
        }
    }

    /// Takes out one whose wait is over. `over` must hold for every lower LSN if it holds for one,
    /// so that the first of each line speaks for the line.
    pub(crate) fn take(&mut self, over: impl Fn(Wait) -> bool) -> Option<Rc<T>> {
        let one = self.lines.iter().find_map(|(&replicas, line)| {
            let (&(lsn, _), one) = line.first_key_value()?;
            over(Wait { replicas, lsn }).then(|| Rc::clone(one))
        })?;
        self.remove(&one);
        Some(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that waits for what the test says.
    #[derive(Default)]
    struct Client {
        waits: Cell<Option<Wait>>,
        held: Cell<Option<Wait>>,
    }

    impl Hold for Client {
        fn waits_for(&self) -> Option<Wait> {
            self.waits.get()
        }

        fn held_for(&self) -> &Cell<Option<Wait>> {
            &self.held
        }
    }

    impl<T> Held<T> {
        pub(crate) fn len(&self) -> usize {
            self.lines.values().map(BTreeMap::len).sum()
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
        let mut held = Held::new();
        for (lsn, replicas) in (0..10_000).zip((1..=8).cycle()) {
            let client = Rc::new(Client::default());
            client.waits.set(wait(replicas, 1_000 + lsn));
            held.place(&client);
        }
        let compared = Cell::new(0);
        for report in 0..1_000 {
            let over = |wait: Wait| {
                compared.update(|compared| compared + 1);
                wait.lsn <= Lsn(report)
            };
            assert!(held.take(over).is_none());
        }
        assert_eq!((compared.get(), held.len()), (8 * 1_000, 10_000));
    }

    #[test]
    fn each_has_one_entry_where_its_first_message_belongs() {
        let mut held = Held::new();
        let clients: Vec<Rc<Client>> = (0..3).map(|_| Rc::default()).collect();
        for client in &clients {
            client.waits.set(wait(2, 10));
            held.place(client);
            held.place(client);
        }
        assert_eq!(held.len(), 3);
        for next in [wait(2, 20), wait(5, 20), None, None, wait(1, 30)] {
            clients[1].waits.set(next);
            held.place(&clients[1]);
            assert_eq!(held.len(), 2 + usize::from(next.is_some()));
        }
        held.remove(&clients[0]);
        held.remove(&clients[0]);
        let order: Vec<Rc<Client>> = std::iter::from_fn(|| held.take(|_| true)).collect();
        assert!(Rc::ptr_eq(&order[0], &clients[1]) && Rc::ptr_eq(&order[1], &clients[2]));
        assert!(order.len() == 2 && held.is_empty());
        drop(order);
        assert!(clients.iter().all(|client| Rc::strong_count(client) == 1));
    }
}
