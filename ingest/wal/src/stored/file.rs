//! One file of a log, for reading: by its name, which may change, and without keeping it open. It
//! must never call damaged what only could not be read for want of descriptors or memory.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::disk::{ReadFile, is_damage};
use crate::error::{Operation, WalError};
use crate::stored::cache::Piece;
use crate::stored::home::Home;

/// A file that is read piece by piece.
#[derive(Debug)]
pub(crate) struct StoredFile {
    home: Arc<Home>,
    /// A number that no other file of this process has.
    number: u64,
    name: Mutex<Name>,
    /// What it was opened as, where its name will lead elsewhere.
    pinned: OnceLock<Arc<dyn ReadFile>>,
}

#[derive(Debug)]
enum Name {
    /// Relative to the log's directory.
    OfLog(String),
    /// It is in force no more, and goes with its last reader.
    Kept(PathBuf),
}

impl StoredFile {
    pub(crate) fn new(home: &Arc<Home>, name: String) -> Self {
        Self {
            home: Arc::clone(home),
            number: FILES.fetch_add(1, Ordering::Relaxed),
            name: Mutex::new(Name::OfLog(name)),
            pinned: OnceLock::new(),
        }
    }

    fn name(&self) -> MutexGuard<'_, Name> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> String {
        self.where_now().display().to_string()
    }

    fn where_now(&self) -> PathBuf {
        match &*self.name() {
            Name::OfLog(name) => self.home.path(name),
            Name::Kept(path) => path.clone(),
        }
    }

    /// Bytes of the file now.
    pub(crate) fn size(&self) -> Result<u64, WalError> {
        let disk = self.home.disk().as_ref();
        let path = self.where_now();
        let told = self
            .home
            .cache()
            .descriptors()
            .persist(|| disk.identity(&path));
        match told {
            Ok(Some(identity)) => Ok(identity.len),
            Err(error) => Err(self.fault(0, error)),
            Ok(None) => {
                let size = self.opened().and_then(|file| file.size());
                size.map_err(|error| self.fault(0, error))
            }
        }
    }

    fn opened(&self) -> io::Result<Arc<dyn ReadFile>> {
        if let Some(pinned) = self.pinned.get() {
            return Ok(Arc::clone(pinned));
        }
        let open = || {
            // Its name does not change meanwhile.
            match &*self.name() {
                Name::OfLog(name) => self.home.open(name),
                Name::Kept(path) => self.home.open_kept(path),
            }
        };
        self.home.cache().descriptors().get(self.number, open)
    }

    /// These bytes, where Arrow wants buffers to begin.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Bytes, WalError> {
        let mut buffer: Vec<u8> = Vec::new();
        buffer
            .try_reserve_exact(len.saturating_add(ALIGN))
            .map_err(|_| self.fault(offset, io::ErrorKind::OutOfMemory.into()))?;
        let pad = buffer.as_ptr().align_offset(ALIGN);
        buffer.resize(pad.min(ALIGN), 0);
        let from = buffer.len();
        self.read_into(offset, len, &mut buffer)?;
        Ok(Bytes::from(buffer).slice(from..))
    }

    /// Appends these bytes.
    pub(crate) fn read_into(
        &self,
        offset: u64,
        len: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), WalError> {
        let file = self.opened().map_err(|error| self.fault(offset, error))?;
        let (begun, mut wait) = (into.len(), FIRST_WAIT);
        loop {
            let done = into.len() - begun;
            if done == len {
                return Ok(());
            }
            let at = offset + done as u64;
            match file.read_at(at, len - done, into) {
                Ok(0) => return Err(self.fault(at, io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if crate::disk::is_exhausted(&error) && wait <= LAST_WAIT => {
                    std::thread::sleep(wait);
                    wait *= 2;
                }
                Err(error) => return Err(self.fault(at, error)),
            }
        }
    }

    /// A piece of it, from the cache, or read and then looked at by `check`.
    pub(crate) fn piece(
        &self,
        offset: u64,
        len: usize,
        check: impl FnOnce(&Bytes) -> Result<(), WalError>,
    ) -> Result<Bytes, WalError> {
        let piece = Piece {
            file: self.number,
            at: offset,
        };
        self.home.cache().get(piece, || {
            let bytes = self.read(offset, len)?;
            check(&bytes)?;
            Ok(bytes)
        })
    }

    fn fault(&self, offset: u64, error: io::Error) -> WalError {
        let path = self.where_now();
        let file = path.display().to_string();
        let is_kept = matches!(&*self.name(), Name::Kept(_));
        if is_kept && error.kind() == io::ErrorKind::NotFound {
            return WalError::GivenUp { file };
        }
        if !is_damage(&error) {
            return WalError::io(Operation::Read, &path)(error);
        }
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "is missing".to_owned(),
            io::ErrorKind::UnexpectedEof => "the file is cut short".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        WalError::corrupt(&file, offset, reason)
    }

    /// Keeps it open: its name is about to lead elsewhere.
    pub(crate) fn pin(&self) {
        if let Ok(file) = self.opened() {
            let _ = self.pinned.set(file);
        }
    }

    /// It is in force no more: it goes, with its last reader where there are readers. Whether it
    /// is kept for them, under another name.
    pub(crate) fn leave(&self, has_readers: bool) -> io::Result<bool> {
        let mut name = self.name();
        let Name::OfLog(held) = &*name else {
            return Ok(true);
        };
        if !has_readers {
            return self.home.remove(held).map(|()| false);
        }
        *name = Name::Kept(self.home.keep(held)?);
        Ok(true)
    }
}

impl Drop for StoredFile {
    fn drop(&mut self) {
        self.home.cache().descriptors().close(self.number);
        if let Name::Kept(path) = &*self.name() {
            self.home.forget(path);
        }
    }
}

/// The next file's number.
static FILES: AtomicU64 = AtomicU64::new(0);
/// Where pieces begin in memory: more than what is asked for anywhere.
const ALIGN: usize = 64;
/// How long is waited between two attempts of reading, at first and at last.
const FIRST_WAIT: std::time::Duration = std::time::Duration::from_millis(1);
const LAST_WAIT: std::time::Duration = std::time::Duration::from_millis(128);
