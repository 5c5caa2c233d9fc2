//! The logs that a secondary holds and what is done to them so that they can follow again: opening,
//! bringing one in beside the one in force, exchanging the two, cutting one where it has diverged.
//! It owns the writers and must never decide anything about a connection; nothing is removed here
//! before it is elsewhere, or aside.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use wal::{Diverged, Epoch, Follower, Log, LogId, Lsn, OldLog, Position, Staging, Tasks, WalError};

use crate::files::peers::Peers;
use crate::files::repair;
use crate::follow::bootstrap::{Bootstrap, Completion};
use crate::follow::error::FollowError;
use crate::follow::reconcile::{self, Before, Decision, Fate, LANDMARKS, Meeting};
use crate::follow::state::FollowState;
use crate::follow::store::Store;

/// What a secondary holds.
pub(crate) struct LocalLogs {
    store: Store,
    state: Arc<FollowState>,
    peers: Peers,
    /// The log in force.
    follower: Option<Follower>,
    bootstrapping: Option<Bootstrap>,
    /// The log in force has diverged too far back to be cut: another is brought in.
    must_replace: bool,
    repairing: Option<Repairing>,
    tasks: Tasks,
}

/// The task that repairs files of the log in force.
struct Repairing {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl LocalLogs {
    pub(crate) fn new(
        store: Store,
        existing: Option<Follower>,
        state: Arc<FollowState>,
        peers: Peers,
        tasks: Tasks,
    ) -> Self {
        Self {
            store,
            state,
            peers,
            follower: existing,
            bootstrapping: None,
            must_replace: false,
            repairing: None,
            tasks,
        }
    }

    /// The log in force.
    pub(crate) fn log(&self) -> Option<Log> {
        self.follower
            .as_ref()
            .map(|follower| follower.log().clone())
    }

    /// End of what is followed.
    pub(crate) fn tip(&self) -> Option<Position> {
        let bootstrapping = self
            .bootstrapping
            .as_ref()
            .map(|bootstrapping| &bootstrapping.follower);
        bootstrapping.or(self.follower.as_ref()).map(Follower::tip)
    }

    /// Takes up what an earlier run has left.
    pub(crate) async fn resume(&mut self) {
        self.repair();
        self.list_diverged().await;
        self.resume_staged().await;
    }

    async fn resume_staged(&mut self) {
        let store = self.store.clone();
        let resumed = match blocking(move || store.staging()).await {
            Ok(None) => Ok(()),
            Ok(Some(staging)) => self.stage(staging).await,
            Err(error) => Err(error),
        };
        if let Err(reason) = resumed {
            // Nothing was promised of it yet: the next snapshot begins anew.
            tracing::warn!(%reason, "what an earlier run had begun to bring in is of no use");
        }
    }

    /// What to introduce this node with; whether that is a log on its way in.
    pub(crate) fn hello(&self) -> (Option<&Follower>, bool) {
        let bootstrapping = self
            .bootstrapping
            .as_ref()
            .map(|bootstrapping| &bootstrapping.follower);
        reconcile::introduced(bootstrapping, self.follower.as_ref(), self.must_replace)
    }

    /// Opens again what was closed for something that found no room, and begins again to fill what
    /// is being brought in.
    pub(crate) async fn recover(&mut self) -> Result<(), FollowError> {
        self.give_up().await?;
        if self.follower.is_none() {
            let store = self.store.clone();
            if let Some(follower) = blocking(move || store.open_existing()).await? {
                self.put_in_force(follower);
            }
        }
        if self.bootstrapping.is_none() {
            self.resume_staged().await;
        }
        Ok(())
    }

    /// Another log than the one held is never followed by itself.
    pub(crate) fn accepts(&self, log: LogId) -> Result<(), FollowError> {
        match &self.follower {
            Some(held) if held.log().id() != log => {
                let reason = format!("it ships log {log}, this node holds {}", held.log().id());
                Err(FollowError::Protocol(reason))
            }
            _ => Ok(()),
        }
    }

