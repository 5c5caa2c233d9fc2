//! The SHA-256 of every sealed segment and Parquet file that this node has seen whole: what a copy
//! from another node is held against before it takes the place of a damaged one. Owns the file
//! `fingerprints`.
//!
//! The log's own checksums find accidents; whoever holds the log can make bytes that have them. A
//! fingerprint is of this node's own bytes, so it must never be taken from a peer, nor count for
//! anything but the file that it was made of.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256, digest};

use crate::bytes::{array_at, checksum, u32_at, u64_at};
use crate::disk::Disk;
use crate::error::{Operation, WalError};
use crate::ids::LogId;
use crate::parquet::DataFile;
use crate::read::sealed::Sealed;

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    kind: u32,
    /// Of a Parquet file.
    table: u32,
    /// First LSN or ordinal.
    number: u64,
}

/// What a file was when its fingerprint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) bytes: u64,
    /// Tells it from another file of that name: the chain value behind a segment, what the manifest
    /// says of a Parquet file.
    of: u64,
    pub(crate) sha256: [u8; 32],
}

/// Of a segment.
pub(crate) fn segment_key(segment: &Sealed) -> Key {
    Key {
        kind: SEGMENT,
        table: 0,
        number: segment.start().lsn.0,
    }
}

/// Of a Parquet file.
pub(crate) fn file_key(file: &DataFile) -> Key {
    Key {
        kind: FILE,
        table: file.meta.table.0,
        number: file.meta.ordinal,
    }
}

/// The SHA-256 of these bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let found = digest(&SHA256, bytes);
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(found.as_ref());
    sha256
}

/// The SHA-256 of bytes that come in pieces.
pub(crate) struct Sha256(Context);

impl Sha256 {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.0.finish().as_ref());
        sha256
    }
}

impl Fingerprint {
    pub(crate) fn new(bytes: u64, of: u64, sha256: [u8; 32]) -> Self {
        Self { bytes, of, sha256 }
    }

    /// Whether these bytes are what it was made of.
    pub(crate) fn is_of(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.bytes && sha256(bytes) == self.sha256
    }
}

/// All of a log's.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    log: LogId,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_file: HashMap<Key, Fingerprint>,
    /// Records in the file, those of files that are gone included; none: it has to be written anew.
    written: Option<usize>,
}

impl Fingerprints {
    /// What the file says, up to the first record that is damaged.
    pub(crate) fn load(disk: &dyn Disk, dir: &Path, log: LogId) -> Self {
        let bytes = disk.read(&dir.join(FINGERPRINTS)).unwrap_or_default();
        let records = bytes.chunks_exact(RECORD).map_while(decode(log));
        let mut by_file = HashMap::new();
        let mut count = 0;
        for (key, fingerprint) in records {
            by_file.insert(key, fingerprint);
            count += 1;
        }
        let is_whole = !bytes.is_empty() && bytes.len() == count * RECORD;
        let held = Held {
            by_file,
            written: is_whole.then_some(count),
        };
        Self {
            log,
            held: Mutex::new(held),
        }
    }

    /// Of the segment that this one is, or of which it holds the place; none: not known.
    pub(crate) fn of_segment(&self, segment: &Sealed) -> Option<Fingerprint> {
        let known = self.get(segment_key(segment))?;
        let end = segment.end.position();
        end.is_none_or(|end| end.chain.0 == known.of)
            .then_some(known)
    }

    /// Of this Parquet file; none: not known.
    pub(crate) fn of_file(&self, file: &DataFile) -> Option<Fingerprint> {
        let known = self.get(file_key(file))?;
        (known.of == file.meta.hash()).then_some(known)
    }

    fn get(&self, key: Key) -> Option<Fingerprint> {
        self.lock().by_file.get(&key).copied()
    }

    /// Remembers these; durable once this returns, unless the disk fails: then they are known until
    /// the log is closed.
    pub(crate) fn put(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        new: &[(Key, Fingerprint)],
    ) -> Result<(), WalError> {
        let mut held = self.lock();
        held.by_file.extend(new.iter().copied());
        let written = match held.written {
            Some(count) if count < SLACK + 2 * held.by_file.len() => {
                let records = new
                    .iter()
                    .flat_map(|(key, made)| encode(self.log, *key, *made));
                let records: Vec<u8> = records.collect();
                append(disk, dir, count, &records).map(|()| count + new.len())
            }
            _ => self.rewrite(disk, dir, &held),
        };
        held.written = written.as_ref().ok().copied();
        written.map(|_| ())
    }

    /// Bytes that keeping so many more takes at most.
    pub(crate) fn room(&self, new: usize) -> u64 {
        let all = self.lock().by_file.len().saturating_add(new);
        all.saturating_mul(RECORD) as u64
    }

    /// Forgets the files that are not among these.
    pub(crate) fn keep(&self, keys: &HashSet<Key>) {
        // They go from the disk when it is written anew.
        self.lock().by_file.retain(|key, _| keys.contains(key));
    }

