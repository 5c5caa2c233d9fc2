//! A node's data directory: locked for one process, and the home of the node's own id. Must never
//! let two processes write one log.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

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
    #[error("{} must hold 32 hexadecimal digits; it holds {found:?}", .path.display())]
    BadNodeId { path: PathBuf, found: String },
}

/// A locked data directory. The lock ends with this value, or with the process.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    node_id: String,
    _lock: File,
}

impl DataDir {
    /// Makes the directory where needed, locks it, and reads or makes the node's id.
    ///
    /// # Errors
    /// When another process holds the directory, or the file system refuses.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        fs::create_dir_all(path).map_err(io_error("make", path))?;
        let lock = lock(path)?;
        let node_id = node_id(path)?;
        Ok(Self {
            path: path.to_owned(),
            node_id,
            _lock: lock,
        })
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

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("lock");
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

const NODE_ID: &str = "node-id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = DataDir::open(&path).unwrap().node_id().to_owned();
        let second = DataDir::open(&path).unwrap().node_id().to_owned();
        assert_eq!(first.len(), 32);
        assert_eq!(first, second);
    }

    #[test]
    fn second_holder_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        let error = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(held);
        assert!(DataDir::open(dir.path()).is_ok());
    }

    #[test]
    fn a_directory_looked_at_takes_no_node() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert!(matches!(
            DataDir::open(dir.path()),
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
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, DataDirError::BadNodeId { .. }), "{error}");
    }
}
