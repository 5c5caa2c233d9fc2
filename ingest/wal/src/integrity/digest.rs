//! Digests of what the disk really holds, per range of the log and per partition, for comparison
//! with another node's. Reads every byte and changes nothing; what is damaged is put on the list of
//! [`Log::damage`]. It must never change a byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::bytes::checksum;
use crate::damage::DamageList;
use crate::format::chain::walk_index;
use crate::format::segment::BlockEntry;
use crate::ids::{Boundary, Chain, Epoch, LogId, Lsn, TableId};
use crate::parquet::{DataFile, FileSet, Window};
use crate::paths::segment_name;
use crate::read::file_history::FilesMark;
use crate::read::log::{Log, LogState};
use crate::read::sealed::Sealed;
use crate::read::snapshot::Snapshot;

/// What a node holds, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    pub log: LogId,
    pub epoch: Epoch,
    /// Where the last range ends: the last block boundary at or below what was asked for.
    pub upto: Boundary,
    /// Where the first range begins: what is before is in files only.
    pub oldest: Lsn,
    /// Which files `partitions` are of.
    pub mark: FilesMark,
    /// One per sealed segment, then the active one, oldest first.
    pub ranges: Vec<RangeDigest>,
    /// In the order of table ids, then of windows.
    pub partitions: Vec<PartitionDigest>,
}

/// A range of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDigest {
    pub first: Lsn,
    pub end: Lsn,
    /// The chain after the last block that is right, computed from the bytes: equal on two nodes
    /// exactly when all up to there is. None: they could not be read.
    pub chain: Option<Chain>,
    /// What is wrong with its bytes.
    pub fault: Option<String>,
}

/// The Parquet files of one table and window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDigest {
    pub table: String,
    /// First day and width, such as `2026-11-21T00:00:00Z/8d`.
    pub partition: String,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Over the names of its files and all their bytes.
    pub digest: u64,
    /// What is wrong with one of them.
    pub fault: Option<String>,
}

/// Why there is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The files of that mark are not held, not yet or no longer.
    #[error("the files asked for are not held here; those in force end at LSN {}", newest.compacted)]
    UnknownMark { newest: FilesMark },
    /// The log does not reach that far yet.
    #[error("the log ends at LSN {at}")]
    Ahead { at: Lsn },
    /// The log begins behind it.
    #[error("the log begins at LSN {oldest}")]
    Gone { oldest: Lsn },
}

impl Log {
    /// Reads everything up to `upto`, and the files of `mark` (their `compacted` and `next`; none:
    /// those in force). Reads every byte: slow.
    ///
    /// # Errors
    /// When the log does not reach to `upto`, begins behind it, or does not hold these files.
    pub fn digest(&self, upto: Lsn, mark: Option<(Lsn, u64)>) -> Result<Digest, DigestError> {
        let snapshot = self.snapshot();
        let (at, oldest) = (snapshot.end().lsn, snapshot.oldest());
        if upto > at {
            return Err(DigestError::Ahead { at });
        }
        if upto < oldest.lsn {
            let oldest = oldest.lsn;
            return Err(DigestError::Gone { oldest });
        }
        let state = self.state();
        let (mark, files) = state
            .kept
            .history()
            .files_of(mark, Instant::now())
            .map_err(|newest| DigestError::UnknownMark { newest })?;
        let mut ranges = Vec::new();
        for segment in snapshot.sealed.iter() {
            if segment.start().lsn < upto {
                ranges.extend(digest_segment(state, segment, upto));
            }
        }
        if let Some(found) = check_tail(&snapshot, upto, &mut |_| true) {
            found.report(&state.damage);
            ranges.push(found.range);
        }
        let last = ranges.last();
        Ok(Digest {
            log: self.id(),
            epoch: self.epoch(),
            upto: last.map_or(oldest, |range| Boundary {
                lsn: range.end,
                chain: range.chain,
            }),
            oldest: oldest.lsn,
            mark,
            ranges,
            partitions: partitions(&snapshot, &files),
        })
    }
}

