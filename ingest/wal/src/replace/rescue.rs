//! What can be done, with the log closed, about blocks in its newest segment that cannot be read
//! although later ones were durable: bring them from another node's copy of the log, or put aside
//! what follows and go on without it. It must never cut off what has not been copied first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::bytes::put;
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::block::{BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::chain::BlockScan;
use crate::format::segment::SegmentHeader;
use crate::ids::{LogId, Lsn, Position};
use crate::open::closed::SegmentFile;
use crate::open::flipped::flipped_headers;
use crate::open::recovery::{OnDamage, Scanned, footer_of, scan_active, segment_seed};
use crate::open::settle::settle;
use crate::paths::{FETCHED_NEW, find_log, log_dir, segment_name, segments};
use crate::read::{fingerprints, segment_starts};
use crate::replace::diverged::copy_aside;

/// Blocks of the newest segment that cannot be read, and what lies behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub log: LogId,
    pub file: PathBuf,
    /// Where they begin in the file, and how many bytes there are from there on.
    pub offset: u64,
    pub bytes: u64,
    /// Everything below is sound.
    pub from: Position,
    /// Where the log ended, as far as its last blocks say.
    pub to: Lsn,
    /// Rows behind them that can still be read.
    pub rows_behind: u64,
}

/// The newest segment of a stopped node.
struct Newest {
    log: LogId,
    dir: PathBuf,
    path: PathBuf,
    first: Lsn,
    bytes: Bytes,
}

/// Looks for blocks in the newest segment that keep a primary from starting; none: there are none.
///
/// # Errors
/// When the directory or a file cannot be read, or was written by a newer version.
pub fn find_unreadable(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
) -> Result<Option<Unreadable>, WalError> {
    match newest(disk, data_dir)? {
        Some(newest) => newest.unreadable(),
        None => Ok(None),
    }
}

/// Where a closed log ends, and why it may have ended further on before: bytes of its end cannot be
/// read, or the segment to go on in is not there. An unfinished write leaves that, and so do
/// acknowledged rows that the disk has lost: only a node that has more of the log can tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    pub end: Lsn,
    /// The log, and its end with the chain; none where that is known only once the log is open.
    pub at: Option<(LogId, Position)>,
    pub doubt: Option<String>,
}

