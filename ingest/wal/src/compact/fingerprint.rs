//! Makes the fingerprints of files that are whole and have none yet, a few at a time, beside
//! compaction. It must never make one of bytes that it has not checked, nor take long without
//! looking whether it is to end.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::WalError;
use crate::ids::Lsn;
use crate::parquet::{CHUNK_LEN, DataFile, Throttle};
use crate::read::fingerprints::{Fingerprint, Key, Sha256, file_key, segment_key};
use crate::read::log::LogState;
use crate::read::sealed::Sealed;

/// Sees to it that every file that is whole has one.
#[derive(Debug, Default)]
pub(super) struct Fingerprinting {
    /// What was found to be damaged, or could not be read.
    failed: HashSet<Key>,
    /// The files for which all is done.
    done: Option<Mark>,
}

/// Tells the files of one moment from those of another: compaction counts its files, and segments
/// are sealed and retired in order.
type Mark = (u64, usize, Lsn);

impl Fingerprinting {
    /// Makes and keeps some of those that are missing; false when none is.
    pub(super) fn turn(&mut self, state: &LogState, throttle: &Throttle) -> Result<bool, WalError> {
        let snapshot = state.snapshot();
        let newest = snapshot
            .sealed
            .last()
            .map_or(Lsn(0), |segment| segment.end.lsn);
        let mark = (snapshot.files.next, snapshot.sealed.len(), newest);
        if self.done == Some(mark) {
            return Ok(false);
        }
        drop(snapshot);
        let due = self.due(state);
        if due.is_empty() {
            keep(state);
            self.done = Some(mark);
            return Ok(false);
        }
        let mut made = Vec::with_capacity(due.len());
        for (key, file) in due {
            match file.make(throttle)? {
                Some(fingerprint) => made.push((key, fingerprint)),
                None => drop(self.failed.insert(key)),
            }
        }
        let (disk, dir) = (state.disk.as_ref(), &state.dir);
        state.room.check(dir, state.fingerprints.room(made.len()))?;
        state.fingerprints.put(disk, dir, &made)?;
        Ok(true)
    }

    /// The next files to look at: one segment, or some Parquet files.
    fn due(&self, state: &LogState) -> Vec<(Key, Due)> {
        let snapshot = state.snapshot();
        let may = |key: &Key, name: &str| !self.failed.contains(key) && !state.damage.holds(name);
        let segment = snapshot.sealed.iter().find(|segment| {
            segment.fault.is_none()
                && state.fingerprints.of_segment(segment).is_none()
                && may(&segment_key(segment), &segment.name())
        });
        if let Some(segment) = segment {
            return vec![(segment_key(segment), Due::Segment(Arc::clone(segment)))];
        }
        let files = snapshot.files.all().filter(|file| {
            file.fault().is_none()
                && state.fingerprints.of_file(file).is_none()
                && may(&file_key(file), &file.meta.name())
        });
        let mut bytes = 0;
        let some = files.take(MOST_FILES).take_while(|file| {
            let is_first = bytes == 0;
            bytes += file.meta.bytes;
            is_first || bytes <= MOST_BYTES
        });
        some.map(|file| (file_key(file), Due::File(Arc::clone(file))))
            .collect()
    }
}

/// Forgets the fingerprints of files that are gone.
fn keep(state: &LogState) {
    let snapshot = state.snapshot();
    let segments = snapshot.sealed.iter().map(|segment| segment_key(segment));
    let files = snapshot.files.all().map(|file| file_key(file));
    state.fingerprints.keep(&segments.chain(files).collect());
}

/// A file without one.
#[derive(Debug)]
enum Due {
    Segment(Arc<Sealed>),
    File(Arc<DataFile>),
}

impl Due {
    /// None for a file that turns out to be damaged.
    fn make(&self, throttle: &Throttle) -> Result<Option<Fingerprint>, WalError> {
        match self {
            Self::Segment(segment) => of_segment(segment, throttle),
            Self::File(file) => match of_file(file, throttle) {
                Err(WalError::Corrupt { .. }) => Ok(None),
                made => made.map(Some),
            },
        }
    }
}

fn of_segment(segment: &Sealed, throttle: &Throttle) -> Result<Option<Fingerprint>, WalError> {
    match segment.check() {
        Some(error @ WalError::Io { .. }) => return Err(error),
        Some(_) => return Ok(None),
        None => {}
    }
    let Some(end) = segment.end.position() else {
        return Ok(None);
    };
    let mut sha256 = Sha256::new();
    let mut at = 0;
    while at < segment.len() {
        let left = usize::try_from(segment.len() - at).unwrap_or(usize::MAX);
        let length = left.min(CHUNK_LEN);
        throttle.spend(length).map_err(|_| WalError::Closed)?;
        sha256.update(&segment.bytes(at, length)?);
        at += length as u64;
    }
    Ok(Some(Fingerprint::new(at, end.chain.0, sha256.finish())))
}

fn of_file(file: &DataFile, throttle: &Throttle) -> Result<Fingerprint, WalError> {
    let mut sha256 = Sha256::new();
    let whole = file.chunks_from(0, &mut |chunk| {
        let go_on = throttle.spend(chunk.len()).is_ok();
        sha256.update(chunk);
        go_on
    })?;
    if !whole {
        return Err(WalError::Closed);
    }
    let of = file.meta.hash();
    Ok(Fingerprint::new(file.meta.bytes, of, sha256.finish()))
}

/// Parquet files that are looked at in one go, and their bytes: what is made is kept in one write.
const MOST_FILES: usize = 256;
const MOST_BYTES: u64 = 64 << 20;