    /// Sees to it that there is a log for blocks from the agreed position on; false when that took
    /// one that has to be introduced first.
    pub(crate) async fn ready(&mut self, log: LogId, epoch: Epoch) -> Result<bool, FollowError> {
        let store = self.store.clone();
        let (is_bootstrapping, has_log) = (self.bootstrapping.is_some(), self.follower.is_some());
        match reconcile::before_blocks(is_bootstrapping, self.must_replace, has_log) {
            Before::Nothing => {}
            Before::Open => {
                let follower = blocking(move || store.open(log, epoch)).await?;
                self.put_in_force(follower);
            }
            Before::Begin => {
                let staging = blocking(move || store.begin_empty(log, epoch)).await?;
                self.stage(staging).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The writer of what is followed, and when a log on its way in is whole.
    pub(crate) fn writer(&mut self) -> Option<(&mut Follower, Option<Completion>)> {
        match &mut self.bootstrapping {
            Some(bootstrapping) => {
                let completion = bootstrapping.completion();
                Some((&mut bootstrapping.follower, Some(completion)))
            }
            None => self.follower.as_mut().map(|follower| (follower, None)),
        }
    }

    /// Begins to bring in this log, as the manifest has it, beside the one in force.
    /// `starts` is what the upstream remembers of its retired segments, for the log that goes.
    pub(crate) async fn begin(
        &mut self,
        log: LogId,
        manifest: Bytes,
        starts: Bytes,
    ) -> Result<(), FollowError> {
        self.give_up().await?;
        let store = self.store.clone();
        let begin = move || {
            let mut staging = store.begin(&manifest, log)?;
            staging.take_segment_starts(&starts)?;
            Ok(staging)
        };
        let begun = spawn_blocking(begin).await;
        let begun = begun.map_err(|error| FollowError::LocalLog(error.to_string()))?;
        let staging = begun.map_err(|error| match error {
            // Bytes that are no manifest of this log are the upstream's fault.
            WalError::Corrupt { .. } | WalError::NewerFormat { .. } | WalError::WrongLog { .. } => {
                FollowError::Protocol(error.to_string())
            }
            error => local(error),
        })?;
        self.stage(staging).await
    }

    async fn stage(&mut self, staging: Staging) -> Result<(), FollowError> {
        let (store, peers, state) = (&self.store, &self.peers, &self.state);
        let bootstrapping = Bootstrap::start(staging, store, peers, state, &self.tasks).await;
        self.bootstrapping = Some(bootstrapping.map_err(local)?);
        Ok(())
    }

    /// Ends an attempt to bring a log in; what was brought stays on the disk.
    async fn give_up(&mut self) -> Result<(), FollowError> {
        if let Some(bootstrapping) = self.bootstrapping.take() {
            self.state.staged(None);
            bootstrapping.close().await.map_err(local)?;
        }
        Ok(())
    }

    /// The log to compare with the upstream's.
    pub(crate) fn compared(&self) -> Option<Log> {
        let bootstrapping = self
            .bootstrapping
            .as_ref()
            .map(|bootstrapping| &bootstrapping.follower);
        let compared = bootstrapping.or(self.follower.as_ref());
        compared.map(|follower| follower.log().clone())
    }

    /// The logs do not meet where this node's ends. `must_stay` is why the one in force is not left
    /// for this upstream's.
    pub(crate) async fn reconcile(
        &mut self,
        meeting: &Meeting,
        must_stay: Option<FollowError>,
    ) -> Result<(), FollowError> {
        let oldest = self.compared().map_or(Lsn(0), |log| log.oldest().lsn);
        match reconcile::decide(meeting, self.bootstrapping.is_some(), oldest) {
            Decision::Wait(reason) => return Err(FollowError::Behind(reason.to_owned())),
            Decision::GiveUp => {
                tracing::warn!("a log that was being brought in has diverged: beginning anew");
                self.give_up().await?;
                self.state.bootstrapping(None);
                return Ok(());
            }
            Decision::SaveDiverged => {}
        }
        if let Some(reason) = must_stay {
            return Err(reason);
        }
        let Some(follower) = self.follower.take() else {
            return Ok(());
        };
        self.state.diverged();
        let (log, tip) = (follower.log().clone(), follower.tip());
        self.close_in_force(follower).await?;
        let Some(at) = reconcile::truncate_at(meeting.common, log.snapshot().compacted().lsn)
        else {
            tracing::warn!(%tip, common = ?meeting.common,
                "the local log left the primary's before what is compacted here: the whole log will be brought in anew and this one put aside");
            self.must_replace = true;
            return self.reopen(log.id(), log.epoch()).await;
        };
        let (store, id) = (self.store.clone(), log.id());
        let diverged = blocking(move || store.save_diverged(id, at)).await?;
        report(
            &diverged,
            "the end of the local log was not the primary's: it was put aside",
        );
        self.list_diverged().await;
        self.reopen(id, log.epoch()).await
    }

    /// Puts the log that was brought in into the place of the one in force.
    pub(crate) async fn swap(&mut self) -> Result<(), FollowError> {
        let Some(bootstrapping) = self.bootstrapping.take() else {
            return Ok(());
        };
        let new = bootstrapping.follower.log().clone();
        self.state.staged(None);
        let staging = bootstrapping.close().await.map_err(local)?;
        let readers = self.log();
        let old = match self.follower.take() {
            Some(follower) => self.retire(follower, &new).await?,
            // No writer is no proof that nothing is there; where nothing is, nothing is kept.
            None => OldLog::Keep,
        };
        let store = self.store.clone();
        let swap = move || store.swap_in(staging, old, readers.as_ref());
        let kept = blocking(swap).await?;
        self.must_replace = false;
        self.reopen(new.id(), new.epoch()).await?;
        self.state.bootstrapped();
        tracing::info!(position = %new.end(), kept = ?kept, "a snapshot is in force");
        self.list_diverged().await;
        Ok(())
    }

    /// Closes the log that is to be replaced. What cannot be proven to be in the new one is put
    /// aside.
    async fn retire(&mut self, follower: Follower, new: &Log) -> Result<OldLog, FollowError> {
        let (log, tip) = (follower.log().clone(), follower.tip());
        self.close_in_force(follower).await?;
        let (landmarks, compacted) = (log.landmarks(LANDMARKS), log.snapshot().compacted().lsn);
        match reconcile::fate(&landmarks, |lsn| new.chain_at(lsn), compacted, tip) {
            Fate::Remove => Ok(OldLog::Remove),
            Fate::Save(at) => {
                let (store, id) = (self.store.clone(), log.id());
                let Ok(diverged) = blocking(move || store.save_diverged(id, at)).await else {
                    // What cannot be read cannot be cut: the whole of it is kept.
                    return Ok(OldLog::Keep);
                };
                report(
                    &diverged,
                    "nothing proves that the end of the replaced log is in the new one: it was put aside",
                );
                Ok(OldLog::Remove)
            }
            Fate::Keep(proven) => {
                tracing::warn!(%tip, ?proven,
                    "nothing proves that the replaced log is a beginning of the new one: it is put aside whole");
                Ok(OldLog::Keep)
            }
        }
    }

    /// Ends everything that writes into the log in force.
    async fn close_in_force(&mut self, follower: Follower) -> Result<(), FollowError> {
        let log = follower.log().clone();
        if let Some(repairing) = self.repairing.take() {
            repairing.stop().await;
        }
        follower.stop().await.map_err(local)?;
        spawn_blocking(move || log.dismiss())
            .await
            .map_err(|error| FollowError::LocalLog(error.to_string()))
    }

    async fn reopen(&mut self, log: LogId, epoch: Epoch) -> Result<(), FollowError> {
        let store = self.store.clone();
        let follower = blocking(move || store.open(log, epoch)).await?;
        self.put_in_force(follower);
        Ok(())
    }

    fn put_in_force(&mut self, follower: Follower) {
        self.state.set_log(follower.log().clone());
        self.follower = Some(follower);
        self.repair();
    }

    fn repair(&mut self) {
        if let Some(log) = self.log() {
            let cancel = CancellationToken::new();
            let (tasks, peers, stop) = (self.tasks.clone(), self.peers.clone(), cancel.clone());
            let make = move || repair::run(log.clone(), peers.clone(), stop.clone());
            let task = tokio::spawn(async move { tasks.keep("repair", make, sleep).await });
            self.repairing = Some(Repairing { cancel, task });
        }
    }

    async fn list_diverged(&self) {
        let store = self.store.clone();
        match blocking(move || store.list_diverged()).await {
            Ok(diverged) => self.state.list_diverged(diverged),
            Err(reason) => tracing::warn!(%reason, "what was put aside cannot be listed"),
        }
    }

    /// Closes every log with what was accepted on disk; why the one in force was not.
    pub(crate) async fn close(mut self) -> Option<String> {
        if let Some(repairing) = self.repairing.take() {
            repairing.stop().await;
        }
        if let Err(error) = self.give_up().await {
            tracing::error!(%error, "the log being brought in was not closed in order");
        }
        let error = self.follower.take()?.stop().await.err()?;
        tracing::error!(%error, "the local log was not closed in order");
        Some(error.to_string())
    }
}

impl Repairing {
    async fn stop(self) {
        self.cancel.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the repair task failed");
        }
    }
}

fn report(diverged: &Diverged, what: &str) {
    let Diverged {
        path,
        from,
        to,
        rows,
        bytes,
    } = diverged;
    let path: &PathBuf = path;
    tracing::warn!(path = %path.display(), %from, %to, rows, bytes,
        "{what}. No query sees it. Once its rows are of no more use, delete that directory: what is \
         there is counted until then");
}

/// Runs work that waits for the disk where it delays nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WalError> + Send + 'static,
) -> Result<T, FollowError> {
    match spawn_blocking(work).await {
        // What is local is never the peer's fault.
        Ok(done) => done.map_err(local),
        Err(error) => Err(FollowError::LocalLog(error.to_string())),
    }
}

/// What has run out may come back; anything else is the end of the local log.
fn local(error: WalError) -> FollowError {
    if error.may_pass() {
        FollowError::NoRoom(error)
    } else {
        FollowError::LocalLog(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use wal::Operation;

    use super::*;
    use crate::status::FollowPhase;

    fn failed(operation: Operation, code: i32) -> FollowPhase {
        let error = WalError::Io {
            operation,
            path: PathBuf::from("a"),
            source: io::Error::from_raw_os_error(code),
        };
        local(error).phase()
    }

    #[test]
    fn what_the_system_lacks_for_a_moment_does_not_end_following() {
        // ENOMEM, ENFILE, EMFILE, ENOSPC, EDQUOT.
        for code in [12, 23, 24, 28, 122] {
            for operation in [
                Operation::Open,
                Operation::Create,
                Operation::Read,
                Operation::Write,
            ] {
                assert_eq!(failed(operation, code), FollowPhase::Connecting, "{code}");
            }
            // Nobody knows what is on the disk then.
            assert_eq!(
                failed(Operation::Fsync, code),
                FollowPhase::Failed,
                "{code}"
            );
        }
        // EIO, EROFS.
        for code in [5, 30] {
            assert_eq!(
                failed(Operation::Write, code),
                FollowPhase::Failed,
                "{code}"
            );
        }
    }
}
