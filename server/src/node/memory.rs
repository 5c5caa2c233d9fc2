//! How a node's memory is shared out between its parts: decided once, from numbers, at start. Must
//! never measure what a part uses; each part keeps to its own bound, and counts in its share what
//! it holds.

use tracing::{info, warn};
use wal::Share;

use crate::conf;
use crate::node::control_group::memory_of_process;

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
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// Rows that one MQTT worker, or HTTP, may gather while a commit runs.
    pub(crate) ingest_pending_per_appender: usize,
    /// All running queries together.
    pub(crate) queries: u64,
    /// Everything together.
    pub(crate) total: u64,
    /// For the parts that grow with what others send, and ask before they do.
    pub(crate) shares: Shares,
}

/// The shares of a node's parts, one each: whoever holds memory of a part has a copy of its share.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    /// Rows that wait for their commit, and the group that is being committed.
    pub(crate) ingest: Share,
    /// Bodies and rows of writes by HTTP.
    pub(crate) writes: Share,
    pub(crate) queries: Share,
    /// The step of compaction under way.
    pub(crate) compaction: Share,
    /// Blocks of the active segment.
    pub(crate) tail: Share,
    /// Schemas, whoever refers to them.
    pub(crate) schemas: Share,
    /// Checked chunks of files.
    pub(crate) cache: Share,
    /// Connections of devices: buffers, aliases, what is in flight.
    pub(crate) mqtt: Share,
    /// Connections over HTTP: heads and bodies of requests, answers that are not read yet.
    pub(crate) http: Share,
    /// Frames to and from other nodes, and what they say of themselves.
    pub(crate) replication: Share,
}

impl Shares {
    /// Every share, as `/metrics` lists them.
    pub(crate) fn all(&self) -> [&Share; 10] {
        [
            &self.ingest,
            &self.writes,
            &self.queries,
            &self.compaction,
            &self.tail,
            &self.schemas,
            &self.cache,
            &self.mqtt,
            &self.http,
            &self.replication,
        ]
    }
}

