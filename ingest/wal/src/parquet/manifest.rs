//! The manifest: which Parquet files are in force, and up to which position of the log. Pure bytes;
//! see `FORMAT.md`, "Manifest". Written whole, swapped in by a rename. It must never accept bytes
//! that are not whole.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use crate::bytes::{FORMAT_VERSION, array_at, checksum, u32_at, u64_at};
use crate::error::WalError;
use crate::format::catalog::Catalog;
use crate::format::segment::{len32, newer, put_catalog, take_catalog};
use crate::ids::{Chain, Epoch, LogId, Lsn, Position, TableId};
use crate::parquet::meta::CHUNK;
use crate::parquet::{FileMeta, Window};
pub(crate) use crate::paths::MANIFEST;

/// What a manifest says.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) compacted: Position,
    pub(crate) clock: i64,
    pub(crate) next: u64,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) files: Vec<FileMeta>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let tables = self.catalog.head();
        let mut catalog = Vec::new();
        put_catalog(&mut catalog, &tables);
        let mut out = Vec::with_capacity(FIXED + catalog.len() + self.files.len() * (ENTRY + 8));
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&u32::from(FORMAT_VERSION).to_le_bytes());
        out.extend_from_slice(&len32(catalog.len()).to_le_bytes());
        out.extend_from_slice(&self.log.0);
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.compacted.lsn.0.to_le_bytes());
        out.extend_from_slice(&self.compacted.chain.0.to_le_bytes());
        out.extend_from_slice(&self.clock.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&len32(tables.schemas.len()).to_le_bytes());
        out.extend_from_slice(&len32(tables.settings.len()).to_le_bytes());
        out.extend_from_slice(&(self.files.len() as u64).to_le_bytes());
        debug_assert_eq!(out.len(), FIXED);
        out.extend_from_slice(&catalog);
        self.files.iter().for_each(|file| put_file(&mut out, file));
        let hash = checksum(&out);
        out.extend_from_slice(&hash.to_le_bytes());
        out
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// `Corrupt` naming `file`, or `NewerFormat`.
    pub(crate) fn decode(file: &str, bytes: &[u8]) -> Result<Self, WalError> {
        let corrupt = |reason: &str| WalError::corrupt(file, 0, reason);
        if bytes.len() < FIXED + HASH_LEN || u64_at(bytes, 0) != MAGIC {
            return Err(corrupt("no manifest"));
        }
        let found = u32_at(bytes, 8);
        if found > u32::from(FORMAT_VERSION) {
            return Err(newer(file, found));
        }
        let (body, _) = bytes.split_at(bytes.len() - HASH_LEN);
        if checksum(body) != u64_at(bytes, body.len()) {
            return Err(corrupt("manifest checksum does not match"));
        }
        Self::parse(body, found).ok_or_else(|| corrupt("malformed manifest"))
    }

    fn parse(body: &[u8], format: u32) -> Option<Self> {
        let (head, rest) = body.split_at(FIXED);
        let (parts, mut rest) = rest.split_at_checked(u32_at(head, 12) as usize)?;
        let tables = take_catalog(parts, (u32_at(head, 72), u32_at(head, 76)), format)?;
        let catalog = Catalog::of_head(&tables, &Catalog::default()).ok()?;
        let mut files = Vec::new();
        for _ in 0..u64_at(head, 80) {
            let (file, after) = take_file(rest)?;
            files.push(file);
            rest = after;
        }
        rest.is_empty().then_some(Self {
            log: LogId(array_at(body, 16)),
            epoch: Epoch(u64_at(head, 32)),
            compacted: Position {
                lsn: Lsn(u64_at(head, 40)),
                chain: Chain(u64_at(head, 48)),
            },
            clock: u64_at(head, 56).cast_signed(),
            next: u64_at(head, 64),
            catalog: Arc::new(catalog),
            files,
        })
    }
}

fn put_file(out: &mut Vec<u8>, file: &FileMeta) {
    out.extend_from_slice(&file.table.0.to_le_bytes());
    out.extend_from_slice(&u32::from(file.window.level).to_le_bytes());
    for word in [
        file.window.index,
        file.min_time,
        file.max_time,
        file.made_at,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for word in [
        file.ordinal,
        file.first.0,
        file.end.0,
        file.rows,
        file.bytes,
        file.chunks.len() as u64,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for hash in &file.chunks {
        out.extend_from_slice(&hash.to_le_bytes());
    }
}

fn take_file(bytes: &[u8]) -> Option<(FileMeta, &[u8])> {
    let (head, rest) = bytes.split_at_checked(ENTRY)?;
    let signed = |at| u64_at(head, at).cast_signed();
    let bytes = u64_at(head, 72);
    let count = u64_at(head, 80);
    (count == bytes.div_ceil(CHUNK as u64)).then_some(())?;
    let count = usize::try_from(count).ok()?;
    let (hashes, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
    let meta = FileMeta {
        table: TableId(u32_at(head, 0)),
        window: Window {
            level: u8::try_from(u32_at(head, 4)).ok()?,
            index: signed(8),
        },
        min_time: signed(16),
        max_time: signed(24),
        made_at: signed(32),
        ordinal: u64_at(head, 40),
        first: Lsn(u64_at(head, 48)),
        end: Lsn(u64_at(head, 56)),
        rows: u64_at(head, 64),
        bytes,
        chunks: hashes.chunks_exact(8).map(|hash| u64_at(hash, 0)).collect(),
    };
    Some((meta, rest))
}

/// Name of the next version of the manifest while it is written.
pub(crate) const MANIFEST_NEW: &str = "manifest.new";
const MAGIC: u64 = u64::from_le_bytes(*b"HWMANIFS");
/// Bytes before the catalog.
const FIXED: usize = 88;
/// Bytes of one file's entry before its checksums.
const ENTRY: usize = 88;
const HASH_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::control::Control;
    use crate::format::options::{Dedup, TableOptions};
    use crate::format::schema::TableSchema;

    fn sample() -> Manifest {
        let mut catalog = Catalog::default();
        let options = TableOptions {
            dedup: Dedup::Key,
            retention: None,
        };
        for control in [
            Control::Schema(Arc::new(TableSchema::new(TableId(1), "plant"))),
            Control::Options(TableId(1), options),
            Control::Cut(TableId(1), 77),
        ] {
            catalog.apply(&control).expect("new");
        }
        let file = FileMeta {
            table: TableId(1),
            ordinal: 3,
            window: Window {
                level: 1,
                index: -2,
            },
            first: Lsn(5),
            end: Lsn(50),
            rows: 40,
            min_time: -9,
            max_time: 9,
            made_at: 1,
            bytes: CHUNK as u64 + 1,
            chunks: vec![7, 8],
        };
        Manifest {
            log: LogId([3; 16]),
            epoch: Epoch(1),
            compacted: Position {
                lsn: Lsn(50),
                chain: Chain(9),
            },
            clock: 12,
            next: 4,
            catalog: Arc::new(catalog),
            files: vec![file],
        }
    }

    #[test]
    fn a_manifest_survives_the_round_trip_and_every_flipped_byte_is_found() {
        let manifest = sample();
        let bytes = manifest.encode();
        let found = Manifest::decode("m", &bytes).expect("valid");
        assert_eq!(found.files, manifest.files);
        assert_eq!((found.compacted, found.next), (manifest.compacted, 4));
        assert_eq!(found.encode(), bytes);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Manifest::decode("m", &damaged).is_err(), "byte {at}");
            assert!(Manifest::decode("m", &bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
