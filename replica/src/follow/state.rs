//! The state of following: what the follow task knows, for anyone to read at any time. It
//! owns the transitions of the state and must never wait or do I/O; readers never block the task.

use std::time::Instant;

use tokio::sync::watch;
use wal::{BootstrapProgress, Diverged, Log, Lsn, clock};

use crate::lag::Freshness;
use crate::serve::source::{Lineage, PrimaryClock};
use crate::status::{FollowPhase, FollowStatus, Hop};
use crate::wire::Route;

/// Shared between the follow task, which writes, and `FollowTask`, which reads.
pub(crate) struct FollowState {
    inner: watch::Sender<Inner>,
    log: watch::Sender<Option<Log>>,
    lineage: watch::Sender<Lineage>,
    own: Hop,
}

#[derive(Debug, Default)]
struct Inner {
    phase: FollowPhase,
    reason: Option<String>,
    upstream: String,
    route: Route,
    primary_clock: Option<PrimaryClock>,
    primary_durable: Lsn,
    received: Lsn,
    caught_up_at: Option<Lsn>,
    freshness: Freshness,
    reconnects: u64,
    last_contact_unix_ms: u64,
    bootstrap: Option<BootstrapProgress>,
    snapshots: u64,
    divergences: u64,
    diverged: Vec<Diverged>,
}

impl FollowState {
    pub(crate) fn new(log: Option<Log>, own: Hop) -> Self {
        let lineage = Lineage {
            hops: vec![own.clone()],
            ..Lineage::default()
        };
        Self {
            inner: watch::Sender::new(Inner::default()),
            log: watch::Sender::new(log),
            lineage: watch::Sender::new(lineage),
            own,
        }
    }

    /// The log in force, as soon as there is one; another one after a snapshot.
    pub(crate) fn log(&self) -> watch::Receiver<Option<Log>> {
        self.log.subscribe()
    }

    /// Where this node stands, for those that it serves itself.
    pub(crate) fn lineage(&self) -> watch::Receiver<Lineage> {
        self.lineage.subscribe()
    }

    /// Another log is in force.
    pub(crate) fn set_log(&self, log: Log) {
        let position = log.snapshot().end().lsn;
        self.log.send_replace(Some(log));
        // What was known of the other one says nothing of this one.
        self.inner.send_modify(|inner| {
            inner.freshness = Freshness::default();
            inner.primary_durable = Lsn(0);
            inner.received = position;
        });
    }

    /// This upstream is asked now.
    pub(crate) fn trying(&self, upstream: &str) {
        self.inner
            .send_modify(|inner| upstream.clone_into(&mut inner.upstream));
    }

    /// The upstream agreed to stream from here; into a log that is being brought in or not.
    pub(crate) fn welcomed(&self, bootstrapping: bool) {
        let phase = if bootstrapping {
            self.bootstrap_phase()
        } else {
            FollowPhase::CatchingUp
        };
        self.inner.send_modify(|inner| {
            inner.phase = phase;
            // What ended the last connection stays visible until this one is better.
            inner.caught_up_at = None;
        });
    }

    /// Older data answers queries while a snapshot is under way, or nothing does.
    fn bootstrap_phase(&self) -> FollowPhase {
        if self.log.borrow().is_some() {
            FollowPhase::NeedsSnapshot
        } else {
            FollowPhase::Bootstrapping
        }
    }

    /// The connection ended, or none came about.
    pub(crate) fn ended(&self, phase: FollowPhase, reason: String) {
        let bootstrapping = self.bootstrap_phase();
        self.inner.send_modify(|inner| {
            // What is under way goes on as soon as somebody can be reached again.
            inner.phase = match (phase, inner.bootstrap) {
                (FollowPhase::Connecting, Some(_)) => bootstrapping,
                (phase, _) => phase,
            };
            inner.reason = Some(reason);
            inner.route = Route::default();
        });
        self.stand(Route::default());
    }

    /// Another attempt begins. The state stays: a refused node is not "connecting" in between.
    pub(crate) fn retrying(&self) {
        self.inner.send_modify(|inner| inner.reconnects += 1);
    }

    /// Whom the upstream follows. While another log is brought in, what this node serves is not on
    /// that way: those below must not diverge from it as if it were the primary's.
    pub(crate) fn routed(&self, route: Route) {
        let rooted = route.rooted && self.inner.borrow().bootstrap.is_none();
        self.stand(Route {
            rooted,
            ..route.clone()
        });
        self.inner.send_modify(|inner| inner.route = route);
    }

    fn stand(&self, route: Route) {
        let Route { hops, rooted } = route;
        let own = std::iter::once(self.own.clone());
        let hops: Vec<Hop> = own.chain(hops.into_iter().map(Hop::from)).collect();
        self.lineage.send_if_modified(|lineage| {
            let changed = lineage.hops != hops || lineage.rooted != rooted;
            (lineage.hops, lineage.rooted) = (hops, rooted);
            changed
        });
    }

