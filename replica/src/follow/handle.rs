//! A secondary's handle to its follow task: starts it, tells how it stands, stops it. It owns the
//! task and must never write a log itself.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use wal::{Follower, Log, Tasks};

use crate::cert_watch;
use crate::certs::identity::Identity;
use crate::config::FollowConfig;
use crate::files::peers::Peers;
use crate::follow::logs::LocalLogs;
use crate::follow::reconcile::Held;
use crate::follow::state::FollowState;
use crate::follow::store::Store;
use crate::follow::task::Task;
use crate::serve::registry::Summaries;
use crate::serve::source::{Lineage, Source};
use crate::status::{FollowStatus, Hop};

/// A secondary that follows. Dropping it ends the following too, but only [`FollowTask::stop`]
/// waits until the log is flushed.
pub struct FollowTask {
    state: Arc<FollowState>,
    upstreams: Vec<String>,
    summaries: watch::Sender<Option<Summaries>>,
    shutdown: CancellationToken,
    task: JoinHandle<Option<String>>,
    revoking: JoinHandle<()>,
    holding: JoinHandle<()>,
    _stop_on_drop: DropGuard,
}

impl FollowTask {
    /// Starts to follow. `existing` is the log that [`Store::open_existing`] gave; without one, it
    /// is made when an upstream is first reached. Needs a tokio runtime around it.
    #[must_use]
    pub fn start(
        config: FollowConfig,
        identity: Identity,
        store: Store,
        existing: Option<Follower>,
    ) -> Self {
        let log = existing.as_ref().map(|follower| follower.log().clone());
        let own = Hop {
            id: config.node_id.clone(),
            name: config.node.clone(),
        };
        let shutdown = CancellationToken::new();
        let state = Arc::new(FollowState::new(log, own, store.held()));
        let tasks = config.tasks.clone();
        let (noting, held, stop) = (store.clone(), state.held(), shutdown.clone());
        let holding = keep(&tasks, "upstream-notes", move || {
            note_held(noting.clone(), held.clone(), stop.clone())
        });
        let upstreams = config.upstreams.clone();
        let peers = Peers::new();
        let (summaries, list) = watch::channel(None);
        let (own, noted) = (Arc::clone(&state), Arc::clone(&state));
        let logs = LocalLogs::new(store, existing, own, peers.clone(), tasks.clone());
        let (watched, stop) = (identity.clone(), shutdown.clone());
        let revoking = keep(&tasks, "certificates", move || {
            cert_watch::keep(watched.clone(), None, stop.clone())
        });
        let (follows, stopping) = (tasks.vital("follow"), shutdown.clone());
        let task = Task::new(
            config,
            identity,
            logs,
            Arc::clone(&state),
            peers,
            list,
            shutdown.clone(),
        );
        Self {
            state,
            upstreams,
            summaries,
            // What it holds of the logs is gone with it.
            task: tokio::spawn(async move {
                let ends = Ends(noted, stopping);
                let failed = follows.run(task.run()).await;
                drop(ends);
                failed
            }),
            revoking,
            holding,
            _stop_on_drop: shutdown.clone().drop_guard(),
            shutdown,
        }
    }

    /// How it stands now.
    #[must_use]
    pub fn status(&self) -> FollowStatus {
        self.state.status(&self.upstreams, Instant::now())
    }

    /// The log in force, as soon as there is one; another one after a snapshot or a divergence.
    #[must_use]
    pub fn log(&self) -> watch::Receiver<Option<Log>> {
        self.state.log()
    }

    /// What a relay serves to secondaries of its own.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::relay(self.state.log(), self.state.lineage())
    }

    /// Those who follow this node; the upstream is list of them.
    pub fn set_descendants(&self, summaries: Summaries) {
        self.summaries.send_replace(Some(summaries));
    }

    /// Returns once an upstream has agreed that this node follows it.
    pub fn followed(&self) -> impl Future<Output = ()> + use<> {
        let mut route = self.state.lineage();
        async move {
            let agreed = |lineage: &Lineage| lineage.hops.len() > 1;
            if route.wait_for(agreed).await.is_err() {
                // Nobody follows any more.
                std::future::pending().await
            }
        }
    }

    /// Leaves the upstream, and closes the log with everything accepted on disk. Where that cannot
    /// be: why.
    pub async fn stop(self) -> Option<String> {
        self.shutdown.cancel();
        let failed = match self.task.await {
            Ok(failed) => failed,
            Err(error) => {
                tracing::error!(%error, "the follow task failed");
                Some(error.to_string())
            }
        };
        if let Err(error) = self.revoking.await {
            tracing::error!(%error, "the task that watches certificates failed");
        }
        if let Err(error) = self.holding.await {
            tracing::error!(%error, "the task that notes which primary is followed failed");
        }
        failed
    }
}

/// Says that nobody follows any more, however the task ends that does.
struct Ends(Arc<FollowState>, CancellationToken);

impl Drop for Ends {
    fn drop(&mut self) {
        let is_meant = self.1.is_cancelled() && !std::thread::panicking();
        if !is_meant {
            self.0.over();
        }
    }
}

/// A task that is begun again should it panic.
fn keep<F: Future<Output = ()> + Send + 'static>(
    tasks: &Tasks,
    name: &'static str,
    make: impl FnMut() -> F + Send + 'static,
) -> JoinHandle<()> {
    let tasks = tasks.clone();
    tokio::spawn(async move { tasks.keep(name, make, sleep).await })
}

/// Keeps on the disk which primary's history is held, until `shutdown`.
async fn note_held(
    store: Store,
    mut held: watch::Receiver<Option<Held>>,
    shutdown: CancellationToken,
) {
    loop {
        let changed = tokio::select! {
            biased;
            changed = held.changed() => changed.is_ok(),
            () = shutdown.cancelled() => false,
        };
        if !changed {
            return;
        }
        let (store, now) = (store.clone(), held.borrow_and_update().clone());
        let noted = spawn_blocking(move || now.map_or(Ok(()), |now| store.put_held(&now))).await;
        if let Ok(Err(error)) = noted {
            // It is known until the next start.
            tracing::warn!(%error, "which primary is followed cannot be noted");
        }
    }
}

impl fmt::Debug for FollowTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowTask")
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}