/// None when no block of it ends at or below `upto`.
fn digest_segment(state: &LogState, segment: &Arc<Sealed>, upto: Lsn) -> Option<RangeDigest> {
    let first = segment.start().lsn;
    let ends = segment.entries.iter().map(BlockEntry::end_lsn);
    let within = ends.take_while(|end| *end <= upto).last();
    let end = match within {
        _ if segment.end.lsn <= upto => segment.end.lsn,
        Some(end) => end,
        // Where the blocks of a damaged one end is not known.
        None if segment.fault.is_some() => upto,
        None => return None,
    };
    let (walked, fault) = segment.walk(upto, &mut |_| true);
    if let Some(fault) = &fault
        && state.published.shows(segment)
    {
        segment.blame(fault);
    }
    Some(RangeDigest {
        first,
        end,
        chain: Some(walked.tip.chain),
        fault: fault.map(|fault| fault.to_string()),
    })
}

/// What the file of the active segment holds.
pub(crate) struct TailCheck {
    pub(crate) range: RangeDigest,
    /// The bytes could not be had at all, which may pass.
    unread: bool,
}

impl TailCheck {
    /// Whether the bytes are there and wrong.
    pub(crate) fn damaged(&self) -> bool {
        self.range.fault.is_some() && !self.unread
    }

    /// Puts it on the list when its bytes are wrong: it is fetched once it is sealed.
    pub(crate) fn report(&self, damage: &DamageList) {
        if let (Some(fault), false) = (&self.range.fault, self.unread) {
            damage.report(&segment_name(self.range.first), 0, fault);
        }
    }
}

/// Checks the active segment's file up to `upto`; `None` when there is no block, or `go_on` said
/// no.
pub(crate) fn check_tail(
    snapshot: &Snapshot,
    upto: Lsn,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Option<TailCheck> {
    let view = snapshot.tail();
    let within = view.blocks().map(|block| block.entry);
    let entries: Vec<BlockEntry> = within.take_while(|entry| entry.end_lsn() <= upto).collect();
    let end = entries.last()?.end_lsn();
    let (path, start) = (&snapshot.tail.path, snapshot.tail.start);
    let content = snapshot.tail.content(snapshot.tail_bytes)?;
    let walked = walk_index(&mut content.straight(), entries.iter(), start, go_on);
    if walked.stopped {
        return None;
    }
    let (chain, fault, unread) = match (walked.unread, walked.fault) {
        (Some(error), _) => (None, Some(error.to_string()), true),
        (None, fault) => {
            let fault = fault.map(|(offset, reason)| {
                crate::error::WalError::corrupt(path, offset, reason).to_string()
            });
            (Some(walked.tip.chain), fault, false)
        }
    };
    let range = RangeDigest {
        first: start.lsn,
        end,
        chain,
        fault,
    };
    Some(TailCheck { range, unread })
}

fn partitions(snapshot: &Snapshot, files: &FileSet) -> Vec<PartitionDigest> {
    // Of tables that have been dropped, until they are given up.
    let files_of = &files.catalog;
    let mut parts: BTreeMap<(TableId, Window), Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in files.all() {
        let part = parts.entry((file.meta.table, file.meta.window));
        part.or_default().push(file);
    }
    let digest = |((table, window), files): ((TableId, Window), Vec<&Arc<DataFile>>)| {
        let schema = snapshot.catalog().newest(table);
        let schema = schema.or_else(|| files_of.newest(table));
        let table = schema.map_or_else(String::new, |schema| schema.name.clone());
        digest_partition(table, window.partition(), &files)
    };
    parts.into_iter().map(digest).collect()
}

fn digest_partition(table: String, partition: String, files: &[&Arc<DataFile>]) -> PartitionDigest {
    let mut bytes = Vec::new();
    let mut fault = None;
    for file in files {
        bytes.extend_from_slice(file.meta.name().as_bytes());
        let Some((hashes, error)) = file.scan(&mut |_| true) else {
            continue;
        };
        for hash in hashes {
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        fault = fault.or(error.map(|error| error.to_string()));
    }
    PartitionDigest {
        table,
        partition,
        files: files.len() as u64,
        rows: files.iter().map(|file| file.meta.rows).sum(),
        bytes: files.iter().map(|file| file.meta.bytes).sum(),
        digest: checksum(&bytes),
        fault,
    }
}
