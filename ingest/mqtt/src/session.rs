//! One connection's state after CONNECT: messages whose answers are due, QoS 2 packet ids, topic
//! aliases. Owned by one worker thread, does no I/O; must never lose a message that was received
//! and neither answered nor counted.
//!
//! Where a session stands is not one state but two, independent of each other: it may wait for an
//! fsync (`fsync_listed`) and at the same time for secondaries (`replica_entry`), each because of
//! other messages.

use std::cell::{Cell, OnceCell, RefCell};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ntex::io::{IoRef, OnDisconnect};
use ntex::task::LocalWaker;
use ntex::util::ByteString;
use wal::{Durable, Lsn};

use crate::ack::{Outcome, Wait};
use crate::aliases::{Aliases, BadAlias};
use crate::codec::Codec;
use crate::frame::Version;
use crate::ids::Ids;
use crate::liveness::{Liveness, Overdue, Progress};
use crate::places::Place;
use crate::queue::{Answer, Queue, Waiting};
use crate::replica_waiters::ReplicaWaiter;
use crate::replica_waits::Waits;

/// A message to store when the client vanishes.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// What a client asked for in CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) client: Arc<str>,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) will: Option<Box<Will>>,
    /// Whether acknowledgements may carry properties.
    pub(crate) wants_properties: bool,
    pub(crate) max_packet: Option<u32>,
}

/// One connection after CONNECT.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) io: IoRef,
    pub(crate) codec: Rc<Codec>,
    pub(crate) client: Arc<str>,
    pub(crate) will: RefCell<Option<Box<Will>>>,
    pub(crate) liveness: Liveness,
    /// Wakes the connection: it may take another message, or is closed.
    pub(crate) waker: LocalWaker,
    /// Whether it is among the worker's sessions whose messages wait for an fsync.
    pub(crate) fsync_listed: Cell<bool>,
    /// Its entry among the worker's sessions whose messages wait for secondaries.
    replica_entry: Cell<Option<Wait>>,
    /// What its first message was last seen to wait for, and since when in unix milliseconds.
    seen_waiting: Cell<Option<(Wait, u64)>>,
    /// Asked for once: each asking leaves something behind in the connection.
    gone: OnceCell<OnDisconnect>,
    /// Longest acknowledgement with properties: 0 when the client wants none.
    max_properties: u32,
    queue: RefCell<Queue>,
    /// QoS 2 ids that were received and not yet released.
    unreleased: RefCell<Ids>,
    aliases: RefCell<Aliases>,
}

