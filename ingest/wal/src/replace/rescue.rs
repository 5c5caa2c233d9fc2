//! What can be done, with the node stopped, about blocks in its newest segment that cannot be read
//! although later ones were durable: bring them from another node's copy of the log, or put aside
//! what follows and go on without it. It must never cut off what has not been copied first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::bytes::put;
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::block::{BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::segment::{SegmentFooter, SegmentHeader};
use crate::ids::{LogId, Lsn, Position};
use crate::open::closed::SegmentFile;
use crate::open::flipped::flipped_headers;
use crate::open::recovery::{OnDamage, scan_active};
use crate::open::settle::settle;
use crate::paths::{FETCHED_NEW, find_log, log_dir, segment_name, segments};
use crate::read::segment_starts;
use crate::replace::diverged::shelf;

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
    let kept = shelf(
        disk,
        data_dir,
        newest.log,
        (found.from, found.to),
        (&name, &newest.bytes),
    )?;
    // Nothing may ever vouch for what is cut off.
    segment_starts::truncate(disk, &newest.dir, newest.log, found.from)?;
    let end = usize::try_from(found.offset).unwrap_or(usize::MAX);
    let sound = newest.bytes.slice(..end.min(newest.bytes.len()));
    disk.replace(&newest.dir.join(FETCHED_NEW), &newest.path, &sound)?;
    Ok(Some((found, kept)))
}

/// Brings the unreadable blocks from the data directory of another node, which is stopped too: both
/// hold the same bytes. Says what was unreadable; none: there was nothing to do.
///
/// # Errors
/// `NotHeld` when the other log is another one or has not got them; as [`find_unreadable`].
pub fn fill_unreadable(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    other: &Path,
) -> Result<Option<Unreadable>, WalError> {
    let mut filled = None;
    for _ in 0..MOST_HOLES {
        let Some(newest) = newest(disk, data_dir)? else {
            break;
        };
        let Some(found) = newest.unreadable()? else {
            return Ok(filled);
        };
        let bytes = newest.filled(disk.as_ref(), other, &found)?;
        disk.replace(&newest.dir.join(FETCHED_NEW), &newest.path, &bytes)?;
        filled.get_or_insert(found);
    }
    Ok(filled)
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
        if SegmentFooter::is_claimed(&self.bytes)
            && SegmentFooter::decode(&file, &self.bytes).is_ok()
        {
            return Ok(None);
        }
        let (header, header_len) = SegmentHeader::decode(&file, &self.bytes)?;
        let scan = |on_damage| {
            let mut catalog = Catalog::default();
            catalog.adopt(&header.schemas, &header.settings)?;
            let start = header.start;
            scan_active(
                &file,
                &self.bytes,
                header_len,
                start,
                &mut catalog,
                on_damage,
            )
        };
        match scan(OnDamage::Keep) {
            Err(WalError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(None),
        }
        let sound = scan(OnDamage::Cut)?;
        let behind = self.readable_from(sound.end);
        let data = behind
            .iter()
            .filter(|(_, header)| header.kind == BlockKind::Data);
        Ok(Some(Unreadable {
            log: self.log,
            file: self.path.clone(),
            offset: sound.end,
            bytes: (self.bytes.len() as u64).saturating_sub(sound.end),
            from: sound.tip,
            to: behind
                .iter()
                .map(|(_, header)| header.end().lsn)
                .max()
                .unwrap_or(sound.tip.lsn),
            rows_behind: data.map(|(_, header)| u64::from(header.rows)).sum(),
        }))
    }

    /// Blocks that are whole from `offset` on, with their offsets.
    fn readable_from(&self, offset: u64) -> Vec<(usize, BlockHeader)> {
        let mut at = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match BlockHeader::decode_block(rest) {
                Ok((header, _)) => {
                    found.push((at, header));
                    header.total_len()
                }
                Err(_) => 8,
            };
        }
        found
    }

    /// The segment's bytes with the first unreadable blocks as the other node has them.
    fn filled(
        &self,
        disk: &dyn Disk,
        other: &Path,
        found: &Unreadable,
    ) -> Result<Vec<u8>, WalError> {
        let behind = self.readable_from(found.offset);
        let next = behind
            .iter()
            .find(|(_, header)| header.first_lsn > found.from.lsn);
        let Some((end, next)) = next else {
            return Err(WalError::NotHeld(found.from));
        };
        let next = next.start();
        let dir = log_dir(other, self.log);
        let firsts = segments(disk, &dir)?;
        let at = firsts.partition_point(|first| *first <= found.from.lsn);
        let Some(first) = at.checked_sub(1).and_then(|at| firsts.get(at)) else {
            return Err(WalError::NotHeld(found.from));
        };
        let theirs = SegmentFile::read(disk, &dir.join(segment_name(*first)), *first)?;
        let from = theirs.place(found.from).map(|(offset, _)| offset);
        let from = from.ok_or(WalError::NotHeld(found.from))?;
        let until = theirs.end_at(next).ok_or(WalError::NotHeld(next))?;
        let missing = theirs.slice(from, until).unwrap_or_default();
        let start = usize::try_from(found.offset).unwrap_or(usize::MAX);
        let (Some(before), Some(after)) = (self.bytes.get(..start), self.bytes.get(*end..)) else {
            return Err(WalError::NotHeld(found.from));
        };
        if missing.len() != end - start {
            let reason = "the other node's copy of the unreadable blocks has another length";
            let file = theirs.path.display().to_string();
            return Err(WalError::corrupt(&file, from, reason));
        }
        Ok([before, &missing, after].concat())
    }
}

/// Places in one segment that are filled in one go.
const MOST_HOLES: usize = 1_024;
