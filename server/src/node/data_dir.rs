//! A node's data directory: locked for one process, and the home of the node's own id. Must never
//! let two processes write one log.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::conf::Create;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Replace(#[from] wal::WalError),
    #[error(
        "data directory {} is in use by process {holder}; every node needs its own node.data_dir",
        .path.display()
    )]
    InUse { path: PathBuf, holder: String },
    #[error(
        "there is no log in {}, and log.create = \"never\": is the volume mounted, and is \
         node.data_dir right? With log.create = \"auto\" a new one is begun",
        .path.display()
    )]
    NoLog { path: PathBuf },
    #[error(
        "{} is not what this process has opened: {what}; what it writes there would be lost",
        .path.display()
    )]
    Gone { path: PathBuf, what: &'static str },
    #[error("{} must hold 32 hexadecimal digits; it holds {found:?}", .path.display())]
    BadNodeId { path: PathBuf, found: String },
}

/// A locked data directory. The lock ends with this value, or with the process.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    node_id: String,
    place: Place,
    is_new: bool,
    _lock: File,
}

/// Which directory and which lock a process holds.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
    dir: (u64, u64),
    lock: (u64, u64),
}

impl Place {
    /// Whether the directory still has its name, and the lock in it is this process's.
    ///
    /// # Errors
    /// `Gone` when something else, or nothing, is there. What cannot be told is none.
    pub(crate) fn check(&self) -> Result<(), DataDirError> {
        let looked = [
            (self.path.clone(), self.dir),
            (self.path.join(LOCK), self.lock),
        ];
        for (path, held) in looked {
            let what = match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    "it has been removed or renamed"
                }
                Ok(found) if identity(&found) != held => "something else is in its place",
                _ => continue,
            };
            return Err(DataDirError::Gone { path, what });
        }
        Ok(())
    }
}

impl DataDir {
    /// Makes the directory where needed, locks it, and reads or makes the node's id.
    ///
    /// # Errors
    /// When another process holds the directory, when there is no log in it and none is to be made,
    /// or the file system refuses.
    pub(crate) fn open(path: &Path, create: Create) -> Result<Self, DataDirError> {
        let is_new = !wal::holds_log(&wal::OsDisk, path)?;
        if is_new && create == Create::Never {
            let path = absolute(path);
            return Err(DataDirError::NoLog { path });
        }
        make_durably(&absolute(path), |dir| File::open(dir)?.sync_all())?;
        let lock = lock(path)?;
        let node_id = node_id(path)?;
        let dir = fs::metadata(path).map_err(io_error("look at", path))?;
        if dir.mode() & OTHERS_WRITE != 0 {
            warn!(
                data_dir = %absolute(path).display(),
                mode = %format_args!("{:o}", dir.mode() & 0o7777),
                "anybody on this machine can write to the data directory, and so put anything in the \
                 place of its files: chmod o-w"
            );
        }
        let held = lock.metadata().map_err(io_error("look at", path))?;
        Ok(Self {
            path: path.to_owned(),
            node_id,
            place: Place {
                path: path.to_owned(),
                dir: identity(&dir),
                lock: identity(&held),
            },
            is_new,
            _lock: lock,
        })
    }

    /// Whether no log was in it.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// To be looked at while the directory is held.
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes another node id: this directory is no more what it was.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn renew_node_id(&mut self) -> Result<(), DataDirError> {
        self.node_id = make_node_id(&self.path.join(NODE_ID))?;
        Ok(())
    }

    /// 32 hexadecimal digits, made once, at random.
    pub(crate) fn node_id(&self) -> &str {
        &self.node_id
    }
}

/// Keeps nodes off a data directory while somebody looks at it from outside.
#[derive(Debug)]
pub(crate) struct DirLock {
    _lock: File,
}

impl DirLock {
    /// Locks a directory that is there; makes nothing in it but the lock's file.
    ///
    /// # Errors
    /// When another process holds the directory, or the file system refuses.
    pub(crate) fn take(path: &Path) -> Result<Self, DataDirError> {
        Ok(Self { _lock: lock(path)? })
    }
}

