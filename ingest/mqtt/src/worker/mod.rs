//! One worker thread: its appender, its sessions, and the acknowledgements that leave together.
//!
//! All of it lives on one thread; the committer reaches it through `Signal` alone, once per group,
//! and secondaries' reports only while a message waits for one. Must never block: all its
//! connections would wait.

mod clock;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Instant;

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::task::AtomicWaker;
use ntex::io::IoRef;
use ntex::task::LocalWaker;
use ntex::util::{ByteString, Bytes};
use ntex_mqtt::v5::codec::DisconnectReasonCode;
use tokio::sync::watch;
use wal::clock::unix_nanos;
use wal::{Appender, Due, Durable, GroupId, Lsn, Quiet, Replicated};

use crate::ack_pass::AckPass;
use crate::allowance::Sender;
use crate::clients::Clients;
use crate::config::Config;
use crate::dead_letters::LetterFate;
use crate::large::{Job, Readers};
use crate::places::Place;
use crate::receive::Reads;
use crate::replica_waiters::ReplicaWaiters;
use crate::reply;
use crate::session::Session;
use crate::stats::{Counters, add};
use crate::store::{Message, NotTaken, Stored, store};
use crate::told::Told;

/// What crosses threads into a worker: the newest durable group, and the order to stop.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// Groups that are durable: the group of the newest, plus one.
    groups: AtomicU64,
    lsn: AtomicU64,
    stopping: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Called on the committer's thread.
    pub(crate) fn durable(&self, durable: Durable) {
        self.lsn.store(durable.lsn.0, Ordering::Relaxed);
        self.groups.store(durable.group.0 + 1, Ordering::Release);
        self.waker.wake();
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// One worker's state.
pub(crate) struct Worker {
    pub(crate) config: Arc<Config>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) told: Arc<Told>,
    pub(crate) reads: Reads,
    appender: RefCell<Appender>,
    /// The same for messages that are read elsewhere.
    large_appender: Arc<Mutex<Appender>>,
    readers: Readers,
    /// What secondaries have made durable.
    reports: watch::Receiver<Replicated>,
    /// By address: a session that leaves must be found at once, however many there are.
    sessions: RefCell<HashMap<*const Session, Rc<Session>>>,
    /// Connections that have sent no CONNECT yet.
    arriving: RefCell<HashMap<*const Place, (Arc<Place>, IoRef)>>,
    /// Sessions that wait for an fsync.
    fsync_waiters: RefCell<Vec<Rc<Session>>>,
    /// Sessions whose first message is durable and waits for secondaries: for days, perhaps, and
    /// meanwhile at no cost to the others.
    replica_waiters: RefCell<ReplicaWaiters<Session>>,
    /// Wakes `watch_replicas`: there is one in `replica_waiters`, or the worker stops.
    replica_waker: LocalWaker,
    stop_waker: LocalWaker,
    /// Connections that wait until the log takes rows again.
    append_wakers: RefCell<Vec<Waker>>,
    /// `Signal::groups` when it was last read.
    seen_groups: Cell<u64>,
    /// The newest group that was acknowledged.
    acknowledged: Cell<Option<Durable>>,
    /// What was said of clients.
    quiet: RefCell<Quiet<Said>>,
    /// Sessions that a pass has met so far.
    #[cfg(test)]
    visits: Cell<u64>,
}

/// What is said of clients, and not each time: thousands of them may do the same every second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    WillLost,
}

