//! The block: header layout, checksums and chain. Pure bytes; see `FORMAT.md`, "Block". It must
//! never accept a block of which a single bit has changed.
//!
//! ```text
//!  0 magic u32   4 format u8   5 kind u8   6 flags u16   8 body_len u32   12 rows u32
//! 16 table u32  20 schema u32 24 first_lsn u64          32 group_lsn u64
//! 40 min_time   48 max_time   56 committed_at           64 prev u64  72 body_hash u64  80 chain u64
//! ```

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::bytes::{FORMAT_VERSION, checksum, put, seeded_checksum, u32_at, u64_at};
use crate::error::WalError;
use crate::ids::{Chain, Lsn, Position, TableId};

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// Rows of one table.
    Data = 1,
    /// One version of one table's schema.
    Schema = 2,
    /// The last block of a segment.
    Seal = 3,
    /// A table's options.
    Options = 4,
    /// Rows of a table older than a time are gone; written by format version 2 alone.
    Cut = 5,
    /// Old segments need no longer be kept.
    Retire = 6,
    /// How far a table's rows have expired.
    Expiry = 7,
    /// The secret that the marks of a segment's blocks are made with; its first block.
    Secret = 8,
    /// What one version of a table's schema has otherwise than the one before.
    Change = 9,
    /// A table that is gone, with all its rows.
    Drop = 10,
}

impl BlockKind {
    /// Whether such a block changes what later ones mean.
    pub(crate) fn controls(self) -> bool {
        !matches!(self, Self::Data | Self::Seal | Self::Secret)
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Data),
            2 => Some(Self::Schema),
            3 => Some(Self::Seal),
            4 => Some(Self::Options),
            5 => Some(Self::Cut),
            6 => Some(Self::Retire),
            7 => Some(Self::Expiry),
            8 => Some(Self::Secret),
            9 => Some(Self::Change),
            10 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// A decoded block header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Version of the format it was written in.
    pub format: u8,
    pub kind: BlockKind,
    /// Bytes of the body and of its mark, a multiple of 8.
    pub body_len: u32,
    /// Rows of a data block, 0 of a control block.
    pub rows: u32,
    pub table: TableId,
    /// Version of the table's schema that the body follows.
    pub schema_version: u32,
    pub first_lsn: Lsn,
    /// Everything below this LSN was durable when the block was written.
    pub group_lsn: Lsn,
    /// Smallest and largest row time, unix nanoseconds; 0 in a control block.
    pub min_time: i64,
    pub max_time: i64,
    /// The primary's wall clock at commit, unix nanoseconds.
    pub committed_at: i64,
    /// Chain value of the block before.
    pub prev: Chain,
    pub body_hash: u64,
    /// Checksum of all header bytes before this field: the log's chain value after this block.
    pub chain: Chain,
}

impl BlockHeader {
    /// Header and body together, in bytes.
    pub fn total_len(&self) -> usize {
        BLOCK_HEADER_LEN + self.body_len as usize
    }

    /// Where the block starts.
    pub fn start(&self) -> Position {
        Position {
            lsn: self.first_lsn,
            chain: self.prev,
        }
    }

    /// Where the log ends after this block.
    pub fn end(&self) -> Position {
        let advance = if self.kind == BlockKind::Data {
            u64::from(self.rows)
        } else {
            1
        };
        Position {
            lsn: Lsn(self.first_lsn.0.saturating_add(advance)),
            chain: self.chain,
        }
    }

    /// The header's bytes; `chain` is computed here and returned with them.
    pub(crate) fn encode(&self) -> ([u8; BLOCK_HEADER_LEN], Chain) {
        let mut out = [0; BLOCK_HEADER_LEN];
        put(&mut out, 0, &BLOCK_MAGIC.to_le_bytes());
        put(&mut out, AT_FORMAT, &[self.format, self.kind as u8, 0, 0]);
        put(&mut out, AT_BODY_LEN, &self.body_len.to_le_bytes());
        put(&mut out, AT_ROWS, &self.rows.to_le_bytes());
        put(&mut out, AT_TABLE, &self.table.0.to_le_bytes());
        put(&mut out, AT_SCHEMA, &self.schema_version.to_le_bytes());
        put(&mut out, AT_FIRST_LSN, &self.first_lsn.0.to_le_bytes());
        put(&mut out, AT_GROUP_LSN, &self.group_lsn.0.to_le_bytes());
        put(&mut out, AT_MIN_TIME, &self.min_time.to_le_bytes());
        put(&mut out, AT_MAX_TIME, &self.max_time.to_le_bytes());
        put(&mut out, AT_COMMITTED, &self.committed_at.to_le_bytes());
        put(&mut out, AT_PREV, &self.prev.0.to_le_bytes());
        put(&mut out, AT_BODY_HASH, &self.body_hash.to_le_bytes());
        let chain = Chain(checksum(&out[..AT_CHAIN]));
        put(&mut out, AT_CHAIN, &chain.0.to_le_bytes());
        (out, chain)
    }

