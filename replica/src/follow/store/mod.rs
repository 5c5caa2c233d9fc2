//! The directory of a secondary's logs: the one in force, the one that is being brought in beside
//! it and what was put aside. It owns where they lie and every call about them that blocks on the
//! disk, and must never decide which log a node should have.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use wal::{
    Disk, Diverged, Epoch, Follower, FollowerConfig, Log, LogId, OldLog, Position, Recovery,
    Staging, WalError,
};

use crate::follow::reconcile::Held;

/// Told of every log that was opened: what opening it found, and when that began.
pub type OnOpen = fn(&Log, &Recovery, Instant);

/// Where a secondary keeps its logs. Every method blocks on the disk. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    config: FollowerConfig,
    on_open: OnOpen,
}

impl Store {
    /// The logs in this directory.
    #[must_use]
    pub fn new(
        disk: Arc<dyn Disk>,
        data_dir: PathBuf,
        config: FollowerConfig,
        on_open: OnOpen,
    ) -> Self {
        Self {
            disk,
            data_dir,
            config,
            on_open,
        }
    }

    /// The directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The log held already, if there is one, after whatever was interrupted has been finished.
    /// Comes first, before any other method.
    ///
    /// # Errors
    /// As [`wal::settle`] and [`wal::open_follower`].
    pub fn open_existing(&self) -> Result<Option<Follower>, WalError> {
        wal::settle(&self.disk, &self.data_dir)?;
        match wal::find_log(self.disk.as_ref(), &self.data_dir)? {
            // The files say which epoch they are of; the first is for a log that has none yet.
            Some(log) => self.open(log, Epoch(1)).map(Some),
            None => Ok(None),
        }
    }

    /// Opens the copy of this log, or begins one.
    ///
    /// # Errors
    /// As [`wal::open_follower`].
    pub fn open(&self, log: LogId, epoch: Epoch) -> Result<Follower, WalError> {
        let begun = Instant::now();
        let disk = Arc::clone(&self.disk);
        let (follower, recovery) =
            wal::open_follower(disk, &self.data_dir, log, epoch, &self.config)?;
        (self.on_open)(follower.log(), &recovery, begun);
        Ok(follower)
    }

    /// What an earlier attempt to bring a log in has left.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn staging(&self) -> Result<Option<Staging>, WalError> {
        let found = Staging::find(&self.disk, &self.data_dir)?;
        Ok(found.map(|staging| staging.keep_free(self.config.reserve_disk)))
    }

    /// Begins to bring in this log, as the manifest has it; files that are there already stay.
    ///
    /// # Errors
    /// `WrongLog` when the manifest is of another log, and when the bytes are none: nothing has
    /// changed. When the disk fails.
    pub fn begin(&self, manifest: &[u8], log: LogId) -> Result<Staging, WalError> {
        let found = Staging::log_of(manifest)?;
        if found != log {
            return Err(WalError::WrongLog {
                path: self.data_dir.clone(),
                reason: format!("the manifest is of log {found}, log {log} is brought in"),
            });
        }
        let staging = Staging::begin(&self.disk, &self.data_dir, manifest)?;
        Ok(staging.keep_free(self.config.reserve_disk))
    }

    /// Begins to bring in a log from its first block on.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin_empty(&self, log: LogId, epoch: Epoch) -> Result<Staging, WalError> {
        let staging = Staging::begin_empty(&self.disk, &self.data_dir, log, epoch)?;
        Ok(staging.keep_free(self.config.reserve_disk))
    }

    /// Opens a log that is being brought in, so that it can be followed.
    ///
    /// # Errors
    /// As [`wal::open_follower`].
    pub fn open_staged(&self, staging: &Staging) -> Result<Follower, WalError> {
        let begun = Instant::now();
        let (follower, recovery) = staging.open_log(&self.config)?;
        (self.on_open)(follower.log(), &recovery, begun);
        Ok(follower)
    }

    /// Puts a log that was brought in whole in the place of the one held, both being closed; where
    /// the old one was kept. Who reads the old one through `readers` goes on.
    ///
    /// # Errors
    /// When the disk fails: the next [`Store::open_existing`] finishes or undoes it.
    pub fn swap_in(
        &self,
        staging: Staging,
        old: OldLog,
        readers: Option<&Log>,
    ) -> Result<Option<PathBuf>, WalError> {
        staging.swap_in(old, readers)
    }

    /// Puts what lies behind `at` aside and cuts the log there; it must be closed.
    ///
    /// # Errors
    /// As [`wal::save_diverged`].
    pub fn save_diverged(&self, log: LogId, at: Position) -> Result<Diverged, WalError> {
        wal::save_diverged(&self.disk, &self.data_dir, log, at)
    }

    /// The primary whose history the logs hold, as an earlier run has noted it.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let text = self.disk.read(&self.data_dir.join(HELD_FILE)).ok()?;
        let text = String::from_utf8(text.to_vec()).ok()?;
        let mut lines = text.lines();
        let (id, epoch, name) = (lines.next()?, lines.next()?, lines.next()?);
        Some(Held {
            id: id.to_owned(),
            name: name.to_owned(),
            epoch: Epoch(epoch.parse().ok()?),
        })
    }

    /// Notes it, on the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_held(&self, held: &Held) -> Result<(), WalError> {
        let path = self.data_dir.join(HELD_FILE);
        let line = |text: &str| text.replace(char::is_control, " ");
        let (id, name) = (line(&held.id), line(&held.name));
        let text = format!("{id}\n{}\n{name}\n", held.epoch.0);
        let draft = path.with_extension("new");
        self.disk.replace(&draft, &path, text.as_bytes())
    }

    /// Everything that was ever put aside.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn list_diverged(&self) -> Result<Vec<Diverged>, WalError> {
        wal::list_diverged(&self.disk, &self.data_dir)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// Id, epoch and name of the primary that is followed, a line each.
const HELD_FILE: &str = "followed";

#[cfg(test)]
mod tests;
