//! Where the segments of a log began that are no longer held: enough to tell for ever whether an
//! older copy of the log is a beginning of it. Owns the file `past`.
//!
//! What it says is evidence, never data: no block is read by it, nothing in it can stop a start,
//! and what is damaged in it is lost. It must never say of a log what was not durable in it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bytes::{checksum, u64_at};
use crate::disk::Disk;
use crate::error::{Operation, WalError};
use crate::ids::{Boundary, Chain, LogId, Lsn, Position};

/// Where segments began: those in the file, and no others unless it could not be written.
#[derive(Debug)]
pub(crate) struct SegmentStarts {
    log: LogId,
    held: Mutex<Held>,
}

#[derive(Clone, Debug)]
struct Held {
    /// Ascending.
    starts: Arc<Vec<Position>>,
    /// The file begins with the records of these; else all of it is written anew.
    saved: bool,
}

impl SegmentStarts {
    /// What the file says. It is believed up to the first record that is damaged, or that
    /// contradicts the segments held, which start at `held`.
    pub(crate) fn load(disk: &dyn Disk, dir: &Path, log: LogId, held: &[Boundary]) -> Self {
        let mut starts = read(disk, dir, log);
        starts.truncate(agreeing(&starts, held));
        let held = Held {
            starts: Arc::new(starts),
            saved: true,
        };
        Self {
            log,
            held: Mutex::new(held),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn starts(&self) -> Arc<Vec<Position>> {
        Arc::clone(&self.lock().starts)
    }

    /// Whether the file has all that is known here.
    pub(crate) fn is_saved(&self) -> bool {
        self.lock().saved
    }

    /// The chain value of the log before the segment that began at `lsn`.
    pub(crate) fn chain_at(&self, lsn: Lsn) -> Option<Chain> {
        let genesis = self.log.genesis();
        if lsn == genesis.lsn {
            return Some(genesis.chain);
        }
        let starts = self.starts();
        let at = starts.binary_search_by_key(&lsn, |start| start.lsn).ok()?;
        starts.get(at).map(|start| start.chain)
    }

    /// Remembers where segments began, which are still there; durable once this returns. After an
    /// error they are known, but only until the log is closed. One caller at a time.
    pub(crate) fn remember(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        starts: &[Position],
    ) -> Result<(), WalError> {
        // Nobody who asks waits for the disk.
        let Held { starts: old, saved } = self.lock().clone();
        let mut all = merged(&old, starts);
        thin(&mut all, MOST);
        if saved && all == *old {
            return Ok(());
        }
        let written = match all.get(old.len()..) {
            Some(new) if saved && !old.is_empty() && all.starts_with(&old) => {
                append(disk, dir, self.log, old.len(), new)
            }
            _ => put(disk, dir, self.log, &all),
        };
        *self.lock() = Held {
            starts: Arc::new(all),
            // After a failed write or fsync nobody knows what is in the file.
            saved: written.is_ok(),
        };
        written
    }
}

/// Those of which the chain value is known: that of a damaged segment may not be.
pub(crate) fn known(starts: &[Boundary]) -> Vec<Position> {
    starts.iter().filter_map(|start| start.position()).collect()
}

/// Takes the good records of a peer that lie below `end` into the file of a log that is being
/// brought in; what else there is in them is ignored.
pub(crate) fn take(
    disk: &dyn Disk,
    dir: &Path,
    log: LogId,
    end: Lsn,
    records: &[u8],
) -> Result<(), WalError> {
    let decoded = records.chunks_exact(RECORD).filter_map(decode(log));
    let mut good: Vec<Position> = Vec::new();
    for start in decoded.filter(|start| start.lsn < end && fits(log, *start)) {
        if good.last().is_none_or(|last| last.lsn < start.lsn) {
            good.push(start);
        }
    }
    let old = read(disk, dir, log);
    let mut all = merged(&old, &good);
    thin(&mut all, MOST);
    if all == old {
        return Ok(());
    }
    put(disk, dir, log, &all)
}

/// Before a log that nobody has open is cut at `at`: what lies behind is no part of it any more.
pub(crate) fn truncate(
    disk: &dyn Disk,
    dir: &Path,
    log: LogId,
    at: Position,
) -> Result<(), WalError> {
    let starts = read(disk, dir, log);
    let stays = |start: &&Position| start.lsn < at.lsn || **start == at;
    let left: Vec<Position> = starts.iter().take_while(stays).copied().collect();
    if left == starts {
        return Ok(());
    }
    put(disk, dir, log, &left)
}

/// Forgets everything, of a log that nobody has open.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    let path = dir.join(PAST);
    if disk.remove_if_there(&path)? {
        disk.sync_names(dir)?;
    }
    Ok(())
}

/// The records before the first one that is not right. A file that cannot be read says nothing.
fn read(disk: &dyn Disk, dir: &Path, log: LogId) -> Vec<Position> {
    let bytes = disk.read(&dir.join(PAST)).unwrap_or_default();
    let mut found: Vec<Position> = Vec::new();
    for start in bytes.chunks_exact(RECORD).map_while(decode(log)) {
        let ascends = found.last().is_none_or(|last| last.lsn < start.lsn);
        if !ascends || !fits(log, start) || found.len() == MOST {
            break;
        }
        found.push(start);
    }
    found
}

/// Every log begins at its genesis.
fn fits(log: LogId, start: Position) -> bool {
    start.lsn > Lsn(0) || start == log.genesis()
}

/// How many of these, which ascend, do not contradict the segments held, which start at `held`:
/// where the log is held, its segments are known.
fn agreeing(starts: &[Position], held: &[Boundary]) -> usize {
    let Some(oldest) = held.first() else {
        return starts.len();
    };
    let agrees = |start: &Position| {
        let at = held.binary_search_by_key(&start.lsn, |held| held.lsn);
        let same = |at: usize| held.get(at).is_some_and(|held| held.may_be(*start));
        start.lsn < oldest.lsn || at.is_ok_and(same)
    };
    let contradicts = starts.iter().position(|start| !agrees(start));
    contradicts.unwrap_or(starts.len())
}

/// All of both, ascending; where they differ, the first is right.
pub(crate) fn merged(first: &[Position], second: &[Position]) -> Vec<Position> {
    let mut all = [first, second].concat();
    all.sort_by_key(|start| start.lsn);
    all.dedup_by_key(|start| start.lsn);
    all
}

/// Leaves at most `most`, the newest among them.
fn thin(starts: &mut Vec<Position>, most: usize) {
    while starts.len() > most.max(1) {
        let mut odd = starts.len().is_multiple_of(2);
        starts.retain(|_| {
            odd = !odd;
            odd
        });
    }
}

pub(crate) fn encode(log: LogId, starts: &[Position]) -> Vec<u8> {
    let mut out = Vec::with_capacity(starts.len() * RECORD);
    for start in starts {
        out.extend_from_slice(&start.lsn.0.to_le_bytes());
        out.extend_from_slice(&start.chain.0.to_le_bytes());
        out.extend_from_slice(&sum(log, *start).to_le_bytes());
    }
    out
}

/// Reads one record of this log; none when it is not whole or another log's.
fn decode(log: LogId) -> impl Fn(&[u8]) -> Option<Position> {
    move |record| {
        let start = Position {
            lsn: Lsn(u64_at(record, 0)),
            chain: Chain(u64_at(record, 8)),
        };
        (sum(log, start) == u64_at(record, 16)).then_some(start)
    }
}

fn sum(log: LogId, start: Position) -> u64 {
    let mut covered = [0; 32];
    covered[..16].copy_from_slice(&log.0);
    covered[16..24].copy_from_slice(&start.lsn.0.to_le_bytes());
    covered[24..].copy_from_slice(&start.chain.0.to_le_bytes());
    checksum(&covered)
}

/// Writes records behind the first `count`, over whatever else was there.
fn append(
    disk: &dyn Disk,
    dir: &Path,
    log: LogId,
    count: usize,
    starts: &[Position],
) -> Result<(), WalError> {
    let path = dir.join(PAST);
    let end = (count * RECORD) as u64;
    let mut file = disk.open_file(&path)?;
    file.truncate(end)
        .map_err(WalError::io(Operation::Truncate, &path))?;
    file.write_at(end, &encode(log, starts))
        .map_err(WalError::io(Operation::Write, &path))?;
    file.sync().map_err(WalError::io(Operation::Fsync, &path))
}

fn put(disk: &dyn Disk, dir: &Path, log: LogId, starts: &[Position]) -> Result<(), WalError> {
    let (draft, path) = (dir.join(PAST_NEW), dir.join(PAST));
    disk.replace(&draft, &path, &encode(log, starts))
}

/// The file's name in the log's directory, and of its next version while it is written.
pub(crate) const PAST: &str = "past";
pub(crate) const PAST_NEW: &str = "past.new";
/// LSN, chain value, checksum.
const RECORD: usize = 24;
/// Positions that are kept: beyond, every second one goes. A segment an hour takes a century.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests;
