//! The follow task: connects, follows, reconciles its logs, and connects again for as long
//! as the node lives. It owns the writers of the node's logs; it must never end by itself but for a
//! log that has failed, never answer a refusal with haste, and never drop a row that was not put
//! aside first.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wal::{Due, Log, Quiet};

use crate::backoff::Backoff;
use crate::certs::identity::Identity;
use crate::config::FollowConfig;
use crate::error::{CloseCode, clip};
use crate::files::fetch;
use crate::files::peers::Peers;
use crate::follow::dial::{self, Reached, Rotation};
use crate::follow::ended::Ended;
use crate::follow::error::{FollowError, FollowKind};
use crate::follow::handshake::{self, Agreement};
use crate::follow::logs::LocalLogs;
use crate::follow::state::{Event, FollowState};
use crate::follow::stream::{self, Following};
use crate::quic::Link;
use crate::serve::registry::Summaries;
use crate::status::FollowPhase;
use crate::wire::WirePlan;

/// The task's state.
pub(crate) struct Task {
    config: FollowConfig,
    identity: Identity,
    logs: LocalLogs,
    state: Arc<FollowState>,
    peers: Peers,
    summaries: watch::Receiver<Option<Summaries>>,
    rotation: Rotation,
    backoff: Backoff,
    /// Pauses between attempts to go back to a better upstream.
    returns: Backoff,
    /// What is said of each upstream.
    quiet: Quiet<(usize, FollowKind)>,
    /// Reconnects in a row since the log last went on.
    reconnects: u32,
    /// Why the local log takes nothing more.
    failed: Option<String>,
    shutdown: CancellationToken,
}

