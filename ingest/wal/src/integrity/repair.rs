//! Whole files between nodes: hands out what is intact here, takes in what is damaged here. A file
//! that comes in is checked to the last byte before it is used. It must never take in bytes that
//! the log or the manifest does not vouch for.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::WalError;
use crate::ids::{Boundary, Lsn};
use crate::parquet::{CHUNK_LEN, DataFile};
use crate::paths::{FETCHED_NEW, segment_first, segment_name};
use crate::read::fingerprints::Fingerprint;
use crate::read::log::{Log, LogState};
use crate::read::sealed::Sealed;
use crate::read::segment_starts::PAST;

/// A file on its way out of this node.
#[derive(Debug)]
pub struct Export {
    source: Source,
    at: u64,
    len: u64,
}

#[derive(Debug)]
enum Source {
    Bytes(Bytes),
    File(Arc<DataFile>),
    Segment(Arc<Sealed>),
}

impl Export {
    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        self.len - self.at
    }

    /// The next [`CHUNK_LEN`] bytes, fewer at the end; none behind it.
    ///
    /// # Errors
    /// When they cannot be read any more, or are not what they were.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, WalError> {
        if self.left() == 0 {
            return Ok(None);
        }
        let chunk = CHUNK_LEN as u64;
        let len = usize::try_from(self.left().min(chunk)).unwrap_or(CHUNK_LEN);
        let piece = match &self.source {
            Source::Bytes(bytes) => {
                let from = usize::try_from(self.at).unwrap_or(usize::MAX);
                bytes.slice(from..from + len)
            }
            Source::File(file) => file.chunk_now(self.at / chunk)?,
            Source::Segment(segment) => segment.bytes(self.at, len)?,
        };
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}

impl Log {
    /// The bytes of a sealed segment or Parquet file, every one checked; `None` when it is not here
    /// or damaged. `name` is relative to the log's directory; `past` is what
    /// [`Log::segment_starts`] says.
    /// Reads the whole file.
    pub fn export(&self, name: &str) -> Option<Bytes> {
        self.export_from(name, 0)
    }

    /// The same, of the bytes from `from` on: a multiple of [`CHUNK_LEN`], and not behind the end.
    pub fn export_from(&self, name: &str, from: u64) -> Option<Bytes> {
        let mut pieces = self.export_pieces(name, from)?;
        let mut whole = Vec::with_capacity(usize::try_from(pieces.left()).ok()?);
        while let Some(piece) = pieces.next_piece().ok()? {
            whole.extend_from_slice(&piece);
        }
        Some(whole.into())
    }

    /// The same, to be read piece by piece. All of it is right as it is now.
    pub fn export_pieces(&self, name: &str, from: u64) -> Option<Export> {
        if !from.is_multiple_of(CHUNK_LEN as u64) {
            return None;
        }
        let (source, len) = match segment_first(name) {
            Some(first) => {
                let segment = self.whole_segment(first)?;
                let len = segment.len();
                (Source::Segment(segment), len)
            }
            None if name == PAST => {
                let bytes = self.segment_starts();
                let len = bytes.len() as u64;
                (Source::Bytes(bytes), len)
            }
            None => {
                let file = self.known_file(name)?;
                let len = file.meta.bytes;
                if from <= len {
                    file.chunks_from(from, &mut |_| true).ok()?;
                }
                (Source::File(file), len)
            }
        };
        (from <= len).then_some(Export {
            source,
            at: from,
            len,
        })
    }

    /// A file in force, one replaced lately, or one that a [`Bundle`](crate::Bundle) holds.
    fn known_file(&self, name: &str) -> Option<Arc<DataFile>> {
        let in_force = self.snapshot().files.find(name).map(Arc::clone);
        in_force
            .or_else(|| self.state().kept.replaced(name))
            .or_else(|| self.state().kept.bundled(name))
    }

    fn whole_segment(&self, first: Lsn) -> Option<Arc<Sealed>> {
        let snapshot = self.snapshot();
        let mut sealed = snapshot.sealed.iter();
        let segment = sealed.find(|segment| segment.start().lsn == first)?;
        if let Some(fault) = segment.check() {
            segment.blame(&fault);
            return None;
        }
        Some(Arc::clone(segment))
    }

    /// How long a sealed segment or Parquet file of this log is; `None` when that is not known, as
    /// of a segment of which nothing can be read.
    pub fn length_of(&self, name: &str) -> Option<u64> {
        let snapshot = self.snapshot();
        if segment_first(name).is_none() {
            return snapshot.files.find(name).map(|file| file.meta.bytes);
        }
        let mut sealed = snapshot.sealed.iter();
        let held = sealed.find(|segment| segment.name() == name)?;
        let known = self.state().fingerprints.of_segment(held);
        known.map(|known| known.bytes)
    }

