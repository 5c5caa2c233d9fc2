//! What the manifest knows of one Parquet file. Pure. It must never know whether the file is there.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::bytes::checksum;
use crate::ids::{Lsn, TableId};
use crate::parquet::{FILES_DIR, Window};

/// One Parquet file in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileMeta {
    pub(crate) table: TableId,
    /// Counts the files of a log, in the order in which compaction makes them.
    pub(crate) ordinal: u64,
    pub(crate) window: Window,
    /// Its rows come from this range of the log; not every row of the range is in it.
    pub(crate) first: Lsn,
    pub(crate) end: Lsn,
    pub(crate) rows: u64,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
    /// The primary's clock at the newest row's commit, unix nanoseconds.
    pub(crate) made_at: i64,
    pub(crate) bytes: u64,
    /// One checksum per `CHUNK` bytes.
    pub(crate) chunks: Vec<u64>,
}

/// A Parquet file, for people and dashboards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Relative to the log's directory.
    pub name: String,
    pub table: String,
    /// Its time partition: first day and width.
    pub window: String,
    pub first: Lsn,
    pub end: Lsn,
    pub rows: u64,
    pub bytes: u64,
    /// Smallest and largest row time, unix nanoseconds.
    pub min_time: i64,
    pub max_time: i64,
    /// Equal on two nodes exactly when the files are.
    pub hash: u64,
}

impl FileMeta {
    /// Relative to the log's directory.
    pub(crate) fn name(&self) -> String {
        format!(
            "{FILES_DIR}/{:05}-{:012}.parquet",
            self.table.0, self.ordinal
        )
    }

    /// Table and ordinal of the file of this name.
    pub(crate) fn named(name: &str) -> Option<(TableId, u64)> {
        let stem = name.strip_prefix(FILES_DIR)?.strip_prefix('/')?;
        let (table, ordinal) = stem.strip_suffix(".parquet")?.split_once('-')?;
        Some((TableId(table.parse().ok()?), ordinal.parse().ok()?))
    }

    /// Covers every byte of the file.
    pub(crate) fn hash(&self) -> u64 {
        let bytes: Vec<u8> = self
            .chunks
            .iter()
            .flat_map(|hash| hash.to_le_bytes())
            .collect();
        checksum(&bytes)
    }

    /// Whether these bytes are this file.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        let hashes = bytes.chunks(CHUNK).map(checksum);
        bytes.len() as u64 == self.bytes && hashes.eq(self.chunks.iter().copied())
    }

    /// Whether it may hold a row of this range of times.
    pub(crate) fn overlaps(&self, min: i64, max: i64) -> bool {
        self.min_time <= max && self.max_time >= min
    }

    pub(crate) fn info(&self, table: String) -> FileInfo {
        FileInfo {
            name: self.name(),
            table,
            window: self.window.name(),
            first: self.first,
            end: self.end,
            rows: self.rows,
            bytes: self.bytes,
            min_time: self.min_time,
            max_time: self.max_time,
            hash: self.hash(),
        }
    }
}

/// Bytes that one checksum of a file covers.
pub const CHUNK: usize = 1 << 20;
