//! Handles for producers of rows: what a node's threads need to hand rows to the committer. It owns
//! the list of their inboxes, and must never take a row after the committer's thread has ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::write::appender::Appender;
use crate::write::inbox::{Bell, Durable, Inbox, OnDurable};
use crate::write::registry::Registry;
use crate::write::taken_times::TakenTimes;

/// What the committer's thread and its handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) inboxes: Mutex<Vec<Arc<Inbox>>>,
    pub(super) bell: Arc<Bell>,
    pub(super) stop: AtomicBool,
    /// The thread is gone: nothing will be committed any more.
    pub(super) ended: AtomicBool,
}

/// Makes appenders; may be handed to the threads that need them.
#[derive(Clone, Debug)]
pub struct Appenders {
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Arc<Registry>,
    pub(super) times: Arc<TakenTimes>,
    pub(super) pending_bytes: usize,
}

impl Appenders {
    /// A handle for one more producer. `on_durable` is called on the committer's thread after every
    /// group that held rows of this producer; it must not block.
    pub fn appender(&self, on_durable: Box<dyn Fn(Durable) + Send + Sync>) -> Appender {
        let on_durable: OnDurable = on_durable;
        let (bell, times) = (Arc::clone(&self.shared.bell), Arc::clone(&self.times));
        let inbox = Arc::new(Inbox::new(bell, times, on_durable));
        let mut inboxes = self
            .shared
            .inboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.shared.ended.load(Ordering::Acquire) {
            inbox.close();
        }
        inboxes.push(Arc::clone(&inbox));
        Appender::new(inbox, Arc::clone(&self.registry), self.pending_bytes)
    }

    /// Bytes of rows, roughly, that all producers have handed over and that wait for their commit.
    pub fn pending_bytes(&self) -> usize {
        let inboxes = self.shared.inboxes.lock();
        let inboxes = inboxes.unwrap_or_else(PoisonError::into_inner);
        inboxes.iter().map(|inbox| inbox.pending_bytes()).sum()
    }
}