    /// Checks the segments around `at` and puts what is damaged on the list: a peer says that it
    /// cannot go on there. Reads them whole, unless they are on the list already.
    pub fn suspect(&self, at: Lsn) {
        let snapshot = self.snapshot();
        let behind = snapshot.sealed.iter();
        for segment in behind.filter(|segment| segment.end.lsn > at).take(2) {
            if self.state().damage.holds(&segment.name()) {
                continue;
            }
            if let Some(fault) = segment.check() {
                segment.blame(&fault);
            }
        }
    }

    /// Puts a whole file in the place of a damaged one. `name` must be on the list of
    /// [`Log::damage`]. Reads and writes the whole file. True: they are byte for byte what this node
    /// had, by a fingerprint that nobody can forge. False: it had made none, and nothing but the
    /// log's own checksums vouches for them.
    ///
    /// # Errors
    /// `Corrupt` or `WrongLog` when the bytes are not that file, `NotHeld` when it is not damaged.
    pub fn install(&self, name: &str, bytes: Bytes) -> Result<bool, WalError> {
        let state = self.state();
        let _exchange = state.maintenance.exchange();
        if !state.damage.holds(name) || state.maintenance.is_dismissed() {
            return Err(WalError::NotHeld(self.end()));
        }
        let vouched = match segment_first(name) {
            Some(_) => install_segment(state, name, bytes),
            None => install_file(state, name, &bytes),
        }?;
        state.damage.clear(name, true);
        Ok(vouched)
    }
}

/// Whether a fingerprint vouches for these bytes; an error when it speaks against them.
fn vouched(name: &str, known: Option<Fingerprint>, bytes: &[u8]) -> Result<bool, WalError> {
    match known {
        Some(known) if !known.is_of(bytes) => Err(WalError::corrupt(name, 0, FORGED)),
        known => Ok(known.is_some()),
    }
}

fn install_segment(state: &LogState, name: &str, bytes: Bytes) -> Result<bool, WalError> {
    let path = state.dir.join(name);
    let snapshot = state.snapshot();
    let at = snapshot.sealed.iter().position(|held| held.name() == name);
    let not_here = || WalError::corrupt(name, 0, "is no sealed segment of this log");
    let at = at.ok_or_else(not_here)?;
    let (unlisted, known) = (Arc::default(), &snapshot.catalog);
    let found = Sealed::of(bytes.clone(), &path, snapshot.log, &unlisted, known)?;
    if let Some(fault) = found.check() {
        return Err(fault);
    }
    let held = &snapshot.sealed[at];
    // Its neighbours know where it begins and ends, and so may what is held of it; a hole may know
    // no chain. Behind the last one is the active segment, of which every block has been read.
    let before = at.checked_sub(1).and_then(|at| snapshot.sealed.get(at));
    let goes_on = match snapshot.sealed.get(at + 1) {
        Some(after) => after.fault.is_some() || after.start() == found.end,
        None => Boundary::of_segment(snapshot.tail.start).meets(found.end),
    };
    // Where several in a row cannot be read, nothing says where the first of them ends.
    let rest = (held.fault.is_some() && found.end.lsn < held.end.lsn).then_some(held.end);
    let meets = found.start().lsn == held.start().lsn
        && (rest.is_some() || (held.end.meets(found.end) && goes_on))
        && before.is_none_or(|before| before.fault.is_some() || before.end == found.start());
    if !meets {
        let reason = format!("{} to {} is another history", found.start(), found.end);
        return Err(WalError::corrupt(name, 0, reason));
    }
    let vouched = vouched(name, state.fingerprints.of_segment(held), &bytes)?;
    state.make_room(&path, bytes.len() as u64)?;
    state
        .disk
        .replace(&state.dir.join(FETCHED_NEW), &path, &bytes)?;
    let first = held.start().lsn;
    let segment = Sealed::open(&state.home, first, snapshot.log, &state.damage, known)?;
    let segment = Arc::new(segment);
    let rest = rest.map(|end| {
        let start = segment.end;
        let path = state.dir.join(segment_name(start.lsn));
        let reason = "cannot be told from the one before it".to_owned();
        Arc::new(Sealed::hole(&path, start, end, reason, &state.damage))
    });
    state.published.change_sealed(|sealed| {
        if let Some(at) = sealed.iter().position(|held| held.name() == name) {
            sealed.splice(at..=at, std::iter::once(segment).chain(rest));
        }
    });
    Ok(vouched)
}

