//! The state of following: what the follow task knows, for anyone to read at any time. It
//! owns the transitions of the state and must never wait or do I/O; readers never block the task.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wal::{BootstrapProgress, Diverged, Due, Epoch, Log, Lsn, Quiet, clock};

use crate::error::clip;
use crate::follow::error::FollowError;
use crate::follow::reconcile::{self, Held};
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
    quiet: Mutex<Quiet<Event>>,
    /// The primary whose history the log in force holds.
    held: watch::Sender<Option<Held>>,
}

/// What happens while a node follows, and is worth a line unless it happens all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Following,
    Snapshot,
    CutOff,
    Rooted,
    CaughtUp,
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
    /// Whether this connection has brought a word of the primary; without one nobody knows how many
    /// rows are missing here.
    is_heard: bool,
    /// Why the upstream has no way to the primary, if it says so.
    cut: Option<String>,
    /// Since when blocks do not come as they become durable.
    away_since: Option<Instant>,
    /// Where the primary takes rows over HTTP, as last heard.
    primary_http: String,
    reconnects: u64,
    last_contact_unix_ms: u64,
    bootstrap: Option<BootstrapProgress>,
    /// The log that is brought in.
    staged: Option<Log>,
    /// Why bootstrapping waits.
    waits_for: Option<String>,
    snapshots: u64,
    divergences: u64,
    diverged: Vec<Diverged>,
}

impl FollowState {
    pub(crate) fn new(log: Option<Log>, own: Hop, held: Option<Held>) -> Self {
        let lineage = Lineage {
            hops: vec![own.clone()],
            ..Lineage::default()
        };
        Self {
            inner: watch::Sender::new(Inner::default()),
            log: watch::Sender::new(log),
            lineage: watch::Sender::new(lineage),
            own,
            quiet: Mutex::default(),
            held: watch::Sender::new(held),
        }
    }

    /// Whether this is worth a line now.
    pub(crate) fn is_due(&self, event: Event) -> bool {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.note(event, Instant::now()) != Due::Not
    }

    /// The primary whose history is held, whenever that is another.
    pub(crate) fn held(&self) -> watch::Receiver<Option<Held>> {
        self.held.subscribe()
    }

