//! Fills a staged log with Parquet files from connected peers, beside the block stream. It owns
//! what is asked of whom and when again, and must never judge a byte, touch the log or give up by
//! itself: `wal` checks what comes and says what is missing.

mod schedule;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wal::{
    BootstrapProgress, CHUNK_LEN, Due, Held, LogId, Lsn, Missing, Position, Quiet, Share, Staging,
    WalError,
};

use crate::files::fetch::{self, FetchError, Sink};
use crate::files::peers::Peers;
use crate::files::sink;
use crate::follow::fill::schedule::{Failure, Renewal, Schedule, Step};
use crate::follow::state::FollowState;
use crate::quic::Link;

/// Why the files will not become whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    #[error("the log that is brought in cannot be written: {0}")]
    Disk(#[from] WalError),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("this node stops")]
    Stopping,
}

/// What this needs of a staged log. A trait so that tests need no disk. All of it may block.
pub(crate) trait Stage: Send + 'static {
    fn log(&self) -> LogId;
    /// What is missing, in the order in which it is to be asked for.
    fn wanted(&self) -> Vec<Missing>;
    fn progress(&self) -> BootstrapProgress;
    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), WalError>;
    fn refresh(&mut self, manifest: &[u8], tip: Position) -> Result<(), WalError>;
}

impl Stage for Staging {
    fn log(&self) -> LogId {
        self.log()
    }

    fn wanted(&self) -> Vec<Missing> {
        self.wanted()
    }

    fn progress(&self) -> BootstrapProgress {
        self.progress()
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), WalError> {
        self.write(name, at, bytes)
    }

    fn refresh(&mut self, manifest: &[u8], tip: Position) -> Result<(), WalError> {
        self.refresh(manifest, tip)
    }
}

/// Brings in every file that `staging` misses; returns once none is missing. `tip` is the durable
/// end of the staged log while it is followed: when a peer has merged a file away, the next
/// manifest is taken as soon as that log has come to where it begins. Once this has returned,
/// nothing of it holds `staging` any more.
pub(crate) async fn fill<S: Stage>(
    staging: Arc<tokio::sync::Mutex<S>>,
    peers: Peers,
    tip: watch::Receiver<Position>,
    state: Arc<FollowState>,
    shutdown: CancellationToken,
) -> Result<(), FillError> {
    let held = staging.lock().await;
    let log = held.log();
    state.bootstrapping(Some(held.progress()));
    drop(held);
    let fill = Fill {
        staging,
        peers,
        log,
        state,
        writing: TaskTracker::new(),
        schedule: Mutex::new(Schedule::new()),
        quiet: Mutex::default(),
        moved: watch::Sender::new(()),
        asked: AtomicUsize::new(0),
    };
    let both = async { tokio::try_join!(fill.work(tip.clone()), fill.work(tip.clone())) };
    let done = tokio::select! {
        done = both => done.map(|_| ()),
        () = shutdown.cancelled() => Err(FillError::Stopping),
    };
    fill.writing.close();
    fill.writing.wait().await;
    done
}

/// What the two workers share.
struct Fill<S> {
    staging: Arc<tokio::sync::Mutex<S>>,
    peers: Peers,
    log: LogId,
    state: Arc<FollowState>,
    /// What is being written: it goes on when nobody waits for it any more.
    writing: TaskTracker,
    schedule: Mutex<Schedule>,
    quiet: Mutex<Quiet<Failure>>,
    /// Told when there may be something else to do.
    moved: watch::Sender<()>,
    /// Counts who was asked, so that both workers and the next attempt ask others.
    asked: AtomicUsize,
}