fn install_file(state: &LogState, name: &str, bytes: &Bytes) -> Result<bool, WalError> {
    let snapshot = state.snapshot();
    let not_here = || WalError::corrupt(name, 0, "is no file of this log");
    let held = snapshot.files.find(name).ok_or_else(not_here)?;
    let meta = held.meta.clone();
    if !meta.is(bytes) {
        return Err(WalError::corrupt(
            name,
            0,
            "the bytes are those of another file",
        ));
    }
    let vouched = vouched(name, state.fingerprints.of_file(held), bytes)?;
    let path = state.dir.join(name);
    state.make_room(&path, bytes.len() as u64)?;
    state
        .disk
        .replace(&state.dir.join(FETCHED_NEW), &path, bytes)?;
    let ordinal = meta.ordinal;
    let file = DataFile::open(&state.home, meta, &state.damage);
    let mut set = crate::parquet::FileSet::clone(&state.snapshot().files);
    set.exchange(&[ordinal], vec![Arc::new(file)]);
    state.set_files(Arc::new(set));
    Ok(vouched)
}

const FORGED: &str = "has the log's checksums and is not what this node had: it was forged, or \
                      written by another version";

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::ids::LogId;
    use crate::paths::log_dir;
    use crate::{Committer, Config, OsDisk, Row, Value, open_primary};

    fn open(dir: &Path) -> Committer {
        let config = Config {
            segment_size: 2_500,
            upkeep_every: Duration::from_secs(3_600),
            ..Config::default()
        };
        open_primary(OsDisk::new(), dir, &config).expect("opens").0
    }

    /// One row a block, so that equal numbers of rows end at equal LSNs.
    fn write(committer: &Committer, rows: std::ops::Range<i64>, value: i64) {
        let mut appender = committer.appender(Box::new(|_| ()));
        for time in rows {
            let row = Row {
                time,
                tags: &[],
                fields: &[(Cow::Borrowed("n"), Value::Int(value))],
            };
            let group = appender.append("one", &[row]).expect("fits");
            appender.wait(group).expect("durable");
        }
    }

    fn copy(log: LogId, from: &Path, to: &Path) {
        let (from, to) = (log_dir(from, log), log_dir(to, log));
        std::fs::create_dir_all(&to).expect("makes");
        for entry in std::fs::read_dir(from).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                std::fs::copy(&path, to.join(name)).expect("copies");
            }
        }
    }

    /// The last sealed segment: its name and its bytes.
    fn last(log: &Log) -> (String, Bytes) {
        let name = log.snapshot().sealed.last().expect("sealed").name();
        let bytes = log.export(&name).expect("whole");
        (name, bytes)
    }

    #[test]
    fn the_last_sealed_segment_is_not_taken_from_another_history() {
        let dirs = [0, 1].map(|_| tempfile::tempdir().expect("dir"));
        let mine = open(dirs[0].path());
        let id = mine.log().id();
        write(&mine, 0..5, 7);
        mine.stop().expect("stops");
        copy(id, dirs[0].path(), dirs[1].path());
        let (mine, other) = (open(dirs[0].path()), open(dirs[1].path()));
        let mut row = 5;
        while mine.log().snapshot().sealed.is_empty() {
            write(&mine, row..row + 1, 8);
            write(&other, row..row + 1, 9);
            row += 1;
        }
        let ((name, right), (same, wrong)) = (last(mine.log()), last(other.log()));
        assert_eq!(name, same);
        let ends = [&mine, &other].map(|log| log.log().snapshot().sealed[0].end);
        assert!(
            ends[0].lsn == ends[1].lsn && ends[0].chain != ends[1].chain,
            "{ends:?}"
        );

        let state = mine.log().state();
        let check = |log: &Log| {
            let refused = log.install(&name, wrong.clone());
            assert!(
                matches!(refused, Err(WalError::Corrupt { .. })),
                "{refused:?}"
            );
            log.install(&name, right.clone()).expect("is the right one");
            assert!(log.damage().borrow().is_empty());
            assert!(log.verify().faults.is_empty());
        };
        state.damage.report(&name, 0, "a block in it has rotted");
        check(mine.log());
        mine.stop().expect("stops");
        // After a start nothing is known of it but where it lies.
        let path = log_dir(dirs[0].path(), id).join(&name);
        std::fs::write(path, [0; 4_096]).expect("writes");
        let mine = open(dirs[0].path());
        check(mine.log());
    }
}