/// Device and inode.
fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Where a path leads, whatever directory the process was started in.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Makes the directory if it is not there, for its owner alone.
fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(OWNER_ONLY).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Makes a directory and its parents; their names survive a crash once this returns. `sync` is the
/// fsync of a directory. Parents that were there may have been left by a start that a crash ended:
/// they are made to last, too, as far as this process may.
fn make_durably(
    path: &Path,
    mut sync: impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), DataDirError> {
    let there = path.ancestors().find(|dir| dir.exists());
    let there = there.unwrap_or(path).to_owned();
    make(path).map_err(io_error("make", path))?;
    for dir in path.ancestors().skip(1) {
        match sync(dir) {
            Err(error)
                if dir.starts_with(&there) && error.kind() != io::ErrorKind::PermissionDenied =>
            {
                return Err(io_error("fsync", dir)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: a holder that has not written its id yet is as good as any.
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim().to_owned();
            return Err(DataDirError::InUse {
                path: dir.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("write", &path))?;
    Ok(file)
}

fn node_id(dir: &Path) -> Result<String, DataDirError> {
    match read_node_id(dir)? {
        Some(id) => Ok(id),
        None => make_node_id(&dir.join(NODE_ID)),
    }
}

/// The id of the node whose directory this is; none when no node has been started there.
///
/// # Errors
/// When the file cannot be read, or holds no id.
pub(crate) fn read_node_id(dir: &Path) -> Result<Option<String>, DataDirError> {
    let path = dir.join(NODE_ID);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = text.trim();
            if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Ok(Some(id.to_owned()));
            }
            Err(DataDirError::BadNodeId { path, found: text })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", &path)(error)),
    }
}

fn make_node_id(path: &Path) -> Result<String, DataDirError> {
    let id = format!("{:032x}", fastrand::u128(..));
    write_durably(path, &id)?;
    Ok(id)
}

/// The file is there whole or not at all after a crash, and there once this has returned.
pub(crate) fn write_durably(path: &Path, text: &str) -> Result<(), DataDirError> {
    let disk: &dyn wal::Disk = &wal::OsDisk;
    let draft = path.with_extension("new");
    Ok(disk.replace(&draft, path, format!("{text}\n").as_bytes())?)
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        operation,
        path,
        source,
    }
}

/// Permissions of a new data directory.
const OWNER_ONLY: u32 = 0o700;
const OTHERS_WRITE: u32 = 0o002;

const NODE_ID: &str = "node-id";
/// Name of the file that is locked.
const LOCK: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &Path) -> Result<DataDir, DataDirError> {
        DataDir::open(path, Create::Auto)
    }

    #[test]
    fn without_a_log_a_node_that_may_not_make_one_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not mounted");
        let error = DataDir::open(&path, Create::Never).unwrap_err();
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
        assert!(
            error.to_string().contains("is the volume mounted"),
            "{error}"
        );
        assert!(!path.exists());
        assert!(opened(&path).unwrap().is_new());
        let log = path.join(format!("log-{}", wal::LogId::random()));
        fs::create_dir(&log).unwrap();
        fs::write(log.join(format!("{:020}.log", 0)), []).unwrap();
        DataDir::open(&path, Create::Never).expect_err("no byte was ever written");
        fs::write(log.join(format!("{:020}.log", 0)), [1]).unwrap();
        assert!(!DataDir::open(&path, Create::Never).unwrap().is_new());
    }

    #[test]
    fn each_parent_that_was_made_is_fsynced() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("a/b/data");
        let mut synced = Vec::new();
        make_durably(&path, |dir| {
            assert!(dir.is_dir());
            synced.push(dir.to_owned());
            Ok(())
        })
        .unwrap();
        for dir in [
            here.path(),
            &here.path().join("a"),
            &here.path().join("a/b"),
        ] {
            assert!(synced.iter().any(|held| held == dir), "{}", dir.display());
        }
        let fails = |failing: &Path| {
            let path = here.path().join("c/data");
            make_durably(&path, |dir| match dir == failing {
                true => Err(io::Error::other("no")),
                false => Ok(()),
            })
        };
        assert!(fails(here.path()).is_err());
        assert!(fails(Path::new("/")).is_ok(), "not made here");
    }

    #[test]
    fn a_directory_that_is_removed_renamed_or_replaced_is_noticed() {
        type Change = fn(&Path);
        let changes: [Change; 5] = [
            |path| fs::remove_dir_all(path).unwrap(),
            |path| fs::rename(path, path.with_extension("moved")).unwrap(),
            |path| {
                fs::rename(path, path.with_extension("moved")).unwrap();
                fs::create_dir(path).unwrap();
            },
            |path| fs::remove_file(path.join(LOCK)).unwrap(),
            |path| {
                fs::rename(path.join(LOCK), path.join("old")).unwrap();
                fs::write(path.join(LOCK), "1").unwrap();
            },
        ];
        for change in changes {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("data");
            let held = opened(&path).unwrap();
            let place = held.place();
            place.check().unwrap();
            change(&path);
            let gone = place.check().unwrap_err();
            assert!(matches!(gone, DataDirError::Gone { .. }), "{gone}");
        }
    }

    #[test]
    fn a_new_directory_is_its_owners_alone_and_one_that_is_there_is_left_as_it_is() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let path = dir.path().join("a/b");
        opened(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        let other = dir.path().join("c");
        fs::create_dir(&other).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
        opened(&other).unwrap();
        assert_eq!(mode(&other), 0o755);
        let link = dir.path().join("d");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        opened(&link).unwrap();
        fs::write(dir.path().join("e"), "").unwrap();
        opened(&dir.path().join("e")).unwrap_err();
    }

    #[test]
    fn id_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = opened(&path).unwrap().node_id().to_owned();
        let second = opened(&path).unwrap().node_id().to_owned();
        assert_eq!(first.len(), 32);
        assert_eq!(first, second);
    }

    #[test]
    fn second_holder_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let held = opened(dir.path()).unwrap();
        let error = opened(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(held);
        assert!(opened(dir.path()).is_ok());
    }

    #[test]
    fn a_directory_looked_at_takes_no_node() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert!(matches!(
            opened(dir.path()),
            Err(DataDirError::InUse { .. })
        ));
        drop(held);
        assert!(!dir.path().join("node-id").exists());
        assert!(DirLock::take(&dir.path().join("nowhere")).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn damaged_id_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node-id"), "not an id\n").unwrap();
        let error = opened(dir.path()).unwrap_err();
        assert!(matches!(error, DataDirError::BadNodeId { .. }), "{error}");
    }
}
