//! What nodes need of each other's logs: which files are damaged, reading one and putting one back,
//! and the manifest. It owns that short list and must never hold bytes itself: `wal` decides what
//! is intact.

pub(crate) mod fetch;
pub(crate) mod leases;
pub(crate) mod lent;
pub(crate) mod limit;
pub(crate) mod peers;
pub(crate) mod places;
pub(crate) mod repair;
pub(crate) mod sink;
pub(crate) mod whole;

use bytes::Bytes;
use tokio::sync::watch;
use wal::{CHUNK_LEN, Chain, Damaged, Export, Log, LogId, Lsn, Position, WalError};

use crate::files::leases::Leases;
use crate::files::lent::Lent;

/// The files of a log. A trait so that tests need no damaged disk.
pub(crate) trait Files: Clone + Send + Sync + 'static {
    /// The log they belong to.
    fn log_id(&self) -> LogId;
    /// What is known to be damaged and not yet repaired.
    fn damaged(&self) -> watch::Receiver<Vec<Damaged>>;
    /// A file from this byte on, which is a multiple of [`wal::CHUNK_LEN`], if it is held intact.
    /// Blocks on the disk.
    fn read_from(&self, name: &str, from: u64) -> Option<Given>;
    /// Where segments began, and this end of a block. May block.
    fn segment_starts(&self, also: Option<Position>) -> Option<Bytes>;
    /// The manifest in force; the files that it names are held for this node. May block.
    fn manifest(&self, leases: &Leases, id: &str) -> Option<Bytes>;
    /// The blocks from this place until one ends at the other or beyond, or the log does, if they are
    /// held intact. Blocks on the disk.
    fn blocks(&self, from: Position, to: Lsn) -> Option<Given>;
    /// How long a file is, where that is known.
    fn length(&self, name: &str) -> Option<u64>;
    /// Checks a damaged file's right bytes and puts them in its place; whether a fingerprint that
    /// cannot be forged vouches for them. Blocks on the disk.
    fn replace(&self, name: &str, bytes: Bytes) -> Result<bool, WalError>;
}

/// What a peer is given.
#[derive(Debug)]
pub(crate) enum Given {
    /// In memory already.
    Bytes(Bytes),
    /// On the disk, to be read piece by piece.
    File(Export),
    Blocks(Lent),
}

impl Given {
    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.left(),
            Self::Blocks(blocks) => blocks.left(),
        }
    }

    /// The next bytes, at most [`wal::CHUNK_LEN`]; none at the end. Blocks on the disk.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>, WalError> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => Ok(None),
            Self::Bytes(bytes) => Ok(Some(bytes.split_to(bytes.len().min(CHUNK_LEN)))),
            Self::File(file) => file.next_piece(),
            Self::Blocks(blocks) => blocks.next_piece(),
        }
    }
}

impl Files for Log {
    fn log_id(&self) -> LogId {
        self.id()
    }

    fn damaged(&self) -> watch::Receiver<Vec<Damaged>> {
        self.damage()
    }

    fn read_from(&self, name: &str, from: u64) -> Option<Given> {
        self.export_pieces(name, from).map(Given::File)
    }

    fn segment_starts(&self, also: Option<Position>) -> Option<Bytes> {
        Some(self.segment_starts_and(also))
    }

    fn manifest(&self, leases: &Leases, id: &str) -> Option<Bytes> {
        Some(leases.take(id, self).manifest().clone())
    }

    fn blocks(&self, from: Position, to: Lsn) -> Option<Given> {
        Lent::of(self, from, to, MAX_BLOCKS_BYTES).map(Given::Blocks)
    }

    fn length(&self, name: &str) -> Option<u64> {
        self.length_of(name)
    }

    fn replace(&self, name: &str, bytes: Bytes) -> Result<bool, WalError> {
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

/// Name of a run of blocks in a question: where it begins and where it ends at least.
pub(crate) fn blocks_name(from: Position, to: Lsn) -> String {
    format!("blocks/{}-{:016x}-{}", from.lsn.0, from.chain.0, to.0)
}

/// What [`blocks_name`] was given.
pub(crate) fn blocks_named(name: &str) -> Option<(Position, Lsn)> {
    let mut parts = name.strip_prefix("blocks/")?.split('-');
    let lsn = Lsn(parts.next()?.parse().ok()?);
    let chain = Chain(u64::from_str_radix(parts.next()?, 16).ok()?);
    let to = Lsn(parts.next()?.parse().ok()?);
    parts
        .next()
        .is_none()
        .then_some((Position { lsn, chain }, to))
}

fn is_stem(stem: &str) -> bool {
    let strange = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    !stem.is_empty() && !stem.starts_with('.') && !stem.contains("..") && !stem.contains(strange)
}

fn is_lsn(stem: &str) -> bool {
    stem.len() == LSN_DIGITS && stem.bytes().all(|digit| digit.is_ascii_digit())
}

/// Most bytes of blocks that are lent: those of one segment.
const MAX_BLOCKS_BYTES: u64 = 1 << 30;

/// Longest file name that is asked for or answered, in bytes.
const MAX_FILE_NAME: usize = 256;

/// Digits of a segment's name: its first LSN.
const LSN_DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_of_blocks_are_read_as_they_were_written() {
        let at = |lsn, chain| Position {
            lsn: Lsn(lsn),
            chain: Chain(chain),
        };
        for (from, to) in [(at(0, 0), 0), (at(7, u64::MAX), 9), (at(u64::MAX, 1), 1)] {
            let name = blocks_name(from, Lsn(to));
            assert_eq!(blocks_named(&name), Some((from, Lsn(to))), "{name}");
            assert!(!is_name(&name));
        }
        for name in [
            "blocks/",
            "blocks/1-2",
            "blocks/1-2-3-4",
            "blocks/1-x-3",
            "1-2-3",
        ] {
            assert_eq!(blocks_named(name), None, "{name}");
        }
    }

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
