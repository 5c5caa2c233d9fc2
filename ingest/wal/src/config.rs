//! What may be tuned per process. Nothing here changes the bytes of a block. It must never change
//! the bytes of a block.

use std::time::Duration;

use crate::format::options::TableDef;
use crate::format::row::TimeRange;
use crate::format::schema::{MAX_COLUMNS, MAX_TABLES};
use crate::share::Share;
use crate::stored::Cache;
use crate::tasks::Tasks;

/// Tuning of one open log.
#[derive(Clone, Debug)]
pub struct Config {
    /// A segment is sealed once it is at least this long, in bytes.
    pub segment_size: u64,
    /// Extra time to let a group fill before it is committed.
    pub max_group_delay: Duration,
    /// An appender refuses more rows (`AppendError::Full`) once this many bytes wait for a commit.
    pub pending_bytes: usize,
    /// Sealed segments whose rows are in files are kept for secondaries up to this many bytes.
    pub keep_segments: u64,
    /// While less than this is free, nothing is committed.
    pub reserve_disk: u64,
    /// How often the primary looks whether the log needs cuts, retirements or a seal.
    pub upkeep_every: Duration,
    /// What is kept in memory of files that are read.
    pub cache: Cache,
    /// Memory for the schemas of all tables: beyond it no table and no column comes into being.
    pub schemas: Share,
    /// How many tables and columns there may be.
    pub limits: Limits,
    /// Tables with columns, options or rules of their own; all others have none.
    pub tables: Vec<TableDef>,
    /// Times that rows may have.
    pub times: TimeRange,
    /// How long dead letters are kept, unless `tables` says so; `None`: for ever.
    pub dead_letter_retention: Option<Duration>,
    /// Bytes that the dead letters may take before the oldest of them go; `None`: as many as there
    /// are.
    pub dead_letter_bytes: Option<u64>,
    /// The node's: its committer is one of them.
    pub tasks: Tasks,
}

/// How many tables and columns rows may bring into being. The dead letters and what a conf declares
/// find their place always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_tables: usize,
    /// Of one table, its time among them.
    pub max_columns: usize,
    /// Of one client; 0: no limit.
    pub new_tables_per_minute: u32,
    /// The same.
    pub new_columns_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_tables: MAX_TABLES,
            max_columns: MAX_COLUMNS,
            new_tables_per_minute: 300,
            new_columns_per_minute: 3_000,
        }
    }
}

/// Tuning of a secondary's log.
#[derive(Clone, Debug)]
pub struct FollowerConfig {
    /// While less than this is free, nothing is written.
    pub reserve_disk: u64,
    /// What is kept in memory of files that are read.
    pub cache: Cache,
    /// Where the memory for the schemas of all tables is counted; what the primary has taken is
    /// taken here, too.
    pub schemas: Share,
    /// The node's: the thread that writes is one of them.
    pub tasks: Tasks,
}

impl Default for FollowerConfig {
    fn default() -> Self {
        Self {
            reserve_disk: 0,
            cache: Cache::default(),
            schemas: Share::unlimited("schemas"),
            tasks: Tasks::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            max_group_delay: Duration::ZERO,
            pending_bytes: 8 << 20,
            keep_segments: 1 << 30,
            reserve_disk: 0,
            upkeep_every: Duration::from_secs(1),
            cache: Cache::default(),
            schemas: Share::unlimited("schemas"),
            limits: Limits::default(),
            tables: Vec::new(),
            times: TimeRange::default(),
            dead_letter_retention: None,
            dead_letter_bytes: None,
            tasks: Tasks::default(),
        }
    }
}
