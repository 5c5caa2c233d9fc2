//! The secondary's notice board: what the follow task knows, for anyone to read at any time. It
//! owns the transitions of the state and must never wait or do I/O; readers never block the task.

use std::time::Instant;

use tokio::sync::watch;
use wal::{Log, Lsn};

use crate::clock;
use crate::lag::Freshness;
use crate::status::{FollowPhase, FollowStatus};

/// Shared between the follow task, which writes, and `Downstream`, which reads.
pub(crate) struct Board {
    notes: watch::Sender<Notes>,
    log: watch::Sender<Option<Log>>,
}

#[derive(Debug, Default)]
struct Notes {
    phase: FollowPhase,
    reason: Option<String>,
    primary_durable: Lsn,
    received: Lsn,
    caught_up_at: Option<Lsn>,
    freshness: Freshness,
    reconnects: u64,
    last_contact_unix_ms: u64,
}

impl Board {
    pub(crate) fn new(log: Option<Log>) -> Self {
        Self {
            notes: watch::Sender::new(Notes::default()),
            log: watch::Sender::new(log),
        }
    }

    /// The followed log, as soon as there is one.
    pub(crate) fn log(&self) -> watch::Receiver<Option<Log>> {
        self.log.subscribe()
    }

    /// The local log was opened.
    pub(crate) fn set_log(&self, log: Log) {
        self.log.send_replace(Some(log));
    }

    /// The primary agreed to stream from here.
    pub(crate) fn welcomed(&self) {
        self.notes.send_modify(|notes| {
            notes.phase = FollowPhase::CatchingUp;
            notes.reason = None;
            notes.caught_up_at = None;
        });
    }

    /// The connection ended, or none came about.
    pub(crate) fn ended(&self, phase: FollowPhase, reason: String) {
        self.notes.send_modify(|notes| {
            notes.phase = phase;
            notes.reason = Some(reason);
        });
    }

    /// Another attempt begins. The state stays: a refused node is not "connecting" in between.
    pub(crate) fn retrying(&self) {
        self.notes.send_modify(|notes| notes.reconnects += 1);
    }

    /// The primary's log is durable up to `durable` while its clock shows `now_ns`.
    pub(crate) fn beat(&self, durable: Lsn, now_ns: i64, at: Instant) {
        self.notes.send_modify(|notes| {
            notes.primary_durable = durable;
            notes.last_contact_unix_ms = clock::unix_ms();
            notes.freshness.beat(durable, now_ns, at);
        });
    }

    /// The primary has sent everything below `at`, and live blocks follow.
    pub(crate) fn caught_up(&self, at: Lsn, applied: Lsn) {
        self.notes.send_modify(|notes| {
            notes.caught_up_at = Some(at);
            notes.settle(applied);
        });
    }

    /// The local log accepted everything below `lsn`.
    pub(crate) fn received(&self, lsn: Lsn) {
        self.notes.send_modify(|notes| notes.received = lsn);
    }

    /// Queries here see everything below `applied`, whose last block was committed at
    /// `committed_ns`.
    pub(crate) fn applied(&self, applied: Lsn, committed_ns: i64) {
        self.notes.send_modify(|notes| {
            notes.freshness.apply(applied, committed_ns);
            notes.settle(applied);
        });
    }

    /// What to tell the primary as received.
    pub(crate) fn received_lsn(&self) -> Lsn {
        self.notes.borrow().received
    }

    /// The whole picture at `at`.
    pub(crate) fn status(&self, upstream: &str, at: Instant) -> FollowStatus {
        let log = self.log.borrow().clone();
        let flushed = log
            .as_ref()
            .map_or(Lsn(0), |log| log.durable().borrow().lsn);
        let applied = log
            .as_ref()
            .map_or(Lsn(0), |log| log.snapshot().position().lsn);
        let notes = self.notes.borrow();
        let lag_rows = notes.primary_durable.0.saturating_sub(applied.0);
        FollowStatus {
            state: notes.phase.as_str(),
            reason: notes.reason.clone(),
            upstream: upstream.to_owned(),
            log_id: log.as_ref().map(Log::id),
            epoch: log.as_ref().map(Log::epoch),
            primary_durable: notes.primary_durable,
            received: notes.received.max(flushed),
            flushed,
            applied,
            lag_rows: notes.freshness.is_known().then_some(lag_rows),
            lag_ms: notes.freshness.lag_ms(applied, at),
            reconnects: notes.reconnects,
            last_contact_unix_ms: notes.last_contact_unix_ms,
        }
    }
}

impl Notes {
    fn settle(&mut self, applied: Lsn) {
        let reached = self.caught_up_at.is_some_and(|at| applied >= at);
        if reached && self.phase == FollowPhase::CatchingUp {
            self.phase = FollowPhase::Streaming;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn state(board: &Board) -> &'static str {
        board.status("primary:7441", Instant::now()).state
    }

    #[test]
    fn nothing_is_known_before_the_first_contact() {
        let status = Board::new(None).status("primary:7441", Instant::now());
        assert_eq!(status.state, "connecting");
        assert_eq!(status.upstream, "primary:7441");
        assert_eq!((status.lag_rows, status.lag_ms), (None, None));
        assert_eq!(status.last_contact_unix_ms, 0);
        assert_eq!(status.log_id, None);
    }

    #[test]
    fn streaming_begins_when_what_was_announced_is_applied() {
        let board = Board::new(None);
        board.welcomed();
        assert_eq!(state(&board), "catching_up");
        board.applied(Lsn(10), 1);
        assert_eq!(state(&board), "catching_up");
        board.caught_up(Lsn(20), Lsn(10));
        assert_eq!(state(&board), "catching_up");
        board.applied(Lsn(20), 2);
        assert_eq!(state(&board), "streaming");
        board.ended(FollowPhase::Connecting, "gone".to_owned());
        assert_eq!(state(&board), "connecting");
        board.caught_up(Lsn(20), Lsn(20));
        assert_eq!(state(&board), "connecting");
        board.welcomed();
        assert_eq!(state(&board), "catching_up");
        assert_eq!(board.status("", Instant::now()).reason, None);
    }

    #[test]
    fn a_refusal_stays_visible_through_retries() {
        let board = Board::new(None);
        board.ended(FollowPhase::Refused, "another log".to_owned());
        board.retrying();
        let status = board.status("", Instant::now());
        assert_eq!(status.state, "refused");
        assert_eq!(status.reason.as_deref(), Some("another log"));
        assert_eq!(status.reconnects, 1);
    }

    #[test]
    fn contact_and_its_loss_show_in_the_lag() {
        let board = Board::new(None);
        let start = Instant::now();
        board.beat(Lsn(0), 5_000_000_000, start);
        let status = board.status("", start);
        assert_eq!((status.lag_rows, status.lag_ms), (Some(0), Some(0)));
        assert!(status.last_contact_unix_ms > 0);
        let later = board.status("", start + Duration::from_secs(30));
        assert_eq!(later.lag_ms, Some(30_000));
    }
}
