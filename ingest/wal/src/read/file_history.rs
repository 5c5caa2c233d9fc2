//! The Parquet files that were in force a while ago: reads at an earlier LSN and comparisons with a
//! node that compacts later or sooner need them. Bounded in number, time and bytes; nothing of it
//! is on disk, and nobody may rely on it being there. It must never be the only place of a row.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bytes::checksum;
use crate::ids::{Epoch, LogId, Lsn};
use crate::parquet::{DataFile, FileSet};

/// Which Parquet files are in force. Two nodes that have the same `compacted` and `next` have the
/// same files, or one of them is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilesMark {
    /// Everything below is in the files.
    pub compacted: Lsn,
    /// The ordinal of the next file.
    pub next: u64,
    /// Checksum of the manifest.
    pub digest: u64,
}

/// Why there is no view at an LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsOf {
    /// The log does not reach that far yet.
    #[error("the log ends at LSN {at}")]
    Ahead { at: Lsn },
    /// Rows have been merged, or the log's head retired, beyond it.
    #[error("the oldest LSN that can be read here is {oldest}")]
    Gone { oldest: Lsn },
    /// A file could not be read, for want of descriptors or memory.
    #[error("a file that this takes could not be read: ask again")]
    Unread,
}

#[derive(Debug)]
struct Entry {
    mark: FilesMark,
    /// None: only the mark is remembered.
    files: Option<Arc<FileSet>>,
    /// Since when it is not in force.
    replaced: Option<Instant>,
}

/// File sets, oldest first; the last is the one in force.
#[derive(Debug)]
pub(crate) struct FileHistory {
    entries: VecDeque<Entry>,
}

impl FilesMark {
    pub(crate) fn of(files: &FileSet, log: LogId, epoch: Epoch) -> Self {
        Self {
            compacted: files.compacted.lsn,
            next: files.next,
            digest: checksum(&files.manifest(log, epoch).encode()),
        }
    }

    fn is(&self, (compacted, next): (Lsn, u64)) -> bool {
        self.compacted == compacted && self.next == next
    }
}

impl FileHistory {
    pub(crate) fn new(mark: FilesMark, files: Arc<FileSet>) -> Self {
        let first = Entry {
            mark,
            files: Some(files),
            replaced: None,
        };
        Self {
            entries: VecDeque::from([first]),
        }
    }

    /// Other files are in force from now on.
    pub(crate) fn push(&mut self, mark: FilesMark, files: Arc<FileSet>, now: Instant) {
        let same = self.entries.back().is_some_and(|last| last.mark == mark);
        let before = self.entries.back().and_then(|last| last.files.clone());
        for gone in before.iter().flat_map(|before| without(before, &files)) {
            gone.leave();
        }
        if same {
            // A file was repaired: whoever reads an earlier set wants the whole one, too.
            let new = before.map_or_else(Vec::new, |before| without(&files, &before));
            self.exchange(&new);
            self.entries.pop_back();
        } else if let Some(last) = self.entries.back_mut() {
            last.replaced = Some(now);
        }
        self.entries.push_back(Entry {
            mark,
            files: Some(files),
            replaced: None,
        });
        self.expire(now);
        self.trim();
    }

    fn exchange(&mut self, new: &[Arc<DataFile>]) {
        let held = self.entries.iter_mut();
        for files in held.filter_map(|entry| entry.files.as_mut()) {
            for file in new {
                let ordinal = file.meta.ordinal;
                if files.all().any(|old| old.meta.ordinal == ordinal) {
                    Arc::make_mut(files).exchange(&[ordinal], vec![Arc::clone(file)]);
                }
            }
        }
    }

    /// Lets go of what is too old.
    pub(crate) fn expire(&mut self, now: Instant) {
        let old = |since: Instant| now.saturating_duration_since(since) > KEPT_FOR;
        for entry in &mut self.entries {
            if entry.replaced.is_some_and(old) {
                entry.files = None;
            }
        }
    }

    /// Lets go of what is too much.
    fn trim(&mut self) {
        let Some(in_force) = self.entries.back().and_then(|last| last.files.clone()) else {
            return;
        };
        let mut seen: HashSet<u64> = in_force.all().map(|file| file.meta.ordinal).collect();
        let (mut sets, mut bytes) = (1, 0_u64);
        for entry in self.entries.iter_mut().rev().skip(1) {
            let Some(files) = &entry.files else { continue };
            let only_here = files.all().filter(|file| seen.insert(file.meta.ordinal));
            bytes = only_here.fold(bytes, |sum, file| sum.saturating_add(file.meta.bytes));
            sets += 1;
            if sets > SETS || bytes > KEPT_BYTES {
                entry.files = None;
            }
        }
        while self.entries.len() > MARKS {
            self.entries.pop_front();
        }
    }

    /// Lets go of all files that are not in force.
    pub(crate) fn clear(&mut self) -> Vec<Arc<FileSet>> {
        let earlier = self.entries.iter_mut().rev().skip(1);
        earlier.filter_map(|entry| entry.files.take()).collect()
    }

    /// The mark of the files in force.
    pub(crate) fn newest(&self) -> FilesMark {
        let last = self.entries.back().map(|entry| entry.mark);
        last.unwrap_or(FilesMark {
            compacted: Lsn(0),
            next: 0,
            digest: 0,
        })
    }

    /// The digest of files that are in force or were lately; `None` when that is not known.
    pub(crate) fn digest(&self, compacted: Lsn, next: u64) -> Option<u64> {
        self.entries
            .iter()
            .rev()
            .find(|entry| entry.mark.is((compacted, next)))
            .map(|entry| entry.mark.digest)
    }

    /// Files by their mark; none: those in force.
    pub(crate) fn files_of(
        &mut self,
        mark: Option<(Lsn, u64)>,
        now: Instant,
    ) -> Result<(FilesMark, Arc<FileSet>), FilesMark> {
        self.expire(now);
        self.held()
            .find(|(held, _)| mark.is_none_or(|mark| held.is(mark)))
            .map(|(mark, files)| (*mark, Arc::clone(files)))
            .ok_or_else(|| self.newest())
    }

    /// Sets whose files are held, newest first.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&FilesMark, &Arc<FileSet>)> {
        let newest_first = self.entries.iter().rev();
        newest_first.filter_map(|entry| Some((&entry.mark, entry.files.as_ref()?)))
    }
}

/// Files of one set that are not in another.
fn without(files: &FileSet, other: &FileSet) -> Vec<Arc<DataFile>> {
    let others: HashSet<*const DataFile> = other.all().map(Arc::as_ptr).collect();
    let only = files
        .all()
        .filter(|file| !others.contains(&Arc::as_ptr(file)));
    only.map(Arc::clone).collect()
}

/// File sets that are kept, and for how long after they were replaced.
const SETS: usize = 32;
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Bytes of files that only they still hold: they are deleted, but take room while they are held.
const KEPT_BYTES: u64 = 1 << 30;
/// Digests of sets that are remembered without their files.
const MARKS: usize = 1_024;