    /// The primary's log is durable up to `durable` while its clock shows `now_ns`. A relay that
    /// has lost the primary says the same again and again: that is contact with the relay, no news.
    pub(crate) fn beat(&self, durable: Lsn, now_unix_ns: i64, at: Instant) {
        let reported = PrimaryClock {
            durable,
            now_unix_ns,
        };
        let mut is_news = false;
        self.inner.send_modify(|inner| {
            inner.last_contact_unix_ms = clock::unix_ms();
            // Without a way to the primary it is old news, whoever says it.
            is_news = inner.route.rooted && inner.primary_clock != Some(reported);
            if is_news {
                inner.primary_clock = Some(reported);
                inner.primary_durable = durable;
                inner.freshness.beat(durable, now_unix_ns, at);
            }
        });
        if is_news {
            self.lineage
                .send_modify(|lineage| lineage.primary_clock = Some(reported));
        }
    }

    /// The upstream has sent everything below `at`, and live blocks follow.
    pub(crate) fn caught_up(&self, at: Lsn, applied: Lsn) {
        self.inner.send_modify(|inner| {
            inner.caught_up_at = Some(at);
            inner.settle(applied);
        });
    }

    /// The followed log accepted everything below `lsn`.
    pub(crate) fn received(&self, lsn: Lsn) {
        self.inner.send_modify(|inner| {
            if lsn > inner.received && inner.received > Lsn(0) {
                inner.reason = None;
            }
            inner.received = lsn;
        });
    }

    /// Queries here see everything below `applied`, whose last block was committed at
    /// `committed_ns`.
    pub(crate) fn applied(&self, applied: Lsn, committed_ns: i64) {
        self.inner.send_modify(|inner| {
            inner.freshness.apply(applied, committed_ns);
            inner.settle(applied);
        });
    }

    /// How far the snapshot under way is; none: it is in force, or given up.
    pub(crate) fn bootstrapping(&self, progress: Option<BootstrapProgress>) {
        self.inner.send_modify(|inner| inner.bootstrap = progress);
    }

    /// A snapshot was taken in.
    pub(crate) fn bootstrapped(&self) {
        self.inner.send_modify(|inner| {
            inner.bootstrap = None;
            inner.snapshots += 1;
        });
    }

    /// The local log had diverged from the primary's.
    pub(crate) fn diverged(&self) {
        self.inner.send_modify(|inner| inner.divergences += 1);
    }

    /// Everything that was ever put aside.
    pub(crate) fn list_diverged(&self, diverged: Vec<Diverged>) {
        self.inner.send_modify(|inner| inner.diverged = diverged);
    }

    /// What to tell the upstream as received.
    pub(crate) fn received_lsn(&self) -> Lsn {
        self.inner.borrow().received
    }

    /// The whole picture at `at`.
    pub(crate) fn status(&self, upstreams: &[String], at: Instant) -> FollowStatus {
        let log = self.log.borrow().clone();
        let flushed = log
            .as_ref()
            .map_or(Lsn(0), |log| log.durable().borrow().lsn);
        let applied = log.as_ref().map_or(Lsn(0), |log| log.snapshot().end().lsn);
        let inner = self.inner.borrow();
        let lag_rows = inner.primary_durable.0.saturating_sub(applied.0);
        FollowStatus {
            state: inner.phase,
            reason: inner.reason.clone(),
            upstream: inner.upstream.clone(),
            upstreams: upstreams.to_vec(),
            route: inner.route.hops.iter().cloned().map(Hop::from).collect(),
            rooted: inner.route.rooted,
            bootstrap: inner.bootstrap,
            snapshots: inner.snapshots,
            divergences: inner.divergences,
            diverged: inner.diverged.clone(),
            log_id: log.as_ref().map(Log::id),
            epoch: log.as_ref().map(Log::epoch),
            primary_durable: inner.primary_durable,
            received: inner.received.max(flushed),
            flushed,
            applied,
            lag_rows: inner.freshness.is_known().then_some(lag_rows),
            lag_ms: inner.freshness.lag_ms(applied, at),
            lag_bound_ms: inner.freshness.bound_ms(applied, at),
            reconnects: inner.reconnects,
            last_contact_unix_ms: inner.last_contact_unix_ms,
        }
    }
}

