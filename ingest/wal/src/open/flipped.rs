//! Block headers in an active segment of which bits have flipped, and what they were: found by
//! trying, and sure, because checksums cover every bit. Pure; it must never take for right what a
//! checksum of 64 bits has not shown.

use crate::bytes::{checksum, put, u64_at};
use crate::format::block::{BLOCK_HEADER_LEN, BLOCK_MAGIC, BlockHeader, BlockKind};
use crate::ids::Position;

type HeaderBytes = [u8; BLOCK_HEADER_LEN];

/// Offsets in `blocks`, which continue `start`, of headers that cannot be read, with what they were.
/// It ends where one is beyond that.
pub(crate) fn flipped_headers(blocks: &[u8], start: Position) -> Vec<(usize, HeaderBytes)> {
    let (mut at, mut tip, mut found) = (0, start, Vec::new());
    while let Some(rest) = blocks.get(at..).filter(|rest| !rest.is_empty()) {
        let header = match BlockHeader::decode(rest) {
            Ok(header) if header.start() == tip => header,
            // It is whole, and of another history.
            Ok(_) => break,
            Err(_) => match mended(rest, tip) {
                Some((header, bytes)) => {
                    found.push((at, bytes));
                    header
                }
                None => break,
            },
        };
        if header.kind == BlockKind::Seal || found.len() >= MOST {
            break;
        }
        at += header.total_len();
        tip = header.end();
    }
    found
}

/// The header of the block at the start of `rest`, which continues `tip`, as it must have been.
fn mended(rest: &[u8], tip: Position) -> Option<(BlockHeader, HeaderBytes)> {
    let damaged = rest.first_chunk::<BLOCK_HEADER_LEN>()?;
    let mut known = *damaged;
    // What the block before says of it.
    put(&mut known, 0, &BLOCK_MAGIC.to_le_bytes());
    put(&mut known, AT_FIRST_LSN, &tip.lsn.0.to_le_bytes());
    put(&mut known, AT_PREV, &tip.chain.0.to_le_bytes());
    by_flips(known, rest, tip).or_else(|| by_what_follows(known, rest, tip))
}

/// With at most two bits of it turned back.
fn by_flips(
    mut bytes: HeaderBytes,
    rest: &[u8],
    tip: Position,
) -> Option<(BlockHeader, HeaderBytes)> {
    if let Some(found) = whole(&bytes, rest, tip) {
        return Some((found, bytes));
    }
    let turn = |bytes: &mut HeaderBytes, bit: usize| {
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    };
    for first in 0..BITS {
        turn(&mut bytes, first);
        if let Some(found) = whole(&bytes, rest, tip) {
            return Some((found, bytes));
        }
        for second in 0..first {
            turn(&mut bytes, second);
            if let Some(found) = whole(&bytes, rest, tip) {
                return Some((found, bytes));
            }
            turn(&mut bytes, second);
        }
        turn(&mut bytes, first);
    }
    None
}

/// When only its own checksum is wrong, which the next block repeats.
fn by_what_follows(
    mut bytes: HeaderBytes,
    rest: &[u8],
    tip: Position,
) -> Option<(BlockHeader, HeaderBytes)> {
    let chain = checksum(bytes.get(..AT_CHAIN)?);
    put(&mut bytes, AT_CHAIN, &chain.to_le_bytes());
    let header = whole(&bytes, rest, tip)?;
    let next = BlockHeader::decode(rest.get(header.total_len()..)?).ok()?;
    (next.start() == header.end()).then_some((header, bytes))
}

/// The header, if its checksum, its place and its body say that it is right.
fn whole(bytes: &HeaderBytes, rest: &[u8], tip: Position) -> Option<BlockHeader> {
    if checksum(bytes.get(..AT_CHAIN)?) != u64_at(bytes, AT_CHAIN) {
        return None;
    }
    let header = BlockHeader::decode(bytes).ok()?;
    let body = rest.get(BLOCK_HEADER_LEN..header.total_len())?;
    (header.start() == tip && checksum(body) == header.body_hash).then_some(header)
}

const BITS: usize = BLOCK_HEADER_LEN * 8;
/// More than so many are no accident of single bits.
const MOST: usize = 16;
/// Places in a header; see `FORMAT.md`.
const AT_FIRST_LSN: usize = 24;
const AT_PREV: usize = 64;
const AT_CHAIN: usize = 80;
