//! For tests: the real disk, but for what a test wants it to refuse. It must never be compiled into
//! a node.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::disk::{Disk, DiskFile, FileIdentity, OsDisk, ReadFile};

/// The error of an operation on a path, if it is to have one.
type Refuse = Box<dyn Fn(&str, &Path) -> Option<io::Error> + Send>;

/// A disk that refuses.
#[derive(Default)]
pub(crate) struct RefusingDisk {
    disk: OsDisk,
    /// A directory, and the bytes that it may hold.
    size: Mutex<Option<(PathBuf, u64)>>,
    refuse: Arc<Mutex<Option<Refuse>>>,
}

/// A file of it. Reading is asked for by the operation `read_at` and, as its path, the file's path
/// with the offset in bytes as one more component.
struct RefusingFile {
    file: Arc<dyn ReadFile>,
    path: PathBuf,
    refuse: Arc<Mutex<Option<Refuse>>>,
}

impl ReadFile for RefusingFile {
    fn read_at(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let path = self.path.join(offset.to_string());
        let refuse = self.refuse.lock().unwrap_or_else(PoisonError::into_inner);
        match refuse.as_ref().and_then(|refuse| refuse("read_at", &path)) {
            Some(error) => Err(error),
            None => self.file.read_at(offset, len, into),
        }
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

impl fmt::Debug for RefusingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusingFile").finish_non_exhaustive()
    }
}

/// A file that is written, or a directory, on it. A write that is refused has begun.
struct RefusingOutput {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    sync: &'static str,
    refuse: Arc<Mutex<Option<Refuse>>>,
}

impl RefusingOutput {
    fn ask(&self, operation: &str) -> io::Result<()> {
        let refuse = self.refuse.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = refuse.as_ref();
        let refused = refused.and_then(|refuse| refuse(operation, &self.path));
        refused.map_or(Ok(()), Err)
    }
}

impl DiskFile for RefusingOutput {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.ask("write_at") {
            // As a disk does that has run full.
            self.file.write_at(offset, &bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.write_at(offset, bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.ask("truncate")?;
        self.file.truncate(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.ask(self.sync)?;
        self.file.sync()
    }
}

impl fmt::Debug for RefusingOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusingOutput").finish_non_exhaustive()
    }
}

impl RefusingDisk {
    /// From now on; operations are named like the methods of [`Disk`].
    pub(crate) fn refuse(
        &self,
        refuse: impl Fn(&str, &Path) -> Option<io::Error> + Send + 'static,
    ) {
        *self.refuse.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(refuse));
    }

    /// It says that it has so many bytes in all, for what is in this directory.
    pub(crate) fn is_of(&self, dir: &Path, bytes: u64) {
        let size = Some((dir.to_owned(), bytes));
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = size;
    }

    /// Nothing any more.
    pub(crate) fn relent(&self) {
        *self.refuse.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn ask(&self, operation: &str, path: &Path) -> io::Result<&OsDisk> {
        let refuse = self.refuse.lock().unwrap_or_else(PoisonError::into_inner);
        match refuse.as_ref().and_then(|refuse| refuse(operation, path)) {
            Some(error) => Err(error),
            None => Ok(&self.disk),
        }
    }

    fn output(
        &self,
        file: Box<dyn DiskFile>,
        path: &Path,
        sync: &'static str,
    ) -> Box<dyn DiskFile> {
        Box::new(RefusingOutput {
            file,
            path: path.to_owned(),
            sync,
            refuse: Arc::clone(&self.refuse),
        })
    }
}

/// Bytes of all files in a directory and below.
pub(crate) fn held(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => held(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

impl fmt::Debug for RefusingDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusingDisk").finish_non_exhaustive()
    }
}

impl Disk for RefusingDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.ask("list", dir)?.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.ask("create_dir", dir)?.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.ask("create", path)?.create(path)?;
        Ok(self.output(file, path, "sync"))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.ask("open", path)?.open(path)?;
        Ok(self.output(file, path, "sync"))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask("remove", path)?.remove(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.ask("remove_dir_all", dir)?.remove_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask("rename", from)?.rename(from, to)
    }

    fn free(&self, path: &Path) -> io::Result<Option<u64>> {
        let size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((dir, bytes)) = &*size {
            return Ok(Some(bytes.saturating_sub(held(dir))));
        }
        self.ask("free", path)?.free(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.ask("sync_dir", dir)?.sync_dir(dir)
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DiskFile>>> {
        let opened = self.ask("open_dir", dir)?.open_dir(dir)?;
        Ok(opened.map(|opened| self.output(opened, dir, "sync_dir")))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let file = self.ask("open_read", path)?.open_read(path)?;
        Ok(Arc::new(RefusingFile {
            file,
            path: path.to_owned(),
            refuse: Arc::clone(&self.refuse),
        }))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.ask("identity", path)?.identity(path)
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        self.ask("read", path)?.read(path)
    }
}
