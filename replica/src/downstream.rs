//! A secondary's follow task: connects, follows, and connects again for as long as the node lives.
//! It owns the log's only writer; it must never end by itself but for a log that has failed, and
//! must never answer a refusal with haste.

use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use wal::{Epoch, Follower, Log, LogId, WalError};

use crate::backoff::Backoff;
use crate::board::Board;
use crate::config::FollowConfig;
use crate::error::clip;
use crate::follow::{self, Agreement, FollowError};
use crate::identity::Identity;
use crate::peers::Peers;
use crate::quic::{Endpoint, Link};
use crate::quiet::Quiet;
use crate::repair;
use crate::status::{FollowPhase, FollowStatus};

/// Creates or opens the local copy of a log, once the primary has told which log it is. May block.
pub type OpenLog = Box<dyn FnMut(LogId, Epoch) -> Result<Follower, WalError> + Send>;

/// A secondary that follows its primary. Dropping it ends the following too, but only
/// [`Downstream::stop`] waits until the log is flushed.
pub struct Downstream {
    board: Arc<Board>,
    upstream: String,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    repairing: JoinHandle<()>,
    _stop_on_drop: DropGuard,
}

impl Downstream {
    /// Starts to follow. `existing` is the log this node holds already; without one, `open` makes
    /// it when the primary is first reached. Needs a tokio runtime around it.
    #[must_use]
    pub fn start(
        config: FollowConfig,
        identity: Identity,
        existing: Option<Follower>,
        open: OpenLog,
    ) -> Self {
        let log = existing.as_ref().map(|follower| follower.log().clone());
        let board = Arc::new(Board::new(log));
        let shutdown = CancellationToken::new();
        let upstream = config.upstream.clone();
        let peers = Peers::new();
        let repairing = repair_log(board.log(), peers.clone(), shutdown.clone());
        let task = Task {
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            config,
            identity,
            follower: existing,
            open: Some(open),
            board: Arc::clone(&board),
            peers,
            quiet: Quiet::default(),
            shutdown: shutdown.clone(),
        };
        Self {
            board,
            upstream,
            task: tokio::spawn(task.run()),
            repairing: tokio::spawn(repairing),
            _stop_on_drop: shutdown.clone().drop_guard(),
            shutdown,
        }
    }

    /// How it stands now.
    #[must_use]
    pub fn status(&self) -> FollowStatus {
        self.board.status(&self.upstream, Instant::now())
    }

    /// The followed log, as soon as there is one.
    #[must_use]
    pub fn log(&self) -> watch::Receiver<Option<Log>> {
        self.board.log()
    }

    /// Leaves the primary, and closes the log with everything accepted on disk.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the follow task failed");
        }
        if let Err(error) = self.repairing.await {
            tracing::error!(%error, "the repair task failed");
        }
    }
}

impl fmt::Debug for Downstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downstream")
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

struct Task {
    config: FollowConfig,
    identity: Identity,
    follower: Option<Follower>,
    /// Taken while it runs; gone for good only if it panicked.
    open: Option<OpenLog>,
    board: Arc<Board>,
    peers: Peers,
    backoff: Backoff,
    quiet: Quiet,
    shutdown: CancellationToken,
}

