//! Which client ids are connected, across workers: the newest connection of an id wins. One short
//! mutex section per CONNECT and per disconnect; must never be asked per message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::places::{Notice, Place, Places};

/// The connected client ids, and the places of all connections.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) places: Places,
    connected: Mutex<HashMap<Arc<str>, Arc<Place>>>,
}

impl Clients {
    /// At most so many connections.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            places: Places::new(most),
            connected: Mutex::default(),
        }
    }

    /// Registers a connection; an older one of the same id is told to go.
    pub(crate) fn enter(&self, client: &Arc<str>, place: &Arc<Place>) {
        let before = self.lock().insert(Arc::clone(client), Arc::clone(place));
        if let Some(older) = before {
            older.give_notice(Notice::Superseded);
        }
    }

    /// Forgets a connection unless a newer one has taken its id.
    pub(crate) fn leave(&self, client: &str, place: &Arc<Place>) {
        let mut connected = self.lock();
        if connected
            .get(client)
            .is_some_and(|current| Arc::ptr_eq(current, place))
        {
            connected.remove(client);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Place>>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
