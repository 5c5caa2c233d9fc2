//! A log that is being brought in beside the one in force: its writer, its files and the task that
//! fetches them. It owns their lives together and must never touch the log in force.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use wal::{Follower, Log, Lsn, Staging, Tasks, WalError};

use crate::files::peers::Peers;
use crate::follow::ended::Ended;
use crate::follow::error::FollowError;
use crate::follow::fill::{self, FillError};
use crate::follow::state::FollowState;
use crate::follow::store::Store;

/// A log on its way in.
pub(crate) struct Bootstrap {
    pub(crate) follower: Follower,
    staging: Arc<Mutex<Staging>>,
    filled: watch::Receiver<bool>,
    /// Why the files will not become whole.
    broken: watch::Sender<Option<String>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Bootstrap {
    /// Opens the staged log and begins to fetch its files.
    pub(crate) async fn start(
        staging: Staging,
        store: &Store,
        peers: &Peers,
        state: &Arc<FollowState>,
        tasks: &Tasks,
    ) -> Result<Self, WalError> {
        let opening = store.clone();
        let opened = spawn_blocking(move || {
            let follower = opening.open_staged(&staging);
            (staging, follower)
        });
        let (staging, follower) = opened.await.map_err(failed)?;
        let follower = follower?;
        state.bootstrapping(Some(staging.progress()));
        state.staged(Some(follower.log().clone()));
        let staging = Arc::new(Mutex::new(staging));
        let cancel = CancellationToken::new();
        let (tell, filled) = watch::channel(false);
        let fill = fill::fill(
            Arc::clone(&staging),
            peers.clone(),
            follower.log().durable(),
            Arc::clone(state),
            cancel.clone(),
        );
        let broken = watch::Sender::new(None);
        let tell_broken = broken.clone();
        // On its own, so that its end is noticed however it ends: the next attempt begins anew.
        let fetching = tokio::spawn(tasks.begin_again("snapshot").run(fill));
        let task = tokio::spawn(async move {
            let broken = match fetching.await {
                Ok(Ok(())) => {
                    tell.send_replace(true);
                    None
                }
                Ok(Err(FillError::Stopping)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(format!("the task that fetches it failed: {error}")),
            };
            if let Some(reason) = broken {
                tracing::warn!(%reason, "a snapshot is not fetched any more");
                tell_broken.send_replace(Some(reason));
            }
            // Kept until the end: who waits for it must not see it closed.
            tell.closed().await;
        });
        Ok(Self {
            follower,
            staging,
            filled,
            broken,
            cancel,
            task,
        })
    }

    /// When it can take the place of the log in force; or why it takes another attempt, from what
    /// is on the disk then. A full disk is waited for.
    pub(crate) fn completion(&self) -> Completion {
        Completion {
            filled: self.filled.clone(),
            broken: self.broken.subscribe(),
        }
    }

    /// Closes the log and hands over what was staged.
    pub(crate) async fn close(self) -> Result<Staging, WalError> {
        self.cancel.cancel();
        drop(self.filled);
        self.task.await.map_err(failed)?;
        self.follower.stop().await?;
        let mut staging = self.staging;
        // Of a task that panicked a write may still be under way.
        for _ in 0..WRITE_LOOKS {
            match Arc::try_unwrap(staging) {
                Ok(staging) => return Ok(staging.into_inner()),
                Err(shared) => staging = shared,
            }
            sleep(LOOK_EVERY).await;
        }
        Err(WalError::Poisoned("a fetch has not ended".to_owned()))
    }
}

/// When a log that is being brought in can take the place of the one in force.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    /// Every file is here.
    filled: watch::Receiver<bool>,
    /// Why they will never be, if they will not.
    pub(super) broken: watch::Receiver<Option<String>>,
}

impl Completion {
    /// Waits until the files are here and the log has caught up; for ever where none is awaited.
    pub(crate) async fn reached(
        awaited: Option<&Self>,
        log: &Log,
        mut caught_up: watch::Receiver<Option<Lsn>>,
    ) -> Result<Ended, FollowError> {
        let Some(Self { filled, broken }) = awaited else {
            return std::future::pending().await;
        };
        let mut broken = broken.clone();
        let broken = async {
            // The guard must not outlive this expression.
            let reason = broken.wait_for(Option::is_some).await.ok();
            let reason = reason.and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        };
        let (mut filled, mut durable) = (filled.clone(), log.durable());
        let whole = async {
            let caught = caught_up.wait_for(Option::is_some).await;
            let at = caught.ok().and_then(|at| *at).unwrap_or(Lsn(0));
            let there = durable.wait_for(|durable| durable.lsn >= at);
            there.await.is_ok() && filled.wait_for(|filled| *filled).await.is_ok()
        };
        tokio::select! {
            whole = whole => if whole {
                return Ok(Ended::BootstrapComplete);
            },
            reason = broken => return Err(FollowError::Unfilled(reason)),
        }
        // The log or the fill has ended: both are reported elsewhere.
        std::future::pending().await
    }
}

fn failed(error: tokio::task::JoinError) -> WalError {
    WalError::Poisoned(format!("a task failed: {error}"))
}

/// How often, and how many times, it is looked whether a write has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const WRITE_LOOKS: u32 = 1_000;