impl<S: Stage> Fill<S> {
    /// Takes one step after the other until nothing is missing.
    async fn work(&self, tip: watch::Receiver<Position>) -> Result<(), FillError> {
        let mut moved = self.moved.subscribe();
        loop {
            moved.borrow_and_update();
            let wanted = self.staging.lock().await.wanted();
            let at = *tip.borrow();
            let step = self.schedule().next(&wanted, at.lsn, Instant::now());
            match step {
                Step::Done => return Ok(()),
                Step::Fetch(missing) => self.fetch(missing).await?,
                Step::Manifest => self.manifest().await,
                Step::Refresh(manifest) => self.refresh(manifest, at).await?,
                Step::Wait { due, from } => {
                    tokio::select! {
                        _ = moved.changed() => {}
                        () = until(due) => {}
                        () = reached(tip.clone(), from) => {}
                    }
                    continue;
                }
            }
            self.moved.send_replace(());
        }
    }

    /// Asks one peer after the other for what is missing of a file.
    async fn fetch(&self, missing: Missing) -> Result<(), FillError> {
        let (mut failure, mut said) = (Failure::Lost, None);
        for link in self.some_peers().await {
            let mut sink = ChunkSink::new(self, &missing, link.memory());
            let asked = fetch::ask_from(&link, self.log, &missing.name, missing.held, &mut sink);
            let Err(error) = asked.await else {
                self.schedule().came(&missing.name);
                return Ok(());
            };
            if sink.at > missing.held {
                tracing::debug!(file = %missing.name, peer = link.peer(), %error, at = sink.at,
                    "a file broke off");
                self.schedule().came(&missing.name);
                return Ok(());
            }
            let (how, line) = self.judge(error, &link)?;
            failure = failure.max(how);
            said = Some(line);
        }
        let now = Instant::now();
        let pause = self.schedule().failed(&missing.name, failure, now);
        if let Some(reason) = said {
            self.say(&missing.name, failure, &reason, pause);
        }
        Ok(())
    }

    /// What an error means for a file; an error when none of them can be written.
    fn judge(&self, error: FetchError, link: &Link) -> Result<(Failure, String), FillError> {
        let line = format!("{}: {error}", link.peer());
        match error {
            FetchError::NotTaken(error) if error.may_pass() => {
                Ok((Failure::Unhelped, error.to_string()))
            }
            FetchError::NotTaken(error @ (WalError::Io { .. } | WalError::Poisoned(_))) => {
                Err(error.into())
            }
            FetchError::Task(error) => Err(error.into()),
            FetchError::NotSent(_) => Ok((Failure::Gone, line)),
            FetchError::Link(_) => Ok((Failure::Lost, line)),
            _ => Ok((Failure::Unhelped, line)),
        }
    }

    /// Asks for the manifest in force.
    async fn manifest(&self) {
        let mut said = None;
        for link in self.some_peers().await {
            match fetch::ask_manifest(&link, self.log).await {
                Ok(manifest) => {
                    self.schedule().renewal = Renewal::Here(manifest, Lsn(0));
                    return;
                }
                Err(error) => said = Some(format!("{}: {error}", link.peer())),
            }
        }
        let pause = self.schedule().ask_later(Instant::now());
        if let Some(reason) = said {
            self.say(fetch::MANIFEST, Failure::Unhelped, &reason, pause);
        }
    }

    /// Goes on with this manifest, if the staged log has come to where it begins.
    async fn refresh(&self, manifest: Bytes, tip: Position) -> Result<(), FillError> {
        let mut staging = Arc::clone(&self.staging).lock_owned().await;
        let bytes = manifest.clone();
        let refreshed = self.writing.spawn_blocking(move || {
            let refreshed = staging.refresh(&bytes, tip);
            (refreshed, staging.progress())
        });
        let (refreshed, progress) = refreshed.await?;
        let now = Instant::now();
        match refreshed {
            Ok(()) => {
                self.state.bootstrapping(Some(progress));
                self.schedule().renewed(now);
                tracing::debug!(
                    files = progress.files,
                    held = progress.files_held,
                    "bootstrapping goes on with a newer manifest"
                );
            }
            Err(WalError::NotHeld(from)) if from.lsn > tip.lsn => {
                self.schedule().renewal = Renewal::Here(manifest, from.lsn);
            }
            Err(error @ WalError::Io { .. }) if !error.may_pass() => return Err(error.into()),
            Err(error) => {
                let pause = self.schedule().ask_later(now);
                self.say(fetch::MANIFEST, Failure::Gone, &error.to_string(), pause);
            }
        }
        Ok(())
    }

