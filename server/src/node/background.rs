//! A node's background work on its log: the one compactor, the one scrubber, the one who says what
//! is damaged and when there is no room. A primary starts them on the log it has opened; a
//! secondary, on whatever log it follows: when that is exchanged, they end on the old one before
//! they start on the new one. Must never run beyond the node's stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use wal::Tasks;

use crate::node::kept::Restarted;
use crate::node::parts::blocking;
use crate::node::slot::Slot;
use crate::node::tellers::{tell, tell_room, tell_stalls};

/// Work in the background on one log.
pub(crate) trait Background: Sized + Send + 'static {
    type Stats: Default;
    /// Of the task that keeps it on the log in force.
    const KEEPER: &'static str;
    /// What is so when it cannot start.
    const UNDONE: &'static str;

    /// Starts at `rate` bytes per second, as one of `tasks`.
    fn start(log: &wal::Log, rate: u64, tasks: &Tasks) -> Result<Self, wal::WalError>;
    fn stats(&self) -> Self::Stats;
    /// Blocks until nothing is done any more.
    fn stop(self);
}

impl Background for wal::Compactor {
    type Stats = wal::CompactionStats;
    const KEEPER: &'static str = "compaction-keeper";
    const UNDONE: &'static str = "the log is not compacted; it stays in segments";

    fn start(log: &wal::Log, rate: u64, tasks: &Tasks) -> Result<Self, wal::WalError> {
        let tasks = tasks.clone();
        Self::start(log, wal::CompactorConfig { rate, tasks })
    }

    fn stats(&self) -> Self::Stats {
        self.stats()
    }

    fn stop(self) {
        self.stop();
    }
}

impl Background for wal::Scrubber {
    type Stats = wal::ScrubStats;
    const KEEPER: &'static str = "scrub-keeper";
    const UNDONE: &'static str = "what is stored is not looked through for damage";

    fn start(log: &wal::Log, rate: u64, tasks: &Tasks) -> Result<Self, wal::WalError> {
        let tasks = tasks.clone();
        Self::start(log, wal::ScrubConfig { rate, tasks })
    }

    fn stats(&self) -> Self::Stats {
        self.stats()
    }

    fn stop(self) {
        self.stop();
    }
}

/// Tasks that log every file that is found damaged, and when the log takes nothing for want of
/// room.
pub(crate) struct DamageTeller {
    _tasks: [Restarted; 3],
}

impl Background for DamageTeller {
    type Stats = ();
    const KEEPER: &'static str = "damage-keeper";
    const UNDONE: &'static str = "what is found damaged and a full disk are not logged";

    fn start(log: &wal::Log, _rate: u64, tasks: &Tasks) -> Result<Self, wal::WalError> {
        let (damage, stalled) = (log.damage(), log.stalled());
        let waiting = log.waiting_for_room();
        let tasks = [
            Restarted::start(tasks, "damage-teller", move || tell(damage.clone())),
            Restarted::start(tasks, "stall-teller", move || tell_stalls(stalled.clone())),
            Restarted::start(tasks, "room-teller", move || tell_room(waiting.clone())),
        ];
        Ok(Self { _tasks: tasks })
    }

    fn stats(&self) -> Self::Stats {}

    fn stop(self) {}
}

/// Says in the log what is damaged: what opening it found, and what is found later.
pub(crate) type DamageWatch = OnLog<DamageTeller>;

/// Turns segments into Parquet files.
pub(crate) type Compaction = OnLog<wal::Compactor>;

/// Reads all that is stored, slowly, to find damage before a query does.
pub(crate) type Scrub = OnLog<wal::Scrubber>;

/// Work in the background, whether it runs yet or not.
pub(crate) struct OnLog<W> {
    /// Bytes per second.
    rate: u64,
    tasks: Tasks,
    running: Arc<Slot<W>>,
    following: Slot<Following>,
}

/// A task that keeps the work on the log in force.
struct Following {
    stop: CancellationToken,
    task: Restarted,
}

impl<W: Background> OnLog<W> {
    /// Not started yet.
    pub(crate) fn new(rate: u64, tasks: &Tasks) -> Self {
        Self {
            rate,
            tasks: tasks.clone(),
            running: Arc::new(Slot::empty()),
            following: Slot::empty(),
        }
    }

    /// Starts on `log`.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub(crate) async fn start(&self, log: wal::Log) -> Result<(), wal::WalError> {
        start(log, self.rate, &self.tasks, &self.running).await
    }

    /// Runs on the log that `logs` shows, as long as it shows one. Needs a tokio runtime.
    pub(crate) fn follow(&self, logs: watch::Receiver<Option<wal::Log>>) {
        let stop = CancellationToken::new();
        let (rate, running) = (self.rate, Arc::clone(&self.running));
        let (tasks, stopped) = (self.tasks.clone(), stop.clone());
        let task = Restarted::start(&self.tasks, W::KEEPER, move || {
            let running = Arc::clone(&running);
            keep(logs.clone(), stopped.clone(), rate, tasks.clone(), running)
        });
        self.following.put(Following { stop, task });
    }

    /// What it has done on the log in force; zeros while it does not run.
    pub(crate) fn stats(&self) -> W::Stats {
        self.running.with(W::stats).unwrap_or_default()
    }

    /// Returns once nothing is done any more.
    pub(crate) async fn stop(&self) {
        if let Some(following) = self.following.take() {
            following.stop.cancel();
            following.task.ended().await;
        }
        end(&self.running).await;
    }
}

