//! How many files are under way to peers at once, over all connections, and how many of them to one
//! node. It owns those counts; it must never let a node that takes nothing keep others from theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// What files are asked for: repairs must not wait for bootstrapping nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Repair,
    Bootstrap,
}

/// All places; who finds none waits for its turn. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places {
    all: Turns,
    /// What each node may have, by its certificate's key.
    each: Arc<Mutex<HashMap<u64, Weak<Own>>>>,
}

/// What one node may have at once, over all its connections.
pub(crate) struct Own(Turns);

/// A place, until it is dropped.
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

#[derive(Clone)]
struct Turns {
    repairs: Arc<Semaphore>,
    bootstraps: Arc<Semaphore>,
}

impl Turns {
    fn new(repairs: usize, bootstraps: usize) -> Self {
        Self {
            repairs: Arc::new(Semaphore::new(repairs)),
            bootstraps: Arc::new(Semaphore::new(bootstraps)),
        }
    }

    async fn take(&self, kind: Kind) -> Result<OwnedSemaphorePermit, AcquireError> {
        let turns = match kind {
            Kind::Repair => &self.repairs,
            Kind::Bootstrap => &self.bootstraps,
        };
        Arc::clone(turns).acquire_owned().await
    }
}

impl Places {
    pub(crate) fn new() -> Self {
        Self {
            all: Turns::new(REPAIRS, BOOTSTRAPS),
            each: Arc::default(),
        }
    }

    /// What the node of this key may have.
    pub(crate) fn own(&self, key: u64) -> Arc<Own> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = each.get(&key).and_then(Weak::upgrade) {
            return own;
        }
        each.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Own(Turns::new(OWN_REPAIRS, OWN_BOOTSTRAPS)));
        each.insert(key, Arc::downgrade(&own));
        own
    }

    /// Waits for a place. First for what the node has itself: so it keeps none from others
    /// meanwhile.
    pub(crate) async fn take(&self, own: &Own, kind: Kind) -> Result<Place, AcquireError> {
        let own = own.0.take(kind).await?;
        let of_all = self.all.take(kind).await?;
        Ok(Place {
            _own: own,
            _of_all: of_all,
        })
    }
}

/// Files under way to peers at once.
const REPAIRS: usize = 8;
const BOOTSTRAPS: usize = 16;

/// Of these to one node.
const OWN_REPAIRS: usize = 1;
const OWN_BOOTSTRAPS: usize = 2;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_node_that_takes_nothing_leaves_places_to_others() {
        let places = Places::new();
        for kind in [Kind::Repair, Kind::Bootstrap] {
            // However many connections it has.
            let connections: Vec<_> = (0..20).map(|_| places.own(7)).collect();
            let mut held = Vec::new();
            for own in &connections {
                let taken = timeout(Duration::ZERO, places.take(own, kind)).await;
                held.extend(taken);
            }
            assert!(held.len() <= 2, "{kind:?}: {}", held.len());
            for key in 0..5 {
                let own = places.own(key);
                let taken = timeout(Duration::ZERO, places.take(&own, kind)).await;
                assert!(taken.is_ok(), "{kind:?} {key}");
            }
        }
        assert!(places.each.lock().expect("not poisoned").len() <= 6);
    }
}
