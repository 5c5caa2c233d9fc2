//! A log that is being brought in beside the one in force: `incoming/log-<id>/`. Owns that
//! directory; the log in force is touched only by `swap_in` and `settle`. It must never open what
//! is in force.
//!
//! ```text
//! begin --manifest--> staged log --blocks--> tip        (a Follower, opened by `open_log`)
//!                     parquet/*.part --whole--> parquet/* (`write`)
//!                     both there: swap_in: ready-<id>, old log away, log-<id>
//! ```
//!
//! The manifest in the staged directory says what it is; a directory without one is what is left of
//! an attempt, and goes.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::FollowerConfig;
use crate::disk::Disk;
use crate::error::WalError;
use crate::ids::{Epoch, LogId, Position};
use crate::open::closed::end_of;
use crate::open::open_staged;
use crate::open::recovery::Recovery;
use crate::open::settle::{remove_staged, settle};
use crate::parquet::manifest::{MANIFEST, MANIFEST_NEW, Manifest};
use crate::parquet::{FILES_DIR, FileSet};
use crate::paths::{INCOMING, LOG_PREFIX, log_dir, logs_among, segment_name, segments};
use crate::read::frame::header_in;
use crate::read::{fingerprints, segment_starts};
use crate::replace::parts::{BootstrapProgress, Missing, Parts, Trust};
use crate::write::follower::Follower;

/// A log that is being brought in beside the one in force.
#[derive(Debug)]
pub struct Staging {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) data_dir: PathBuf,
    /// `<data_dir>/incoming/log-<id>`.
    pub(super) dir: PathBuf,
    manifest: Manifest,
    pub(super) parts: Parts,
}