async fn keep<W: Background>(
    mut logs: watch::Receiver<Option<wal::Log>>,
    stopped: CancellationToken,
    rate: u64,
    tasks: Tasks,
    running: Arc<Slot<W>>,
) {
    let mut failed: Option<Duration> = None;
    loop {
        // Every change is another log, even under the same id: a copy that was brought in anew.
        let log = logs.borrow_and_update().clone();
        end(&running).await;
        let started = match log {
            Some(log) => start(log, rate, &tasks, &running).await,
            None => Ok(()),
        };
        // What is lacking for a thread comes back.
        let retry = match started {
            Ok(()) => {
                if failed.take().is_some() {
                    info!(work = W::KEEPER, "it could not be started and now it is");
                }
                Duration::MAX
            }
            Err(error) => {
                if failed.is_none() {
                    error!(%error, "{}; it is tried again", W::UNDONE);
                }
                let retry = failed.map_or(FIRST_RETRY, |last| LAST_RETRY.min(last * 2));
                *failed.insert(retry)
            }
        };
        let changed = tokio::select! {
            changed = timeout(retry, logs.changed()) => !matches!(changed, Ok(Err(_))),
            () = stopped.cancelled() => false,
        };
        if !changed {
            return;
        }
    }
}

async fn start<W: Background>(
    log: wal::Log,
    rate: u64,
    tasks: &Tasks,
    running: &Slot<W>,
) -> Result<(), wal::WalError> {
    let tasks = tasks.clone();
    let work = blocking(move || W::start(&log, rate, &tasks)).await?;
    running.put(work);
    Ok(())
}

async fn end<W: Background>(running: &Slot<W>) {
    if let Some(work) = running.take() {
        blocking(move || work.stop()).await;
    }
}

/// How long it takes until what could not be started is tried again, at first and at last.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Starts and ends of all probes, which run one test at a time.
    static STARTS: AtomicU64 = AtomicU64::new(0);
    static ENDS: AtomicU64 = AtomicU64::new(0);

    struct Probe(wal::LogId);

    impl Background for Probe {
        type Stats = Option<wal::LogId>;
        const KEEPER: &'static str = "probe";
        const UNDONE: &'static str = "";

        fn start(log: &wal::Log, _rate: u64, _tasks: &Tasks) -> Result<Self, wal::WalError> {
            // Never two at a time.
            assert_eq!(
                STARTS.fetch_add(1, Ordering::SeqCst),
                ENDS.load(Ordering::SeqCst)
            );
            Ok(Self(log.id()))
        }

        fn stats(&self) -> Self::Stats {
            Some(self.0)
        }

        fn stop(self) {
            ENDS.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// There is no thread for it, twice.
    struct Flaky;

    static REFUSED: AtomicU64 = AtomicU64::new(0);

    impl Background for Flaky {
        type Stats = bool;
        const KEEPER: &'static str = "flaky";
        const UNDONE: &'static str = "";

        fn start(_log: &wal::Log, _rate: u64, _tasks: &Tasks) -> Result<Self, wal::WalError> {
            if REFUSED.fetch_add(1, Ordering::SeqCst) < 2 {
                return Err(wal::WalError::Closed);
            }
            Ok(Self)
        }

        fn stats(&self) -> bool {
            true
        }

        fn stop(self) {}
    }

    #[tokio::test]
    async fn what_could_not_be_started_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let committer = open(&dir);
        let (logs, receiver) = watch::channel(Some(committer.log().clone()));
        let work: OnLog<Flaky> = OnLog::new(0, &Tasks::default());
        work.follow(receiver);
        until(&work, |runs| *runs).await;
        assert_eq!(REFUSED.load(Ordering::SeqCst), 3);
        work.stop().await;
        drop(logs);
        committer.stop().unwrap();
    }

    fn open(dir: &tempfile::TempDir) -> wal::Committer {
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        committer
    }

    /// Waits until the work says `wanted`.
    async fn until<W: Background>(work: &OnLog<W>, wanted: impl Fn(&W::Stats) -> bool) {
        let said = async {
            while !wanted(&work.stats()) {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, said).await.unwrap();
    }

    #[tokio::test]
    async fn waiting_for_a_log_ends_with_the_node() {
        let (logs, receiver) = watch::channel(None);
        let compaction = Compaction::new(0, &Tasks::default());
        compaction.follow(receiver);
        assert_eq!(compaction.stats().steps, 0);
        compaction.stop().await;
        drop(logs);
    }

    #[tokio::test]
    async fn a_log_that_comes_later_is_compacted_until_the_stop() {
        let dir = tempfile::tempdir().unwrap();
        let committer = open(&dir);
        let (logs, receiver) = watch::channel(None);
        let compaction = Compaction::new(0, &Tasks::default());
        compaction.follow(receiver);
        logs.send(Some(committer.log().clone())).unwrap();
        let started = async {
            while compaction.running.with(|_| ()).is_none() {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, started).await.unwrap();
        compaction.stop().await;
        assert!(compaction.running.with(|_| ()).is_none());
        committer.stop().unwrap();
    }

    #[tokio::test]
    async fn the_old_log_is_left_before_the_new_one_is_begun() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let committers = dirs.each_ref().map(open);
        let [first, second] = committers.each_ref().map(|one| one.log().clone());
        let (logs, receiver) = watch::channel(Some(first.clone()));
        let work: OnLog<Probe> = OnLog::new(0, &Tasks::default());
        work.follow(receiver);
        until(&work, |id| *id == Some(first.id())).await;
        logs.send(Some(second.clone())).unwrap();
        until(&work, |id| *id == Some(second.id())).await;
        // Another copy of the same log is another log.
        logs.send(Some(second.clone())).unwrap();
        until(&work, |_| STARTS.load(Ordering::SeqCst) == 3).await;
        logs.send(None).unwrap();
        until(&work, Option::is_none).await;
        work.stop().await;
        assert_eq!(ENDS.load(Ordering::SeqCst), 3);
        for committer in committers {
            committer.stop().unwrap();
        }
    }
}
