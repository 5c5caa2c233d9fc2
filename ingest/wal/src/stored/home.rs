//! Where the files of one open log are. Its directory may get another name while it is read, and a
//! file that is not in force any more stays for its readers: beside the log, until the last of them
//! has gone. It must never remove what another run of the log may need.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::{io, thread};

use crate::disk::{Disk, ReadFile};
use crate::error::{Operation, WalError};
use crate::paths::kept_name;
use crate::stored::cache::Cache;

/// The directory of an open log, for who reads files in it.
#[derive(Debug)]
pub(crate) struct Home {
    disk: Arc<dyn Disk>,
    dir: RwLock<PathBuf>,
    /// Where files are that are kept for their readers alone.
    kept: PathBuf,
    cache: Cache,
    /// The directory goes with its last reader.
    goes: AtomicBool,
}

impl Home {
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path, cache: &Cache) -> Arc<Self> {
        Arc::new(Self {
            disk: Arc::clone(disk),
            dir: RwLock::new(dir.to_owned()),
            kept: dir.parent().unwrap_or(dir).join(kept_name(disk.as_ref())),
            cache: cache.clone(),
            goes: AtomicBool::new(false),
        })
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Where this name leads now.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.with_dir(|dir| dir.join(name))
    }

    /// The directory does not move while this runs.
    fn with_dir<T>(&self, act: impl FnOnce(&Path) -> T) -> T {
        act(&self.dir.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn open(&self, name: &str) -> io::Result<Arc<dyn ReadFile>> {
        self.with_dir(|dir| self.disk.open_read(&dir.join(name)))
    }

    /// Gives a file another name, for its readers alone: nothing but them knows it. Where it is
    /// then.
    pub(crate) fn keep(&self, name: &str) -> io::Result<PathBuf> {
        let _keeping = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
        let number = KEPT_FILES.fetch_add(1, Ordering::Relaxed);
        let last = name.rsplit('/').next().unwrap_or(name);
        let kept = self.kept.join(format!("{number}-{last}"));
        self.disk.create_dir(&self.kept)?;
        self.with_dir(|dir| self.disk.rename(&dir.join(name), &kept))?;
        Ok(kept)
    }

    /// Nobody reads this file any more, which was kept.
    pub(crate) fn forget(&self, kept: &Path) {
        let _keeping = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be removed now is removed at the next start.
        let removed = self.disk.remove(kept);
        if removed.is_ok() && self.disk.list(&self.kept).is_ok_and(|left| left.is_empty()) {
            let _ = self.disk.remove_dir_all(&self.kept);
        }
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        self.with_dir(|dir| self.disk.remove(&dir.join(name)))
    }

    pub(crate) fn open_kept(&self, kept: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.disk.open_read(kept)
    }

    /// Makes the names of files that are kept survive a crash: only then are they gone from where
    /// they were.
    pub(crate) fn sync_kept(&self) -> Result<(), WalError> {
        let _keeping = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
        match self.disk.sync_dir(&self.kept) {
            // Its readers have gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(WalError::io(Operation::FsyncDir, &self.kept)),
        }
    }

    /// Removes every file that is kept for its readers, whoever reads them; their bytes, about.
    pub(crate) fn give_up_kept(&self) -> u64 {
        let _keeping = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        for name in self.disk.list(&self.kept).unwrap_or_default() {
            let path = self.kept.join(name);
            let held = self.disk.identity(&path).ok().flatten();
            if self.disk.remove(&path).is_ok() {
                bytes += held.map_or(0, |held| held.len);
            }
        }
        bytes
    }

    /// Moves the directory, durably; who reads in it goes on.
    pub(crate) fn move_to(&self, to: &Path) -> Result<(), WalError> {
        let mut dir = self.dir.write().unwrap_or_else(PoisonError::into_inner);
        self.disk.rename_to(&dir, to)?;
        // It is there, whether that lasts or not.
        let from = std::mem::replace(&mut *dir, to.to_owned());
        drop(dir);
        self.disk.sync_names(to.parent().unwrap_or(to))?;
        self.disk.sync_names(from.parent().unwrap_or(&from))
    }

    /// From now on nobody but its readers needs the directory: it is removed with the last of them,
    /// or at the next start.
    pub(crate) fn leave(&self) {
        self.goes.store(true, Ordering::Release);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.goes.load(Ordering::Acquire) {
            return;
        }
        let (disk, dir) = (Arc::clone(&self.disk), self.path(""));
        let remove = move || {
            // What cannot be removed now is removed at the next start.
            let _ = disk.remove_dir_all(&dir);
        };
        // Of many files: not on the thread of whoever was the last to read. Where there is no
        // thread to be had, the next start does it.
        let _ = thread::Builder::new()
            .name("remover".to_owned())
            .spawn(remove);
    }
}

/// Tells files apart that are kept by one process.
static KEPT_FILES: AtomicU64 = AtomicU64::new(0);
/// Held while one is put there or taken away: the last takes the directory along.
static KEEPING: Mutex<()> = Mutex::new(());
