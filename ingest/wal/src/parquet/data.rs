//! One Parquet file on disk: read chunk by chunk through the cache, each chunk checked before its
//! bytes are used. Knows no Parquet. A reader keeps the file even when it has been replaced. It
//! must never hand out bytes that have not been checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::bytes::checksum;
use crate::damage::DamageList;
use crate::error::WalError;
use crate::parquet::FileMeta;
use crate::parquet::meta::CHUNK;
use crate::stored::{Content, Home, StoredFile};

/// A file that the manifest names.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) meta: FileMeta,
    file: Arc<StoredFile>,
    /// Why it cannot be read at all.
    fault: Option<String>,
    /// A reader of an old snapshot must not put it on the list again once it has been replaced.
    reported: AtomicBool,
    damage: Arc<DamageList>,
}

impl DataFile {
    /// Looks whether the file is there; its bytes are checked when they are read. One that is
    /// missing or has the wrong length stands as damaged.
    pub(crate) fn open(home: &Arc<Home>, meta: FileMeta, damage: &Arc<DamageList>) -> Self {
        let file = StoredFile::new(home, meta.name());
        let fault = match file.size() {
            Ok(size) if size == meta.bytes => None,
            Ok(size) => Some(format!("is {size} bytes long, not {}", meta.bytes)),
            Err(WalError::Corrupt { reason, .. }) => Some(reason),
            // Whoever reads it hears of it, as long as it lasts.
            Err(_) => None,
        };
        if let Some(reason) = &fault {
            damage.report(&meta.name(), meta.bytes, reason);
        }
        Self {
            meta,
            file: Arc::new(file),
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

    /// One chunk, from the cache or read and checked now.
    pub(crate) fn chunk(&self, at: u64) -> Result<Bytes, WalError> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let from = at * CHUNK as u64;
        let len = offset(self.meta.bytes.saturating_sub(from)).min(CHUNK);
        let check = |bytes: &Bytes| self.check(at, bytes);
        let found = self.file.piece(from, len, check);
        found.inspect_err(|error| self.report(error))
    }

    fn check(&self, at: u64, bytes: &[u8]) -> Result<(), WalError> {
        let known = self.meta.chunks.get(offset(at));
        if known.copied() == Some(checksum(bytes)) {
            return Ok(());
        }
        let reason = "checksum does not match".to_owned();
        Err(self.corrupt(at * CHUNK as u64, reason))
    }

    /// Puts the file on the list of damaged ones, once; not for what is no damage.
    fn report(&self, error: &WalError) {
        if let WalError::Corrupt { reason, .. } = error
            && !self.reported.swap(true, Ordering::Relaxed)
        {
            self.damage
                .report(&self.meta.name(), self.meta.bytes, reason);
        }
    }

    /// Chunk after chunk, from the one at `from` on, past the cache: each is checked before `take`
    /// has it, which says whether to go on. False: it said no.
    pub(crate) fn chunks_from(
        &self,
        from: u64,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, WalError> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let content = Content::File(Arc::clone(&self.file), self.meta.bytes);
        let mut straight = content.straight();
        for at in from / CHUNK as u64..self.meta.bytes.div_ceil(CHUNK as u64) {
            let start = at * CHUNK as u64;
            let len = offset(self.meta.bytes - start).min(CHUNK);
            let found = straight.get(start, len);
            let found = found.and_then(|bytes| self.check(at, bytes).map(|()| bytes));
            let bytes = found.inspect_err(|error| self.report(error))?;
            if !take(bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One chunk, read and checked now, past the cache.
    pub(crate) fn chunk_now(&self, at: u64) -> Result<Bytes, WalError> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let from = at * CHUNK as u64;
        let len = offset(self.meta.bytes.saturating_sub(from)).min(CHUNK);
        let bytes = self.file.read(from, len);
        let checked = bytes.and_then(|bytes| self.check(at, &bytes).map(|()| bytes));
        checked.inspect_err(|error| self.report(error))
    }

    /// Checks every byte.
    pub(crate) fn check_all(&self) -> Result<(), WalError> {
        self.chunks_from(0, &mut |_| true).map(|_| ())
    }

    /// It is no longer in force: what is wrong with it from now on is nobody's damage.
    pub(crate) fn leave(&self) {
        self.reported.store(true, Ordering::Relaxed);
    }

    /// It is no longer named: it goes from the disk, with its last reader.
    pub(crate) fn remove(self: &Arc<Self>) -> std::io::Result<bool> {
        self.leave();
        self.file.leave(Arc::strong_count(self) > 1)
    }

    /// The checksums of all chunks as they are now, and the first fault. `go_on` hears of bytes
    /// before they are read, and says whether to read them; `None` when it said no.
    pub(crate) fn scan(
        &self,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Option<(Vec<u64>, Option<WalError>)> {
        let mut found = Vec::with_capacity(self.meta.chunks.len());
        let mut fault = self.fault();
        let content = Content::File(Arc::clone(&self.file), self.meta.bytes);
        let mut straight = content.straight();
        let chunks = if fault.is_some() {
            0
        } else {
            self.meta.chunks.len() as u64
        };
        for at in 0..chunks {
            let start = at * CHUNK as u64;
            let len = offset(self.meta.bytes.saturating_sub(start)).min(CHUNK);
            if !go_on(len) {
                return None;
            }
            let read = straight.get(start, len);
            let checked = read.and_then(|bytes| {
                found.push(checksum(bytes));
                self.check(at, bytes)
            });
            if let Err(error) = checked {
                self.report(&error);
                fault.get_or_insert(error);
            }
        }
        Some((found, fault))
    }

    pub(crate) fn corrupt(&self, offset: u64, reason: String) -> WalError {
        WalError::corrupt(&self.file.path(), offset, reason)
    }
}

/// What is in a file, as a place in memory.
fn offset(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