    /// What its place and kind are marked with, under the seed of its segment. Who can choose what
    /// is in a block, but has not got the seed, cannot make bytes that look like another block.
    pub(crate) fn mark(&self, seed: u64) -> u64 {
        let (bytes, _) = self.encode();
        seeded_checksum(&bytes[..AT_BODY_HASH], seed)
    }

    /// Bytes of the mark in front of the body; versions before 4 have none.
    pub(crate) fn mark_len(&self) -> usize {
        if self.format < MARKED_SINCE {
            0
        } else {
            MARK_LEN
        }
    }

    /// The header at the start of `bytes`, if it is that of a block which was written under this
    /// seed. Without a seed the whole block has to be there.
    pub(crate) fn genuine(bytes: &[u8], seed: Option<u64>) -> Option<Self> {
        let Some(seed) = seed else {
            return Self::decode_block(bytes).ok().map(|(header, _)| header);
        };
        let header = Self::decode(bytes).ok()?;
        let mark = bytes.get(BLOCK_HEADER_LEN..BLOCK_HEADER_LEN + header.mark_len())?;
        let is_marked = mark.len() == MARK_LEN && u64_at(mark, 0) == header.mark(seed);
        is_marked.then_some(header)
    }

    /// Reads and checks a header; the body is not looked at.
    ///
    /// # Errors
    /// `InvalidBlock` or `NewerFormat`.
    pub fn decode(bytes: &[u8]) -> Result<Self, WalError> {
        let invalid = |reason: &str| WalError::InvalidBlock(reason.to_owned());
        let Some(bytes) = bytes.first_chunk::<BLOCK_HEADER_LEN>() else {
            return Err(invalid("shorter than a block header"));
        };
        if u32_at(bytes, 0) != BLOCK_MAGIC {
            return Err(invalid("no block magic"));
        }
        let format = bytes[AT_FORMAT];
        let chain = Chain(u64_at(bytes, AT_CHAIN));
        if checksum(&bytes[..AT_CHAIN]) != chain.0 {
            return Err(invalid("header checksum does not match"));
        }
        if format == 0 || format > FORMAT_VERSION {
            return Err(WalError::NewerFormat {
                file: "block".to_owned(),
                found: u32::from(format),
                supported: u32::from(FORMAT_VERSION),
            });
        }
        let kind = BlockKind::from_byte(bytes[AT_KIND]).ok_or_else(|| invalid("unknown kind"))?;
        if bytes[AT_FLAGS] != 0 || bytes[AT_FLAGS + 1] != 0 {
            return Err(invalid("unknown flags"));
        }
        let header = Self {
            format,
            kind,
            body_len: u32_at(bytes, AT_BODY_LEN),
            rows: u32_at(bytes, AT_ROWS),
            table: TableId(u32_at(bytes, AT_TABLE)),
            schema_version: u32_at(bytes, AT_SCHEMA),
            first_lsn: Lsn(u64_at(bytes, AT_FIRST_LSN)),
            group_lsn: Lsn(u64_at(bytes, AT_GROUP_LSN)),
            min_time: u64_at(bytes, AT_MIN_TIME).cast_signed(),
            max_time: u64_at(bytes, AT_MAX_TIME).cast_signed(),
            committed_at: u64_at(bytes, AT_COMMITTED).cast_signed(),
            prev: Chain(u64_at(bytes, AT_PREV)),
            body_hash: u64_at(bytes, AT_BODY_HASH),
            chain,
        };
        header.check_shape()?;
        Ok(header)
    }

    fn check_shape(&self) -> Result<(), WalError> {
        let invalid = |reason: &str| Err(WalError::InvalidBlock(reason.to_owned()));
        if self.total_len() > MAX_BLOCK_LEN {
            return invalid("longer than the limit of 64 MiB");
        }
        if !self.body_len.is_multiple_of(8) {
            return invalid("body length is not a multiple of 8");
        }
        if (self.body_len as usize) < self.mark_len() {
            return invalid("too short for its mark");
        }
        if (self.kind == BlockKind::Data) != (self.rows > 0) {
            return invalid("row count does not fit the kind");
        }
        if self.group_lsn > self.first_lsn || self.min_time > self.max_time {
            return invalid("header fields contradict each other");
        }
        Ok(())
    }

    /// Decodes the block at the start of `bytes` and checks header and body. The mark is no part of
    /// the body that is returned.
    ///
    /// # Errors
    /// `InvalidBlock` or `NewerFormat`.
    pub fn decode_block(bytes: &[u8]) -> Result<(Self, &[u8]), WalError> {
        let header = Self::decode(bytes)?;
        let Some(body) = bytes.get(BLOCK_HEADER_LEN..header.total_len()) else {
            return Err(WalError::InvalidBlock("body is cut short".to_owned()));
        };
        if checksum(body) != header.body_hash {
            return Err(WalError::InvalidBlock(
                "body checksum does not match".to_owned(),
            ));
        }
        Ok((header, body.get(header.mark_len()..).unwrap_or_default()))
    }
}

/// The seed of a segment, from the body of its [`BlockKind::Secret`]. The body is longer than the
/// seed: what checksums of it tell is not enough to find the seed.
pub(crate) fn seed_of(secret: &[u8]) -> u64 {
    seeded_checksum(secret, SEED_OF_SEEDS)
}

