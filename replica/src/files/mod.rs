//! What nodes need of each other's logs: which files are damaged, reading one and putting one back,
//! and the manifest. It owns that short list and must never hold bytes itself: `wal` decides what
//! is intact.

pub(crate) mod fetch;
pub(crate) mod leases;
pub(crate) mod limit;
pub(crate) mod peers;
pub(crate) mod repair;

use bytes::Bytes;
use tokio::sync::watch;
use wal::{Damaged, Log, LogId, Position, WalError};

use crate::files::leases::Leases;

/// The files of a log. A trait so that tests need no damaged disk.
pub(crate) trait Files: Clone + Send + Sync + 'static {
    /// The log they belong to.
    fn log_id(&self) -> LogId;
    /// What is known to be damaged and not yet repaired.
    fn damaged(&self) -> watch::Receiver<Vec<Damaged>>;
    /// A file's bytes, if it is held intact. Blocks on the disk.
    fn read(&self, name: &str) -> Option<Bytes>;
    /// The same from this byte on, which is a multiple of [`wal::CHUNK_LEN`]. Blocks on the disk.
    fn read_from(&self, name: &str, from: u64) -> Option<Bytes>;
    /// Where segments began, and this end of a block. May block.
    fn segment_starts(&self, also: Option<Position>) -> Option<Bytes>;
    /// The manifest in force; the files that it names are held for this node. May block.
    fn manifest(&self, leases: &Leases, id: &str) -> Option<Bytes>;
    /// Checks a damaged file's right bytes and puts them in its place. Blocks on the disk.
    fn replace(&self, name: &str, bytes: Bytes) -> Result<(), WalError>;
}

impl Files for Log {
    fn log_id(&self) -> LogId {
        self.id()
    }

    fn damaged(&self) -> watch::Receiver<Vec<Damaged>> {
        self.damage()
    }

    fn read(&self, name: &str) -> Option<Bytes> {
        self.export(name)
    }

    fn read_from(&self, name: &str, from: u64) -> Option<Bytes> {
        self.export_from(name, from)
    }

    fn segment_starts(&self, also: Option<Position>) -> Option<Bytes> {
        Some(self.segment_starts_and(also))
    }

    fn manifest(&self, leases: &Leases, id: &str) -> Option<Bytes> {
        Some(leases.take(id, self).manifest().clone())
    }

    fn replace(&self, name: &str, bytes: Bytes) -> Result<(), WalError> {
        self.install(name, bytes)
    }
}

/// Whether this is how a log names a segment or a Parquet file, relative to its directory. Nothing
/// else is ever handed to the disk, whatever a peer asks for.
pub(crate) fn is_name(name: &str) -> bool {
    if name.len() > MAX_FILE_NAME {
        return false;
    }
    match name.strip_prefix("parquet/") {
        Some(file) => file.strip_suffix(".parquet").is_some_and(is_stem),
        None => name.strip_suffix(".log").is_some_and(is_lsn),
    }
}

fn is_stem(stem: &str) -> bool {
    let strange = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    !stem.is_empty() && !stem.starts_with('.') && !stem.contains("..") && !stem.contains(strange)
}

fn is_lsn(stem: &str) -> bool {
    stem.len() == LSN_DIGITS && stem.bytes().all(|digit| digit.is_ascii_digit())
}

/// Longest file name that is asked for or answered, in bytes.
const MAX_FILE_NAME: usize = 256;

/// Digits of a segment's name: its first LSN.
const LSN_DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_and_parquet_files_are_taken() {
        for name in [
            "00000000000000000042.log",
            "18446744073709551615.log",
            "parquet/0.parquet",
            "parquet/plant-00000000000000000042-2026-11-21.1d.parquet",
            "parquet/größe_7.parquet",
        ] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        let long = format!("parquet/{}.parquet", "x".repeat(MAX_FILE_NAME));
        for name in [
            "",
            ".log",
            "42.log",
            "0000000000000000004a.log",
            "000000000000000000042.log",
            "00000000000000000042.log.tmp",
            "00000000000000000042.idx",
            "/00000000000000000042.log",
            "./00000000000000000042.log",
            "../00000000000000000042.log",
            "parquet",
            "parquet/",
            "parquet/.parquet",
            "parquet/..parquet",
            "parquet/.hidden.parquet",
            "parquet/../a.parquet",
            "parquet/a..b.parquet",
            "parquet//a.parquet",
            "parquet/a/b.parquet",
            "parquet/a\\b.parquet",
            "parquet/c:b.parquet",
            "parquet/a\0b.parquet",
            "parquet/a\nb.parquet",
            "parquet/a.parquet.tmp",
            "parquet/a.PARQUET",
            "/parquet/a.parquet",
            "other/a.parquet",
            long.as_str(),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
