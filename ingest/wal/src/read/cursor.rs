//! Reads the log forward from a block boundary, as the bytes on disk. Holds nothing but a position,
//! so a slow reader pins no memory between two calls. It must never read behind the durable end.

use bytes::Bytes;

use crate::bytes::u64_at;
use crate::error::WalError;
use crate::format::block::BLOCK_HEADER_LEN;
use crate::format::chain::BlockScan;
use crate::format::segment::BlockEntry;
use crate::ids::{Chain, Lsn, Position};
use crate::read::log::Log;
use crate::read::sealed::Sealed;
use crate::read::snapshot::Snapshot;

/// A forward reader of durable blocks.
#[derive(Clone, Debug)]
pub struct Cursor {
    log: Log,
    position: Position,
}

/// A run of whole blocks.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Put together: whole blocks, byte for byte as on disk.
    pub parts: Vec<Bytes>,
    /// Where the log stands after them.
    pub end: Position,
    /// Length of all parts.
    pub bytes: usize,
}

impl Log {
    /// A reader of blocks from `from` on.
    ///
    /// # Errors
    /// `NotHeld` when the log has no block boundary with that chain value there.
    pub fn cursor(&self, from: Position) -> Result<Cursor, WalError> {
        if self.held_chain_at(from.lsn) != Some(from.chain) {
            return Err(WalError::NotHeld(from));
        }
        Ok(Cursor::new(self.clone(), from))
    }
}

impl Log {
    /// The blocks from `from` on, byte for byte and checked, until one ends at `to` or beyond, or
    /// the log does; `None` when no block of this log starts there, or there are more bytes than
    /// this. Reads them all.
    pub fn export_blocks(&self, from: Position, to: Lsn, max_bytes: usize) -> Option<Bytes> {
        let mut cursor = self.cursor(from).ok()?;
        let mut found = Vec::new();
        while cursor.position.lsn < to
            && let Some(chunk) = cursor.next(EXPORTED_AT_ONCE).ok()?
        {
            if chunk.bytes > max_bytes.saturating_sub(found.len()) {
                return None;
            }
            chunk
                .parts
                .iter()
                .for_each(|part| found.extend_from_slice(part));
        }
        let mut scan = BlockScan::new(&found, from);
        while scan.next().ok()?.is_some() {}
        Some(Bytes::from(found))
    }
}

impl Cursor {
    pub(crate) fn new(log: Log, position: Position) -> Self {
        Self { log, position }
    }

    /// Where the next block starts.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next blocks, about `max_bytes` of them but at least one; `None` at the durable end.
    ///
    /// # Errors
    /// `NotHeld` when the position has been retired meanwhile; `Corrupt`, `Io` when the blocks
    /// cannot be read.
    pub fn next(&mut self, max_bytes: usize) -> Result<Option<Chunk>, WalError> {
        let snapshot = self.log.snapshot();
        if self.position.lsn >= snapshot.end.lsn {
            return Ok(None);
        }
        let chunk = if self.position.lsn >= snapshot.tail.start.lsn {
            self.read_tail(&snapshot, max_bytes)?
        } else {
            let at = snapshot
                .sealed
                .partition_point(|seg| seg.end.lsn <= self.position.lsn);
            match snapshot.sealed.get(at) {
                Some(segment) => self.read_sealed(segment, max_bytes)?,
                None => None,
            }
        };
        let chunk = chunk.ok_or(WalError::NotHeld(self.position))?;
        self.position = chunk.end;
        Ok(Some(chunk))
    }

    fn read_sealed(&self, segment: &Sealed, max_bytes: usize) -> Result<Option<Chunk>, WalError> {
        let Some(first) = segment.block_at(self.position.lsn) else {
            return Ok(None);
        };
        let from = segment.entries[first].offset;
        let fits = |at: &usize| {
            let entry = &segment.entries[*at];
            entry.offset + u64::from(entry.len) - from <= max_bytes as u64
        };
        // Not across a hole: what lies between is no block.
        let follows =
            |at: &usize| segment.entries[*at].first_lsn == segment.entries[*at - 1].end_lsn();
        let last = (first + 1..segment.entries.len())
            .take_while(|at| fits(at) && follows(at))
            .last()
            .unwrap_or(first);
        let entry = &segment.entries[last];
        let len = entry.offset + u64::from(entry.len) - from;
        let bytes = segment.bytes(from, usize::try_from(len).unwrap_or(usize::MAX))?;
        let last = bytes.slice(bytes.len().saturating_sub(entry.len as usize)..);
        Ok(Some(Chunk {
            end: end_of(entry, &last),
            bytes: bytes.len(),
            parts: vec![bytes],
        }))
    }

    fn read_tail(&self, snapshot: &Snapshot, max_bytes: usize) -> Result<Option<Chunk>, WalError> {
        let tail = &snapshot.tail;
        let blocks = tail.run(self.position.lsn, snapshot.tail_len, max_bytes);
        let Some((last, blocks)) = blocks.as_ref().and_then(|all| Some((all.last()?, all))) else {
            return Ok(None);
        };
        let parts = tail.bytes_of(blocks)?;
        let bytes = parts.iter().map(Bytes::len).sum();
        let header = parts.last().and_then(|part| {
            let from = part.len().checked_sub(last.entry.len as usize)?;
            part.get(from..)
        });
        let end = end_of(&last.entry, header.unwrap_or_default());
        Ok(Some(Chunk { parts, end, bytes }))
    }
}

/// Where the log stands after a block.
fn end_of(entry: &BlockEntry, block: &[u8]) -> Position {
    let chain = Chain(u64_at(block, BLOCK_HEADER_LEN - 8));
    Position {
        lsn: entry.end_lsn(),
        chain,
    }
}

/// Blocks are put together in pieces of about this many bytes.
const EXPORTED_AT_ONCE: usize = 1 << 20;
