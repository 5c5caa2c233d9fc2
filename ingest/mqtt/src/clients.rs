//! Which client ids are connected, across workers: the newest connection of an id wins. One short
//! mutex section per CONNECT and per disconnect; must never be asked per message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The connected client ids.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    connected: Mutex<HashMap<String, Arc<AtomicBool>>>,
}

impl Clients {
    /// Registers a connection; an older one of the same id is told to go.
    #[must_use = "the flag is how the connection learns that it must go"]
    pub(crate) fn enter(&self, client: &str) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        let mut connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = connected.insert(client.to_owned(), Arc::clone(&flag)) {
            older.store(true, Ordering::Relaxed);
        }
        flag
    }

    /// Forgets a connection unless a newer one has taken its id.
    pub(crate) fn leave(&self, client: &str, flag: &Arc<AtomicBool>) {
        let mut connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if connected
            .get(client)
            .is_some_and(|current| Arc::ptr_eq(current, flag))
        {
            connected.remove(client);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