/// Looks where the log of a stopped node ends; none: there is no log, or blocks before its end cannot
/// be read. What follows them may be all that shows that they had been durable: it is not to be cut
/// before the log is sealed there, or [`find_unreadable`] tells of them.
///
/// # Errors
/// As [`find_unreadable`].
pub fn find_end(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Option<LogEnd>, WalError> {
    let doubtful = |end, at, reason: &str| LogEnd {
        end,
        at,
        doubt: Some(reason.to_owned()),
    };
    let Some(newest) = newest(disk, data_dir)? else {
        let log = find_log(disk.as_ref(), data_dir)?;
        return Ok(log.map(|_| doubtful(Lsn(0), None, "no segment of it is there")));
    };
    let file = newest.path.display().to_string();
    if let Some(footer) = footer_of(&file, &newest.bytes) {
        let reason = format!("{file} is sealed, and none follows it");
        let at = (newest.log, footer.end);
        return Ok(Some(doubtful(footer.end.lsn, Some(at), &reason)));
    }
    match newest.scan(OnDamage::Keep) {
        Err(error @ WalError::NewerFormat { .. }) => Err(error),
        Ok(scanned) if scanned.hole => Ok(None),
        Ok(scanned) => Ok(Some(LogEnd {
            end: scanned.tip.lsn,
            at: Some((newest.log, scanned.tip)),
            doubt: scanned.torn.map(|torn| {
                format!(
                    "{} bytes from offset {} of {file} on cannot be read",
                    torn.bytes, torn.offset
                )
            }),
        })),
        Err(_) if newest.unreadable().is_ok() => Ok(None),
        Err(error) => Ok(Some(doubtful(newest.first, None, &error.to_string()))),
    }
}

/// Puts the newest segment aside as it is, and cuts off the log from the unreadable blocks on: all
/// rows from there are lost to it. Says what, and where the copy is; none: there was nothing to do.
///
/// # Errors
/// As [`find_unreadable`], and when the disk fails. The log is whole then, or cut with its copy made.
pub fn cut_unreadable(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
) -> Result<Option<(Unreadable, PathBuf)>, WalError> {
    let Some(newest) = newest(disk, data_dir)? else {
        return Ok(None);
    };
    let Some(found) = newest.unreadable()? else {
        return Ok(None);
    };
    let disk = disk.as_ref();
    let name = segment_name(newest.first);
    let kept = copy_aside(
        disk,
        data_dir,
        newest.log,
        (found.from, found.to),
        &[(name, newest.bytes.clone())],
    )?;
    // Nothing may ever vouch for what is cut off.
    segment_starts::truncate(disk, &newest.dir, newest.log, found.from)?;
    fingerprints::remove(disk, &newest.dir)?;
    let end = usize::try_from(found.offset).unwrap_or(usize::MAX);
    let sound = newest.bytes.slice(..end.min(newest.bytes.len()));
    disk.replace(&newest.dir.join(FETCHED_NEW), &newest.path, &sound)?;
    Ok(Some((found, kept)))
}

/// Brings the unreadable blocks from the data directory of another node, which is stopped too: both
/// hold the same bytes. Says what was unreadable; none: there was nothing to do. What the other one
/// has not got either stays unreadable.
///
/// # Errors
/// `NotHeld` when the other log is another one or has not got them; as [`find_unreadable`].
pub fn fill_unreadable(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    other: &Path,
) -> Result<Option<Unreadable>, WalError> {
    let Some(newest) = newest(disk, data_dir)? else {
        return Ok(None);
    };
    let Some(found) = newest.unreadable()? else {
        return Ok(None);
    };
    let theirs = blocks_in(disk.as_ref(), other, &found)?;
    newest.fill(disk.as_ref(), &found, &theirs)?;
    Ok(Some(found))
}

/// Puts blocks that another node has sent in the place of the unreadable ones: those from
/// [`Unreadable::from`] on, as [`Log::export_blocks`](crate::Log::export_blocks) gives them. Says
/// what is unreadable still, further on; none: nothing is.
///
/// # Errors
/// `NotHeld` when they are not those of this log or do not reach to what can be read behind; as
/// [`find_unreadable`].
pub fn take_unreadable(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    blocks: &[u8],
) -> Result<Option<Unreadable>, WalError> {
    let Some(newest) = newest(disk, data_dir)? else {
        return Ok(None);
    };
    match newest.unreadable()? {
        Some(found) => newest.fill(disk.as_ref(), &found, blocks),
        None => Ok(None),
    }
}

/// Blocks from the first unreadable one on, as another node's directory has them.
fn blocks_in(disk: &dyn Disk, other: &Path, found: &Unreadable) -> Result<Bytes, WalError> {
    let lacks = || WalError::NotHeld(found.from);
    let dir = log_dir(other, found.log);
    let firsts = segments(disk, &dir)?;
    let at = firsts.partition_point(|first| *first <= found.from.lsn);
    let first = at.checked_sub(1).and_then(|at| firsts.get(at));
    let first = *first.ok_or_else(lacks)?;
    let theirs = SegmentFile::read(disk, &dir.join(segment_name(first)), first)?;
    let (from, _) = theirs.place(disk, found.from)?.ok_or_else(lacks)?;
    let until = theirs
        .content
        .as_ref()
        .map_or(0, |content| content.blocks_end);
    theirs.part(disk, from, until).map_err(|_| lacks())
}

fn newest(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Option<Newest>, WalError> {
    settle(disk, data_dir)?;
    let disk = disk.as_ref();
    let Some(log) = find_log(disk, data_dir)? else {
        return Ok(None);
    };
    let dir = log_dir(data_dir, log);
    let Some(first) = segments(disk, &dir)?.last().copied() else {
        return Ok(None);
    };
    let path = dir.join(segment_name(first));
    let mut bytes = disk.read_file(&path)?.to_vec();
    // What opening the log mends is no reason for anything.
    let decoded = SegmentHeader::decode(&path.display().to_string(), &bytes);
    if let Ok((header, header_len)) = decoded {
        let blocks = bytes.get(header_len..).unwrap_or_default();
        for (at, mended) in flipped_headers(blocks, header.start) {
            put(&mut bytes, header_len + at, &mended);
        }
    }
    let bytes = Bytes::from(bytes);
    Ok(Some(Newest {
        log,
        dir,
        path,
        first,
        bytes,
    }))
}

impl Newest {
    fn unreadable(&self) -> Result<Option<Unreadable>, WalError> {
        let file = self.path.display().to_string();
        if footer_of(&file, &self.bytes).is_some() {
            return Ok(None);
        }
        SegmentHeader::decode(&file, &self.bytes)?;
        match self.scan(OnDamage::Keep) {
            Err(WalError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(None),
        }
        let sound = self.scan(OnDamage::Cut)?;
        let behind = self.headers_from(sound.end);
        let data = behind
            .iter()
            .filter(|(at, header)| header.kind == BlockKind::Data && self.is_whole(*at));
        Ok(Some(Unreadable {
            log: self.log,
            file: self.path.clone(),
            offset: sound.end,
            bytes: (self.bytes.len() as u64).saturating_sub(sound.end),
            from: sound.tip,
            to: behind
                .iter()
                .map(
                    |(at, header)| match at + header.total_len() <= self.bytes.len() {
                        true => header.end().lsn,
                        // Of an unfinished write: everything before it had been durable.
                        false => header.first_lsn,
                    },
                )
                .max()
                .unwrap_or(sound.tip.lsn),
            rows_behind: data.map(|(_, header)| u64::from(header.rows)).sum(),
        }))
    }

    fn scan(&self, on_damage: OnDamage) -> Result<Scanned, WalError> {
        let file = self.path.display().to_string();
        let (header, head) = SegmentHeader::decode(&file, &self.bytes)?;
        let mut catalog = Catalog::of_head(&header.tables, &Catalog::default())?;
        let (bytes, start) = (&self.bytes, header.start);
        scan_active(&file, bytes, head, start, &mut catalog, on_damage)
    }

    /// Headers of blocks that can be read from `offset` on, with their offsets.
    fn headers_from(&self, offset: u64) -> Vec<(usize, BlockHeader)> {
        let mut at = usize::try_from(offset).unwrap_or(usize::MAX);
        let seed = segment_seed(&self.bytes);
        let header = |rest: &[u8]| match seed {
            // Rows may hold bytes that look like a header.
            Some(_) => BlockHeader::genuine(rest, seed),
            None => BlockHeader::decode(rest).ok(),
        };
        let mut found = Vec::new();
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match header(rest) {
                Some(header) => {
                    found.push((at, header));
                    if header.total_len() <= rest.len() {
                        header.total_len()
                    } else {
                        8
                    }
                }
                None => 8,
            };
        }
        found
    }

    /// Whether the block at this offset is whole.
    fn is_whole(&self, at: usize) -> bool {
        let block = self.bytes.get(at..).unwrap_or_default();
        BlockHeader::decode_block(block).is_ok()
    }

    /// Puts another copy's blocks in the place of the unreadable ones, durably; what is unreadable
    /// still.
    fn fill(
        mut self,
        disk: &dyn Disk,
        found: &Unreadable,
        theirs: &[u8],
    ) -> Result<Option<Unreadable>, WalError> {
        let bytes = self.spliced(found, theirs);
        self.bytes = Bytes::from(bytes.ok_or(WalError::NotHeld(found.from))?);
        // Of bytes that were read and checked, not of those that will be on the disk: the log is
        // opened and checked once more.
        let left = self.unreadable()?;
        disk.replace(&self.dir.join(FETCHED_NEW), &self.path, &self.bytes)?;
        Ok(left)
    }

    /// The segment's bytes with the blocks of another copy from the first unreadable one on, as far
    /// as they meet what can be read behind; none when they do not.
    fn spliced(&self, found: &Unreadable, theirs: &[u8]) -> Option<Vec<u8>> {
        let start = usize::try_from(found.offset).ok()?;
        // Where a block begins or ends of which the header can be read: there the two copies may be
        // joined, if they agree on what is before.
        let mut joints = HashMap::new();
        let behind = self.headers_from(found.offset);
        for (at, header) in &behind {
            let at = *at;
            joints.insert(header.start(), at);
            joints.insert(header.end(), at + header.total_len());
        }
        let (mut scan, mut taken) = (BlockScan::new(theirs, found.from), None);
        while let Ok(Some(_)) = scan.next() {
            if joints.get(&scan.tip()) == Some(&(start + scan.offset())) {
                taken = Some(scan.offset());
            }
        }
        if taken.is_none() && scan.offset() > 0 {
            // All that is proven has come; what is left is the rest of a write that was cut short.
            let end = scan.tip().lsn;
            let is_rest = |(at, header): &(usize, BlockHeader)| {
                header.group_lsn <= end && (header.first_lsn < end || !self.is_whole(*at))
            };
            if behind.iter().all(is_rest) {
                return Some([self.bytes.get(..start)?, theirs.get(..scan.offset())?].concat());
            }
        }
        let taken = taken?;
        let (before, after) = (self.bytes.get(..start)?, self.bytes.get(start + taken..)?);
        Some([before, theirs.get(..taken)?, after].concat())
    }
}
