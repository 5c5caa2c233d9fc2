//! The columnar log: the one durable thing Headwater owns.
//!
//! ```text
//! Appender (one per producer) --rows--> Committer (one thread) --blocks--> active segment --seal--> sealed segments
//! Follower (on a secondary)   --the primary's blocks, byte for byte-----^
//!                                                                       Log: Snapshot, Cursor, durable position
//! Compactor (one thread)      --sealed segments--> Parquet files, named by a manifest--------------^
//! ```
//!
//! This crate knows no async runtime, no TLS, no MQTT and no SQL. The byte tables of everything it
//! writes are in `FORMAT.md`. It must never report a position as durable before the `fdatasync`
//! that covers it, and never change a byte it has reported.

mod bytes;
pub mod clock;
mod compact;
mod config;
mod damage;
mod disk;
mod durable;
mod error;
mod format;
mod ids;
mod integrity;
pub mod local_time;
mod open;
mod parquet;
mod paths;
mod quiet;
mod read;
mod replace;
mod room;
mod share;
mod stored;
mod tasks;
#[cfg(test)]
mod tests;
mod write;

// The names of places, errors, the disk.
pub use disk::{Disk, DiskFile, FileIdentity, OsDisk, ReadFile};
pub use error::{Operation, WalError};
pub use ids::{Boundary, Chain, Epoch, LogId, Lsn, Position, TableId};
pub use paths::{find_log, holds_log};

// What repeats.
pub use quiet::{Due, Lasted, Quiet};

// Memory, and tasks.
pub use share::{Held, Share};
pub use tasks::{TaskEnd, Tasks, Watched};

// Writing, on a primary.
pub use config::{Config, Limits};
pub use format::options::{Dedup, TableDef, TableOptions};
pub use format::row::{NewNames, Refusal, Row, TimeRange, Value};
pub use open::open_primary;
pub use open::recovery::{Recovery, TornTail};
pub use read::fingerprints::sha256;
pub use stored::Cache;
pub use write::appender::{AppendError, Appender};
pub use write::appenders::Appenders;
pub use write::committer::Committer;
pub use write::inbox::{Durable, GroupId};

// Reading: the log, a view of it, what is in the view.
pub use crate::parquet::{FileInfo, FileReader, FileRef, RowGroup, TagFilter, Wanted};
pub use compact::{MergePart, MergedReader, merge_parts};
pub use damage::Damaged;
pub use format::catalog::Catalog;
pub use format::schema::{
    Column, ColumnRole, ColumnType, Columns, DEAD_LETTERS, MAX_COLUMNS, MAX_NAME, MAX_TABLES,
    TableSchema,
};
pub use read::block_ref::BlockRef;
pub use read::counters::LogStats;
pub use read::cursor::{Chunk, Cursor};
pub use read::file_history::{AsOf, FilesMark};
pub use read::log::Log;
pub use read::replicas::{NodeCopy, Replicated};
pub use read::snapshot::{SegmentInfo, Snapshot};
pub use read::waiting_cuts::WaitingCut;

// A secondary: following, building a copy, keeping what has diverged.
pub use config::FollowerConfig;
pub use open::settle::settle;
pub use open::{open_follower, open_to_add};
pub use read::bundle::Bundle;
pub use replace::broken::{BrokenLog, GiveUp, Loss, find_broken, give_up};
pub use replace::diverged::{Diverged, list_diverged, save_diverged, segment_blocks};
pub use replace::parts::{BootstrapProgress, Missing};
pub use replace::rescue::{
    LogEnd, Unreadable, cut_unreadable, fill_unreadable, find_end, find_unreadable, take_unreadable,
};
pub use replace::staging::Staging;
pub use replace::swap::OldLog;
pub use write::follower::Follower;

// Maintenance.
pub use compact::{CompactionStats, Compactor, CompactorConfig, compact_now};
pub use integrity::digest::{Digest, DigestError, PartitionDigest, RangeDigest};
pub use integrity::repair::Export;
pub use integrity::scrub::{ScrubConfig, ScrubStats, Scrubber};
pub use integrity::verify::{Fault, VerifyReport, verify_dir};

// The format, for those who ship or check bytes.
pub use crate::bytes::FORMAT_VERSION;
pub use crate::parquet::CHUNK_LEN;
pub use format::block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind, MAX_BLOCK_LEN, block_len};
pub use format::segment::{SegmentFooter, SegmentHeader};
