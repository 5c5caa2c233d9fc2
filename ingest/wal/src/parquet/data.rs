//! One Parquet file on disk: mapped, and checked chunk by chunk before its bytes are first used.
//! Knows no Parquet. A reader keeps its mapping even when the file has been replaced. It must never
//! hand out bytes that have not been checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::bytes::checksum;
use crate::damage::DamageList;
use crate::disk::Disk;
use crate::error::WalError;
use crate::parquet::FileMeta;
use crate::parquet::meta::CHUNK;

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
    damage: Arc<DamageList>,
}

impl DataFile {
    /// Maps the file; its bytes are checked when they are read. One that is missing or has the
    /// wrong length stands as damaged.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        meta: FileMeta,
        damage: &Arc<DamageList>,
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
            damage.report(&meta.name(), meta.bytes, reason);
        }
        let checked = meta.chunks.iter().map(|_| AtomicBool::new(false)).collect();
        Self {
            meta,
            path,
            bytes,
            checked,
            reported: AtomicBool::new(fault.is_some()),
            fault,
            damage: Arc::clone(damage),
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
            return Err(self.corrupt(start, BEYOND.to_owned()));
        }
        for chunk in from / CHUNK..to.div_ceil(CHUNK) {
            self.check(chunk)?;
        }
        Ok(self.bytes.slice(from..to))
    }

    /// All bytes, every one checked now.
    pub(crate) fn all(&self) -> Result<Bytes, WalError> {
        self.rest(0)
    }

    /// The bytes from the start of a chunk on, every one checked now.
    pub(crate) fn rest(&self, from: usize) -> Result<Bytes, WalError> {
        let chunks = self.checked.iter().skip(from / CHUNK);
        chunks.for_each(|chunk| chunk.store(false, Ordering::Relaxed));
        let len = self.bytes.len().checked_sub(from);
        let len = len.ok_or_else(|| self.corrupt(from as u64, BEYOND.to_owned()))?;
        self.get(from as u64, len)
    }

    /// It is no longer in force: what is wrong with it from now on is nobody's damage.
    pub(crate) fn leave(&self) {
        self.reported.store(true, Ordering::Relaxed);
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
            return Err(self.mismatch(from));
        }
        checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Puts the file on the list of damaged ones, once.
    fn mismatch(&self, from: usize) -> WalError {
        let reason = "checksum does not match".to_owned();
        if !self.reported.swap(true, Ordering::Relaxed) {
            self.damage
                .report(&self.meta.name(), self.meta.bytes, &reason);
        }
        self.corrupt(from as u64, reason)
    }

    /// The checksums of all chunks as they are now, and the first fault. `go_on` hears of bytes
    /// before they are read, and says whether to read them; `None` when it said no.
    pub(crate) fn scan(
        &self,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Option<(Vec<u64>, Option<WalError>)> {
        let mut found = Vec::with_capacity(self.meta.chunks.len());
        let mut fault = self.fault();
        for (at, chunk) in self.bytes.chunks(CHUNK).enumerate() {
            if !go_on(chunk.len()) {
                return None;
            }
            let hash = checksum(chunk);
            let right = self.meta.chunks.get(at) == Some(&hash);
            if let Some(checked) = self.checked.get(at) {
                checked.store(right, Ordering::Relaxed);
            }
            if !right {
                let error = self.mismatch(at * CHUNK);
                fault.get_or_insert(error);
            }
            found.push(hash);
        }
        Some((found, fault))
    }

    pub(crate) fn corrupt(&self, offset: u64, reason: String) -> WalError {
        WalError::corrupt(&self.path.display().to_string(), offset, reason)
    }
}

const BEYOND: &str = "a range beyond the end of the file";
