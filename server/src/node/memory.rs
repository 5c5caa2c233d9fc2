//! How a node's memory is shared out between ingest, compaction and queries: decided once, from
//! numbers, at start. Must never measure what a part uses; each part keeps to its own bound.

use tracing::{info, warn};

use crate::conf;

/// Less memory than a node can work with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} MiB of memory are too little: this node needs at least {} MiB; raise node.memory_limit \
     (empty: half of this machine's memory)",
    .total / MIB,
    .needed.div_ceil(MIB)
)]
pub struct MemoryError {
    pub total: u64,
    pub needed: u64,
}

/// What the parts may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Rows that one MQTT worker, or HTTP, may gather while a commit runs.
    pub(crate) ingest_pending_per_appender: usize,
    /// Rows on their way in by HTTP.
    pub(crate) writes: u64,
    /// All running queries together.
    pub(crate) queries: u64,
    /// Everything together.
    pub(crate) total: u64,
}

impl Budget {
    /// Shares `total` out: compaction, the tail and ingest first, the rest to queries, but at most
    /// `http_limit`. Nothing is kept for writes by HTTP where there are no `appenders`.
    ///
    /// # Errors
    /// When queries would be left with too little.
    pub(crate) fn of(
        total: u64,
        appenders: usize,
        http_limit: Option<u64>,
        segment_size: u64,
    ) -> Result<Self, MemoryError> {
        let writes = match appenders {
            0 => 0,
            _ => (total / 16).clamp(LEAST_WRITES, MOST_WRITES),
        };
        let appenders = appenders.max(1) as u64;
        let compaction = COMPACTION.min(total / 4);
        let tail = TAIL.min(segment_size);
        let share = (total / 8).clamp(LEAST_INGEST, MOST_INGEST);
        let each = (share / appenders).clamp(LEAST_PENDING, MOST_PENDING);
        let taken = compaction + tail + share.max(each.saturating_mul(appenders)) + writes;
        let needed = taken.saturating_add(LEAST_QUERIES).max(conf::LEAST_MEMORY);
        if total < needed {
            return Err(MemoryError { total, needed });
        }
        let left = total - taken;
        Ok(Self {
            ingest_pending_per_appender: usize::try_from(each).unwrap_or(usize::MAX),
            writes,
            queries: http_limit.map_or(left, |limit| limit.min(left)),
            total,
        })
    }
}

/// The budget of the node that `node` and `http` describe; `appenders` may gather rows at once.
///
/// # Errors
/// When the memory is too little.
pub(crate) fn share_out(
    node: &conf::Node,
    appenders: usize,
    http: Option<&conf::Http>,
    segment_size: u64,
) -> Result<Budget, MemoryError> {
    let total = node.memory_limit.unwrap_or_else(half_of_machine);
    let limit = http.and_then(|http| http.memory_limit);
    let budget = Budget::of(total, appenders, limit, segment_size)?;
    let (total_mib, queries_mib) = (total / MIB, budget.queries / MIB);
    info!(total_mib, queries_mib, "memory is shared out");
    let machine = half_of_machine().saturating_mul(2);
    if total > machine {
        let machine_mib = machine / MIB;
        warn!(
            total_mib,
            machine_mib,
            "node.memory_limit is more than this machine or its control group has: the system may \
             kill the node"
        );
    }
    if let Some(limit) = limit.filter(|limit| *limit > budget.queries) {
        info!(
            memory_limit_mib = limit / MIB,
            queries_mib, "http.memory_limit is more than node.memory_limit leaves; cut to that"
        );
    }
    Ok(budget)
}

/// Half of what this machine, or the control group that this process is in, has.
pub(crate) fn half_of_machine() -> u64 {
    let read = |path| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| mem_total(&text));
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| group_limit(&text));
    half_of(total, group)
}

fn half_of(total: Option<u64>, group: Option<u64>) -> u64 {
    total.into_iter().chain(group).min().unwrap_or(UNKNOWN) / 2
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn mem_total(text: &str) -> Option<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// A control group's limit in bytes; `max` is none.
fn group_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

const MIB: u64 = 1 << 20;

/// What one step of compaction may hold.
const COMPACTION: u64 = 96 * MIB;

/// What the log keeps of its active segment.
const TAIL: u64 = 16 * MIB;

const LEAST_INGEST: u64 = 8 * MIB;
const MOST_INGEST: u64 = 256 * MIB;
const LEAST_PENDING: u64 = MIB;
const MOST_PENDING: u64 = 8 * MIB;
const LEAST_WRITES: u64 = 4 * MIB;
const MOST_WRITES: u64 = 256 * MIB;
const LEAST_QUERIES: u64 = 16 * MIB;

/// Memory of a machine that does not tell.
const UNKNOWN: u64 = 2 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const SEGMENT: u64 = 64 * MIB;

    #[test]
    fn a_small_node_gives_most_to_queries() {
        let budget = Budget::of(512 * MIB, 2, None, SEGMENT).unwrap();
        assert_eq!(budget.ingest_pending_per_appender, 8 << 20);
        assert_eq!(budget.queries, (512 - 96 - 16 - 64 - 32) * MIB);

        let budget = Budget::of(512 * MIB, 32, None, MIB).unwrap();
        assert_eq!(budget.ingest_pending_per_appender, 2 << 20);
        assert_eq!(budget.queries, (512 - 96 - 1 - 64 - 32) * MIB);
    }

    #[test]
    fn a_big_node_has_bounded_buffers() {
        let budget = Budget::of(64 * GIB, 64, None, SEGMENT).unwrap();
        assert_eq!(budget.ingest_pending_per_appender, 4 << 20);
        assert_eq!(budget.queries, 64 * GIB - (96 + 16 + 256 + 256) * MIB);
    }

    #[test]
    fn a_limit_of_queries_holds_up_to_what_is_left() {
        let queries = |limit| {
            Budget::of(512 * MIB, 2, Some(limit), SEGMENT)
                .unwrap()
                .queries
        };
        assert_eq!(queries(64 * MIB), 64 * MIB);
        assert_eq!(queries(GIB), 304 * MIB);
        let none = Budget::of(512 * MIB, 0, None, SEGMENT).unwrap();
        assert_eq!((none.writes, none.queries), (0, 336 * MIB));
    }

    #[test]
    fn too_little_is_refused() {
        assert!(Budget::of(128 * MIB, 4, None, SEGMENT).is_ok());
        let error = Budget::of(127 * MIB, 4, None, SEGMENT).unwrap_err();
        assert_eq!(error.needed, 128 * MIB);
        assert_eq!(
            error.to_string(),
            "127 MiB of memory are too little: this node needs at least 128 MiB; raise \
             node.memory_limit (empty: half of this machine's memory)"
        );
        let error = Budget::of(256 * MIB, 1024, None, SEGMENT).unwrap_err();
        assert_eq!(error.needed, (64 + 16 + 1024 + 16 + 16) * MIB);
    }

    #[test]
    fn the_smaller_of_machine_and_group_counts() {
        let meminfo = "MemTotal:       16303428 kB\nMemFree:         1000000 kB\n";
        let total = mem_total(meminfo);
        assert_eq!(total, Some(16_303_428 << 10));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
        assert_eq!(mem_total("MemTotal: many kB\n"), None);
        assert_eq!(group_limit("max\n"), None);
        assert_eq!(group_limit("1073741824\n"), Some(GIB));
        assert_eq!(half_of(total, Some(GIB)), GIB / 2);
        assert_eq!(half_of(total, None), 16_303_428 << 9);
        assert_eq!(half_of(None, None), GIB);
    }
}