    /// Whom to ask, once there is someone: each time beginning with another.
    async fn some_peers(&self) -> Vec<Link> {
        self.peers.some().await;
        let mut links = self.peers.all();
        if !links.is_empty() {
            let first = self.asked.fetch_add(1, Ordering::Relaxed) % links.len();
            links.rotate_left(first);
            links.truncate(ASKED);
        }
        links
    }

    fn say(&self, file: &str, kind: Failure, reason: &str, pause: Duration) {
        self.state
            .waits_for(&format!("it waits for {file}: {reason}"));
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if quiet.note(kind, std::time::Instant::now()) != Due::Not {
            tracing::warn!(%file, %reason, ?pause, "bootstrapping waits for a file");
        } else {
            tracing::debug!(%file, %reason, ?pause, "bootstrapping still waits for a file");
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // Every section leaves the schedule consistent.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a moment; for ever without one.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Waits until the staged log has come to this place; for ever without one.
async fn reached(mut tip: watch::Receiver<Position>, place: Option<Lsn>) {
    let there = match place {
        Some(place) => tip.wait_for(|tip| tip.lsn >= place).await.is_ok(),
        None => false,
    };
    if !there {
        // A log that is closed comes no further.
        std::future::pending().await
    }
}

/// Puts what comes of a file into the staged log, chunk by chunk; keeps less than one and what came
/// last.
struct ChunkSink<'a, S> {
    fill: &'a Fill<S>,
    name: Arc<str>,
    /// Where the next chunk goes.
    at: u64,
    end: u64,
    buffer: BytesMut,
    memory: Share,
    /// Of the buffer.
    held: Option<Held>,
}

impl<'a, S: Stage> ChunkSink<'a, S> {
    fn new(fill: &'a Fill<S>, missing: &Missing, memory: &Share) -> Self {
        Self {
            fill,
            name: missing.name.as_str().into(),
            at: missing.held,
            end: missing.bytes,
            buffer: BytesMut::new(),
            memory: memory.clone(),
            held: None,
        }
    }

    async fn write(&mut self, length: usize) -> Result<(), FetchError> {
        let chunk = self.buffer.split_to(length).freeze();
        let (name, at) = (Arc::clone(&self.name), self.at);
        let mut staging = Arc::clone(&self.fill.staging).lock_owned().await;
        let written = self.fill.writing.spawn_blocking(move || {
            staging.write(&name, at, &chunk)?;
            Ok::<_, WalError>(staging.progress())
        });
        self.fill.state.bootstrapping(Some(written.await??));
        self.at += as_u64(length);
        Ok(())
    }
}

impl<S: Stage> Sink for ChunkSink<'_, S> {
    fn announced(&mut self, bytes: u64) -> Result<(), FetchError> {
        if self.at.checked_add(bytes) == Some(self.end) {
            Ok(())
        } else {
            Err(FetchError::Protocol("the file has another length"))
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), FetchError> {
        if self.held.is_none() {
            self.held = Some(sink::room_for(&self.memory, CHUNK_LEN).await?);
        }
        if self.buffer.capacity() - self.buffer.len() < bytes.len() {
            let most = CHUNK_LEN.saturating_sub(self.buffer.len());
            self.buffer.reserve(most.max(bytes.len()));
        }
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() >= CHUNK_LEN {
            self.write(CHUNK_LEN).await?;
        }
        let rest = self.buffer.len();
        if rest > 0 && self.at.saturating_add(as_u64(rest)) >= self.end {
            self.write(rest).await?;
        }
        Ok(())
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Peers asked in one attempt.
const ASKED: usize = 8;

#[cfg(test)]
mod tests;