    fn rewrite(&self, disk: &dyn Disk, dir: &Path, held: &Held) -> Result<usize, WalError> {
        let mut all: Vec<(&Key, &Fingerprint)> = held.by_file.iter().collect();
        all.sort_by_key(|(key, _)| (key.kind, key.number, key.table));
        let records = all
            .iter()
            .map(|(key, found)| encode(self.log, **key, **found));
        let bytes: Vec<u8> = records.flatten().collect();
        disk.replace(&dir.join(FINGERPRINTS_NEW), &dir.join(FINGERPRINTS), &bytes)?;
        Ok(all.len())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets everything, of a log that nobody has open: its files are about to be others.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    if disk.remove_if_there(&dir.join(FINGERPRINTS))? {
        disk.sync_names(dir)?;
    }
    Ok(())
}

fn append(disk: &dyn Disk, dir: &Path, count: usize, records: &[u8]) -> Result<(), WalError> {
    let path = dir.join(FINGERPRINTS);
    let mut file = disk.open_file(&path)?;
    file.write_at((count * RECORD) as u64, records)
        .map_err(WalError::io(Operation::Write, &path))?;
    file.sync().map_err(WalError::io(Operation::Fsync, &path))
}

fn encode(log: LogId, key: Key, fingerprint: Fingerprint) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    let parts: [&[u8]; 6] = [
        &key.kind.to_le_bytes(),
        &key.table.to_le_bytes(),
        &key.number.to_le_bytes(),
        &fingerprint.bytes.to_le_bytes(),
        &fingerprint.of.to_le_bytes(),
        &fingerprint.sha256,
    ];
    let fields: Vec<u8> = parts.concat();
    let sum = sum(log, &fields).to_le_bytes();
    for (to, from) in out.iter_mut().zip(fields.iter().chain(&sum)) {
        *to = *from;
    }
    out
}

/// Reads one record of this log; none when it is not whole or another log's.
fn decode(log: LogId) -> impl Fn(&[u8]) -> Option<(Key, Fingerprint)> {
    move |record| {
        let (fields, found) = record.split_at_checked(FIELDS)?;
        if sum(log, fields) != u64_at(found, 0) {
            return None;
        }
        let key = Key {
            kind: u32_at(fields, 0),
            table: u32_at(fields, 4),
            number: u64_at(fields, 8),
        };
        let fingerprint = Fingerprint {
            bytes: u64_at(fields, 16),
            of: u64_at(fields, 24),
            sha256: array_at(fields, 32),
        };
        Some((key, fingerprint))
    }
}

fn sum(log: LogId, fields: &[u8]) -> u64 {
    checksum(&[&log.0, fields].concat())
}

/// The file's name in the log's directory, and of its next version while it is written.
pub(crate) const FINGERPRINTS: &str = "fingerprints";
pub(crate) const FINGERPRINTS_NEW: &str = "fingerprints.new";
const SEGMENT: u32 = 1;
const FILE: u32 = 2;
/// Bytes of a record before its checksum, and of all of it.
const FIELDS: usize = 64;
const RECORD: usize = FIELDS + 8;
/// Records of files that are gone, before the file is written anew.
const SLACK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;

    fn key(number: u64) -> Key {
        Key {
            kind: SEGMENT,
            table: 0,
            number,
        }
    }

    fn of(text: &str) -> Fingerprint {
        Fingerprint::new(text.len() as u64, 7, sha256(text.as_bytes()))
    }

    #[test]
    fn what_was_noted_is_there_after_a_restart_and_a_damaged_record_says_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let (disk, log) = (OsDisk::new(), LogId([3; 16]));
        let load = || Fingerprints::load(disk.as_ref(), dir.path(), log);
        let first = load();
        for (number, text) in [(1, "one"), (2, "two"), (3, "three")] {
            let put = first.put(disk.as_ref(), dir.path(), &[(key(number), of(text))]);
            put.expect("writes");
        }
        assert_eq!(load().get(key(3)), Some(of("three")));
        let path = dir.path().join(FINGERPRINTS);
        let mut bytes = std::fs::read(&path).expect("reads");
        assert_eq!(bytes.len(), 3 * RECORD);
        bytes[RECORD + 40] ^= 1;
        std::fs::write(&path, &bytes).expect("writes");
        let cut = load();
        assert_eq!(cut.get(key(1)), Some(of("one")));
        assert_eq!((cut.get(key(2)), cut.get(key(3))), (None, None));
        cut.put(disk.as_ref(), dir.path(), &[(key(4), of("four"))])
            .expect("writes");
        assert_eq!(load().get(key(4)), Some(of("four")));
        let other = Fingerprints::load(disk.as_ref(), dir.path(), LogId([4; 16]));
        assert_eq!(other.get(key(1)), None);
    }

    #[test]
    fn records_of_files_that_are_gone_do_not_add_up() {
        let dir = tempfile::tempdir().expect("dir");
        let (disk, log) = (OsDisk::new(), LogId([3; 16]));
        let all = Fingerprints::load(disk.as_ref(), dir.path(), log);
        for number in 0..1_000 {
            let put = all.put(disk.as_ref(), dir.path(), &[(key(number), of("text"))]);
            put.expect("writes");
            all.keep(&HashSet::from([key(number)]));
        }
        let length = std::fs::metadata(dir.path().join(FINGERPRINTS)).expect("there");
        let most = (SLACK + 3) * RECORD;
        assert!(length.len() <= most as u64, "{}", length.len());
    }

    #[test]
    fn another_length_or_byte_is_another_file() {
        let right = of("bytes");
        assert!(right.is_of(b"bytes"));
        assert!(!right.is_of(b"bytez") && !right.is_of(b"bytes ") && !right.is_of(b""));
        let mut pieces = Sha256::new();
        pieces.update(b"by");
        pieces.update(b"tes");
        assert_eq!(pieces.finish(), right.sha256);
    }
}
