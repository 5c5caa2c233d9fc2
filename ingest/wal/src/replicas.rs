//! What connected secondaries have made durable, as one small value that acknowledgements wait on.
//! Set by replication, read by whoever must know; knows no connection and no name.

use tokio::sync::watch;

use crate::ids::Lsn;
use crate::log::Log;

/// How many of the furthest nodes are told apart: nobody waits for more.
const MOST: usize = 8;

/// How far secondaries have fsynced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicated {
    /// Secondaries that are there, those behind relays included.
    pub connected: u8,
    /// The furthest, descending; 0 where there are fewer.
    flushed: [Lsn; MOST],
}

impl Replicated {
    /// Of the flushed positions of all nodes, in any order. `flushed` is left sorted, descending.
    pub fn new(connected: usize, flushed: &mut Vec<Lsn>) -> Self {
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        flushed.truncate(MOST);
        let mut top = [Lsn(0); MOST];
        for (place, lsn) in top.iter_mut().zip(flushed.iter()) {
            *place = *lsn;
        }
        Self {
            connected: u8::try_from(connected).unwrap_or(u8::MAX),
            flushed: top,
        }
    }

    /// Everything below it is on the disks of at least `k` secondaries; 0 when there are fewer.
    /// Without any to wait for that is everything.
    pub fn by(&self, k: usize) -> Lsn {
        match k.checked_sub(1) {
            None => Lsn(u64::MAX),
            Some(at) => self.flushed.get(at).copied().unwrap_or_default(),
        }
    }

    /// The furthest positions, descending.
    pub fn top(&self) -> impl Iterator<Item = Lsn> {
        self.flushed.into_iter().take_while(|lsn| lsn.0 > 0)
    }
}

impl Log {
    /// What secondaries have made durable.
    pub fn replicated(&self) -> watch::Receiver<Replicated> {
        self.state().replicated.subscribe()
    }

    /// Says what secondaries have made durable. Wakes readers only when that is news.
    pub fn set_replicated(&self, replicated: Replicated) {
        self.state().replicated.send_if_modified(|held| {
            let news = *held != replicated;
            *held = replicated;
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_k_is_what_at_least_k_nodes_have() {
        let mut flushed = vec![Lsn(5), Lsn(9), Lsn(7)];
        let replicated = Replicated::new(3, &mut flushed);
        assert_eq!(replicated.connected, 3);
        assert_eq!(replicated.by(0), Lsn(u64::MAX));
        assert_eq!(
            [1, 2, 3, 4, 99].map(|k| replicated.by(k)),
            [Lsn(9), Lsn(7), Lsn(5), Lsn(0), Lsn(0)]
        );
        assert_eq!(replicated.top().collect::<Vec<_>>(), flushed);
        assert_eq!(Replicated::default().by(1), Lsn(0));
    }

    #[test]
    fn only_the_furthest_eight_are_kept() {
        let mut flushed: Vec<Lsn> = (1..=1_000).map(Lsn).collect();
        let replicated = Replicated::new(1_000, &mut flushed);
        assert_eq!(replicated.connected, u8::MAX);
        assert_eq!(replicated.by(8), Lsn(993));
        assert_eq!(replicated.by(9), Lsn(0));
        assert_eq!(replicated.top().count(), MOST);
    }
}