impl Budget {
    /// Shares `total` out: queries get what the other parts leave, but at most `http_limit`.
    /// Nothing is kept for writes by HTTP and for devices where there are no `appenders`.
    ///
    /// # Errors
    /// When queries would be left with too little.
    pub(crate) fn of(
        total: u64,
        appenders: usize,
        http_limit: Option<u64>,
        segment_size: u64,
    ) -> Result<Self, MemoryError> {
        let takes_rows = appenders > 0;
        let of_primary = |bytes: u64| if takes_rows { bytes } else { 0 };
        let writes = of_primary((total / 16).clamp(LEAST_WRITES, MOST_WRITES));
        let appenders = appenders.max(1) as u64;
        let compaction = COMPACTION.min(total / 4);
        let tail = TAIL.min(segment_size);
        let share = (total / 8).clamp(LEAST_INGEST, MOST_INGEST);
        let each = (share / appenders).clamp(LEAST_PENDING, MOST_PENDING);
        let ingest = share.max(each.saturating_mul(appenders));
        // What these need does not shrink with the node below its least memory.
        let beyond = total.saturating_sub(conf::LEAST_MEMORY / 2);
        let cache = (beyond / 8).clamp(LEAST_CACHE, MOST_CACHE);
        let mqtt = of_primary((total / 16).clamp(LEAST_MQTT, MOST_MQTT));
        let schemas = (total / 16).clamp(LEAST_SCHEMAS, MOST_SCHEMAS);
        let http = (total / 32).clamp(LEAST_HTTP, MOST_HTTP);
        let replication = (total / 32).clamp(LEAST_REPLICATION, MOST_REPLICATION);
        let taken = [
            ingest,
            writes,
            compaction,
            tail,
            schemas,
            cache,
            mqtt,
            http,
            replication,
        ];
        let taken = taken.into_iter().fold(0, u64::saturating_add);
        let needed = taken.saturating_add(LEAST_QUERIES).max(conf::LEAST_MEMORY);
        if total < needed {
            return Err(MemoryError { total, needed });
        }
        let left = total - taken;
        let queries = http_limit.map_or(left, |limit| limit.min(left));
        Ok(Self {
            ingest_pending_per_appender: usize::try_from(each).unwrap_or(usize::MAX),
            queries,
            total,
            shares: Shares {
                ingest: Share::new("ingest", ingest),
                writes: Share::new("writes", writes),
                queries: Share::new("queries", queries),
                compaction: Share::new("compaction", compaction),
                tail: Share::new("tail", tail),
                schemas: Share::new("schemas", schemas),
                cache: Share::new("cache", cache),
                mqtt: Share::new("mqtt", mqtt),
                http: Share::new("http", http),
                replication: Share::new("replication", replication),
            },
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
            "node.memory_limit is more than this machine, its control group, one above it or the \
             limits of this process let it have: the system may kill the node"
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

/// Half of what this process may have: of the machine, its control groups, its own limits.
pub(crate) fn half_of_machine() -> u64 {
    memory_of_process().unwrap_or(UNKNOWN) / 2
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
const LEAST_SCHEMAS: u64 = 8 * MIB;
const MOST_SCHEMAS: u64 = 128 * MIB;
const LEAST_CACHE: u64 = 8 * MIB;
const MOST_CACHE: u64 = 1024 * MIB;
const LEAST_MQTT: u64 = 8 * MIB;
const MOST_MQTT: u64 = 512 * MIB;
const LEAST_HTTP: u64 = 4 * MIB;
const MOST_HTTP: u64 = 128 * MIB;
const LEAST_REPLICATION: u64 = 4 * MIB;
const MOST_REPLICATION: u64 = 64 * MIB;
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
        let taken = 96 + 16 + 64 + 32 + 32 + 56 + 32 + 16 + 16;
        assert_eq!(budget.queries, (512 - taken) * MIB);

        let budget = Budget::of(512 * MIB, 32, None, MIB).unwrap();
        assert_eq!(budget.ingest_pending_per_appender, 2 << 20);
        assert_eq!(budget.queries, (512 + 15 - taken) * MIB);
    }

    #[test]
    fn a_big_node_has_bounded_buffers() {
        let budget = Budget::of(64 * GIB, 64, None, SEGMENT).unwrap();
        assert_eq!(budget.ingest_pending_per_appender, 4 << 20);
        let taken = 96 + 16 + 256 + 256 + 128 + 1024 + 512 + 128 + 64;
        assert_eq!(budget.queries, 64 * GIB - taken * MIB);
    }

    #[test]
    fn a_limit_of_queries_holds_up_to_what_is_left() {
        let queries = |limit| {
            Budget::of(512 * MIB, 2, Some(limit), SEGMENT)
                .unwrap()
                .queries
        };
        assert_eq!(queries(64 * MIB), 64 * MIB);
        assert_eq!(queries(GIB), 152 * MIB);
        let none = Budget::of(512 * MIB, 0, None, SEGMENT).unwrap();
        assert_eq!(
            (none.shares.writes.limit(), none.queries),
            (0, (152 + 32 + 32) * MIB)
        );
        assert_eq!(none.shares.mqtt.limit(), 0);
    }

    #[test]
    fn the_parts_of_a_node_never_have_more_than_it_has() {
        for mib in [128, 129, 200, 256, 400, 1_000, 5_000, 50_000, 500_000] {
            for appenders in [0, 1, 4] {
                let budget = Budget::of(mib * MIB, appenders, None, SEGMENT).unwrap();
                let shares = budget.shares.all();
                let sum: u64 = shares.iter().map(|share| share.limit()).sum();
                assert_eq!(sum, mib * MIB, "{mib} {appenders}");
                let all_have = shares.iter().all(|share| share.limit() >= 4 * MIB);
                assert!(all_have || appenders == 0, "{mib} {shares:?}");
                assert!(budget.queries >= (mib * MIB / 6), "{mib} {budget:?}");
            }
        }
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
        let taken = 64 + 16 + 1024 + 16 + 16 + 24 + 16 + 8 + 8;
        assert_eq!(error.needed, (taken + 16) * MIB);
    }
}
