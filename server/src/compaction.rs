//! A node's one compactor. A primary starts it on the log it has opened; a secondary, as soon as
//! there is a log to follow. Must never run beyond the node's stop.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::error;

use crate::parts::blocking;
use crate::slot::Slot;

/// The compactor, whether it runs yet or not.
pub(crate) struct Compaction {
    /// Bytes per second that may be written; 0: no limit.
    rate: u64,
    running: Arc<Slot<wal::Compactor>>,
    waiting: Slot<Waiting>,
}

/// A task that waits for a log to compact.
struct Waiting {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Compaction {
    /// Not started yet.
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            rate,
            running: Arc::new(Slot::empty()),
            waiting: Slot::empty(),
        }
    }

    /// Starts on `log`.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub(crate) async fn start(&self, log: wal::Log) -> Result<(), wal::WalError> {
        start(log, self.rate, &self.running).await
    }

    /// Starts on the first log that `logs` shows. Needs a tokio runtime.
    pub(crate) fn start_when_there(&self, mut logs: watch::Receiver<Option<wal::Log>>) {
        let (stop, stopped) = oneshot::channel();
        let (rate, running) = (self.rate, Arc::clone(&self.running));
        let task = tokio::spawn(async move {
            let log = tokio::select! {
                log = first(&mut logs) => log,
                _ = stopped => None,
            };
            let Some(log) = log else {
                return;
            };
            if let Err(error) = start(log, rate, &running).await {
                error!(%error, "the log is not compacted; it stays in segments");
            }
        });
        self.waiting.put(Waiting { stop, task });
    }

    /// What it has done; zeros before it has started and after it has stopped.
    pub(crate) fn stats(&self) -> wal::CompactionStats {
        self.running.with(wal::Compactor::stats).unwrap_or_default()
    }

    /// Returns once nothing is compacted any more.
    pub(crate) async fn stop(&self) {
        if let Some(waiting) = self.waiting.take() {
            // A task that has ended already needs no word, and none of its ways to end matters here.
            let _ = waiting.stop.send(());
            let _ = waiting.task.await;
        }
        if let Some(compactor) = self.running.take() {
            blocking(move || compactor.stop()).await;
        }
    }
}

async fn start(
    log: wal::Log,
    rate: u64,
    running: &Slot<wal::Compactor>,
) -> Result<(), wal::WalError> {
    let config = wal::CompactorConfig { rate };
    let compactor = blocking(move || wal::Compactor::start(&log, config)).await?;
    running.put(compactor);
    Ok(())
}

/// The first log there is; `None` when there will be none.
async fn first(logs: &mut watch::Receiver<Option<wal::Log>>) -> Option<wal::Log> {
    let log = logs.wait_for(Option::is_some).await.ok()?;
    log.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_for_a_log_ends_with_the_node() {
        let (logs, receiver) = watch::channel(None);
        let compaction = Compaction::new(0);
        compaction.start_when_there(receiver);
        assert_eq!(compaction.stats().steps, 0);
        compaction.stop().await;
        drop(logs);
    }

    #[tokio::test]
    async fn a_log_that_comes_later_is_compacted_until_the_stop() {
        let dir = tempfile::tempdir().unwrap();
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        let (logs, receiver) = watch::channel(None);
        let compaction = Compaction::new(0);
        compaction.start_when_there(receiver);
        logs.send(Some(committer.log().clone())).unwrap();
        let started = async {
            while compaction.running.with(|_| ()).is_none() {
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(10);
        tokio::time::timeout(limit, started).await.unwrap();
        compaction.stop().await;
        assert!(compaction.running.with(|_| ()).is_none());
        committer.stop().unwrap();
    }
}
