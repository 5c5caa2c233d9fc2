//! What the engine is told at start. Owns the limits and their defaults; must never read a
//! file or the environment: only `server` does that.

use std::time::Duration;

/// Settings of the SQL engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes that all running queries together may hold for sorts, joins and aggregates.
    pub memory_limit: u64,
    /// Bytes that all running queries together may hold as the process's allocator counts them, with
    /// what no operator knows of. Above it the largest query ends.
    pub memory_ceiling: u64,
    /// Bytes that the whole process is to have in memory. Where it has clearly more, the largest
    /// query ends.
    pub process_limit: u64,
    /// Longest time a query may take from its arrival to the last byte of its answer.
    pub query_timeout: Duration,
    /// Queries that may run at once; more wait for their turn.
    pub max_concurrent_queries: usize,
    /// Queries that may wait at once; one more is refused.
    pub max_queued_queries: usize,
    /// Longest wait for a turn.
    pub query_queue_timeout: Duration,
    /// A reader that takes nothing of its answer for this long loses it if others need its slot or
    /// its memory.
    pub reader_timeout: Duration,
    /// Threads that run queries, and partitions one query is split into.
    pub threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            memory_limit: 1 << 30,
            memory_ceiling: (1 << 30) + (1 << 27),
            process_limit: u64::MAX,
            query_timeout: Duration::from_secs(60),
            max_concurrent_queries: 8,
            max_queued_queries: 256,
            query_queue_timeout: Duration::from_secs(5),
            reader_timeout: Duration::from_secs(3),
            threads,
        }
    }
}
