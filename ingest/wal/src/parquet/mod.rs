//! Parquet files: rows that have left the log, sorted by tags and time. Written once by compaction,
//! the same bytes on every node; a manifest names those in force. A file must never change once it
//! has its name.

mod chunks;
mod data;
mod decimal;
mod layout;
pub(crate) mod manifest;
mod meta;
mod prune;
mod read;
mod set;
mod sink;
mod window;
mod write;

pub(crate) use data::DataFile;
pub(crate) use layout::{Layout, sort_columns};
pub use meta::CHUNK as CHUNK_LEN;
pub use meta::FileInfo;
pub(crate) use meta::FileMeta;
pub use prune::{RowGroup, TagFilter, Wanted};
pub use read::{FileReader, FileRef};
pub(crate) use set::FileSet;
pub(crate) use sink::Throttle;
pub(crate) use window::{DAY, Window};
pub(crate) use write::{FileWriter, WriteError};

/// Directory of the files, in the log's directory.
pub(crate) const FILES_DIR: &str = "parquet";