    /// Why the history that is held must not be left for that of this way's primary.
    pub(crate) fn must_stay(
        &self,
        route: &Route,
        epoch: Epoch,
        upstreams: usize,
    ) -> Option<FollowError> {
        let held = self.held.borrow();
        let other = Held::at(route, epoch)?;
        if reconcile::may_leave(held.as_ref(), &other, upstreams) {
            return None;
        }
        Some(FollowError::OtherHistory {
            held: held
                .as_ref()
                .map_or_else(String::new, |held| clip(&held.name)),
            other: clip(&other.name),
            epoch,
        })
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
            inner.is_heard = false;
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
            inner.reason = Some(reason.clone());
            inner.route = Route::default();
            inner.is_heard = false;
            inner.cut = None;
            inner.away_since = inner.away_since.or(Some(Instant::now()));
        });
        self.stand(Route::default(), Some(format!("{phase}: {reason}")));
    }

    /// The task that follows has ended. What it said last of why it fails stays.
    pub(crate) fn over(&self) {
        let failed = |inner: &Inner| inner.phase == FollowPhase::Failed;
        if !failed(&self.inner.borrow()) {
            self.ended(FollowPhase::Failed, OVER.to_owned());
        }
    }

    /// Another attempt begins. The state stays: a refused node is not "connecting" in between.
    pub(crate) fn retrying(&self) {
        self.inner.send_modify(|inner| inner.reconnects += 1);
    }

    /// Whom the upstream follows. While another log is brought in, what this node serves is not on
    /// that way: those below must not diverge from it as if it were the primary's.
    pub(crate) fn routed(&self, route: Route) {
        let is_bootstrapping = self.inner.borrow().bootstrap.is_some();
        let rooted = route.rooted && !is_bootstrapping;
        let cut = match (route.rooted, is_bootstrapping) {
            (true, true) => Some("it brings in another copy of the log".to_owned()),
            (true, false) => None,
            // The upstream's own reason comes next.
            (false, _) => Some(no_way(&route, None)),
        };
        let way = Route {
            rooted,
            ..route.clone()
        };
        self.stand(way, cut);
        let mut had_way = true;
        self.inner.send_modify(|inner| {
            had_way = inner.route.rooted || inner.route.hops.is_empty();
            inner.is_heard &= route.rooted;
            inner.cut = None;
            inner.route.clone_from(&route);
        });
        self.say_way(had_way, &route);
        self.hold(&route, is_bootstrapping);
    }

    /// The log in force continues what this way's primary has.
    fn hold(&self, route: &Route, is_bootstrapping: bool) {
        let log = self.log.borrow().clone().filter(|_| !is_bootstrapping);
        if let Some(held) = log.and_then(|log| Held::at(route, log.epoch())) {
            self.held.send_if_modified(|now| {
                let is_other = now.as_ref() != Some(&held);
                *now = Some(held);
                is_other
            });
        }
    }

    fn say_way(&self, had_way: bool, route: &Route) {
        let upstream = route.hops.first().map_or("", |hop| hop.name.as_str());
        match (had_way, route.rooted) {
            (true, false) if self.is_due(Event::CutOff) => {
                tracing::warn!(%upstream, "the upstream has no way to the primary: nothing new comes");
            }
            (false, true) if self.is_due(Event::Rooted) => {
                tracing::info!(%upstream, "the upstream has a way to the primary again");
            }
            _ => {}
        }
    }

    /// Why the upstream has no way to the primary.
    pub(crate) fn cut_off(&self, reason: String) {
        let mut said = None;
        self.inner.send_modify(|inner| {
            if !inner.route.rooted {
                said = Some(no_way(&inner.route, Some(&reason)));
                inner.cut = Some(reason);
            }
        });
        if said.is_some() {
            self.lineage.send_modify(|lineage| lineage.cut = said);
        }
    }

    /// Where the primary takes rows over HTTP.
    pub(crate) fn primary_http(&self, address: String) {
        self.lineage
            .send_modify(|lineage| address.clone_into(&mut lineage.primary_http));
        self.inner.send_modify(|inner| inner.primary_http = address);
    }

    fn stand(&self, route: Route, cut: Option<String>) {
        let Route { hops, rooted } = route;
        let own = std::iter::once(self.own.clone());
        let hops: Vec<Hop> = own.chain(hops.into_iter().map(Hop::from)).collect();
        self.lineage.send_if_modified(|lineage| {
            let changed = lineage.hops != hops || lineage.rooted != rooted || lineage.cut != cut;
            (lineage.hops, lineage.rooted, lineage.cut) = (hops, rooted, cut);
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
                inner.is_heard = true;
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
        self.settle(|inner| {
            inner.caught_up_at = Some(at);
            inner.settle(applied)
        });
    }

    /// Says how long this node was behind once it is no more.
    fn settle(&self, change: impl FnOnce(&mut Inner) -> Option<Duration>) {
        let mut away = None;
        self.inner.send_modify(|inner| away = change(inner));
        if let Some(away) = away
            && self.is_due(Event::CaughtUp)
        {
            let upstream = self.inner.borrow().upstream.clone();
            tracing::info!(%upstream, away_s = away.as_secs(), "caught up with the upstream again");
        }
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
        self.settle(|inner| {
            inner.freshness.apply(applied, committed_ns);
            inner.settle(applied)
        });
    }

    /// How far the snapshot under way is; none: it is in force, or given up.
    pub(crate) fn bootstrapping(&self, progress: Option<BootstrapProgress>) {
        self.inner.send_modify(|inner| {
            if progress.is_none_or(|now| inner.bootstrap.is_none_or(|old| is_further(now, old))) {
                inner.waits_for = None;
            }
            inner.bootstrap = progress;
        });
    }

    /// The log that is brought in; none: no more.
    pub(crate) fn staged(&self, log: Option<Log>) {
        self.inner.send_modify(|inner| inner.staged = log);
    }

    /// Why bootstrapping waits, until it goes on.
    pub(crate) fn waits_for(&self, reason: &str) {
        self.inner
            .send_modify(|inner| inner.waits_for = Some(clip(reason)));
    }

    /// A snapshot was taken in.
    pub(crate) fn bootstrapped(&self) {
        self.inner.send_modify(|inner| {
            (inner.bootstrap, inner.staged, inner.waits_for) = (None, None, None);
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
        let behind = inner.primary_durable.0.saturating_sub(applied.0);
        let (state, reason) = inner.standing(log.as_ref());
        FollowStatus {
            state,
            reason,
            upstream: inner.upstream.clone(),
            upstreams: upstreams.to_vec(),
            route: inner.route.hops.iter().cloned().map(Hop::from).collect(),
            rooted: inner.route.rooted,
            primary_http: inner.primary_http.clone(),
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
            // What is known to be missing is; that nothing is, nobody knows without the primary.
            lag_rows: (inner.is_heard || behind > 0).then_some(behind),
            is_met: inner.freshness.is_known(),
            lag_ms: inner.freshness.lag_ms(applied, at),
            lag_bound_ms: inner.freshness.bound_ms(applied, at),
            reconnects: inner.reconnects,
            last_contact_unix_ms: inner.last_contact_unix_ms,
        }
    }
}

impl Inner {
    /// The state to show and the reason for it: an upstream that has no way to the primary streams
    /// nothing, however well it answers.
    fn standing(&self, log: Option<&Log>) -> (FollowPhase, Option<String>) {
        let flows = matches!(self.phase, FollowPhase::CatchingUp | FollowPhase::Streaming);
        if flows && !self.route.hops.is_empty() && !self.route.rooted {
            let reason = no_way(&self.route, self.cut.as_deref());
            return (FollowPhase::CutOff, Some(reason));
        }
        let staged = self.bootstrap.and(self.staged.as_ref());
        let stalled = [staged, log].into_iter().flatten();
        let stalled = stalled
            .filter_map(|log| log.stalled().borrow().clone())
            .next();
        let waits_for = self.bootstrap.and(self.waits_for.clone());
        let reason = stalled.or(waits_for).or_else(|| self.reason.clone());
        (self.phase, reason)
    }

    /// How long this node was away, when it has just caught up.
    fn settle(&mut self, applied: Lsn) -> Option<Duration> {
        let reached = self.caught_up_at.is_some_and(|at| applied >= at);
        if !reached || self.phase != FollowPhase::CatchingUp {
            return None;
        }
        self.phase = FollowPhase::Streaming;
        self.reason = None;
        self.away_since.take().map(|since| since.elapsed())
    }
}

/// Whether more is here than before.
fn is_further(now: BootstrapProgress, before: BootstrapProgress) -> bool {
    (now.files_held, now.bytes_held) > (before.files_held, before.bytes_held)
}

/// The sentence about an upstream that has no way to the primary.
fn no_way(route: &Route, cut: Option<&str>) -> String {
    let name = route.hops.first().map_or("", |hop| hop.name.as_str());
    let why = cut.unwrap_or("it does not say why; its own status does");
    clip(&format!("{name} has no way to the primary: {why}"))
}

/// Why nothing comes any more where the task has not said it.
const OVER: &str = "this node does not follow any more: the task that does has ended";

#[cfg(test)]
mod tests;
