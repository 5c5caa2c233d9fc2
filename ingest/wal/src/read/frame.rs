//! Header and footer of a segment, read without what lies between. It must never read the blocks.

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::WalError;
use crate::format::segment::{SegmentFooter, SegmentHeader};

/// Bytes of a file by offset and length.
type ReadPart<'a> = &'a dyn Fn(u64, usize) -> Result<Bytes, WalError>;

/// The header of the segment that is `len` bytes long, and the header's length.
pub(crate) fn read_header(
    file: &str,
    len: u64,
    read: ReadPart<'_>,
) -> Result<(SegmentHeader, usize), WalError> {
    let mut first = read(0, within(FIRST, len))?;
    let claimed = SegmentHeader::claimed_len(&first);
    if claimed > first.len() && claimed as u64 <= len {
        first = read(0, claimed)?;
    }
    SegmentHeader::decode(file, &first)
}

/// The footer of the same.
pub(crate) fn read_footer(
    file: &str,
    len: u64,
    read: ReadPart<'_>,
) -> Result<SegmentFooter, WalError> {
    let last = within(LAST, len);
    let mut from = len - last as u64;
    let mut end = read(from, last)?;
    let claimed = SegmentFooter::claimed_start(&end);
    if let Some(start) = claimed.filter(|start| *start < from) {
        from = start;
        end = read(from, usize::try_from(len - from).unwrap_or(usize::MAX))?;
    }
    SegmentFooter::decode_end(file, from, &end)
}

/// The header of a segment file that nobody has open; none when there is no such file.
pub(crate) fn header_in(
    disk: &dyn Disk,
    path: &std::path::Path,
) -> Result<Option<SegmentHeader>, WalError> {
    let Some(len) = disk.size_if_there(path)? else {
        return Ok(None);
    };
    let read = |offset, len| disk.read_part(path, offset, len);
    let found = read_header(&path.display().to_string(), len, &read);
    found.map(|(header, _)| Some(header))
}

fn within(len: usize, of: u64) -> usize {
    usize::try_from(of).map_or(len, |of| of.min(len))
}

/// Bytes of a header and of a footer that are read first: most are shorter.
const FIRST: usize = 16 << 10;
const LAST: usize = 16 << 10;
