//! One connection's state: messages whose answers are due, keep-alive, topic aliases. Owned by one
//! worker thread; does no I/O.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ntex::io::{IoRef, OnDisconnect};
use ntex::task::LocalWaker;
use ntex::util::ByteString;
use wal::{Durable, Lsn};

use crate::ack::{Outcome, Wait};
use crate::codec::Codec;
use crate::frame::Version;
use crate::queue::{Answer, Queue, Waiting};
use crate::replica_waiters::ReplicaWaiter;

/// Topic aliases a client may set.
pub(crate) const MAX_ALIASES: u16 = 32;
/// A packet that has begun must be whole after this time.
const MAX_PARTIAL: Duration = Duration::from_secs(120);
/// A message to store when the client vanishes.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// What a client asked for in CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) client: String,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) will: Option<Will>,
    /// Whether acknowledgements may carry properties.
    pub(crate) wants_properties: bool,
    pub(crate) max_packet: Option<u32>,
}

/// One connection after CONNECT.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) io: IoRef,
    pub(crate) codec: Rc<Codec>,
    pub(crate) client: String,
    pub(crate) version: Version,
    pub(crate) will: RefCell<Option<Will>>,
    /// Set when another connection takes over the client id.
    pub(crate) superseded: Arc<AtomicBool>,
    /// In the worker's list of sessions whose messages wait for an fsync.
    pub(crate) listed: Cell<bool>,
    /// Its entry among the worker's sessions whose messages wait for secondaries.
    replica_entry: Cell<Option<Wait>>,
    /// A message has been counted as received and is not in the queue yet.
    pub(crate) arriving: Cell<bool>,
    pub(crate) waker: LocalWaker,
    /// Asked for once: each asking leaves something behind in the connection.
    gone: OnceCell<OnDisconnect>,
    /// Longest acknowledgement with properties: 0 when the client wants none.
    max_properties: u32,
    keep_alive: Option<Duration>,
    last_packet: Cell<Instant>,
    queue: RefCell<Queue>,
    /// QoS 2 ids that were received and not yet released.
    unreleased: RefCell<HashSet<NonZeroU16>>,
    aliases: RefCell<Vec<Option<ByteString>>>,
}

/// Why a connection must be closed by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    KeepAlive,
    PartialPacket,
    Superseded,
}

impl Session {
    pub(crate) fn new(
        io: IoRef,
        codec: Rc<Codec>,
        identity: Identity,
        superseded: Arc<AtomicBool>,
    ) -> Self {
        let version = codec.version();
        let may_have = version == Version::V5 && identity.wants_properties;
        let max_packet = identity.max_packet.unwrap_or(u32::MAX);
        Self {
            io,
            codec,
            client: identity.client,
            version,
            will: RefCell::new(identity.will),
            superseded,
            listed: Cell::new(false),
            replica_entry: Cell::new(None),
            arriving: Cell::new(false),
            waker: LocalWaker::new(),
            gone: OnceCell::new(),
            max_properties: if may_have { max_packet } else { 0 },
            keep_alive: identity.keep_alive,
            last_packet: Cell::new(Instant::now()),
            queue: RefCell::default(),
            unreleased: RefCell::default(),
            aliases: RefCell::default(),
        }
    }

    /// Whether an acknowledgement of so many bytes may carry properties.
    pub(crate) fn may_carry(&self, bytes: u32) -> bool {
        self.max_properties >= bytes
    }

    /// Resolves once the connection is closed from either side.
    pub(crate) fn gone(&self) -> &OnDisconnect {
        self.gone.get_or_init(|| self.io.on_disconnect())
    }

    pub(crate) fn saw_packet(&self, now: Instant) {
        self.last_packet.set(now);
    }

    /// Messages whose acknowledgement is still due.
    pub(crate) fn in_flight(&self) -> usize {
        self.queue.borrow().len()
    }

    pub(crate) fn wait_for(&self, waiting: Waiting) {
        self.arriving.set(false);
        self.queue.borrow_mut().push(waiting);
    }

    /// Whether a message of this packet id has its answer to come.
    pub(crate) fn is_waiting(&self, id: NonZeroU16) -> bool {
        self.queue.borrow().holds(id)
    }

    /// The next message that can be answered; see `Queue::next`.
    pub(crate) fn next_answer(
        &self,
        durable: Option<Durable>,
        reached: impl FnMut(u8, Lsn) -> Option<Outcome>,
    ) -> Option<Answer> {
        self.queue.borrow_mut().next(durable, reached)
    }

    /// Whether a message is not known to be durable.
    pub(crate) fn awaits_disk(&self) -> bool {
        self.queue.borrow().awaits_disk()
    }

    /// Gives up every message that was received and not answered; returns how many.
    pub(crate) fn abandon(&self) -> u64 {
        let arriving = u64::from(self.arriving.replace(false));
        self.queue.borrow_mut().clear() as u64 + arriving
    }

    /// Takes in a QoS 2 packet id; false when its message has been stored already.
    pub(crate) fn receive(&self, id: NonZeroU16) -> bool {
        self.unreleased.borrow_mut().insert(id)
    }

    pub(crate) fn release(&self, id: NonZeroU16) -> bool {
        self.unreleased.borrow_mut().remove(&id)
    }

    /// The topic that a publish means; `None` when its alias is not valid.
    pub(crate) fn resolve(
        &self,
        topic: ByteString,
        alias: Option<NonZeroU16>,
    ) -> Option<ByteString> {
        let Some(alias) = alias else {
            return Some(topic);
        };
        if alias.get() > MAX_ALIASES {
            return None;
        }
        let mut aliases = self.aliases.borrow_mut();
        aliases.resize(usize::from(MAX_ALIASES) + 1, None);
        let slot = &mut aliases[usize::from(alias.get())];
        if !topic.is_empty() {
            // A copy: the topic's own bytes would pin a page of the read buffer.
            *slot = Some(ByteString::from(String::from(&*topic)));
        }
        slot.clone()
    }

    /// Whether the connection's time is over.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Overdue> {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.superseded.load(Ordering::Relaxed) {
            return Some(Overdue::Superseded);
        }
        let grace = self
            .keep_alive
            .map(|keep_alive| keep_alive + keep_alive / 2);
        if grace.is_some_and(|grace| since(self.last_packet.get()) > grace) {
            return Some(Overdue::KeepAlive);
        }
        let partial = self.codec.partial_since();
        partial
            .is_some_and(|then| since(then) > MAX_PARTIAL)
            .then_some(Overdue::PartialPacket)
    }
}

impl ReplicaWaiter for Session {
    fn waits_for(&self) -> Option<Wait> {
        self.queue.borrow().waits_for()
    }

    fn replica_entry(&self) -> &Cell<Option<Wait>> {
        &self.replica_entry
    }
}
