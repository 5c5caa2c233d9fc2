//! The disk as the log uses it: the operations of [`Disk`] with errors that say what failed and
//! where, and what is put together of them. It must never call a file replaced before its name is
//! durable.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::error::{Operation, WalError};

/// A directory whose names can be made to last.
pub(crate) struct Names<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    opened: Option<Box<dyn DiskFile>>,
}

impl Names<'_> {
    /// What the directory names now survives a crash once this returns.
    pub(crate) fn sync(self) -> Result<(), WalError> {
        let synced = match self.opened {
            Some(mut dir) => dir.sync(),
            None => self.disk.sync_dir(&self.dir),
        };
        synced.map_err(WalError::io(Operation::FsyncDir, &self.dir))
    }
}

impl dyn Disk + '_ {
    /// Puts `bytes` in the place of the file at `path`: there whole, or not at all, and durable
    /// once this returns. It is written as `draft` first, in the same file system.
    ///
    /// # Errors
    /// `Io`. After `Operation::Rename` and `Operation::FsyncDir` either content may be found there.
    pub fn replace(&self, draft: &Path, path: &Path, bytes: &[u8]) -> Result<(), WalError> {
        let mut file = self.create_anew(draft)?;
        file.write_at(0, bytes)
            .map_err(WalError::io(Operation::Write, draft))?;
        file.sync().map_err(WalError::io(Operation::Fsync, draft))?;
        drop(file);
        let names = self.names_of(path.parent().unwrap_or(path))?;
        self.rename_to(draft, path)?;
        names.sync()
    }

    /// Makes a new, empty file, in the place of one that an earlier attempt has left.
    pub(crate) fn create_anew(&self, path: &Path) -> Result<Box<dyn DiskFile>, WalError> {
        match self.create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.remove_file(path)?;
                self.create_file(path)
            }
            created => created.map_err(WalError::io(Operation::Create, path)),
        }
    }

    pub(crate) fn create_file(&self, path: &Path) -> Result<Box<dyn DiskFile>, WalError> {
        self.create(path)
            .map_err(WalError::io(Operation::Create, path))
    }

    pub(crate) fn open_file(&self, path: &Path) -> Result<Box<dyn DiskFile>, WalError> {
        self.open(path).map_err(WalError::io(Operation::Open, path))
    }

    pub(crate) fn read_file(&self, path: &Path) -> Result<Bytes, WalError> {
        self.read(path).map_err(WalError::io(Operation::Read, path))
    }

    /// All that is in a file; none when there is no such file.
    pub(crate) fn read_if_there(&self, path: &Path) -> Result<Option<Bytes>, WalError> {
        if_there(self.read(path)).map_err(WalError::io(Operation::Read, path))
    }

    /// Size of a file; none when there is no such file.
    pub(crate) fn size_if_there(&self, path: &Path) -> Result<Option<u64>, WalError> {
        let size = self.open_read(path).and_then(|file| file.size());
        if_there(size).map_err(WalError::io(Operation::Read, path))
    }

    pub(crate) fn size_of(&self, path: &Path) -> Result<u64, WalError> {
        let size = self.open_read(path).and_then(|file| file.size());
        size.map_err(WalError::io(Operation::Read, path))
    }

    /// These bytes of a file that nobody else has open for long.
    pub(crate) fn read_part(
        &self,
        path: &Path,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, WalError> {
        let failed = |error| WalError::io(Operation::Read, path)(error);
        let file = self.open_read(path).map_err(failed)?;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            let read = file.read_at(at, len - bytes.len(), &mut bytes);
            if read.map_err(failed)? == 0 {
                let reason = "the file is cut short";
                return Err(WalError::corrupt(&path.display().to_string(), at, reason));
            }
        }
        Ok(bytes.into())
    }

    /// A file from its beginning on, in pieces of `len` bytes, until `take` says no. False: there is
    /// no such file.
    pub(crate) fn read_pieces(
        &self,
        path: &Path,
        len: usize,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, WalError> {
        let failed = |error| WalError::io(Operation::Read, path)(error);
        let Some(file) = if_there(self.open_read(path)).map_err(failed)? else {
            return Ok(false);
        };
        let (mut at, mut piece) = (0, Vec::new());
        loop {
            let read = file.read_at(at, len - piece.len(), &mut piece);
            let read = read.map_err(failed)?;
            at += read as u64;
            if piece.len() < len && read > 0 {
                continue;
            }
            if piece.is_empty() || !take(&piece) || read == 0 {
                return Ok(true);
            }
            piece.clear();
        }
    }

    pub(crate) fn remove_file(&self, path: &Path) -> Result<(), WalError> {
        self.remove(path)
            .map_err(WalError::io(Operation::Remove, path))
    }

    /// Removes a file. False: there was none.
    pub(crate) fn remove_if_there(&self, path: &Path) -> Result<bool, WalError> {
        let removed = if_there(self.remove(path));
        removed
            .map(|removed| removed.is_some())
            .map_err(WalError::io(Operation::Remove, path))
    }

    pub(crate) fn rename_to(&self, from: &Path, to: &Path) -> Result<(), WalError> {
        self.rename(from, to)
            .map_err(WalError::io(Operation::Rename, from))
    }

    /// Gives a directory another name; durable once this returns.
    pub(crate) fn move_to(&self, from: &Path, to: &Path) -> Result<(), WalError> {
        let names = self.names_of(to.parent().unwrap_or(to))?;
        self.rename_to(from, to)?;
        names.sync()
    }

    pub(crate) fn list_names(&self, dir: &Path) -> Result<Vec<String>, WalError> {
        self.list(dir).map_err(WalError::io(Operation::List, dir))
    }

    pub(crate) fn make_dir(&self, dir: &Path) -> Result<(), WalError> {
        self.create_dir(dir)
            .map_err(WalError::io(Operation::CreateDir, dir))
    }

    pub(crate) fn remove_tree(&self, dir: &Path) -> Result<(), WalError> {
        self.remove_dir_all(dir)
            .map_err(WalError::io(Operation::RemoveDir, dir))
    }

    /// To be asked for before a name is changed: that no file can be opened is then no doubt about
    /// which name is there.
    pub(crate) fn names_of(&self, dir: &Path) -> Result<Names<'_>, WalError> {
        Ok(Names {
            opened: self
                .open_dir(dir)
                .map_err(WalError::io(Operation::Open, dir))?,
            disk: self,
            dir: dir.to_owned(),
        })
    }

    pub(crate) fn sync_names(&self, dir: &Path) -> Result<(), WalError> {
        self.names_of(dir)?.sync()
    }
}

/// None instead of the error that says that there is nothing.
fn if_there<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}