impl Staging {
    /// What an earlier attempt has left.
    ///
    /// # Errors
    /// `Io` when the directory cannot be read or put in order, `NewerFormat` when a newer version
    /// has written it.
    pub fn find(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Option<Self>, WalError> {
        settle(disk, data_dir)?;
        let mut found = None;
        for id in staged(disk.as_ref(), data_dir)? {
            let dir = log_dir(&data_dir.join(INCOMING), id);
            match read_manifest(disk.as_ref(), &dir)? {
                Some(manifest) if manifest.log == id && found.is_none() => {
                    found = Some((dir, manifest));
                }
                _ => remove_staged(disk.as_ref(), &dir)?,
            }
        }
        let Some((dir, manifest)) = found else {
            return Ok(None);
        };
        Self::load(disk, data_dir, dir, manifest, &Trust::Names).map(Some)
    }

    /// Starts over with this manifest, the bytes of a peer's [`Bundle`](crate::Bundle): the log
    /// begins at its compacted position. Parquet files that are here already and that it names stay
    /// when every byte is right; a partly written one keeps its whole right chunks; all others go.
    /// A whole one that the manifest of the attempt before describes alike was checked then: it is
    /// not read again.
    ///
    /// # Errors
    /// `Corrupt` or `NewerFormat` when the bytes are no manifest, `Io`.
    pub fn begin(disk: &Arc<dyn Disk>, data_dir: &Path, manifest: &[u8]) -> Result<Self, WalError> {
        let manifest = Manifest::decode(OF_A_PEER, manifest)?;
        settle(disk, data_dir)?;
        let dir = log_dir(&data_dir.join(INCOMING), manifest.log);
        for id in staged(disk.as_ref(), data_dir)? {
            let found = log_dir(&data_dir.join(INCOMING), id);
            if id != manifest.log {
                remove_staged(disk.as_ref(), &found)?;
            }
        }
        make_dirs(disk.as_ref(), data_dir, &dir)?;
        // One that cannot be read vouches for no file.
        let earlier = read_manifest(disk.as_ref(), &dir).unwrap_or_default();
        let earlier = earlier.filter(|earlier| earlier.log == manifest.log);
        let trust = earlier.map_or(Trust::Nothing, |earlier| Trust::Checked(earlier.files));
        // The manifest last: it must never lie beside a log or a file that does not belong to it.
        remove_segments(disk.as_ref(), &dir)?;
        // It may be of a history that this manifest does not go on.
        segment_starts::remove(disk.as_ref(), &dir)?;
        fingerprints::remove(disk.as_ref(), &dir)?;
        let staging = Self::load(disk, data_dir, dir, manifest, &trust)?;
        put_manifest(disk.as_ref(), &staging.dir, &staging.manifest)?;
        Ok(staging)
    }

    /// Starts over without a manifest: the log begins at genesis.
    ///
    /// # Errors
    /// `Io`.
    pub fn begin_empty(
        disk: &Arc<dyn Disk>,
        data_dir: &Path,
        log: LogId,
        epoch: Epoch,
    ) -> Result<Self, WalError> {
        let none = FileSet::empty(log.genesis());
        let manifest = none.manifest(log, epoch);
        Self::begin(disk, data_dir, &manifest.encode())
    }

    fn load(
        disk: &Arc<dyn Disk>,
        data_dir: &Path,
        dir: PathBuf,
        manifest: Manifest,
        trust: &Trust,
    ) -> Result<Self, WalError> {
        make_dirs(disk.as_ref(), data_dir, &dir)?;
        let mut parts = Parts::unseen(disk, &dir, &manifest.files);
        parts.survey(trust)?;
        Ok(Self {
            disk: Arc::clone(disk),
            data_dir: data_dir.to_owned(),
            dir,
            manifest,
            parts,
        })
    }

    /// Takes a newer manifest of the same log while the staged log goes on; its follower may be
    /// open.
    ///
    /// # Errors
    /// `NotHeld` when the staged log, which ends at `tip`, has not durably come to where that
    /// manifest ends, or is another history there: nothing has changed. `WrongLog`, `Corrupt`,
    /// `Io`.
    pub fn refresh(&mut self, manifest: &[u8], tip: Position) -> Result<(), WalError> {
        let manifest = Manifest::decode(OF_A_PEER, manifest)?;
        if manifest.log != self.log() {
            return Err(WalError::foreign(&self.dir, self.log(), manifest.log));
        }
        if !self.reaches(manifest.compacted, tip)? {
            return Err(WalError::NotHeld(manifest.compacted));
        }
        self.parts.close();
        self.parts.forget_others(&manifest.files)?;
        put_manifest(self.disk.as_ref(), &self.dir, &manifest)?;
        let reserve = self.parts.reserve();
        self.parts = Parts::unseen(&self.disk, &self.dir, &manifest.files);
        self.parts.keep_free(reserve);
        self.manifest = manifest;
        self.parts.survey(&Trust::Names)
    }

    /// Whether the staged log has come to `compacted`, with the same history.
    fn reaches(&self, compacted: Position, tip: Position) -> Result<bool, WalError> {
        if compacted == self.compacted() || compacted == tip {
            return Ok(true);
        }
        if compacted.lsn <= self.compacted().lsn || compacted.lsn >= tip.lsn {
            return Ok(false);
        }
        // Files end where a segment does; the next one is there once that is durable.
        let path = self.dir.join(segment_name(compacted.lsn));
        match header_in(self.disk.as_ref(), &path) {
            Err(error @ WalError::Io { .. }) => Err(error),
            header => {
                Ok(header.is_ok_and(|found| found.is_some_and(|header| header.start == compacted)))
            }
        }
    }

    /// The log that a manifest is of; touches no disk.
    ///
    /// # Errors
    /// `Corrupt` or `NewerFormat` when the bytes are no manifest.
    pub fn log_of(manifest: &[u8]) -> Result<LogId, WalError> {
        Manifest::decode(OF_A_PEER, manifest).map(|manifest| manifest.log)
    }

    /// Leaves so many bytes of the disk alone from now on.
    #[must_use]
    pub fn keep_free(mut self, reserve: u64) -> Self {
        self.parts.keep_free(reserve);
        self
    }

    pub fn log(&self) -> LogId {
        self.manifest.log
    }

    pub fn epoch(&self) -> Epoch {
        self.manifest.epoch
    }

    /// Everything below comes in Parquet files.
    pub fn compacted(&self) -> Position {
        self.manifest.compacted
    }

    /// Files that are not whole yet, smallest ordinal first.
    pub fn wanted(&self) -> Vec<Missing> {
        self.parts.wanted()
    }

    pub fn progress(&self) -> BootstrapProgress {
        self.parts.progress()
    }

    /// Whether every file is whole.
    pub fn is_complete(&self) -> bool {
        self.parts.is_complete()
    }

    /// Appends bytes to a file: from what is held on, whole chunks of
    /// [`CHUNK_LEN`](crate::CHUNK_LEN) or up to the file's end. Every chunk's checksum is compared.
    /// A file that is whole is durable once this returns; what is held of others may be lost by a
    /// crash, and is then wanted again.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not those that belong there: none is kept. `Io`; one that says
    /// that the disk is full may be tried again.
    pub fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), WalError> {
        self.parts.write(name, at, bytes)
    }

