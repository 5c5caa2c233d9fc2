//! What connected secondaries have made durable, as one small value that acknowledgements wait on.
//! Set by replication, read by whoever must know; knows no connection and no name. It must never
//! know a connection or a name.

use crate::ids::Lsn;

/// A node's copy of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCopy {
    /// Tells nodes apart: the same node may be heard of in more than one way.
    pub node: u64,
    /// Everything below is on its disk.
    pub flushed: Lsn,
}

/// How far secondaries have fsynced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicated {
    /// Secondaries that are there, those behind relays included.
    pub connected: u8,
    /// The furthest, descending; 0 where there are fewer.
    furthest: [NodeCopy; MOST],
}

impl Replicated {
    /// Of all copies, in any order. A node that is named more than once counts once, with the least
    /// that is said of it.
    pub fn new(mut copies: Vec<NodeCopy>) -> Self {
        copies.sort_unstable_by_key(|copy| (copy.node, copy.flushed));
        copies.dedup_by_key(|copy| copy.node);
        copies.sort_unstable_by_key(|copy| std::cmp::Reverse(copy.flushed));
        let mut furthest = [NodeCopy::default(); MOST];
        for (place, copy) in furthest.iter_mut().zip(&copies) {
            *place = *copy;
        }
        Self {
            connected: u8::try_from(copies.len()).unwrap_or(u8::MAX),
            furthest,
        }
    }

    /// Everything below it is on the disks of at least `k` secondaries; 0 when there are fewer.
    /// Without any to wait for that is everything.
    pub fn by(&self, k: usize) -> Lsn {
        match k.checked_sub(1) {
            None => Lsn(u64::MAX),
            Some(at) => self.furthest.get(at).copied().unwrap_or_default().flushed,
        }
    }

    /// Everything below it is on the disk of every secondary that is there; 0 when there are too
    /// many to tell.
    pub(crate) fn slowest(&self) -> Lsn {
        match usize::from(self.connected) {
            0 => Lsn(u64::MAX),
            connected => self.by(connected),
        }
    }

    /// The furthest copies, descending.
    pub fn top(&self) -> impl Iterator<Item = NodeCopy> {
        self.furthest
            .into_iter()
            .take_while(|copy| copy.flushed.0 > 0)
    }
}

/// How many of the furthest nodes are told apart: nobody waits for more.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(flushed: &[(u64, u64)]) -> Vec<NodeCopy> {
        let copy = |(node, lsn): &(u64, u64)| NodeCopy {
            node: *node,
            flushed: Lsn(*lsn),
        };
        flushed.iter().map(copy).collect()
    }

    #[test]
    fn by_k_is_what_at_least_k_nodes_have() {
        let replicated = Replicated::new(copies(&[(1, 5), (2, 9), (3, 7)]));
        assert_eq!(replicated.connected, 3);
        assert_eq!(replicated.by(0), Lsn(u64::MAX));
        assert_eq!(
            [1, 2, 3, 4, 99].map(|k| replicated.by(k)),
            [Lsn(9), Lsn(7), Lsn(5), Lsn(0), Lsn(0)]
        );
        let top: Vec<NodeCopy> = replicated.top().collect();
        assert_eq!(top, copies(&[(2, 9), (3, 7), (1, 5)]));
        assert_eq!(Replicated::default().by(1), Lsn(0));
    }

    #[test]
    fn a_node_heard_of_in_two_ways_is_one_copy() {
        let replicated = Replicated::new(copies(&[(1, 5), (2, 9), (1, 8)]));
        assert_eq!(replicated.connected, 2);
        assert_eq!((replicated.by(2), replicated.by(3)), (Lsn(5), Lsn(0)));
    }

    #[test]
    fn only_the_furthest_eight_are_kept() {
        let many: Vec<(u64, u64)> = (1..=1_000).map(|n| (n, n)).collect();
        let replicated = Replicated::new(copies(&many));
        assert_eq!(replicated.connected, u8::MAX);
        assert_eq!(replicated.by(8), Lsn(993));
        assert_eq!(replicated.by(9), Lsn(0));
        assert_eq!(replicated.top().count(), MOST);
    }
}
