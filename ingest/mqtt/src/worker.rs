//! One worker thread: its appender, its sessions, and the acknowledgements that leave together.
//!
//! All of it lives on one thread; the committer reaches it through `Signal` alone, once per group.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use ntex_mqtt::v5::codec::DisconnectReasonCode;
use wal::{AppendError, Appender, Durable, Lsn, Row, Ticket};

use crate::clients::Clients;
use crate::clock::unix_nanos;
use crate::config::Config;
use crate::dead_letter;
use crate::error::Rejection;
use crate::payload;
use crate::reply::{self, LsnProperty};
use crate::route;
use crate::session::{Overdue, Session};
use crate::stats::{Counters, add};

/// How often keep-alives are looked at.
const TICK: Duration = Duration::from_millis(500);

/// What crosses threads into a worker: the newest durable group, and the order to stop.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// Groups that are durable: the ticket of the newest, plus one.
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
    appender: RefCell<Appender>,
    /// By address: a session that leaves must be found at once, however many there are.
    sessions: RefCell<HashMap<*const Session, Rc<Session>>>,
    /// Sessions that wait for an fsync.
    waiting: RefCell<Vec<Rc<Session>>>,
    /// Connections that wait for the committer to make room.
    crowd: RefCell<Vec<Waker>>,
    seen: Cell<u64>,
}

/// Why a message could not be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Wait for the next group.
    Full,
    /// The log has failed or is closed.
    Closed,
}

impl Worker {
    pub(crate) fn new(
        config: Arc<Config>,
        clients: Arc<Clients>,
        counters: Arc<Counters>,
        signal: Arc<Signal>,
        appender: Appender,
    ) -> Self {
        Self {
            config,
            clients,
            counters,
            signal,
            appender: RefCell::new(appender),
            sessions: RefCell::default(),
            waiting: RefCell::default(),
            crowd: RefCell::default(),
            seen: Cell::new(0),
        }
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
        self.clients.leave(&session.client, &session.superseded);
    }

    /// Hands a message's rows to the log: to its table, or to the dead letters.
    pub(crate) fn store(
        &self,
        client: &str,
        topic: &str,
        bytes: &[u8],
    ) -> Result<Ticket, NotTaken> {
        let now = unix_nanos();
        let mut appender = self.appender.borrow_mut();
        let rejection = match self.try_store(&mut appender, topic, bytes, now) {
            Ok(result) => return result,
            Err(rejection) => rejection,
        };
        let reason = rejection.to_string();
        tracing::debug!(client, topic, reason, "dead letter");
        match dead_letter::store(&mut appender, topic, bytes, client, &reason, now) {
            Ok(ticket) => {
                add(&self.counters.dead_letters, 1);
                Ok(ticket)
            }
            Err(AppendError::Full) => Err(NotTaken::Full),
            Err(AppendError::Closed) => Err(NotTaken::Closed),
            Err(AppendError::Refused(refusal)) => {
                // Its own table refuses it: never acknowledged, so the client keeps it.
                tracing::error!(client, topic, %refusal, "a dead letter cannot be stored");
                Err(NotTaken::Closed)
            }
        }
    }

    fn try_store(
        &self,
        appender: &mut Appender,
        topic: &str,
        bytes: &[u8],
        now: i64,
    ) -> Result<Result<Ticket, NotTaken>, Rejection> {
        let table = route::table(topic)?;
        let decoded = payload::decode(bytes)?;
        let tags = [(route::TOPIC, topic)];
        let mut rows = decoded.rows(&tags, now);
        let appended = match (decoded.len(), rows.next()) {
            (1, Some(row)) => appender.append(table, &[row]),
            (_, Some(first)) => {
                let rows: Vec<Row<'_>> = std::iter::once(first).chain(rows).collect();
                appender.append(table, &rows)
            }
            (_, None) => return Err(Rejection::NoRows),
        };
        match appended {
            Ok(ticket) => {
                add(&self.counters.rows, decoded.len() as u64);
                Ok(Ok(ticket))
            }
            Err(AppendError::Full) => Ok(Err(NotTaken::Full)),
            Err(AppendError::Closed) => Ok(Err(NotTaken::Closed)),
            Err(AppendError::Refused(refusal)) => Err(refusal.into()),
        }
    }

    /// The session has a message that waits for its fsync.
    pub(crate) fn list(&self, session: &Rc<Session>) {
        if !session.listed.replace(true) {
            self.waiting.borrow_mut().push(Rc::clone(session));
        }
    }

    /// Resolves after the next group became durable.
    pub(crate) async fn next_group(&self) {
        let seen = self.seen.get();
        poll_fn(|context| {
            if self.seen.get() != seen || self.signal.is_stopping() {
                return Poll::Ready(());
            }
            self.crowd.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Acknowledges whatever has become durable, for ever; ends when the worker stops.
    pub(crate) async fn acknowledge_groups(self: Rc<Self>) {
        let stopped = poll_fn(|context| {
            self.signal.waker.register(context.waker());
            let groups = self.signal.groups.load(Ordering::Acquire);
            if groups != self.seen.get() {
                self.seen.set(groups);
                self.acknowledge(
                    Ticket(groups - 1),
                    Lsn(self.signal.lsn.load(Ordering::Relaxed)),
                );
            }
            if self.signal.is_stopping() && self.waiting.borrow().is_empty() {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        stopped.await;
        self.close_all();
    }

    /// One group is durable: every session's acknowledgements leave in one write.
    fn acknowledge(&self, group: Ticket, lsn: Lsn) {
        let property = LsnProperty::new(lsn);
        let mut out = Vec::with_capacity(1024);
        let sessions = std::mem::take(&mut *self.waiting.borrow_mut());
        let mut acknowledged = 0;
        for session in sessions {
            out.clear();
            let property = session.lsn_property().then_some(&property);
            while let Some(waiting) = session.next_durable(group) {
                reply::acknowledge(&mut out, waiting.kind, waiting.id, property);
                acknowledged += 1;
            }
            // Fails only when the connection is gone; the client will send again.
            let _ = session.io.encode_slice(&out);
            if session.in_flight() > 0 {
                self.waiting.borrow_mut().push(Rc::clone(&session));
            } else {
                session.listed.set(false);
            }
            session.waker.wake();
        }
        add(&self.counters.acknowledged, acknowledged);
        self.crowd.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Looks after keep-alives until the worker stops.
    pub(crate) async fn watch_clock(self: Rc<Self>) {
        while !self.signal.is_stopping() {
            ntex::time::sleep(TICK).await;
            let now = Instant::now();
            let overdue: Vec<(Rc<Session>, Overdue)> = self
                .sessions
                .borrow()
                .values()
                .filter_map(|session| Some((Rc::clone(session), session.overdue(now)?)))
                .collect();
            for (session, why) in overdue {
                let (code, reason) = match why {
                    Overdue::KeepAlive => {
                        (DisconnectReasonCode::KeepAliveTimeout, "keep-alive timeout")
                    }
                    Overdue::PartialPacket => (
                        DisconnectReasonCode::UnspecifiedError,
                        "a packet was not finished in time",
                    ),
                    Overdue::Superseded => (
                        DisconnectReasonCode::SessionTakenOver,
                        "the client id connected again",
                    ),
                };
                tracing::debug!(client = session.client, reason, "closing connection");
                close(&session, code, reason);
            }
        }
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
    if let Some(packet) = reply::disconnect(session.version, code, reason) {
        let _ = session.io.encode(packet, session.codec.as_ref());
    }
    session.io.close();
}