impl Task {
    pub(crate) fn new(
        config: FollowConfig,
        identity: Identity,
        logs: LocalLogs,
        state: Arc<FollowState>,
        peers: Peers,
        summaries: watch::Receiver<Option<Summaries>>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            rotation: Rotation::new(config.upstreams.len()),
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            returns: Backoff::new(config.return_after, LONGEST_RETURN),
            config,
            identity,
            logs,
            state,
            peers,
            summaries,
            quiet: Quiet::default(),
            reconnects: 0,
            failed: None,
            shutdown,
        }
    }

    /// Follows until the node stops; why the log is not on the disk as a whole, where it is not.
    pub(crate) async fn run(mut self) -> Option<String> {
        self.logs.resume().await;
        while let Some(pause) = self.once().await {
            let log = self.logs.log();
            tokio::select! {
                () = sleep(pause) => {}
                () = self.shutdown.cancelled() => break,
                reason = failure(log) => {
                    self.fail(reason).await;
                    break;
                }
            }
            self.state.retrying();
        }
        let unclosed = self.logs.close().await;
        self.failed.or(unclosed)
    }

    /// One attempt and how long to pause before the next; `None`: no next one.
    async fn once(&mut self) -> Option<Duration> {
        let (begun, tip) = (Instant::now(), self.logs.tip());
        let settled = match self.attempt().await {
            Ok(Ended::Stopping) => return None,
            Ok(Ended::BootstrapComplete) => self.logs.swap().await,
            Ok(Ended::BetterUpstream) => {
                self.rotation.first();
                self.returns.pause(0.0);
                Ok(())
            }
            Ok(Ended::Reconnect(reason)) => {
                tracing::debug!(reason, "connecting again");
                Ok(())
            }
            Err(error) => Err(error),
        };
        let error = match settled {
            Ok(()) => return Some(self.reconnect_pause(tip)),
            Err(FollowError::LocalLog(reason)) => {
                self.fail(reason).await;
                return None;
            }
            Err(error @ (FollowError::NoRoom(_) | FollowError::Unfilled(_))) => {
                match self.logs.recover().await {
                    Err(FollowError::LocalLog(reason)) => {
                        self.fail(reason).await;
                        return None;
                    }
                    _ => error,
                }
            }
            Err(error) => error,
        };
        if self.logs.tip() != tip || begun.elapsed() > GOOD_CONNECTION {
            self.backoff.reset();
            self.quiet.reset();
            if self.rotation.at() == 0 {
                self.returns.reset();
            }
        }
        let phase = error.phase();
        self.say(&error);
        self.state.ended(phase, error.to_string());
        if !self.rotation.next() {
            // Another one may be better placed to help, at once.
            return Some(self.config.backoff_min / 2);
        }
        Some(match phase {
            FollowPhase::Refused | FollowPhase::NeedsSnapshot => {
                self.backoff.longest(fastrand::f64())
            }
            _ => self.backoff.pause(fastrand::f64()),
        })
    }

    /// Reconnecting for a reason is free, but not again and again where that leads nowhere.
    fn reconnect_pause(&mut self, tip: Option<wal::Position>) -> Duration {
        let lsn = |tip: Option<wal::Position>| tip.map(|tip| tip.lsn);
        if lsn(self.logs.tip()) > lsn(tip) {
            self.reconnects = 0;
        }
        self.reconnects += 1;
        if self.reconnects <= FREE_RECONNECTS {
            return Duration::ZERO;
        }
        self.backoff.pause(fastrand::f64())
    }

    fn upstream(&self) -> &str {
        let upstreams = &self.config.upstreams;
        upstreams.get(self.rotation.at()).map_or("", String::as_str)
    }

    fn say(&mut self, reason: &FollowError) {
        let upstream = self.upstream().to_owned();
        let kind = (self.rotation.at(), reason.kind());
        match self.quiet.note(kind, Instant::now()) {
            Due::First => tracing::warn!(%upstream, %reason, "not following the upstream"),
            Due::Again(lasted) => {
                let (attempts, for_s) = (lasted.times, lasted.time.as_secs());
                tracing::warn!(%upstream, %reason, attempts, for_s, "still not following the upstream");
            }
            Due::Not => tracing::debug!(%upstream, %reason, "still not following the upstream"),
        }
    }

    /// The local log takes nothing more: says so and waits for the node to stop.
    async fn fail(&mut self, reason: String) {
        let line = FollowError::LocalLog(reason).to_string();
        tracing::error!(reason = %line, "following has ended for good");
        self.failed = Some(line.clone());
        self.state.ended(FollowPhase::Failed, line);
        self.shutdown.cancelled().await;
    }

    /// Connects and follows until the connection ends.
    async fn attempt(&mut self) -> Result<Ended, FollowError> {
        let upstream = self.upstream().to_owned();
        self.state.trying(&upstream);
        let Reached { endpoint, link } = tokio::select! {
            reached = dial::reach(&upstream, &self.config, &self.identity) => reached?,
            () = self.shutdown.cancelled() => return Ok(Ended::Stopping),
        };
        let ended = self.follow(&link).await;
        let ended = ended.map_err(|error| match error {
            FollowError::Link(error) => FollowError::Link(link.explain(error)),
            other => other,
        });
        let (code, reason) = match &ended {
            Ok(ended) => (CloseCode::Done, ended.to_string()),
            Err(error) => (error.close_code(), error.to_string()),
        };
        link.close(code, &clip(&reason));
        let _ = timeout(GOODBYE, endpoint.idle()).await;
        ended
    }

    /// Follows over this connection; how it ended.
    async fn follow(&mut self, link: &Link) -> Result<Ended, FollowError> {
        let (follower, bootstrapping) = self.logs.hello();
        let hello = handshake::hello(&self.config, follower, bootstrapping);
        let within = self.config.handshake_timeout;
        let agreement = tokio::select! {
            agreement = handshake::handshake(link, hello, within) => agreement?,
            error = link.closed() => return Err(error.into()),
            () = self.shutdown.cancelled() => return Ok(Ended::Stopping),
        };
        self.logs.accepts(agreement.log)?;
        match agreement.plan {
            WirePlan::Stream { lsn, .. } => {
                if self.state.is_due(Event::Following) {
                    tracing::info!(upstream = %self.upstream(), peer = link.peer(),
                        log = %agreement.log, from = lsn, protocol = agreement.protocol,
                        "following the upstream");
                }
                self.stream(link, agreement).await
            }
            WirePlan::Snapshot { lsn, .. } => {
                if self.state.is_due(Event::Snapshot) {
                    tracing::info!(upstream = %self.upstream(), peer = link.peer(), from = lsn,
                        "the beginning of the upstream's log is gone: a snapshot is needed");
                }
                self.state.welcomed(true);
                self.take_snapshot(link, &agreement).await
            }
            WirePlan::Compare {} => self.compare(link, agreement).await,
        }
    }

    async fn stream(&mut self, link: &Link, agreement: Agreement) -> Result<Ended, FollowError> {
        if !self.logs.ready(agreement.log, agreement.epoch).await? {
            let reason = "a log is brought in from its first block on";
            return Ok(Ended::Reconnect(reason));
        }
        let served = self.logs.log();
        let Some((follower, completion)) = self.logs.writer() else {
            return Err(FollowError::LocalLog("it is not open".to_owned()));
        };
        let following = Following {
            state: &self.state,
            config: &self.config,
            peers: &self.peers,
            served: served.unwrap_or_else(|| follower.log().clone()),
            completion,
            summaries: self.summaries.clone(),
            shutdown: &self.shutdown,
        };
        // A copy: the pause grows only when a better upstream was tried and did not keep this node.
        let pause = self.returns.clone().pause(fastrand::f64());
        let better = dial::better(self.rotation.at(), &self.config, &self.identity, pause);
        stream::stream(link, agreement, follower, following, better).await
    }

    /// Takes the manifest and begins to bring in what it names.
    async fn take_snapshot(
        &mut self,
        link: &Link,
        agreement: &Agreement,
    ) -> Result<Ended, FollowError> {
        // The manifest comes over a stream of its own, which the upstream answers as to a peer.
        let manifest = tokio::select! {
            manifest = fetch::ask_manifest(link, agreement.log) => {
                manifest.map_err(FollowError::NoManifest)?
            }
            error = link.closed() => return Err(error.into()),
            () = self.shutdown.cancelled() => return Ok(Ended::Stopping),
        };
        let starts = tokio::select! {
            starts = fetch::ask_segment_starts(link, agreement.log) => starts,
            error = link.closed() => return Err(error.into()),
            () = self.shutdown.cancelled() => return Ok(Ended::Stopping),
        };
        // Evidence, not data: an upstream need not have it.
        let starts = starts.unwrap_or_default();
        self.logs.begin(agreement.log, manifest, starts).await?;
        Ok(Ended::Reconnect("a snapshot has begun"))
    }

    /// Finds out where the logs meet and cuts off, aside, what lies behind.
    async fn compare(&mut self, link: &Link, agreement: Agreement) -> Result<Ended, FollowError> {
        let Some(log) = self.logs.compared() else {
            return Err(FollowError::Protocol(
                "there is nothing to compare".to_owned(),
            ));
        };
        let (within, epoch) = (self.config.handshake_timeout, agreement.epoch);
        let meeting = tokio::select! {
            meeting = handshake::compare(agreement, &log, within) => meeting?,
            error = link.closed() => return Err(error.into()),
            () = self.shutdown.cancelled() => return Ok(Ended::Stopping),
        };
        stream::check_route(link, &meeting.route, &self.config.node_id)?;
        let upstreams = self.config.upstreams.len();
        let must_stay = self.state.must_stay(&meeting.route, epoch, upstreams);
        self.logs.reconcile(&meeting, must_stay).await?;
        let reason = "the local log was cut where it left the primary's";
        Ok(Ended::Reconnect(reason))
    }
}

/// Waits until this log fails; for ever without one.
async fn failure(log: Option<Log>) -> String {
    match log {
        Some(log) => log.until_failed().await,
        None => pending().await,
    }
}

/// A snapshot takes two, a log that had diverged one.
const FREE_RECONNECTS: u32 = 4;

/// A connection that lasted this long was good, whatever ended it.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);

/// Longest pause between two attempts to go back to a better upstream.
const LONGEST_RETURN: Duration = Duration::from_secs(600);

/// Time for the last packet to go out.
const GOODBYE: Duration = Duration::from_millis(200);
