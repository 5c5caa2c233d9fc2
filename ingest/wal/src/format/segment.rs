//! Bytes of a segment around its blocks: the header with the schemas in force, the footer with the
//! block index. Pure bytes; see `FORMAT.md`, "Segment". Both follow from the blocks alone, so every
//! node writes the same. It must never need anything but the blocks.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use crate::bytes::{FORMAT_VERSION, array_at, checksum, put, u32_at, u64_at};
use crate::error::WalError;
use crate::format::block::{BlockHeader, BlockKind};
use crate::format::catalog::{Head, Settings};
use crate::format::control::{decode_expiry, decode_options, encode_expiry, encode_options};
use crate::format::options::Expiry;
use crate::format::schema::TableSchema;
use crate::ids::{Chain, Epoch, LogId, Lsn, Position, TableId};

/// What a segment starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub log: LogId,
    pub epoch: Epoch,
    pub start: Position,
    /// All tables when the segment was begun.
    pub(crate) tables: Head,
}

impl SegmentHeader {
    /// Bytes of a header that say how long it is.
    pub(crate) const FIXED_LEN: usize = HEADER_FIXED;

    /// The same without schemas and settings.
    pub(crate) fn bare(self) -> Self {
        Self {
            tables: Head::default(),
            ..self
        }
    }

    /// The header's bytes, a multiple of 8.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_FIXED];
        put(&mut out, 0, &HEADER_MAGIC.to_le_bytes());
        put(&mut out, 8, &u32::from(FORMAT_VERSION).to_le_bytes());
        put(&mut out, 16, &self.log.0);
        put(&mut out, 32, &self.epoch.0.to_le_bytes());
        put(&mut out, 40, &self.start.lsn.0.to_le_bytes());
        put(&mut out, 48, &self.start.chain.0.to_le_bytes());
        put(
            &mut out,
            56,
            &len32(self.tables.schemas.len()).to_le_bytes(),
        );
        put(
            &mut out,
            60,
            &len32(self.tables.settings.len()).to_le_bytes(),
        );
        put_catalog(&mut out, &self.tables);
        let total = len32(out.len() + HASH_LEN);
        put(&mut out, 12, &total.to_le_bytes());
        let hash = checksum(&out);
        out.extend_from_slice(&hash.to_le_bytes());
        out
    }

    /// How long the header at the start of a file claims to be.
    pub(crate) fn claimed_len(bytes: &[u8]) -> usize {
        if bytes.len() < HEADER_FIXED || u64_at(bytes, 0) != HEADER_MAGIC {
            return 0;
        }
        u32_at(bytes, 12) as usize
    }

    /// Reads a header at the start of `bytes`; also returns its length.
    ///
    /// # Errors
    /// `Corrupt` naming `file`, or `NewerFormat`.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<(Self, usize), WalError> {
        let corrupt = |reason: &str| WalError::corrupt(file, 0, reason);
        if bytes.len() < HEADER_FIXED + HASH_LEN || u64_at(bytes, 0) != HEADER_MAGIC {
            return Err(corrupt("no segment header"));
        }
        let found = u32_at(bytes, 8);
        if found > u32::from(FORMAT_VERSION) {
            return Err(newer(file, found));
        }
        let len = u32_at(bytes, 12) as usize;
        if len < HEADER_FIXED + HASH_LEN || len > bytes.len() || !len.is_multiple_of(8) {
            return Err(corrupt("segment header is cut short"));
        }
        let at_hash = len - HASH_LEN;
        let Some((fixed, rest)) = bytes
            .get(..at_hash)
            .filter(|covered| checksum(covered) == u64_at(bytes, at_hash))
            .and_then(|covered| covered.split_at_checked(HEADER_FIXED))
        else {
            return Err(corrupt("segment header checksum does not match"));
        };
        let counts = (u32_at(fixed, 56), u32_at(fixed, 60));
        let tables = take_catalog(rest, counts, found)
            .ok_or_else(|| corrupt("malformed schemas in segment header"))?;
        let start = Position {
            lsn: Lsn(u64_at(bytes, 40)),
            chain: Chain(u64_at(bytes, 48)),
        };
        let epoch = Epoch(u64_at(bytes, 32));
        Ok((
            Self {
                log: LogId(array_at(bytes, 16)),
                epoch,
                start,
                tables,
            },
            len,
        ))
    }
}

