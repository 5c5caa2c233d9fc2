//! What both roles do with their parts: run blocking work, open a log, stop a part within a
//! bound. Must never hide that a part did not stop in time.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::conf;
use crate::http::{Hidden, HttpConfig, Sites};
use crate::node::data_dir::{DataDir, absolute};
use crate::node::descriptors::Descriptors;
use crate::node::memory::Budget;
use crate::node::primary_url::host_of;
use crate::telemetry::NEW_LOG;

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

/// Free bytes that the log leaves alone: as the conf says, else what suits the volume.
pub(crate) fn reserve_disk(data_dir: &Path, storage: &conf::Storage) -> u64 {
    let total = wal::OsDisk::total(data_dir).ok();
    let reserve = match storage.reserve_disk {
        Some(reserve) => reserve,
        None => total.map_or(MOST_RESERVE, default_reserve),
    };
    info!(
        reserve_mib = reserve >> 20,
        volume_mib = total.map(|bytes| bytes >> 20),
        by_conf = storage.reserve_disk.is_some(),
        "disk space that the log leaves alone"
    );
    reserve
}

/// A gibibyte would be all of a small volume.
fn default_reserve(total: u64) -> u64 {
    (total / 10).min(MOST_RESERVE)
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
    if recovery.mended > 0 {
        warn!(
            mended = recovery.mended,
            "bits had flipped in headers of blocks, or what is around the blocks of a segment could \
             not be read; checksums say what was there and it was written again; nothing is lost, \
             but the disk or memory may be failing"
        );
    }
    if let Some(torn) = &recovery.torn_tail {
        warn!(
            file = %torn.file,
            offset = torn.offset,
            bytes = torn.bytes,
            reason = %torn.reason,
            "an unfinished write at the end of the log was cut; nothing acknowledged was in it, \
             unless the disk lost what it had said was durable"
        );
    }
    if let Some(found) = &recovery.newest_gone {
        warn!(
            %found,
            position = %recovery.position,
            "the log's newest segment file was NOT there to go on in, and one is begun: a crash, or \
             a full disk, at the very moment when it was made leaves that, and then nothing is \
             missing; otherwise the file was lost, and acknowledged rows with it: then stop this \
             node before it takes more, and bring the file back, or the directory from a backup"
        );
    }
}

/// Says in one line where the node keeps what, how much it has, and what it may use.
pub(crate) fn report_storage(data_dir: &DataDir, log: Option<&wal::Log>, memory: u64) {
    let holds = log.map_or_else(
        || "no log yet".to_owned(),
        |log| format!("log {} of {} rows", log.id(), rows(log)),
    );
    let holds = match (log, data_dir.is_new()) {
        (Some(log), true) => format!("a new log, {}", log.id()),
        _ => holds,
    };
    info!(
        data_dir = %absolute(data_dir.path()).display(),
        holds,
        descriptors = %descriptors(),
        memory_mib = memory >> 20,
        "storage and limits"
    );
}

/// Says loudly that a log was begun: the right one may be elsewhere.
pub(crate) fn warn_of_new(data_dir: &DataDir, log: &wal::Log) {
    if data_dir.is_new() {
        warn!(
            target: NEW_LOG,
            data_dir = %absolute(data_dir.path()).display(),
            log = %log.id(),
            "no log was found and a NEW, EMPTY one was made; if this is not the first start, stop \
             the node: is the volume mounted, and is node.data_dir right? log.create = \"never\" \
             refuses this"
        );
    }
}

/// Rows that are stored, those of one key each time they came.
fn rows(log: &wal::Log) -> u64 {
    let snapshot = log.snapshot();
    let compacted = snapshot.compacted().lsn;
    let files = snapshot.file_infos();
    let segments = snapshot.segments();
    let pending = segments.iter().filter(|segment| segment.first >= compacted);
    let in_files: u64 = files.iter().map(|file| file.rows).sum();
    in_files + pending.map(|segment| segment.rows).sum::<u64>()
}

/// How many files this process may have open from now on.
fn descriptors() -> String {
    let _raised = Descriptors::raise();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    descriptor_limits(&limits).unwrap_or_else(|| "unknown".to_owned())
}

