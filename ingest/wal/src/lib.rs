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

mod active;
mod appender;
mod as_of;
mod batch;
mod block;
mod body;
mod boundaries;
mod bundle;
mod catalog;
mod clock;
mod column;
mod committer;
mod compact;
mod config;
mod control;
mod cursor;
mod damage;
mod digest;
mod disk;
mod error;
mod file;
mod follower;
mod group;
mod history;
mod ids;
mod join;
mod layout;
mod log;
#[cfg(test)]
mod model;
mod open;
mod options;
mod pacer;
mod past;
#[cfg(test)]
mod proof;
mod recovery;
#[cfg(test)]
mod refusing;
mod registry;
mod repair;
mod replicas;
#[cfg(test)]
mod roundtrip;
mod row;
mod scan;
mod schema;
mod scrub;
mod sealed;
mod segment;
mod shelve;
mod snapshot;
mod space;
mod stopped;
mod upkeep;
mod verify;

pub use appender::{AppendError, Appender, Durable, GroupId};
pub use block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind, MAX_BLOCK_LEN, block_len};
pub use bundle::Bundle;
pub use catalog::Catalog;
pub use committer::{Appenders, Committer};
pub use compact::{
    CompactionStats, Compactor, CompactorConfig, MergePart, MergedReader, compact_now, merge_parts,
};
pub use config::{Config, FollowerConfig};
pub use cursor::{Chunk, Cursor};
pub use damage::Damaged;
pub use digest::{Digest, DigestError, PartitionDigest, RangeDigest};
pub use disk::{Disk, DiskFile, OsDisk};
pub use error::WalError;
pub use file::{CHUNK_LEN, FileInfo, FileReader, FileRef, RowGroup, TagFilter, Wanted};
pub use follower::Follower;
pub use history::{AsOf, FilesMark};
pub use ids::{Epoch, LogId, Lsn, Position, TableId};
pub use join::{BootstrapProgress, Missing, OldLog, Staging, settle};
pub use layout::find_log;
pub use log::{Log, LogStats};
pub use open::{open_follower, open_primary};
pub use options::{Dedup, TableDef, TableOptions};
pub use recovery::{Recovery, TornTail};
pub use replicas::{NodeCopy, Replicated};
pub use row::{Refusal, Row, Value};
pub use schema::{Column, ColumnRole, ColumnType, MAX_COLUMNS, MAX_NAME, MAX_TABLES, TableSchema};
pub use scrub::{ScrubConfig, ScrubStats, Scrubber};
pub use segment::{FORMAT_VERSION, SegmentFooter, SegmentHeader};
pub use shelve::{Diverged, list_diverged, save_diverged, segment_blocks};
pub use snapshot::{BlockRef, SegmentInfo, Snapshot};
pub use verify::{Fault, VerifyReport, verify_dir};

/// The table that keeps what could not be stored where it was meant to go.
pub const DEAD_LETTERS: &str = "system.dead_letters";
