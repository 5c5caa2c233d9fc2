//! The one seam to the file system. `OsDisk` is the real one; tests have a fake that crashes. It
//! must never retry an fsync.
//!
//! Nothing else in this crate touches `std::fs`. Each method says which crash it survives.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Directories and whole files. Every method fails with what the operating system says.
#[expect(
    clippy::missing_errors_doc,
    reason = "said once, of the trait: the errors are those of the operating system"
)]
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Names in a directory, in no order; empty when the directory is not there.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents, and makes their names survive a crash.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a new, empty file; an error when it exists. Its name survives a crash after
    /// `sync_dir`.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading. What was opened can be read for as long as it is held, whatever
    /// becomes of its name.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>>;
    /// Removes a file. The removal survives a crash after `sync_dir`.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it, if it is there. A crash leaves any part of it; the
    /// removal survives one after `sync_dir` of the directory around it.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what had it, or a directory one that nothing has.
    /// Readers of the replaced file keep it. Whole or not at all after a crash; survives one after
    /// `sync_dir` of the directory it is then in.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Free bytes of the file system that holds `path`; `None` where that is not known.
    fn free(&self, path: &Path) -> io::Result<Option<u64>>;
    /// What has this name now; `None` where that cannot be told.
    fn identity(&self, _path: &Path) -> io::Result<Option<FileIdentity>> {
        Ok(None)
    }
    /// Makes the names in a directory survive a crash.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a directory whose names are to be made to last: what has been opened before a name
    /// changes can be synced after it, however few files may be open by then. None:
    /// [`Disk::sync_dir`] needs no file.
    fn open_dir(&self, _dir: &Path) -> io::Result<Option<Box<dyn DiskFile>>> {
        Ok(None)
    }
    /// All that is in a file now.
    fn read(&self, path: &Path) -> io::Result<Bytes>;
    /// Differs between two runs of whoever uses the disk: what one keeps for its readers the next
    /// has no use for.
    fn run(&self) -> u64 {
        *RUN
    }
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    pub device: u64,
    pub inode: u64,
    /// Bytes of a file.
    pub len: u64,
}

impl FileIdentity {
    /// Whether both are the same file or directory, whatever it holds.
    #[must_use]
    pub fn is_same(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// One file open for writing. Every method fails with what the operating system says.
#[expect(
    clippy::missing_errors_doc,
    reason = "said once, of the trait: the errors are those of the operating system"
)]
pub trait DiskFile: Send + fmt::Debug {
    /// Writes all of `bytes` at `offset`. Survives a crash only after `sync`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file. Survives a crash only after `sync`.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Returns once everything written so far survives a crash. Never retried after a failure.
    fn sync(&mut self) -> io::Result<()>;
}

/// One file open for reading.
pub trait ReadFile: Send + Sync + fmt::Debug {
    /// Appends at most `len` bytes from `offset` on; fewer only where the file ends or the
    /// operating system gives fewer, none only at the end.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize>;
    /// Bytes of the file now.
    ///
    /// # Errors
    /// What the operating system says.
    fn size(&self) -> io::Result<u64>;
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl OsDisk {
    /// The disk as a log wants it.
    #[expect(
        clippy::new_ret_no_self,
        reason = "every caller needs the shared trait object"
    )]
    pub fn new() -> Arc<dyn Disk> {
        Arc::new(Self)
    }

    /// Bytes of the file system that holds `path`, those in use included.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn total(path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_blocks.saturating_mul(found.f_frsize))
    }

    /// Lets this process have as many files open as it may: a soft limit is there for programs of
    /// long ago, which could not count so far. How many; none: without limit.
    #[must_use]
    pub fn raise_open_files() -> Option<u64> {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // What cannot be raised stays as it is.
        let _ = setrlimit(Resource::Nofile, limit);
        getrlimit(Resource::Nofile).current
    }
}

impl Disk for OsDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        match dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => self.sync_dir(Path::new(".")),
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(OsFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Box::new(OsFile(file)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn free(&self, path: &Path) -> io::Result<Option<u64>> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Some(found.f_bavail.saturating_mul(found.f_frsize)))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        let found = fs::metadata(path)?;
        Ok(Some(FileIdentity {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
        }))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DiskFile>>> {
        Ok(Some(Box::new(OsDir(File::open(dir)?))))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        Ok(Arc::new(OsReadFile(File::open(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        fs::read(path).map(Bytes::from)
    }
}

#[derive(Debug)]
struct OsFile(File);

#[derive(Debug)]
struct OsReadFile(File);

/// An open directory.
#[derive(Debug)]
struct OsDir(File);

/// Whether an error says that there is no room left, which may pass.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether an error says that something has run out that others may give back: room, memory,
/// descriptors, the length that a file may have.
pub(crate) fn has_run_out(error: &io::Error) -> bool {
    is_full(error) || is_exhausted(error) || error.kind() == io::ErrorKind::FileTooLarge
}

impl DiskFile for OsDir {
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::IsADirectory.into())
    }

    fn truncate(&mut self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::IsADirectory.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// Whether an error says that the machine or the process has run out of something, which may pass.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::NOBUFS,
    ];
    matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) || Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// Whether an error of reading says that what was written is not there any more.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    let damage = [Errno::IO, Errno::BADMSG, Errno::UCLEAN];
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    ) || Errno::from_io_error(error).is_some_and(|errno| damage.contains(&errno))
}

impl ReadFile for OsReadFile {
    fn read_at(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let before = into.len();
        if len == 0 {
            return Ok(0);
        }
        into.try_reserve_exact(len)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // More than was asked for may fit, and is read then.
        let read = loop {
            match rustix::io::pread(&self.0, spare_capacity(into), offset) {
                Err(Errno::INTR) => {}
                read => break read?,
            }
        };
        let read = read.min(len);
        into.truncate(before + read);
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl DiskFile for OsFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Of this process; another one of the same machine has another.
static RUN: LazyLock<u64> = LazyLock::new(|| fastrand::u64(..));
