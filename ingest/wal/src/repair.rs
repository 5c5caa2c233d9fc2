//! Whole files between nodes: hands out what is intact here, takes in what is damaged here. A file
//! that comes in is checked to the last byte before it is used.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::compact::write_durably;
use crate::error::WalError;
use crate::file::{CHUNK_LEN, DataFile};
use crate::ids::Lsn;
use crate::layout::segment_first;
use crate::log::{Log, LogState};
use crate::past::PAST;
use crate::sealed::Sealed;

/// Name of a file that is being taken in.
pub(crate) const FETCHED_NEW: &str = "fetched.new";

impl Log {
    /// The bytes of a sealed segment or Parquet file, every one checked; `None` when it is not here
    /// or damaged. `name` is relative to the log's directory; `past` is what [`Log::past`] says.
    /// Reads the whole file.
    pub fn export(&self, name: &str) -> Option<Bytes> {
        self.export_from(name, 0)
    }

    /// The same, of the bytes from `from` on: a multiple of [`CHUNK_LEN`], and not behind the end.
    pub fn export_from(&self, name: &str, from: u64) -> Option<Bytes> {
        let from = usize::try_from(from).ok()?;
        if !from.is_multiple_of(CHUNK_LEN) {
            return None;
        }
        let whole = match segment_first(name) {
            Some(first) => self.export_segment(first)?,
            None if name == PAST => self.past(),
            None => return self.export_file(name, from),
        };
        (from <= whole.len()).then(|| whole.slice(from..))
    }

    /// A file in force, one replaced lately, or one that a [`Bundle`](crate::Bundle) holds.
    fn export_file(&self, name: &str, from: usize) -> Option<Bytes> {
        let in_force = self.snapshot().files.find(name).map(Arc::clone);
        let found = in_force
            .or_else(|| self.state().remembered(name))
            .or_else(|| self.state().held(name))?;
        found.rest(from).ok()
    }

    fn export_segment(&self, first: Lsn) -> Option<Bytes> {
        let snapshot = self.snapshot();
        let mut sealed = snapshot.sealed.iter();
        let segment = sealed.find(|segment| segment.start().lsn == first)?;
        if let Some(fault) = segment.check() {
            segment.report(&fault.to_string());
            return None;
        }
        Some(segment.bytes.clone())
    }

    /// Checks the segments around `at` and puts what is damaged on the list: a peer says that it
    /// cannot go on there. Reads them whole, unless they are on the list already.
    pub fn suspect(&self, at: Lsn) {
        let snapshot = self.snapshot();
        let behind = snapshot.sealed.iter();
        for segment in behind.filter(|segment| segment.end.lsn > at).take(2) {
            if self.state().board.holds(&segment.name()) {
                continue;
            }
            if let Some(fault) = segment.check() {
                segment.report(&fault.to_string());
            }
        }
    }

    /// Puts a whole file in the place of a damaged one. `name` must be on the list of
    /// [`Log::damage`]. Reads and writes the whole file.
    ///
    /// # Errors
    /// `Corrupt` or `WrongLog` when the bytes are not that file, `NotHeld` when it is not damaged.
    pub fn install(&self, name: &str, bytes: Bytes) -> Result<(), WalError> {
        let state = self.state();
        let _exchange = state
            .exchange
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !state.board.holds(name) || state.dismissed.load(Ordering::Acquire) {
            return Err(WalError::NotHeld(self.snapshot().position()));
        }
        match segment_first(name) {
            Some(_) => install_segment(state, name, bytes),
            None => install_file(state, name, &bytes),
        }?;
        state.board.clear(name, true);
        Ok(())
    }
}

fn install_segment(state: &LogState, name: &str, bytes: Bytes) -> Result<(), WalError> {
    let path = state.dir.join(name);
    let snapshot = state.snapshot();
    let at = snapshot.sealed.iter().position(|held| held.name() == name);
    let not_here = || WalError::corrupt(name, 0, "is no sealed segment of this log");
    let at = at.ok_or_else(not_here)?;
    let found = Sealed::of(bytes.clone(), &path, snapshot.log, &state.board)?;
    if let Some(fault) = found.check() {
        return Err(fault);
    }
    let held = &snapshot.sealed[at];
    // Its neighbours know where it begins and ends; a hole may know no chain.
    let before = at.checked_sub(1).and_then(|at| snapshot.sealed.get(at));
    let after = snapshot.sealed.get(at + 1);
    let meets = found.start().lsn == held.start().lsn
        && found.end.lsn == held.end.lsn
        && before.is_none_or(|before| before.fault.is_some() || before.end == found.start())
        && after.is_none_or(|after| after.fault.is_some() || after.start() == found.end);
    if !meets {
        let reason = format!("{} to {} is another history", found.start(), found.end);
        return Err(WalError::corrupt(name, 0, reason));
    }
    write_durably(state, FETCHED_NEW, &path, &bytes)?;
    let segment = Arc::new(Sealed::open(
        state.disk.as_ref(),
        &path,
        snapshot.log,
        &state.board,
    )?);
    state.change_sealed(|sealed| {
        if let Some(place) = sealed.iter_mut().find(|held| held.name() == name) {
            *place = segment;
        }
    });
    Ok(())
}

fn install_file(state: &LogState, name: &str, bytes: &Bytes) -> Result<(), WalError> {
    let snapshot = state.snapshot();
    let not_here = || WalError::corrupt(name, 0, "is no file of this log");
    let meta = snapshot.files.find(name).ok_or_else(not_here)?.meta.clone();
    if !meta.is(bytes) {
        return Err(WalError::corrupt(
            name,
            0,
            "the bytes are those of another file",
        ));
    }
    write_durably(state, FETCHED_NEW, &state.dir.join(name), bytes)?;
    let ordinal = meta.ordinal;
    let file = DataFile::open(state.disk.as_ref(), &state.dir, meta, &state.board);
    let mut set = crate::file::FileSet::clone(&state.snapshot().files);
    set.exchange(&[ordinal], vec![Arc::new(file)]);
    state.set_files(Arc::new(set));
    Ok(())
}
