//! The segments of a log that nobody has open, as they lie on the disk: whole, torn or unreadable.
//! Holds what is around the blocks, and reads these when asked. What is to be done with them is the
//! caller's. It must never write.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::WalError;
use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::control::Control;
use crate::format::segment::{BlockEntry, SegmentFooter, SegmentHeader};
use crate::ids::{Boundary, Lsn, Position};
use crate::open::recovery::{OnDamage, holds_blocks, scan_active};
use crate::paths::{segment_name, segments};
use crate::read::frame::{read_footer, read_header};

/// One segment file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) first: Lsn,
    /// Length of the file.
    pub(crate) len: u64,
    /// None: it cannot be read.
    pub(crate) content: Option<SegmentContent>,
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct SegmentContent {
    pub(crate) header: SegmentHeader,
    pub(crate) footer: SegmentFooter,
    /// The footer is in the file; else it follows from the blocks.
    pub(crate) sealed: bool,
    /// Where the blocks end.
    pub(crate) blocks_end: u64,
}

/// All segments of a log's directory, oldest first.
pub(crate) fn segment_files(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentFile>, WalError> {
    let mut found: Vec<SegmentFile> = Vec::new();
    for first in segments(disk, dir)?.into_iter().rev() {
        // Where it ends is what its index says if the next one begins there: no row can know that.
        let next = found.last().and_then(|next| next.content.as_ref());
        let next = next.map(|content| content.header.start);
        let path = dir.join(segment_name(first));
        found.push(SegmentFile::read_before(disk, &path, first, next)?);
    }
    found.reverse();
    Ok(found)
}

/// Where the log in a directory ends; none when no segment says so.
pub(crate) fn end_of(disk: &dyn Disk, dir: &Path) -> Result<Option<Position>, WalError> {
    for first in segments(disk, dir)?.iter().rev() {
        let piece = SegmentFile::read(disk, &dir.join(segment_name(*first)), *first)?;
        if let Some(content) = piece.content {
            return Ok(Some(content.footer.end));
        }
    }
    Ok(None)
}

impl SegmentFile {
    /// Reads one segment file. What is torn off at its end is not seen.
    pub(crate) fn read(disk: &dyn Disk, path: &Path, first: Lsn) -> Result<Self, WalError> {
        Self::read_before(disk, path, first, None)
    }

    /// The same where the next segment is known to begin at `next`.
    fn read_before(
        disk: &dyn Disk,
        path: &Path,
        first: Lsn,
        next: Option<Position>,
    ) -> Result<Self, WalError> {
        let len = disk.size_of(path)?;
        let content = match SegmentContent::read(disk, path, len, next) {
            Ok(content) => Some(content),
            Err(error @ WalError::NewerFormat { .. }) => return Err(error),
            Err(error) if error.may_pass() => return Err(error),
            Err(_) => None,
        };
        Ok(Self {
            path: path.to_owned(),
            first,
            len,
            content,
        })
    }

    /// Whether there is anything in it that a copy should keep.
    pub(crate) fn holds_anything(&self, disk: &dyn Disk) -> Result<bool, WalError> {
        match &self.content {
            Some(content) => Ok(!content.footer.entries.is_empty()),
            None => Ok(holds_blocks(&disk.read_file(&self.path)?)),
        }
    }

    /// Where a new block would go if the log were cut at `at`, and how many blocks are before; none
    /// when no block starts there or it is another history.
    pub(crate) fn place(
        &self,
        disk: &dyn Disk,
        at: Position,
    ) -> Result<Option<(u64, usize)>, WalError> {
        let Some(content) = self.content.as_ref() else {
            return Ok(None);
        };
        let entries = &content.footer.entries;
        let found = entries.binary_search_by_key(&at.lsn, |entry| entry.first_lsn);
        let Ok(index) = found else {
            return Ok(None);
        };
        let entry = &entries[index];
        let block = self.part(disk, entry.offset, entry.offset + BLOCK_HEADER_LEN as u64)?;
        let header = BlockHeader::decode(&block).ok();
        let is_there = header.is_some_and(|header| header.start() == at);
        Ok(is_there.then_some((entry.offset, index)))
    }

    /// Bytes of the file.
    pub(crate) fn part(&self, disk: &dyn Disk, from: u64, to: u64) -> Result<Bytes, WalError> {
        let len = to.checked_sub(from).filter(|_| to <= self.len);
        let len = len.and_then(|len| usize::try_from(len).ok());
        let file = || self.path.display().to_string();
        let len = len.ok_or_else(|| WalError::corrupt(&file(), from, "the file is cut short"))?;
        disk.read_part(&self.path, from, len)
    }

    /// What a segment begun behind the first `count` blocks would have in its header.
    pub(crate) fn header_after(
        &self,
        disk: &dyn Disk,
        count: usize,
        at: Position,
    ) -> Result<SegmentHeader, WalError> {
        let file = self.path.display().to_string();
        let Some(content) = &self.content else {
            return Err(WalError::corrupt(&file, 0, "cannot be read"));
        };
        let mut catalog = Catalog::of_head(&content.header.tables, &Catalog::default())?;
        let entries = content.footer.entries.iter().take(count);
        for entry in entries.filter(|entry| entry.kind.controls()) {
            let end = entry.offset + u64::from(entry.len);
            let block = self.part(disk, entry.offset, end)?;
            let (header, body) = BlockHeader::decode_block(&block)
                .map_err(|error| WalError::corrupt(&file, entry.offset, error.to_string()))?;
            if let Some(control) = Control::of(&header, body)? {
                catalog.apply(&control)?;
            }
        }
        Ok(SegmentHeader {
            start: at,
            tables: catalog.head(),
            ..content.header.clone()
        })
    }
}

impl SegmentContent {
    /// Of a file that is `len` bytes long. Reads all of it only where nothing bears out its footer.
    fn read(
        disk: &dyn Disk,
        path: &Path,
        len: u64,
        next: Option<Position>,
    ) -> Result<Self, WalError> {
        let file = path.display().to_string();
        let read = |offset, len| disk.read_part(path, offset, len);
        let (header, header_len) = read_header(&file, len, &read)?;
        match read_footer(&file, len, &read) {
            Err(error) if error.may_pass() => Err(error),
            Ok(footer) if next == Some(footer.end) => Ok(Self::whole(header, header_len, footer)),
            Err(_) | Ok(_) => Self::of(&file, &disk.read_file(path)?),
        }
    }

    pub(crate) fn of(file: &str, bytes: &Bytes) -> Result<Self, WalError> {
        let (header, header_len) = SegmentHeader::decode(file, bytes)?;
        match SegmentFooter::decode(file, bytes) {
            Ok(footer) if is_borne_out(&header, header_len, &footer, bytes) => {
                Ok(Self::whole(header, header_len, footer))
            }
            Ok(_) | Err(_) => Self::scan(file, bytes, header, header_len),
        }
    }

    fn whole(header: SegmentHeader, header_len: usize, footer: SegmentFooter) -> Self {
        let end = |entry: &BlockEntry| entry.offset + u64::from(entry.len);
        let blocks_end = footer.entries.last().map_or(header_len as u64, end);
        Self {
            header,
            footer,
            sealed: true,
            blocks_end,
        }
    }

    fn scan(
        file: &str,
        bytes: &Bytes,
        header: SegmentHeader,
        header_len: usize,
    ) -> Result<Self, WalError> {
        let mut catalog = Catalog::of_head(&header.tables, &Catalog::default())?;
        let start = header.start;
        let found = scan_active(file, bytes, header_len, start, &mut catalog, OnDamage::Cut)?;
        Ok(Self {
            header,
            footer: SegmentFooter {
                end: found.tip,
                committed_at: found.committed_at.unwrap_or(0),
                entries: found.blocks.iter().map(|block| block.entry).collect(),
            },
            sealed: false,
            blocks_end: found.end,
        })
    }

    /// Rows in its data blocks.
    pub(crate) fn rows(&self) -> u64 {
        rows_of(&self.footer.entries)
    }
}

/// Whether the blocks say what the footer does: the last row of a file that was cut short may hold
/// bytes that look like a footer.
fn is_borne_out(
    header: &SegmentHeader,
    header_len: usize,
    footer: &SegmentFooter,
    bytes: &[u8],
) -> bool {
    let (mut tip, mut offset) = (Boundary::of_segment(header.start), header_len as u64);
    for entry in &footer.entries {
        let from = usize::try_from(entry.offset).unwrap_or(usize::MAX);
        let block = BlockHeader::decode(bytes.get(from..).unwrap_or_default());
        let Some(block) = block
            .ok()
            .filter(|block| BlockEntry::of(block, entry.offset) == *entry)
        else {
            return false;
        };
        // What an index leaves out could not be read when it was written.
        let goes_on = match entry.first_lsn == tip.lsn {
            true => entry.offset == offset && tip.may_be(block.start()),
            false => entry.offset > offset && entry.first_lsn > tip.lsn,
        };
        if !goes_on {
            return false;
        }
        (tip, offset) = (block.end().into(), entry.offset + u64::from(entry.len));
    }
    offset == footer.offset_in(bytes.len()) && tip.may_be(footer.end)
}

/// Rows in data blocks.
pub(crate) fn rows_of(entries: &[BlockEntry]) -> u64 {
    let data = entries.iter().filter(|entry| entry.kind == BlockKind::Data);
    data.map(|entry| u64::from(entry.rows)).sum()
}
