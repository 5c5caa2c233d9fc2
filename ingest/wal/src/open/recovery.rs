//! What opening a log finds in its active segment, and what it may cut. Reads and decides; the
//! caller writes. It must never write.

use std::path::Path;

use bytes::Bytes;

use serde::{Deserialize, Serialize};

use crate::error::WalError;
use crate::format::block::{BlockHeader, BlockKind, seed_of};
use crate::format::catalog::Catalog;
use crate::format::chain::BlockScan;
use crate::format::control::Control;
use crate::format::segment::{BlockEntry, SegmentFooter, SegmentHeader};
use crate::ids::Position;
use crate::read::tail::TailBlock;

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes after the last whole block, cut once: never acknowledged on a primary, fetched again
    /// on a secondary.
    pub torn_tail: Option<TornTail>,
    /// What was found in the place of a newest segment to go on in, where a log was: a crash while
    /// it was being made leaves that, and so does a file that was lost with rows in it.
    pub newest_gone: Option<String>,
    /// Segments held, the active one included.
    pub segments: usize,
    /// Where the log ends.
    pub position: Position,
    /// Segments and files that cannot be read, or not wholly.
    pub damaged: usize,
    /// Headers of blocks in which bits had flipped, and which were turned back; and segments of
    /// which the header or the index was written again.
    pub mended: usize,
}

/// The end of a write that did not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TornTail {
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
    pub reason: String,
}

/// What to do with damage that had been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDamage {
    /// A primary may have acknowledged it: leave a hole, to be repaired from a secondary.
    Keep,
    /// A secondary fetches it again: cut there.
    Cut,
}

/// The blocks found in an active segment.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) blocks: Vec<TailBlock>,
    /// Where valid blocks end, in the file.
    pub(crate) end: u64,
    pub(crate) tip: Position,
    pub(crate) committed_at: Option<i64>,
    /// The last block seals the segment; what follows is a footer, whole or not.
    pub(crate) sealed: bool,
    pub(crate) torn: Option<TornTail>,
    /// Blocks in the middle cannot be read.
    pub(crate) hole: bool,
    /// What its blocks are marked with, if it says so.
    pub(crate) seed: Option<u64>,
}

/// Walks the blocks of an active segment from `header_len` on.
pub(crate) fn scan_active(
    file: &str,
    bytes: &Bytes,
    header_len: usize,
    start: Position,
    catalog: &mut Catalog,
    on_damage: OnDamage,
) -> Result<Scanned, WalError> {
    let blocks_bytes = bytes.slice(header_len..);
    let mut scan = BlockScan::new(&blocks_bytes, start);
    let mut found = Scanned {
        blocks: Vec::new(),
        end: header_len as u64,
        tip: start,
        committed_at: None,
        sealed: false,
        torn: None,
        hole: false,
        seed: None,
    };
    let fault = loop {
        if found.sealed {
            return Ok(found);
        }
        match scan.next() {
            Ok(Some((header, offset, body))) => {
                if let Some(control) = Control::of(&header, body)? {
                    catalog.apply(&control)?;
                }
                let entry = BlockEntry::of(&header, (header_len + offset) as u64);
                let bytes = blocks_bytes.slice(offset..offset + header.total_len());
                found.blocks.push(TailBlock {
                    entry,
                    bytes: Some(bytes),
                });
                found.end = entry.offset + u64::from(entry.len);
                found.tip = header.end();
                found.committed_at = Some(header.committed_at);
                found.sealed = header.kind == BlockKind::Seal;
                found.seed = scan.seed();
            }
            Ok(None) => return Ok(found),
            Err(error @ WalError::NewerFormat { .. }) => return Err(error),
            Err(error) if on_damage == OnDamage::Keep && scan.was_durable() => {
                let at = (header_len + scan.offset()) as u64;
                if !scan.skip_rows() {
                    let reason = format!(
                        "{error}; acknowledged blocks follow, and nothing may be written behind \
                         it; a secondary has them, and without one these say what would be lost, \
                         and do it: headwater open --accept-hole {0}, headwater open --cut-tail {0}",
                        data_dir_of(file).display()
                    );
                    return Err(WalError::corrupt(file, at, reason));
                }
                // Whatever follows: what had been durable is never cut.
                found.end = (header_len + scan.offset()) as u64;
                found.tip = scan.tip();
                found.hole = true;
            }
            Err(error) => break error,
        }
    };
    found.torn = Some(TornTail {
        file: file.to_owned(),
        offset: found.end,
        bytes: bytes.len() as u64 - found.end,
        reason: fault.to_string(),
    });
    Ok(found)
}

/// The data directory of a segment's path.
fn data_dir_of(file: &str) -> &Path {
    let dir = Path::new(file).parent().and_then(Path::parent);
    dir.unwrap_or(Path::new("DATA_DIR"))
}

/// The footer at the end of a newest segment, unless it is something in a row that looks like one:
/// its index begins with the first block, and it stands right behind the one that seals the segment.
/// Where the header cannot be read that cannot be told.
pub(crate) fn footer_of(file: &str, bytes: &[u8]) -> Option<SegmentFooter> {
    if !SegmentFooter::is_claimed(bytes) {
        return None;
    }
    let footer = SegmentFooter::decode(file, bytes).ok()?;
    let Ok((_, header_len)) = SegmentHeader::decode(file, bytes) else {
        return Some(footer);
    };
    let seed = segment_seed(bytes);
    let block = |entry: &BlockEntry| {
        let from = usize::try_from(entry.offset).ok()?;
        bytes.get(from..from.checked_add(entry.len as usize)?)
    };
    let first = footer.entries.first()?;
    let last = footer.entries.last()?;
    let seal = BlockHeader::genuine(block(last)?, seed)?;
    let meets = first.offset == header_len as u64
        && last.offset + u64::from(last.len) == footer.offset_in(bytes.len());
    (meets && seal.kind == BlockKind::Seal && seal.end() == footer.end).then_some(footer)
}

/// What the blocks of a segment are marked with; none where its first block does not say so.
pub(crate) fn segment_seed(bytes: &[u8]) -> Option<u64> {
    let (_, header_len) = SegmentHeader::decode("", bytes).ok()?;
    let (header, body) = BlockHeader::decode_block(bytes.get(header_len..)?).ok()?;
    (header.kind == BlockKind::Secret).then(|| seed_of(body))
}

/// Whether a file without a valid segment header holds any block: if so it is damaged, if not its
/// creation was cut short.
pub(crate) fn holds_blocks(bytes: &[u8]) -> bool {
    let offsets = (0..bytes.len()).step_by(8);
    offsets
        .into_iter()
        .any(|at| BlockHeader::decode(&bytes[at..]).is_ok())
}