/// Where the body begins in the bytes of a block that has been checked.
pub(crate) fn body_at(block: &[u8]) -> usize {
    match block.get(AT_FORMAT) {
        Some(format) if *format >= MARKED_SINCE => BLOCK_HEADER_LEN + MARK_LEN,
        _ => BLOCK_HEADER_LEN,
    }
}

/// Total length of the block whose header starts `header`.
///
/// # Errors
/// When the bytes are no valid block header of a format this version reads.
pub fn block_len(header: &[u8]) -> Result<usize, WalError> {
    BlockHeader::decode(header).map(|header| header.total_len())
}

/// Bytes of a block header.
pub const BLOCK_HEADER_LEN: usize = 88;
/// Bytes of the mark of a block.
pub(crate) const MARK_LEN: usize = 8;
/// Bytes of the secret of a segment.
pub(crate) const SECRET_LEN: usize = 32;
/// The first format version whose blocks are marked.
const MARKED_SINCE: u8 = 4;
/// Any number but 0, under which the body of a secret is hashed for its block.
const SEED_OF_SEEDS: u64 = 0x4857_5345_4544_0004;
/// The longest block, header and body.
pub const MAX_BLOCK_LEN: usize = 64 << 20;
/// `HWBK`, little-endian.
pub(crate) const BLOCK_MAGIC: u32 = 0x4b42_5748;
const AT_FORMAT: usize = 4;
const AT_KIND: usize = AT_FORMAT + 1;
const AT_FLAGS: usize = AT_KIND + 1;
const AT_BODY_LEN: usize = AT_FLAGS + 2;
const AT_ROWS: usize = AT_BODY_LEN + 4;
const AT_TABLE: usize = AT_ROWS + 4;
const AT_SCHEMA: usize = AT_TABLE + 4;
const AT_FIRST_LSN: usize = AT_SCHEMA + 4;
const AT_GROUP_LSN: usize = AT_FIRST_LSN + 8;
const AT_MIN_TIME: usize = AT_GROUP_LSN + 8;
const AT_MAX_TIME: usize = AT_MIN_TIME + 8;
const AT_COMMITTED: usize = AT_MAX_TIME + 8;
const AT_PREV: usize = AT_COMMITTED + 8;
const AT_BODY_HASH: usize = AT_PREV + 8;
const AT_CHAIN: usize = AT_BODY_HASH + 8;
const _: () = assert!(AT_CHAIN + 8 == BLOCK_HEADER_LEN && BLOCK_HEADER_LEN.is_multiple_of(8));

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(body: &[u8]) -> Vec<u8> {
        let header = BlockHeader {
            format: FORMAT_VERSION,
            kind: BlockKind::Data,
            body_len: u32::try_from(body.len()).expect("short"),
            rows: 3,
            table: TableId(7),
            schema_version: 2,
            first_lsn: Lsn(41),
            group_lsn: Lsn(40),
            min_time: -5,
            max_time: 9,
            committed_at: 11,
            prev: Chain(99),
            body_hash: checksum(body),
            chain: Chain::default(),
        };
        let (bytes, _) = header.encode();
        [&bytes[..], body].concat()
    }

    #[test]
    fn a_block_survives_the_round_trip() {
        let bytes = sample(b"sixteen bytes!!!");
        let (header, body) = BlockHeader::decode_block(&bytes).expect("valid");
        assert_eq!(body, b"bytes!!!", "behind the mark");
        assert_eq!(header.end().lsn, Lsn(44));
        assert_eq!(header.encode().0[..], bytes[..BLOCK_HEADER_LEN]);
    }

    #[test]
    fn only_who_knows_the_seed_makes_a_genuine_block() {
        let mut bytes = sample(b"sixteen bytes!!!");
        assert!(BlockHeader::genuine(&bytes, None).is_some());
        assert!(BlockHeader::genuine(&bytes, Some(7)).is_none());
        let (header, _) = BlockHeader::decode_block(&bytes).expect("valid");
        put(&mut bytes, BLOCK_HEADER_LEN, &header.mark(7).to_le_bytes());
        assert_eq!(BlockHeader::genuine(&bytes, Some(7)), Some(header));
        // What is written of a torn block is enough, but not less than its mark.
        let torn = &bytes[..BLOCK_HEADER_LEN + MARK_LEN];
        assert_eq!(BlockHeader::genuine(torn, Some(7)), Some(header));
        assert!(BlockHeader::genuine(&torn[..torn.len() - 1], Some(7)).is_none());
        assert!(BlockHeader::genuine(torn, None).is_none());
        assert!(BlockHeader::genuine(&bytes, Some(8)).is_none());
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let bytes = sample(b"sixteen bytes!!!");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(
                    BlockHeader::decode_block(&damaged).is_err(),
                    "byte {at} bit {bit}"
                );
            }
            assert!(
                BlockHeader::decode_block(&bytes[..at]).is_err(),
                "cut at {at}"
            );
        }
    }
}