/// What is said of all tables, as segment headers and manifests hold it.
pub(crate) fn put_catalog(out: &mut Vec<u8>, head: &Head) {
    for schema in &head.schemas {
        let bytes = schema.encode();
        out.extend_from_slice(&u64::from(len32(bytes.len())).to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    for (table, settings) in &head.settings {
        out.extend_from_slice(&u64::from(table.0).to_le_bytes());
        out.extend_from_slice(&encode_options(settings.options));
        out.extend_from_slice(&encode_expiry(settings.expiry));
    }
    out.extend_from_slice(&u64::from(head.next_table.0).to_le_bytes());
}

/// Reads what `put_catalog` wrote in this version of the format; `None` when it is not just that.
pub(crate) fn take_catalog(mut rest: &[u8], counts: (u32, u32), format: u32) -> Option<Head> {
    let (mut schemas, mut settings) = (Vec::new(), Vec::new());
    for _ in 0..counts.0 {
        let (schema, after) = take_schema(rest, format)?;
        schemas.push(schema);
        rest = after;
    }
    for _ in 0..counts.1 {
        let (len, is_old) = if format < EXPIRY_SINCE {
            (OLD_SETTINGS_LEN, true)
        } else {
            (SETTINGS_LEN, false)
        };
        let (bytes, after) = rest.split_at_checked(len)?;
        let table = TableId(u32::try_from(u64_at(bytes, 0)).ok()?);
        let options = decode_options(bytes.get(8..24)?)?;
        let expiry = if is_old {
            let cut = Some(u64_at(bytes, 24).cast_signed()).filter(|cut| *cut != i64::MIN);
            Expiry { cut, purged: cut }
        } else {
            decode_expiry(bytes.get(24..)?)?
        };
        settings.push((table, Settings { options, expiry }));
        rest = after;
    }
    let next_table = if format < DROPS_SINCE {
        TableId(
            schemas
                .last()
                .map_or(1, |schema| schema.id.0.saturating_add(1)),
        )
    } else {
        let (word, after) = rest.split_at_checked(8)?;
        rest = after;
        TableId(u32::try_from(u64_at(word, 0)).ok()?)
    };
    rest.is_empty().then_some(Head {
        schemas,
        settings,
        next_table,
    })
}

fn take_schema(bytes: &[u8], format: u32) -> Option<(Arc<TableSchema>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(8)?;
    let (body, rest) = rest.split_at_checked(usize::try_from(u64_at(head, 0)).ok()?)?;
    Some((Arc::new(TableSchema::decode(body, format).ok()?), rest))
}

/// Counts and lengths here are bounded far below `u32::MAX` by the limits on names and segments.
pub(crate) fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

pub(crate) fn newer(file: &str, found: u32) -> WalError {
    let supported = u32::from(FORMAT_VERSION);
    WalError::NewerFormat {
        file: file.to_owned(),
        found,
        supported,
    }
}

/// Where a block is, and what a scan must know to skip it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) rows: u32,
    pub(crate) first_lsn: Lsn,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
    pub(crate) table: TableId,
    pub(crate) schema_version: u32,
    pub(crate) kind: BlockKind,
}

impl BlockEntry {
    pub(crate) fn of(header: &BlockHeader, offset: u64) -> Self {
        Self {
            offset,
            len: len32(header.total_len()),
            rows: header.rows,
            first_lsn: header.first_lsn,
            min_time: header.min_time,
            max_time: header.max_time,
            table: header.table,
            schema_version: header.schema_version,
            kind: header.kind,
        }
    }

    /// Whether these bytes are this block, whole and right.
    pub(crate) fn check(&self, block: &[u8]) -> Result<BlockHeader, String> {
        let (header, _) = BlockHeader::decode_block(block).map_err(|error| error.to_string())?;
        if Self::of(&header, self.offset) != *self {
            return Err("the block is not the one in the index".to_owned());
        }
        Ok(header)
    }

    /// The LSN after this block.
    pub(crate) fn end_lsn(&self) -> Lsn {
        let advance = if self.kind == BlockKind::Data {
            u64::from(self.rows)
        } else {
            1
        };
        Lsn(self.first_lsn.0.saturating_add(advance))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.first_lsn.0.to_le_bytes());
        out.extend_from_slice(&self.min_time.to_le_bytes());
        out.extend_from_slice(&self.max_time.to_le_bytes());
        out.extend_from_slice(&self.table.0.to_le_bytes());
        out.extend_from_slice(&self.schema_version.to_le_bytes());
        out.extend_from_slice(&u64::from(self.kind as u8).to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let kind = BlockKind::from_byte(u8::try_from(u64_at(bytes, 48)).ok()?)?;
        Some(Self {
            offset: u64_at(bytes, 0),
            len: u32_at(bytes, 8),
            rows: u32_at(bytes, 12),
            first_lsn: Lsn(u64_at(bytes, 16)),
            min_time: u64_at(bytes, 24).cast_signed(),
            max_time: u64_at(bytes, 32).cast_signed(),
            table: TableId(u32_at(bytes, 40)),
            schema_version: u32_at(bytes, 44),
            kind,
        })
    }
}

/// The end of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFooter {
    /// Where the log stands after this segment: the start of the next.
    pub end: Position,
    /// The primary's clock at the commit of the last block, unix nanoseconds.
    pub committed_at: i64,
    pub(crate) entries: Vec<BlockEntry>,
}

