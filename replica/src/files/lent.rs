//! A run of blocks on its way to a node that lacks it. It owns where that is; it must never hold
//! more than a piece and one block of it, nor send what the log has not checked.

use bytes::{Buf, Bytes, BytesMut};
use wal::{CHUNK_LEN, Cursor, Log, Lsn, Position, WalError};

/// Blocks from one place on, read piece by piece.
#[derive(Debug)]
pub(crate) struct Lent {
    cursor: Cursor,
    to: Lsn,
    left: u64,
    /// Read, and not given yet.
    read: BytesMut,
}

impl Lent {
    /// The blocks of this log from one place until one ends at the other or beyond, or the log
    /// does; none when no block starts there, they cannot be read, or there are more bytes than
    /// this. Reads them all.
    pub(crate) fn of(log: &Log, from: Position, to: Lsn, most: u64) -> Option<Self> {
        let mut cursor = log.cursor(from).ok()?;
        let mut left = 0_u64;
        while cursor.position().lsn < to
            && let Some(chunk) = cursor.next(CHUNK_LEN).ok()?
        {
            left += u64::try_from(chunk.bytes).ok()?;
            if left > most {
                return None;
            }
        }
        Some(Self {
            // The log may have grown meanwhile.
            to: cursor.position().lsn,
            cursor: log.cursor(from).ok()?,
            left,
            read: BytesMut::new(),
        })
    }

    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next [`CHUNK_LEN`] bytes, fewer at the end; none behind it.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>, WalError> {
        while self.read.len() < CHUNK_LEN && self.cursor.position().lsn < self.to {
            let room = CHUNK_LEN - self.read.len();
            let Some(chunk) = self.cursor.next(room)? else {
                break;
            };
            for part in &chunk.parts {
                self.read.extend_from_slice(part);
            }
        }
        let most = usize::try_from(self.left).unwrap_or(CHUNK_LEN);
        let length = self.read.len().min(CHUNK_LEN).min(most);
        if length == 0 {
            return Ok(None);
        }
        self.left -= length as u64;
        let piece = self.read.copy_to_bytes(length);
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        Ok(Some(piece))
    }
}
