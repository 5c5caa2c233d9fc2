//! What a worker does by the clock: it closes connections whose time is over, lets those at rest give
//! up their buffers, and where memory is short closes those that are in the way of others. Must
//! never close one that keeps up while another does not.

use std::cmp::Reverse;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ntex_mqtt::v5::codec::DisconnectReasonCode;
use wal::clock::unix_nanos;

use super::{Worker, close};
use crate::liveness::Overdue;
use crate::memory::Memory;
use crate::places::Notice;
use crate::replica_waits::{Found, Waits};
use crate::session::Session;

impl Worker {
    /// Looks after its connections, until the worker stops.
    pub(crate) async fn watch_timeouts(self: Rc<Self>) {
        while !self.signal.is_stopping() {
            ntex::time::sleep(TICK).await;
            let now = Instant::now();
            self.told.dead_letters.tell(now);
            self.look_at_waits();
            self.end_arrivals();
            self.end_overdue(now);
            self.end_late(now);
            self.look_at_buffers(now);
        }
    }

    /// Those who say nothing have no place where places are short.
    fn end_arrivals(&self) {
        let arriving = self.arriving.borrow();
        let noticed = arriving
            .values()
            .filter(|(place, _)| place.notice().is_some());
        let noticed: Vec<_> = noticed.map(|(_, io)| io.clone()).collect();
        drop(arriving);
        noticed.iter().for_each(ntex::io::IoRef::terminate);
    }

    fn end_overdue(&self, now: Instant) {
        let overdue: Vec<(Rc<Session>, Overdue)> = self
            .sessions
            .borrow()
            .values()
            .filter_map(|session| Some((Rc::clone(session), session.overdue(now)?)))
            .collect();
        for (session, why) in overdue {
            self.end(&session, why, now);
        }
    }

    /// Where memory is short, those go first that take longest.
    fn end_late(&self, now: Instant) {
        let is_starved = |session: &Rc<Session>| session.codec.starved_since().is_some();
        let sessions = self.sessions.borrow();
        if !Memory::is_short(&self.config.memory) && !sessions.values().any(is_starved) {
            return;
        }
        let late = sessions.values().filter_map(|session| {
            let (late, why) = session.lateness(now)?;
            Some((late, why, Rc::clone(session)))
        });
        let mut late: Vec<_> = late.collect();
        drop(sessions);
        late.sort_by_key(|(late, ..)| Reverse(*late));
        for (_, why, session) in late.into_iter().take(MOST_ENDED) {
            self.end(&session, why, now);
        }
    }

    fn look_at_buffers(&self, now: Instant) {
        let sessions: Vec<Rc<Session>> = self.sessions.borrow().values().cloned().collect();
        for session in sessions {
            let is_at_rest = session.is_at_rest(now) && session.codec.ask_for_rest();
            if is_at_rest || session.codec.starved_since().is_some() {
                session.io.notify_dispatcher();
            }
        }
    }

    fn end(&self, session: &Session, why: Overdue, now: Instant) {
        let (code, reason) = match why {
            Overdue::KeepAlive => (DisconnectReasonCode::KeepAliveTimeout, "keep-alive timeout"),
            Overdue::PartialPacket => (
                DisconnectReasonCode::UnspecifiedError,
                "a packet was not finished in time",
            ),
            Overdue::Unread => (
                DisconnectReasonCode::UnspecifiedError,
                "the client does not read what it is sent",
            ),
            Overdue::NoMemory => (
                DisconnectReasonCode::QuotaExceeded,
                "there is no memory for the packet: send smaller ones, or later",
            ),
            Overdue::Noticed(Notice::Superseded) => (
                DisconnectReasonCode::SessionTakenOver,
                "the client id connected again",
            ),
            Overdue::Noticed(Notice::Displaced) => (
                DisconnectReasonCode::QuotaExceeded,
                "there are too many connections, and most are from this address",
            ),
        };
        if matches!(
            why,
            Overdue::KeepAlive | Overdue::Noticed(Notice::Superseded)
        ) {
            tracing::debug!(reason, "closing connection");
        } else {
            self.told.refusals.tell(&session.client, None, reason, now);
        }
        close(session, code, reason);
    }

    /// Counts the messages that wait for secondaries.
    fn look_at_waits(&self) {
        let now_ms = u64::try_from(unix_nanos() / 1_000_000).unwrap_or(0);
        let sessions = self.sessions.borrow();
        let waits = sessions.values().map(|session| session.waits(now_ms));
        let waits = waits.fold(Waits::default(), Waits::and);
        let counters = &self.counters;
        let (count, since) = (&counters.awaiting, &counters.awaiting_since_unix_ms);
        count.store(waits.messages, Ordering::Relaxed);
        since.store(waits.since_unix_ms, Ordering::Relaxed);
        // Each worker has counters of its own.
        let worker = Arc::as_ptr(counters).addr();
        let connected = self.reports.borrow().connected;
        let told = &self.told.replica_waits;
        let replicated = counters.acknowledged_replicated.load(Ordering::Relaxed);
        let answered = replicated + counters.fell_back.load(Ordering::Relaxed);
        told.report(worker, Found { waits, answered }, connected, now_ms);
    }
}

/// How often it looks.
const TICK: Duration = Duration::from_millis(500);

/// Connections that go at one look because they are in the way.
const MOST_ENDED: usize = 16;
