//! A part of a share of the node's memory: what may be held of one kind of thing, so that it leaves
//! the rest to others. It must never let that pass its own limit, nor that of the share.

use wal::{Held, Share};

/// So much of a share. Cheap to clone; copies are the same part.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    share: Share,
    own: Share,
}

/// Bytes of a part, given back when dropped.
#[derive(Debug)]
pub(crate) struct PartHeld {
    _own: Held,
    _of_share: Held,
}

impl Part {
    /// One of so many equal parts.
    pub(crate) fn of(share: &Share, parts: u64) -> Self {
        Self {
            share: share.clone(),
            own: Share::new(share.name(), share.limit() / parts.max(1)),
        }
    }

    /// Takes so many bytes; none if there are not as many left, here or of the share.
    pub(crate) fn try_take(&self, bytes: u64) -> Option<PartHeld> {
        Some(PartHeld {
            _own: self.own.try_take(bytes)?,
            _of_share: self.share.try_take(bytes)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_leaves_the_rest_to_others_and_takes_none_of_theirs() {
        let share = Share::new("test", 80);
        let part = Part::of(&share, 8);
        let held = part.clone().try_take(10).expect("all of it");
        assert!(part.try_take(1).is_none());
        assert_eq!(share.used(), 10);
        let others = share.try_take(70).expect("the rest");
        drop(held);
        assert_eq!(share.used(), 70);
        let rest = share.try_take(5);
        assert!(part.try_take(6).is_none() && part.own.used() == 0);
        drop((others, rest));
        assert!(part.try_take(10).is_some());
        assert_eq!((share.used(), part.own.used()), (0, 0));
    }
}