    /// Takes over where segments of the log began below its compacted position, as
    /// [`Log::segment_starts`](crate::Log::segment_starts) of the peer says from which the manifest
    /// is; what is damaged, or of another log, is ignored. A log that is open knows it from its
    /// next opening on, so it is best called before [`Staging::open_log`]; `begin` forgets it.
    ///
    /// # Errors
    /// `Io`.
    pub fn take_segment_starts(&mut self, bytes: &[u8]) -> Result<(), WalError> {
        let (disk, end) = (self.disk.as_ref(), self.compacted().lsn);
        segment_starts::take(disk, &self.dir, self.log(), end, bytes)
    }

    /// Opens the staged log for following. Its Parquet files are not opened: none of them is read,
    /// reported or deleted.
    ///
    /// # Errors
    /// As [`open_follower`](crate::open_follower).
    pub fn open_log(&self, config: &FollowerConfig) -> Result<(Follower, Recovery), WalError> {
        self.align()?;
        open_staged(
            Arc::clone(&self.disk),
            &self.data_dir.join(INCOMING),
            self.log(),
            self.epoch(),
            config,
        )
    }

    /// A log that ends before its files do begins where they end: all it has is in them. So it is
    /// when a manifest was taken and the crash came before the blocks it covers were durable.
    pub(super) fn align(&self) -> Result<(), WalError> {
        let end = end_of(self.disk.as_ref(), &self.dir)?;
        let compacted = self.compacted();
        let behind = |end: Position| {
            end.lsn < compacted.lsn || (end.lsn == compacted.lsn && end != compacted)
        };
        if end.is_some_and(behind) {
            remove_segments(self.disk.as_ref(), &self.dir)?;
        }
        Ok(())
    }

    /// Gives the attempt up and removes it. Its follower must have been stopped.
    ///
    /// # Errors
    /// `Io`; what is left then is removed by the next attempt.
    pub fn discard(mut self) -> Result<(), WalError> {
        self.parts.close();
        remove_staged(self.disk.as_ref(), &self.dir)
    }
}

fn staged(disk: &dyn Disk, data_dir: &Path) -> Result<Vec<LogId>, WalError> {
    let incoming = data_dir.join(INCOMING);
    let names = disk.list_names(&incoming)?;
    Ok(logs_among(&names, LOG_PREFIX))
}

fn make_dirs(disk: &dyn Disk, data_dir: &Path, dir: &Path) -> Result<(), WalError> {
    for dir in [&data_dir.join(INCOMING), dir, &dir.join(FILES_DIR)] {
        disk.make_dir(dir)?;
    }
    Ok(())
}

/// The manifest of a staged log; none when it is not there or not whole.
fn read_manifest(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, WalError> {
    let path = dir.join(MANIFEST);
    let Some(bytes) = disk.read_if_there(&path)? else {
        return Ok(None);
    };
    match Manifest::decode(&path.display().to_string(), &bytes) {
        Err(WalError::Corrupt { .. }) => Ok(None),
        decoded => decoded.map(Some),
    }
}

fn put_manifest(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<(), WalError> {
    let (draft, path) = (dir.join(MANIFEST_NEW), dir.join(MANIFEST));
    disk.replace(&draft, &path, &manifest.encode())
}

/// Removes the segments of a log, newest first: what a crash leaves has no gap.
fn remove_segments(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    for first in segments(disk, dir)?.iter().rev() {
        let path = dir.join(segment_name(*first));
        disk.remove_file(&path)?;
        disk.sync_names(dir)?;
    }
    Ok(())
}

/// What errors call a manifest that came over the network.
const OF_A_PEER: &str = "the manifest of a peer";
