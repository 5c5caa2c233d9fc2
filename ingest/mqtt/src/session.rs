//! One connection's state: messages that wait for their fsync, keep-alive, topic aliases. Owned by
//! one worker thread; does no I/O.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ntex::io::IoRef;
use ntex::task::LocalWaker;
use ntex::util::ByteString;
use wal::Ticket;

use crate::codec::Codec;
use crate::frame::Version;

/// Topic aliases a client may set.
pub(crate) const MAX_ALIASES: u16 = 32;
/// A packet that has begun must be whole after this time.
const MAX_PARTIAL: Duration = Duration::from_secs(120);
/// Longest PUBACK with its `lsn` property.
const MAX_ACK: u32 = 40;

/// What the client gets once its message is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    /// PUBACK, for QoS 1.
    Ack,
    /// PUBREC, for QoS 2.
    Received,
}

/// A message that waits for its fsync.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) id: NonZeroU16,
    pub(crate) kind: AckKind,
    pub(crate) ticket: Ticket,
}

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
    /// In the worker's list of sessions with waiting messages.
    pub(crate) listed: Cell<bool>,
    pub(crate) waker: LocalWaker,
    lsn_property: bool,
    keep_alive: Option<Duration>,
    last_packet: Cell<Instant>,
    waiting: RefCell<VecDeque<Waiting>>,
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
        let room = identity.max_packet.is_none_or(|max| max >= MAX_ACK);
        let version = codec.version();
        Self {
            io,
            codec,
            client: identity.client,
            version,
            will: RefCell::new(identity.will),
            superseded,
            listed: Cell::new(false),
            waker: LocalWaker::new(),
            lsn_property: version == Version::V5 && identity.wants_properties && room,
            keep_alive: identity.keep_alive,
            last_packet: Cell::new(Instant::now()),
            waiting: RefCell::default(),
            unreleased: RefCell::default(),
            aliases: RefCell::default(),
        }
    }

    /// Whether acknowledgements carry the LSN.
    pub(crate) fn lsn_property(&self) -> bool {
        self.lsn_property
    }

    pub(crate) fn saw_packet(&self, now: Instant) {
        self.last_packet.set(now);
    }

    /// Messages whose acknowledgement is still due.
    pub(crate) fn in_flight(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub(crate) fn wait_for(&self, waiting: Waiting) {
        self.waiting.borrow_mut().push_back(waiting);
    }

    /// Whether a message of this packet id waits for its fsync.
    pub(crate) fn is_waiting(&self, id: NonZeroU16) -> bool {
        self.waiting.borrow().iter().any(|waiting| waiting.id == id)
    }

    /// The next message that is durable with `group`, in order of arrival.
    pub(crate) fn next_durable(&self, group: Ticket) -> Option<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.front()?.ticket > group {
            return None;
        }
        waiting.pop_front()
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