impl Session {
    /// `place` tells when another connection takes over the client id, or the place.
    pub(crate) fn new(io: IoRef, codec: Rc<Codec>, identity: Identity, place: Arc<Place>) -> Self {
        let may_have = codec.version() == Version::V5 && identity.wants_properties;
        let max_packet = identity.max_packet.unwrap_or(u32::MAX);
        Self {
            io,
            codec,
            client: identity.client,
            will: RefCell::new(identity.will),
            liveness: Liveness::new(identity.keep_alive, place, Instant::now()),
            waker: LocalWaker::new(),
            fsync_listed: Cell::new(false),
            replica_entry: Cell::new(None),
            seen_waiting: Cell::new(None),
            gone: OnceCell::new(),
            max_properties: if may_have { max_packet } else { 0 },
            queue: RefCell::default(),
            unreleased: RefCell::default(),
            aliases: RefCell::default(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.codec.version()
    }

    /// Whether an acknowledgement of so many bytes may carry properties.
    pub(crate) fn may_carry(&self, bytes: u32) -> bool {
        self.max_properties >= bytes
    }

    /// Resolves once the connection is closed from either side.
    pub(crate) fn gone(&self) -> &OnDisconnect {
        self.gone.get_or_init(|| self.io.on_disconnect())
    }

    /// Messages whose acknowledgement is still due.
    pub(crate) fn in_flight(&self) -> usize {
        self.queue.borrow().len()
    }

    /// A message has come in; `enqueue`, `drop_arriving` or `abandon` takes it from here.
    pub(crate) fn arrive(&self) {
        self.queue.borrow_mut().arrive();
    }

    /// The message that has come in gets no answer.
    pub(crate) fn drop_arriving(&self) {
        self.queue.borrow_mut().drop_arriving();
    }

    /// The message that has come in is to be answered in its turn.
    pub(crate) fn enqueue(&self, waiting: Waiting) {
        self.queue.borrow_mut().push(waiting);
    }

    /// Whether a message of this packet id has its answer to come.
    pub(crate) fn is_waiting(&self, id: NonZeroU16) -> bool {
        self.queue.borrow().holds(id)
    }

    /// The next message that can be answered; see `Queue::next`.
    #[must_use = "what has left the queue must be answered"]
    pub(crate) fn next_answer(
        &self,
        durable: Option<Durable>,
        reached: impl FnMut(u8, Lsn) -> Option<Outcome>,
    ) -> Option<Answer> {
        self.queue.borrow_mut().next(durable, reached)
    }

    /// Whether a message is not known to be durable.
    pub(crate) fn awaits_fsync(&self) -> bool {
        self.queue.borrow().awaits_fsync()
    }

    /// Its messages that wait for secondaries now; since when is known to as often as it is asked.
    pub(crate) fn waits(&self, now_ms: u64) -> Waits {
        let queue = self.queue.borrow();
        let Some(wait) = queue.waits_for() else {
            self.seen_waiting.set(None);
            return Waits::default();
        };
        let since = match self.seen_waiting.get() {
            Some((seen, since)) if seen == wait => since,
            _ => now_ms,
        };
        self.seen_waiting.set(Some((wait, since)));
        Waits {
            messages: queue.past_fsync() as u64,
            since_unix_ms: since,
        }
    }

    /// Gives up every message that was received and not answered; returns how many.
    #[must_use = "what is given up must be counted"]
    pub(crate) fn abandon(&self) -> u64 {
        self.queue.borrow_mut().clear() as u64
    }

    /// Takes in a QoS 2 packet id; false when its message has been stored already.
    #[must_use = "a message that has been stored must not be stored again"]
    pub(crate) fn receive(&self, id: NonZeroU16) -> bool {
        self.unreleased.borrow_mut().insert(id)
    }

    pub(crate) fn release(&self, id: NonZeroU16) -> bool {
        self.unreleased.borrow_mut().remove(id)
    }

    /// QoS 2 messages that were received and not released.
    pub(crate) fn unreleased(&self) -> usize {
        self.unreleased.borrow().len()
    }

    /// The topic that a publish means.
    pub(crate) fn resolve(
        &self,
        topic: ByteString,
        alias: Option<NonZeroU16>,
    ) -> Result<ByteString, BadAlias> {
        match alias {
            None => Ok(topic),
            Some(alias) => self.aliases.borrow_mut().resolve(&topic, alias),
        }
    }

    /// Why the connection must be closed at `now`, if it must. Its buffers are looked at, and shrunk
    /// where it is at rest.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Overdue> {
        let mut queue = self.queue.borrow_mut();
        if self.liveness.silence(now) > REST {
            queue.shrink();
        }
        let unread = self.unread();
        let bytes = queue.bytes()
            + self.unreleased.borrow().bytes()
            + self.aliases.borrow().bytes()
            + unread;
        self.codec.memory().settle(bytes);
        self.liveness.overdue(now, &self.progress(unread))
    }

    /// Whether it has been silent for so long that it needs no large buffers.
    pub(crate) fn is_at_rest(&self, now: Instant) -> bool {
        self.liveness.silence(now) > REST && self.codec.partial().is_none()
    }

    /// By how much it takes longer than others can be made to wait for, and what.
    pub(crate) fn lateness(&self, now: Instant) -> Option<(Duration, Overdue)> {
        self.liveness.lateness(now, &self.progress(self.unread()))
    }

    /// Bytes that wait until the client takes them.
    fn unread(&self) -> usize {
        self.io.with_write_dst_buf(|buffer| buffer.len())
    }

    fn progress(&self, unread: usize) -> Progress {
        Progress {
            partial: self.codec.partial(),
            starved: self.codec.starved_since(),
            unread,
        }
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

/// A connection that sends nothing for this long is at rest.
const REST: Duration = Duration::from_secs(3);
