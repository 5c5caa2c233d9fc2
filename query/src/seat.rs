//! The slot of a statement, held by everything that computes for it. Owns who holds it; must never
//! give it back while a thread still works on the statement, also after the statement has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use crate::running::Listed;

/// Where a statement's slot is, if it has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seat(Arc<Mutex<Option<Slot>>>);

/// A slot, free again once all who hold it have let go; until then its query is listed.
pub(crate) type Slot = Arc<Taken>;

#[derive(Debug)]
pub(crate) struct Taken {
    _permit: OwnedSemaphorePermit,
    _listed: Arc<Listed>,
}

impl Seat {
    pub(crate) fn take(&self, permit: OwnedSemaphorePermit, listed: &Arc<Listed>) {
        *self.lock() = Some(Arc::new(Taken {
            _permit: permit,
            _listed: Arc::clone(listed),
        }));
    }

    /// Lets go, but for who computes at this moment.
    pub(crate) fn leave(&self) {
        *self.lock() = None;
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.lock().is_some()
    }

    /// For as long as somebody computes.
    pub(crate) fn hold(&self) -> Option<Slot> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