impl Inner {
    fn settle(&mut self, applied: Lsn) {
        let reached = self.caught_up_at.is_some_and(|at| applied >= at);
        if reached && self.phase == FollowPhase::CatchingUp {
            self.phase = FollowPhase::Streaming;
            self.reason = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::WireHop;

    fn fresh() -> FollowState {
        FollowState::new(None, hop("own"))
    }

    fn hop(id: &str) -> Hop {
        Hop {
            id: id.to_owned(),
            name: id.to_owned(),
        }
    }

    /// The way of who follows the primary.
    fn rooted() -> Route {
        Route {
            hops: vec![WireHop::default()],
            rooted: true,
        }
    }

    fn status(state: &FollowState) -> FollowStatus {
        state.status(&[], Instant::now())
    }

    fn phase(state: &FollowState) -> FollowPhase {
        status(state).state
    }

    #[test]
    fn nothing_is_known_before_the_first_contact() {
        let state = fresh();
        state.trying("primary:7441");
        let status = status(&state);
        assert_eq!(status.state, FollowPhase::Connecting);
        assert_eq!(status.upstream, "primary:7441");
        assert_eq!((status.lag_rows, status.lag_ms), (None, None));
        assert_eq!(status.last_contact_unix_ms, 0);
        assert_eq!(status.log_id, None);
    }

    #[test]
    fn streaming_begins_when_what_was_announced_is_applied() {
        let state = fresh();
        state.welcomed(false);
        assert_eq!(phase(&state), FollowPhase::CatchingUp);
        state.applied(Lsn(10), 1);
        assert_eq!(phase(&state), FollowPhase::CatchingUp);
        state.caught_up(Lsn(20), Lsn(10));
        assert_eq!(phase(&state), FollowPhase::CatchingUp);
        state.applied(Lsn(20), 2);
        assert_eq!(phase(&state), FollowPhase::Streaming);
        state.ended(FollowPhase::Connecting, "gone".to_owned());
        assert_eq!(phase(&state), FollowPhase::Connecting);
        state.caught_up(Lsn(20), Lsn(20));
        assert_eq!(phase(&state), FollowPhase::Connecting);
        state.welcomed(false);
        assert_eq!(phase(&state), FollowPhase::CatchingUp);
        assert_eq!(status(&state).reason.as_deref(), Some("gone"));
        state.caught_up(Lsn(20), Lsn(20));
        assert_eq!(status(&state).reason, None);
    }

    #[test]
    fn a_refusal_stays_visible_through_retries() {
        let state = fresh();
        state.ended(FollowPhase::Refused, "another log".to_owned());
        state.retrying();
        let status = status(&state);
        assert_eq!(status.state, FollowPhase::Refused);
        assert_eq!(status.reason.as_deref(), Some("another log"));
        assert_eq!(status.reconnects, 1);
    }

    #[test]
    fn contact_and_its_loss_show_in_the_lag() {
        let state = fresh();
        let start = Instant::now();
        state.routed(rooted());
        state.beat(Lsn(0), 5_000_000_000, start);
        let status = state.status(&[], start);
        assert_eq!((status.lag_rows, status.lag_ms), (Some(0), Some(0)));
        assert!(status.last_contact_unix_ms > 0);
        let later = state.status(&[], start + Duration::from_secs(30));
        assert_eq!(later.lag_ms, Some(30_000));
    }

    #[test]
    fn a_relay_that_repeats_itself_is_no_word_of_the_primary() {
        let state = fresh();
        let start = Instant::now();
        state.routed(rooted());
        state.beat(Lsn(0), 5_000_000_000, start);
        state.beat(Lsn(0), 5_000_000_000, start + Duration::from_secs(30));
        let later = state.status(&[], start + Duration::from_secs(30));
        assert_eq!(later.lag_ms, Some(30_000));
    }

    #[test]
    fn the_way_to_the_primary_is_told_on_and_forgotten_with_the_connection() {
        let state = fresh();
        let primary = WireHop {
            id: "p".to_owned(),
            name: "p".to_owned(),
        };
        let route = Route {
            hops: vec![primary],
            rooted: true,
        };
        state.routed(route);
        let lineage = state.lineage().borrow().clone();
        assert_eq!(lineage.hops, [hop("own"), hop("p")]);
        assert!(lineage.rooted && !lineage.is_primary());
        assert_eq!(status(&state).route, [hop("p")]);
        state.ended(FollowPhase::Connecting, "gone".to_owned());
        let lineage = state.lineage().borrow().clone();
        assert!(lineage.hops == [hop("own")] && !lineage.rooted);
    }

    #[test]
    fn a_snapshot_under_way_stays_visible_without_contact() {
        let state = fresh();
        state.bootstrapping(Some(BootstrapProgress::default()));
        state.welcomed(true);
        assert_eq!(phase(&state), FollowPhase::Bootstrapping);
        state.ended(FollowPhase::Connecting, "gone".to_owned());
        assert_eq!(phase(&state), FollowPhase::Bootstrapping);
        state.bootstrapped();
        state.welcomed(false);
        assert_eq!(
            (phase(&state), status(&state).snapshots),
            (FollowPhase::CatchingUp, 1)
        );
    }
}