impl Task {
    async fn run(mut self) {
        while let Some(pause) = self.once().await {
            let log = self
                .follower
                .as_ref()
                .map(|follower| follower.log().clone());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.shutdown.cancelled() => break,
                reason = failure(log) => {
                    self.fail(reason).await;
                    break;
                }
            }
            self.board.retrying();
        }
        if let Some(follower) = self.follower.take()
            && let Err(error) = follower.stop().await
        {
            tracing::error!(%error, "the local log was not closed in order");
        }
    }

    /// One attempt and how long to pause before the next; `None`: no next one.
    async fn once(&mut self) -> Option<Duration> {
        let (begun, tip) = (Instant::now(), self.tip());
        let error = self.attempt().await;
        match error {
            FollowError::Stopping => return None,
            FollowError::LocalLog(reason) => {
                self.fail(reason).await;
                return None;
            }
            _ => {}
        }
        let progressed = self.tip() != tip;
        if progressed || begun.elapsed() > GOOD_CONNECTION {
            self.backoff.reset();
            self.quiet.reset();
        }
        let phase = error.phase();
        let line = error.to_string();
        self.say(&line);
        self.board.ended(phase, line);
        Some(match phase {
            FollowPhase::Refused | FollowPhase::NeedsSnapshot => {
                self.backoff.longest(fastrand::f64())
            }
            _ => self.backoff.pause(fastrand::f64()),
        })
    }

    fn tip(&self) -> Option<wal::Position> {
        self.follower.as_ref().map(Follower::tip)
    }

    fn say(&mut self, line: &str) {
        let upstream = &self.config.upstream;
        if self.quiet.is_news(line, Instant::now()) {
            tracing::warn!(%upstream, reason = %line, "not following the primary");
        } else {
            tracing::debug!(%upstream, reason = %line, "still not following the primary");
        }
    }

    /// The local log takes nothing more: says so and waits for the node to stop.
    async fn fail(&mut self, reason: String) {
        let line = FollowError::LocalLog(reason).to_string();
        tracing::error!(reason = %line, "following the primary has ended for good");
        self.board.ended(FollowPhase::Failed, line);
        self.shutdown.cancelled().await;
    }

    /// Connects and follows until the connection ends.
    async fn attempt(&mut self) -> FollowError {
        let shutdown = self.shutdown.clone();
        let reached = tokio::select! {
            reached = self.reach() => reached,
            () = shutdown.cancelled() => return FollowError::Stopping,
        };
        let (endpoint, link) = match reached {
            Ok(reached) => reached,
            Err(error) => return error,
        };
        let error = self.follow(&link).await;
        link.close(error.close_code(), &clip(&error.to_string()));
        // The goodbye is one packet; a node that stops gives it time to leave.
        let _ = timeout(GOODBYE, endpoint.idle()).await;
        error
    }

    /// The first address of the primary that answers.
    async fn reach(&mut self) -> Result<(Endpoint, Link), FollowError> {
        let upstream = self.config.upstream.clone();
        let found = lookup_host(upstream.as_str())
            .await
            .map(|all| all.take(MAX_ADDRESSES).collect());
        let addresses: Vec<SocketAddr> = match found {
            Ok(addresses) => addresses,
            Err(source) => return Err(FollowError::Resolve { upstream, source }),
        };
        let mut error = FollowError::NoAddress(upstream);
        for address in addresses {
            match self.dial(address).await {
                Ok(reached) => return Ok(reached),
                Err(reason) => error = reason,
            }
        }
        Err(error)
    }

    async fn dial(&mut self, address: SocketAddr) -> Result<(Endpoint, Link), FollowError> {
        let within = self.config.connect_timeout;
        let window = self.config.receive_window_bytes;
        let endpoint = Endpoint::dial(address, &self.identity, window)?;
        match timeout(within, endpoint.connect(address)).await {
            Ok(link) => Ok((endpoint, link?)),
            Err(_) => {
                let address = address.to_string();
                Err(FollowError::Unanswered { address, within })
            }
        }
    }

    /// Follows over this connection; why it ended.
    async fn follow(&mut self, link: &Link) -> FollowError {
        let agreement = match self.agree(link).await {
            Ok(agreement) => agreement,
            Err(error) => return error,
        };
        let Some(follower) = &mut self.follower else {
            return FollowError::LocalLog("it is not open".to_owned());
        };
        let upstream = &self.config.upstream;
        tracing::info!(%upstream, primary = link.peer(), log = %agreement.log,
            from = %agreement.from, "following the primary");
        let (board, config) = (&self.board, &self.config);
        let (peers, shutdown) = (&self.peers, &self.shutdown);
        follow::stream(link, agreement, follower, board, config, peers, shutdown).await
    }

    /// The handshake, and the log if there is none yet.
    async fn agree(&mut self, link: &Link) -> Result<Agreement, FollowError> {
        let hello = follow::hello(&self.config, self.follower.as_ref());
        let agreement = tokio::select! {
            agreement = follow::greet(link, hello) => agreement?,
            error = link.closed() => return Err(error.into()),
            () = self.shutdown.cancelled() => return Err(FollowError::Stopping),
        };
        if self.follower.is_none() {
            let follower = self.open(agreement.log, agreement.epoch).await?;
            self.board.set_log(follower.log().clone());
            self.follower = Some(follower);
        }
        Ok(agreement)
    }

    async fn open(&mut self, log: LogId, epoch: Epoch) -> Result<Follower, FollowError> {
        let Some(mut open) = self.open.take() else {
            return Err(FollowError::LocalLog("opening it failed before".to_owned()));
        };
        let opened = spawn_blocking(move || {
            let follower = open(log, epoch);
            (open, follower)
        });
        match opened.await {
            Ok((open, follower)) => {
                self.open = Some(open);
                follower.map_err(|error| FollowError::LocalLog(error.to_string()))
            }
            Err(error) => Err(FollowError::LocalLog(error.to_string())),
        }
    }
}

/// Repairs the log's files from the primary, once there is a log.
async fn repair_log(
    mut opened: watch::Receiver<Option<Log>>,
    peers: Peers,
    shutdown: CancellationToken,
) {
    let log = tokio::select! {
        log = opened.wait_for(Option::is_some) => log.ok().and_then(|log| log.clone()),
        () = shutdown.cancelled() => None,
    };
    if let Some(log) = log {
        repair::run(log, peers, shutdown).await;
    }
}

/// Waits until this log fails; for ever without one.
async fn failure(log: Option<Log>) -> String {
    match log {
        Some(log) => follow::failure(&log).await,
        None => pending().await,
    }
}

/// A connection that lasted this long was good, whatever ended it.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);

/// Addresses of one host name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Time for the last packet to go out.
const GOODBYE: Duration = Duration::from_millis(200);