impl SegmentFooter {
    /// The footer's bytes when it starts at `offset` of its file.
    pub fn encode(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * ENTRY_LEN + TRAILER_LEN);
        self.entries.iter().for_each(|entry| entry.encode(&mut out));
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&u64::from(len32(self.entries.len())).to_le_bytes());
        out.extend_from_slice(&self.end.lsn.0.to_le_bytes());
        out.extend_from_slice(&self.end.chain.0.to_le_bytes());
        out.extend_from_slice(&self.committed_at.to_le_bytes());
        let hash = checksum(&out);
        out.extend_from_slice(&hash.to_le_bytes());
        out.extend_from_slice(&FOOTER_MAGIC.to_le_bytes());
        out
    }

    /// Where it begins in a file of this length.
    pub(crate) fn offset_in(&self, len: usize) -> u64 {
        let own = self.entries.len() * ENTRY_LEN + TRAILER_LEN;
        len.saturating_sub(own) as u64
    }

    /// Whether `bytes`, a whole file, claims to end with a footer.
    pub(crate) fn is_claimed(bytes: &[u8]) -> bool {
        bytes.len() >= TRAILER_LEN && u64_at(bytes, bytes.len() - 8) == FOOTER_MAGIC
    }

    /// Reads the footer at the end of `bytes`, a whole file.
    ///
    /// # Errors
    /// `Corrupt` naming `file` and the footer's offset.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Self, WalError> {
        Self::decode_end(file, 0, bytes)
    }

    /// Where the footer begins of which `bytes` are the end, as far as it says so.
    pub(crate) fn claimed_start(bytes: &[u8]) -> Option<u64> {
        Self::is_claimed(bytes).then(|| u64_at(bytes, bytes.len() - TRAILER_LEN))
    }

    /// Reads the footer at the end of `bytes`, a file from `base` on.
    pub(crate) fn decode_end(file: &str, base: u64, bytes: &[u8]) -> Result<Self, WalError> {
        let end = base + bytes.len() as u64;
        if !Self::is_claimed(bytes) {
            let at = end.saturating_sub(TRAILER_LEN as u64);
            return Err(WalError::corrupt(
                file,
                at,
                "a sealed segment without a footer",
            ));
        }
        let trailer = bytes.len() - TRAILER_LEN;
        let corrupt = |reason: &str| WalError::corrupt(file, base + trailer as u64, reason);
        // In `bytes`; what begins before them contradicts itself.
        let offset = u64_at(bytes, trailer).checked_sub(base);
        let offset = offset.and_then(|at| usize::try_from(at).ok());
        let offset = offset.unwrap_or(usize::MAX);
        let count = usize::try_from(u64_at(bytes, trailer + 8)).unwrap_or(usize::MAX);
        if count
            .checked_mul(ENTRY_LEN)
            .and_then(|len| len.checked_add(offset))
            != Some(trailer)
        {
            return Err(corrupt("footer lengths contradict the file"));
        }
        let at_hash = bytes.len() - 16;
        let covered = bytes.get(offset..at_hash).map(checksum);
        let index = bytes.get(offset..trailer).unwrap_or_default();
        if covered != Some(u64_at(bytes, at_hash)) {
            return Err(corrupt("footer checksum does not match"));
        }
        let entries = index
            .chunks_exact(ENTRY_LEN)
            .map(BlockEntry::decode)
            .collect::<Option<Vec<_>>>()
            .filter(|entries| {
                entries
                    .iter()
                    .all(|entry| inside(entry, base + offset as u64))
            })
            .ok_or_else(|| corrupt("malformed entry in the block index"))?;
        let lsn = Lsn(u64_at(bytes, trailer + 16));
        let chain = Chain(u64_at(bytes, trailer + 24));
        let committed_at = u64_at(bytes, trailer + 32).cast_signed();
        Ok(Self {
            end: Position { lsn, chain },
            committed_at,
            entries,
        })
    }
}