impl Worker {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that workers share"
    )]
    pub(crate) fn new(
        config: Arc<Config>,
        clients: Arc<Clients>,
        counters: Arc<Counters>,
        signal: Arc<Signal>,
        told: Arc<Told>,
        readers: Readers,
        appender: Appender,
        reports: watch::Receiver<Replicated>,
    ) -> Self {
        Self {
            config,
            clients,
            counters,
            signal,
            told,
            reads: Reads::new(),
            large_appender: Arc::new(Mutex::new(appender.clone())),
            readers,
            appender: RefCell::new(appender),
            reports,
            sessions: RefCell::default(),
            arriving: RefCell::default(),
            fsync_waiters: RefCell::default(),
            replica_waiters: RefCell::new(ReplicaWaiters::new()),
            replica_waker: LocalWaker::new(),
            stop_waker: LocalWaker::new(),
            append_wakers: RefCell::default(),
            seen_groups: Cell::new(0),
            acknowledged: Cell::new(None),
            quiet: RefCell::default(),
            #[cfg(test)]
            visits: Cell::new(0),
        }
    }

    /// Whether this is worth a line now.
    pub(crate) fn is_due(&self, said: Said) -> bool {
        self.quiet.borrow_mut().note(said, Instant::now()) != Due::Not
    }

    /// A connection has come.
    pub(crate) fn arrive(&self, place: &Arc<Place>, io: IoRef) {
        let key = Arc::as_ptr(place);
        let arriving = (Arc::clone(place), io);
        self.arriving.borrow_mut().insert(key, arriving);
    }

    /// It has sent its CONNECT, or is gone.
    pub(crate) fn settled(&self, place: &Arc<Place>) {
        self.arriving.borrow_mut().remove(&Arc::as_ptr(place));
    }

    pub(crate) fn enter(&self, session: &Rc<Session>) {
        let key = Rc::as_ptr(session);
        self.sessions.borrow_mut().insert(key, Rc::clone(session));
        add(&self.counters.connections, 1);
    }

    pub(crate) fn leave(&self, session: &Rc<Session>) {
        let known = self.sessions.borrow_mut().remove(&Rc::as_ptr(session));
        if known.is_some() {
            add(&self.counters.connections, 1_u64.wrapping_neg());
        }
        self.replica_waiters.borrow_mut().remove(session);
        let dropped = session.abandon();
        add(&self.counters.dropped, dropped);
        add(&self.counters.waiting, dropped.wrapping_neg());
        self.clients
            .leave(&session.client, session.liveness.place());
    }

    /// A message has come in; `settle` or the session's queue takes it from here.
    pub(crate) fn arrived(&self, session: &Session, bytes: usize) {
        session.arrive();
        add(&self.counters.received, 1);
        add(&self.counters.waiting, 1);
        add(&self.counters.bytes, bytes as u64);
    }

    /// The message that has come in gets no answer: `counter` says why.
    pub(crate) fn settle(&self, session: &Session, counter: &AtomicU64) {
        session.drop_arriving();
        add(&self.counters.waiting, 1_u64.wrapping_neg());
        add(counter, 1);
    }

    /// Hands a message's rows to the log: to its table, or to the dead letters.
    pub(crate) fn store(
        &self,
        session: &Session,
        topic: &str,
        payload: &[u8],
    ) -> Result<GroupId, NotTaken> {
        let message = Message {
            sender: Sender {
                client: &session.client,
                address: session.liveness.place().address(),
            },
            topic,
            payload,
            now: unix_nanos(),
        };
        let mut appender = self.appender.borrow_mut();
        let stored = store(
            &mut appender,
            &message,
            self.config.reading,
            &self.told.allowance,
        );
        drop(appender);
        self.count(&session.client, topic, stored)
    }

    /// The same for a message that takes long: it is read on another thread; none when it made that
    /// panic.
    pub(crate) async fn store_large(
        &self,
        session: &Session,
        topic: &ByteString,
        payload: &Bytes,
    ) -> Option<Result<GroupId, NotTaken>> {
        let (answer, stored) = oneshot::channel();
        self.readers.hand_over(Job {
            appender: Arc::clone(&self.large_appender),
            client: Arc::clone(&session.client),
            address: session.liveness.place().address(),
            topic: topic.clone(),
            payload: payload.clone(),
            now: unix_nanos(),
            answer,
        });
        let stored = stored.await.ok()?;
        Some(self.count(&session.client, topic, stored))
    }

    /// Counts, and tells in a while, what became of a message.
    fn count(
        &self,
        client: &str,
        topic: &str,
        stored: Result<Stored, NotTaken>,
    ) -> Result<GroupId, NotTaken> {
        let letters = &self.told.dead_letters;
        match &stored {
            Ok(stored) => {
                add(&self.counters.rows, stored.rows as u64);
                if let Some(rejection) = &stored.rejection {
                    add(&self.counters.dead_letters, 1);
                    letters.note(LetterFate::Stored, client, topic, rejection);
                    letters.tell(Instant::now());
                }
            }
            Err(NotTaken::Unkept(_, rejection)) => {
                add(&self.counters.unkept, 1);
                letters.note(LetterFate::Lost, client, topic, rejection);
                letters.tell(Instant::now());
            }
            Err(NotTaken::Full | NotTaken::Closed) => {}
        }
        stored.map(|stored| stored.group)
    }

    /// The session has a message that waits for the fsync of its group. One that was read elsewhere
    /// may come after that: no other group need follow which would acknowledge it.
    pub(crate) fn await_fsync(&self, session: &Rc<Session>, group: GroupId) {
        let newest = self.acknowledged.get();
        if newest.is_some_and(|newest| group <= newest.group) {
            let mut pass = self.ack_pass(newest);
            self.visit(&mut pass, session);
            pass.finish(&self.counters);
        }
        if session.awaits_fsync() && !session.fsync_listed.replace(true) {
            self.fsync_waiters.borrow_mut().push(Rc::clone(session));
        }
    }

    /// Resolves after the next group became durable.
    pub(crate) async fn next_group(&self) {
        let seen = self.seen_groups.get();
        poll_fn(|context| {
            if self.seen_groups.get() != seen || self.signal.is_stopping() {
                return Poll::Ready(());
            }
            self.append_wakers
                .borrow_mut()
                .push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn wake_appends(&self) {
        let mut wakers = self.append_wakers.borrow_mut();
        wakers.drain(..).for_each(Waker::wake);
    }

    /// Acknowledges whatever has become durable, for ever; ends when the worker stops. Messages
    /// that wait for secondaries then are not waited for: their clients send them again.
    pub(crate) async fn acknowledge_groups(self: Rc<Self>) {
        let stopped = poll_fn(|context| {
            self.signal.waker.register(context.waker());
            let groups = self.signal.groups.load(Ordering::Acquire);
            if groups != self.seen_groups.get() {
                self.seen_groups.set(groups);
                self.acknowledge(Durable {
                    group: GroupId(groups - 1),
                    lsn: Lsn(self.signal.lsn.load(Ordering::Relaxed)),
                });
            }
            if self.signal.is_stopping() && self.fsync_waiters.borrow().is_empty() {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        stopped.await;
        self.close_all();
        self.wake_appends();
        self.replica_waker.wake();
        self.stop_waker.wake();
    }

    /// One group is durable: every session's acknowledgements leave in one write.
    fn acknowledge(&self, durable: Durable) {
        self.acknowledged.set(Some(durable));
        let mut pass = self.ack_pass(Some(durable));
        let sessions = std::mem::take(&mut *self.fsync_waiters.borrow_mut());
        for session in sessions {
            self.visit(&mut pass, &session);
            if session.awaits_fsync() {
                self.fsync_waiters.borrow_mut().push(session);
            } else {
                session.fsync_listed.set(false);
            }
        }
        pass.finish(&self.counters);
        self.wake_appends();
    }

    fn ack_pass(&self, durable: Option<Durable>) -> AckPass<'_> {
        AckPass::new(durable, self.config.too_few, &self.reports)
    }

    /// Answers what it can on one connection; what then waits for secondaries gets an entry.
    fn visit(&self, pass: &mut AckPass<'_>, session: &Rc<Session>) {
        #[cfg(test)]
        self.visits.update(|visits| visits + 1);
        pass.answer(session);
        let mut waiters = self.replica_waiters.borrow_mut();
        let none = waiters.is_empty();
        waiters.update(session);
        if none && !waiters.is_empty() {
            self.replica_waker.wake();
        }
    }

    /// Answers what needs neither disk nor secondaries, if nothing is before it.
    pub(crate) fn answer_now(&self, session: &Rc<Session>) {
        let mut pass = self.ack_pass(None);
        self.visit(&mut pass, session);
        pass.finish(&self.counters);
    }

    /// Acknowledges what secondaries have reported, for ever; ends when the worker stops. Waits for
    /// a report only while a message does, so that all others cost this thread nothing.
    pub(crate) async fn watch_replicas(self: Rc<Self>) {
        let mut reports = self.reports.clone();
        loop {
            self.any_replica_waiter().await;
            if self.signal.is_stopping() {
                return;
            }
            // Before the pass: what comes after it wakes again.
            reports.mark_unchanged();
            self.answer_replica_waiters();
            if self.replica_waiters.borrow().is_empty() {
                continue;
            }
            let changed = pin!(reports.changed());
            match select(changed, pin!(self.stopping())).await {
                Either::Left((Ok(()), _)) => {}
                // The log is gone, or the worker stops.
                _ => return,
            }
        }
    }

    /// Visits only sessions that get an answer, and each once: what one waits for after its visit
    /// is not over in this pass.
    fn answer_replica_waiters(&self) {
        let mut pass = self.ack_pass(None);
        let next = |pass: &AckPass<'_>| {
            self.replica_waiters
                .borrow_mut()
                .take_ready(|wait| pass.is_over(wait))
        };
        while let Some(session) = next(&pass) {
            self.visit(&mut pass, &session);
        }
        pass.finish(&self.counters);
    }

    /// Resolves while a message waits for secondaries, or when the worker stops.
    async fn any_replica_waiter(&self) {
        poll_fn(|context| {
            if !self.replica_waiters.borrow().is_empty() || self.signal.is_stopping() {
                return Poll::Ready(());
            }
            self.replica_waker.register(context.waker());
            Poll::Pending
        })
        .await;
    }

    async fn stopping(&self) {
        poll_fn(|context| {
            if self.signal.is_stopping() {
                return Poll::Ready(());
            }
            self.stop_waker.register(context.waker());
            Poll::Pending
        })
        .await;
    }

    fn close_all(&self) {
        let sessions: Vec<Rc<Session>> = self.sessions.borrow().values().cloned().collect();
        for session in sessions {
            session.will.take();
            close(
                &session,
                DisconnectReasonCode::ServerShuttingDown,
                "the server is shutting down",
            );
        }
    }
}

/// Says why where the protocol allows it, then closes after what is buffered.
pub(crate) fn close(session: &Session, code: DisconnectReasonCode, reason: &str) {
    if let Some(packet) = reply::disconnect(session.version(), code, reason) {
        let _ = session.io.encode(packet, session.codec.as_ref());
    }
    session.io.close();
    // It may wait until it may have another message in flight, not for a packet.
    session.waker.wake();
}

#[cfg(test)]
mod tests;