/// How long segments may be: as the conf says, but no longer than files may be, with room for the
/// rows of one group and the footer. Of a limit that is less than any segment, all is tried.
pub(crate) fn segment_size(wanted: u64) -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(limit) = file_limit(&limits).filter(|limit| limit / 2 < wanted) else {
        return wanted;
    };
    warn!(
        wanted,
        limit,
        "log.segment_size cannot be met: files of this process may not be so long (ulimit -f, or \
         LimitFSIZE of the service); segments are shorter"
    );
    (limit / 2).max(1)
}

fn file_limit(limits: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max file size"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn descriptor_limits(limits: &str) -> Option<String> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace();
    let (soft, hard) = (words.next()?, words.next()?);
    Some(format!("{soft} (at most {hard})"))
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
    budget: &Budget,
    tasks: &wal::Tasks,
) -> replica::ListenConfig {
    replica::ListenConfig {
        memory: budget.shares.replication.clone(),
        max_rate: serving.max_rate,
        max_rate_per_secondary: serving.max_rate_per_secondary,
        compression: serving.compression,
        members,
        tasks: tasks.clone(),
        ..replica::ListenConfig::new(serving.listen, own)
    }
}

/// What HTTP tells of its node, and what it does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a> {
    pub(crate) name: &'a str,
    /// The URL at which it says it is reached.
    pub(crate) advertised: Option<&'a str>,
    pub(crate) data_dir: &'a Path,
    pub(crate) certs: Option<&'a Path>,
}

/// HTTP as the conf wants it.
pub(crate) fn http_config(
    http: &conf::Http,
    budget: &Budget,
    tasks: &wal::Tasks,
    own: Own<'_>,
) -> HttpConfig {
    let host_name = gethostname::gethostname().to_string_lossy().into_owned();
    let names = [own.name.to_owned(), host_name].into_iter();
    let names = names.chain(own.advertised.and_then(host_of).map(str::to_owned));
    let hosts = names.chain(http.allowed_hosts.iter().cloned());
    HttpConfig {
        hidden: Hidden::new(
            [(own.data_dir, "node.data_dir")]
                .into_iter()
                .chain(own.certs.map(|certs| (certs, "replication.certs"))),
        ),
        sites: Sites::new(hosts, http.allowed_origins.iter().cloned()),
        listen: http.listen,
        max_connections: Descriptors::raise().for_http(),
        writes: budget.shares.writes.clone(),
        memory: budget.shares.http.clone(),
        tasks: tasks.clone(),
        query: query::Config {
            // Operators say what they hold after they have it, and copy it when it is too much.
            memory_limit: budget.queries / 4 * 3,
            memory_ceiling: budget.queries + budget.total / 16,
            process_limit: budget.total,
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

/// The default of `log.reserve_disk` on all but small volumes.
const MOST_RESERVE: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_descriptors_are_read_as_linux_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(descriptor_limits(text).unwrap(), "1024 (at most 524288)");
        assert_eq!(descriptor_limits("unlimited"), None);
        let text = "Max file size             1048576              unlimited            bytes\n";
        assert_eq!(file_limit(text), Some(1 << 20));
        assert_eq!(file_limit(&text.replace("1048576", "unlimited")), None);
        assert_eq!(segment_size(4_096), 4_096);
    }

    #[test]
    fn a_small_volume_keeps_a_tenth_of_itself_free_and_a_large_one_a_gibibyte() {
        for (total, reserve) in [
            (0, 0),
            (1 << 30, (1 << 30) / 10),
            (10 << 30, 1 << 30),
            (1 << 40, 1 << 30),
        ] {
            assert_eq!(default_reserve(total), reserve);
        }
    }

    #[test]
    fn what_the_conf_says_is_kept_free() {
        let storage = conf::Storage {
            reserve_disk: Some(7),
            ..conf::Storage::default()
        };
        assert_eq!(reserve_disk(Path::new("."), &storage), 7);
        assert!(reserve_disk(Path::new("."), &conf::Storage::default()) <= MOST_RESERVE);
    }
}
