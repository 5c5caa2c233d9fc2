//! What both roles do with their parts: run blocking work, open a log, stop a part within a
//! bound. Must never hide that a part did not stop in time.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::conf;
use crate::http::HttpConfig;
use crate::node::memory::Budget;

/// The runtime of everything that waits. Queries and MQTT workers have their own threads.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("headwater")
        .build()
}

/// Runs work that waits for the disk where it delays nobody.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Says that a log is being opened: with a slow disk it takes a while.
pub(crate) fn opening(data_dir: &Path) -> Instant {
    info!(data_dir = %data_dir.display(), "opening the log");
    Instant::now()
}

/// Logs what opening a log found. Which files are damaged is left to
/// [`DamageWatch`](crate::node::background::DamageWatch), which tells of each once, whenever it is
/// found.
pub(crate) fn report(log: &wal::Log, recovery: &wal::Recovery, begun: Instant) {
    let snapshot = log.snapshot();
    info!(
        took_ms = begun.elapsed().as_millis(),
        files = snapshot.file_infos().len(),
        compacted = %snapshot.compacted(),
        log = %log.id(),
        epoch = %log.epoch(),
        position = %recovery.position,
        segments = recovery.segments,
        damaged = recovery.damaged,
        "the log is open"
    );
    if let Some(torn) = &recovery.torn_tail {
        warn!(
            file = %torn.file,
            offset = torn.offset,
            bytes = torn.bytes,
            reason = %torn.reason,
            "an unfinished write at the end of the log was cut; nothing acknowledged was in it"
        );
    }
}

/// Waits for one part to stop, within a bound; what it says, if it did.
pub(crate) async fn step<T>(part: &str, stop: impl Future<Output = T>) -> Option<T> {
    let begun = Instant::now();
    match tokio::time::timeout(STEP_LIMIT, stop).await {
        Ok(value) => {
            info!(part, took_ms = begun.elapsed().as_millis(), "stopped");
            Some(value)
        }
        Err(_) => {
            let limit_s = STEP_LIMIT.as_secs();
            warn!(part, limit_s, "did not stop in time; going on");
            None
        }
    }
}

/// Where secondaries connect, and what they may take; `members` are those seen before.
pub(crate) fn listen_config(
    serving: &conf::Serving,
    own: replica::Hop,
    members: Vec<replica::Member>,
) -> replica::ListenConfig {
    replica::ListenConfig {
        max_rate: serving.max_rate,
        max_rate_per_secondary: serving.max_rate_per_secondary,
        compression: serving.compression,
        members,
        ..replica::ListenConfig::new(serving.listen, own)
    }
}

pub(crate) fn http_config(http: &conf::Http, budget: &Budget) -> HttpConfig {
    HttpConfig {
        listen: http.listen,
        write_memory: budget.writes,
        query: query::Config {
            memory_limit: budget.queries,
            query_timeout: http.query_timeout,
            max_concurrent_queries: http.max_concurrent_queries,
            max_queued_queries: http.max_queued_queries,
            query_queue_timeout: http.query_queue_timeout,
            reader_timeout: http.reader_timeout,
            threads: cores(),
        },
    }
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

const STEP_LIMIT: Duration = Duration::from_secs(10);