fn inside(entry: &BlockEntry, limit: u64) -> bool {
    entry
        .offset
        .checked_add(u64::from(entry.len))
        .is_some_and(|end| end <= limit)
        && entry.len as usize >= crate::format::block::BLOCK_HEADER_LEN
}

const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"HWSEGMNT");
const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"HWFOOTER");
/// Header bytes before the schemas.
const HEADER_FIXED: usize = 64;
const HASH_LEN: usize = 8;
/// Bytes of one table's settings in a header.
const SETTINGS_LEN: usize = 40;
/// The same while what was cut was purged, too.
const OLD_SETTINGS_LEN: usize = 32;
/// The first format version in which the two are told apart.
const EXPIRY_SINCE: u32 = 3;
/// The first format version in which tables may have been dropped.
const DROPS_SINCE: u32 = 4;
/// Bytes of one index entry in a footer.
pub(crate) const ENTRY_LEN: usize = 56;
/// Bytes of a footer after its entries.
pub(crate) const TRAILER_LEN: usize = 56;
const _: () = assert!(ENTRY_LEN.is_multiple_of(8) && TRAILER_LEN.is_multiple_of(8));

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        let log = LogId([7; 16]);
        let schemas = vec![Arc::new(TableSchema::new(TableId(1), "plant"))];
        SegmentHeader {
            log,
            epoch: Epoch(1),
            start: log.genesis(),
            tables: Head {
                schemas,
                settings: vec![(
                    TableId(1),
                    Settings {
                        expiry: Expiry {
                            cut: Some(-4),
                            purged: None,
                        },
                        ..Settings::default()
                    },
                )],
                next_table: TableId(9),
            },
        }
    }

    #[test]
    fn a_header_survives_the_round_trip_and_every_flipped_byte_is_found() {
        let bytes = header().encode();
        let (decoded, len) = SegmentHeader::decode("f", &bytes).expect("valid");
        assert_eq!((decoded, len), (header(), bytes.len()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(SegmentHeader::decode("f", &damaged).is_err(), "byte {at}");
            assert!(
                SegmentHeader::decode("f", &bytes[..at]).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_footer_survives_the_round_trip_and_every_flipped_byte_is_found() {
        let entry = BlockEntry {
            offset: 0,
            len: 96,
            rows: 4,
            first_lsn: Lsn(9),
            min_time: -1,
            max_time: 5,
            table: TableId(2),
            schema_version: 3,
            kind: BlockKind::Data,
        };
        let end = Position {
            lsn: Lsn(13),
            chain: Chain(77),
        };
        let footer = SegmentFooter {
            end,
            committed_at: 5,
            entries: vec![entry],
        };
        let blocks = vec![0xaa; 96];
        let bytes = [blocks.clone(), footer.encode(96)].concat();
        assert_eq!(SegmentFooter::decode("f", &bytes).expect("valid"), footer);
        for at in blocks.len()..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(SegmentFooter::decode("f", &damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_an_older_version_had_cut_is_purged() {
        let mut old = u64::from(3_u32).to_le_bytes().to_vec();
        old.extend_from_slice(&encode_options(crate::TableOptions::default()));
        old.extend_from_slice(&(-4_i64).to_le_bytes());
        let settings = take_catalog(&old, (0, 1), 2).expect("whole").settings;
        let expiry = Expiry {
            cut: Some(-4),
            purged: Some(-4),
        };
        assert_eq!(settings.len(), 1);
        assert_eq!(settings.first().map(|(_, held)| held.expiry), Some(expiry));
        assert!(take_catalog(&old, (0, 1), 3).is_none());
    }
}
