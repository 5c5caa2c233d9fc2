//! A run of blocks on its way to a secondary. It owns how it is read and packed; it must never read
//! more at a time than it is told, unless one block is longer.

use bytes::Bytes;
use wal::{Cursor, Lsn, WalError};

use crate::wire::blocks::{self, Packer};

/// A run of blocks on its way.
pub(super) struct Load {
    pub(super) parts: Vec<Bytes>,
    pub(super) end: Lsn,
}

impl Load {
    /// The next one, of about so many bytes, but at least a block; none at the log's end. May read
    /// the disk.
    pub(super) fn next(
        cursor: &mut Cursor,
        packer: Option<&Packer>,
        most: usize,
    ) -> Result<Option<Self>, WalError> {
        let from = cursor.position().lsn;
        let Some(chunk) = cursor.next(most)? else {
            return Ok(None);
        };
        let end = chunk.end.lsn;
        let parts = match packer {
            Some(packer) => packer.frame(from, &chunk),
            None => blocks::raw(&chunk.parts),
        };
        Ok(Some(Self { parts, end }))
    }
}

/// Most bytes read from the log in one step.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
