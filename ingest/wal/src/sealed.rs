//! A sealed segment: mapped bytes and their block index. Immutable.

use std::path::Path;

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::WalError;
use crate::ids::{LogId, Lsn, Position};
use crate::segment::{BlockEntry, SegmentFooter, SegmentHeader};

/// A segment that will not change any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) path: String,
    pub(crate) header: SegmentHeader,
    pub(crate) end: Position,
    pub(crate) committed_at: i64,
    pub(crate) bytes: Bytes,
    pub(crate) entries: Vec<BlockEntry>,
}

impl Sealed {
    /// Maps and checks header and footer; blocks are checked when they are read.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, log: LogId) -> Result<Self, WalError> {
        let bytes = disk.map(path).map_err(WalError::io("map", path))?;
        let file = path.display().to_string();
        let (header, header_len) = SegmentHeader::decode(&file, &bytes)?;
        if header.log != log {
            return Err(WalError::foreign(path, log, header.log));
        }
        let footer = SegmentFooter::decode(&file, &bytes)?;
        let first = footer.entries.first();
        let starts = first.is_none_or(|entry| {
            entry.offset == header_len as u64 && entry.first_lsn == header.start.lsn
        });
        if !starts {
            return Err(WalError::corrupt(
                &file,
                0,
                "header and block index contradict each other",
            ));
        }
        let SegmentFooter {
            end,
            committed_at,
            entries,
        } = footer;
        Ok(Self {
            path: file,
            header,
            end,
            committed_at,
            bytes,
            entries,
        })
    }

    pub(crate) fn start(&self) -> Position {
        self.header.start
    }

    /// Index of the block that starts at `lsn`.
    pub(crate) fn block_at(&self, lsn: Lsn) -> Option<usize> {
        self.entries
            .binary_search_by_key(&lsn, |entry| entry.first_lsn)
            .ok()
    }

    /// The bytes of one block.
    pub(crate) fn block(&self, entry: &BlockEntry) -> Bytes {
        let from = usize::try_from(entry.offset).unwrap_or(usize::MAX);
        self.bytes.slice(from..from + entry.len as usize)
    }
}
