//! One Parquet file on disk: mapped, and checked chunk by chunk before its bytes are first used.
//! Knows no Parquet. A reader keeps its mapping even when the file has been replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::block::checksum;
use crate::damage::DamageBoard;
use crate::disk::Disk;
use crate::error::WalError;
use crate::file::FileMeta;
use crate::file::meta::CHUNK;

/// A file that the manifest names.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) meta: FileMeta,
    path: PathBuf,
    bytes: Bytes,
    /// Chunks whose checksum has been seen to be right by this process.
    checked: Vec<AtomicBool>,
    /// Why it cannot be read at all.
    fault: Option<String>,
    /// A reader of an old snapshot must not put it on the list again once it has been replaced.
    reported: AtomicBool,
    board: Arc<DamageBoard>,
}

impl DataFile {
    /// Maps the file; its bytes are checked when they are read. One that is missing or has the wrong
    /// length stands as damaged.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        meta: FileMeta,
        board: &Arc<DamageBoard>,
    ) -> Self {
        let path = dir.join(meta.name());
        let (bytes, fault) = match disk.map(&path) {
            Ok(bytes) if bytes.len() as u64 == meta.bytes => (bytes, None),
            Ok(bytes) => {
                let reason = format!("is {} bytes long, not {}", bytes.len(), meta.bytes);
                (Bytes::new(), Some(reason))
            }
            Err(error) => (Bytes::new(), Some(error.to_string())),
        };
        if let Some(reason) = &fault {
            board.report(&meta.name(), meta.bytes, reason);
        }
        let checked = meta.chunks.iter().map(|_| AtomicBool::new(false)).collect();
        Self {
            meta,
            path,
            bytes,
            checked,
            reported: AtomicBool::new(fault.is_some()),
            fault,
            board: Arc::clone(board),
        }
    }

    /// Why it cannot be read at all.
    pub(crate) fn fault(&self) -> Option<WalError> {
        let reason = self.fault.clone()?;
        Some(self.corrupt(0, reason))
    }

    /// Bytes of the file, checked.
    pub(crate) fn get(&self, start: u64, len: usize) -> Result<Bytes, WalError> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let from = usize::try_from(start).unwrap_or(usize::MAX);
        let to = from.saturating_add(len);
        if to > self.bytes.len() {
            return Err(self.corrupt(start, "a range beyond the end of the file".to_owned()));
        }
        for chunk in from / CHUNK..to.div_ceil(CHUNK) {
            self.check(chunk)?;
        }
        Ok(self.bytes.slice(from..to))
    }

    /// All bytes, every one checked now.
    pub(crate) fn all(&self) -> Result<Bytes, WalError> {
        self.checked
            .iter()
            .for_each(|chunk| chunk.store(false, Ordering::Relaxed));
        self.get(0, self.bytes.len())
    }

    fn check(&self, chunk: usize) -> Result<(), WalError> {
        let Some(checked) = self.checked.get(chunk) else {
            return Err(self.corrupt(0, "more chunks than checksums".to_owned()));
        };
        if checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let from = chunk * CHUNK;
        let to = self.bytes.len().min(from + CHUNK);
        if checksum(&self.bytes[from..to]) != self.meta.chunks[chunk] {
            let reason = "checksum does not match".to_owned();
            if !self.reported.swap(true, Ordering::Relaxed) {
                self.board
                    .report(&self.meta.name(), self.meta.bytes, &reason);
            }
            return Err(self.corrupt(from as u64, reason));
        }
        checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn corrupt(&self, offset: u64, reason: String) -> WalError {
        WalError::corrupt(&self.path.display().to_string(), offset, reason)
    }
}
