//! What one connection holds of the memory of all connections: taken before a buffer grows, given
//! back when it ends. Must never let packets that are on their way take what new connections and
//! small messages need.

use std::cell::{Cell, RefCell};

use wal::{Held, Share};

/// The memory of one connection.
#[derive(Debug)]
pub(crate) struct Memory {
    share: Share,
    held: RefCell<Held>,
    /// Of that, for what was there before it was asked.
    settled: Cell<u64>,
}

impl Memory {
    /// What a connection needs that does nothing; none where there is none.
    pub(crate) fn enter(share: &Share) -> Option<Self> {
        Some(Self {
            held: RefCell::new(share.try_take(CONNECTION)?),
            share: share.clone(),
            settled: Cell::new(0),
        })
    }

    /// Takes memory for a packet or for larger reads: not the last that there is.
    #[must_use = "false: there is none, and it must not be used"]
    pub(crate) fn grow(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if bytes == 0 {
            return true;
        }
        let spared = self.share.limit() / SPARED;
        self.share.left() >= bytes.saturating_add(spared) && self.held.borrow_mut().grow(bytes)
    }

    /// Takes memory for what a connection keeps for as long as it lasts.
    #[must_use = "false: there is none, and it must not be used"]
    pub(crate) fn keep(&self, bytes: usize) -> bool {
        self.held.borrow_mut().grow(bytes as u64)
    }

    pub(crate) fn shrink(&self, bytes: usize) {
        self.held.borrow_mut().shrink(bytes as u64);
    }

    /// Counts so many bytes of buffers that cannot ask before they grow, and none of before.
    pub(crate) fn settle(&self, bytes: usize) {
        let bytes = bytes as u64;
        let before = self.settled.replace(bytes);
        let mut held = self.held.borrow_mut();
        match bytes.checked_sub(before) {
            Some(more) => held.grow_beyond(more),
            None => held.shrink(before - bytes),
        }
    }

    /// Whether there is so little left that somebody must go.
    pub(crate) fn is_short(share: &Share) -> bool {
        share.left() < share.limit() / SPARED
    }
}

/// What a connection takes that does nothing, small reads and the system's part of it included.
pub(crate) const CONNECTION: u64 = 8 << 10;

/// One part in so many is not given to packets.
const SPARED: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_a_quarter_to_connections_and_all_is_given_back() {
        let share = Share::new("mqtt", 16 * CONNECTION);
        let first = Memory::enter(&share).expect("there is room");
        let all = usize::try_from(CONNECTION).expect("small");
        assert!(first.grow(11 * all) && !first.grow(1));
        let others: Vec<_> = (0..4).map(|_| Memory::enter(&share)).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(Memory::enter(&share).is_none() && !first.keep(1));
        first.settle(3 * all);
        first.settle(all);
        assert_eq!(share.used(), 17 * CONNECTION);
        first.shrink(11 * all);
        first.settle(0);
        assert_eq!(share.used(), 5 * CONNECTION);
        drop((first, others));
        assert_eq!(share.used(), 0);
    }
}
