//! What one reader of a Parquet file sees of it: bytes, out of checked chunks. It holds on to the
//! chunks that it is in the middle of, so that going through many columns side by side reads each
//! chunk once, however small the cache is. It must never hold more than its bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::error::WalError;
use crate::parquet::DataFile;
use crate::parquet::meta::CHUNK;

/// Whether a reader's chunks come from the cache, and are left there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    Cache,
    /// Every byte is read once: nobody else should lose a place for it.
    Straight,
}

/// A reader of one file.
#[derive(Debug)]
pub(crate) struct Chunks {
    file: Arc<DataFile>,
    through: Through,
    recent: Mutex<Recent>,
    /// The Parquet reader hands on words only.
    error: Mutex<Option<WalError>>,
}

/// Chunks in use.
#[derive(Debug, Default)]
struct Recent {
    chunks: Vec<(u64, Bytes, u64)>,
    uses: u64,
}

impl Chunks {
    pub(crate) fn new(file: &Arc<DataFile>, through: Through) -> Self {
        Self {
            file: Arc::clone(file),
            through,
            recent: Mutex::default(),
            error: Mutex::default(),
        }
    }

    /// Remembers why reading failed, for [`Chunks::take_error`].
    pub(crate) fn failed(&self, error: WalError) -> String {
        let text = error.to_string();
        *lock(&self.error) = Some(error);
        text
    }

    /// Why reading failed, if it was reading that did.
    pub(crate) fn take_error(&self) -> Option<WalError> {
        lock(&self.error).take()
    }

    /// Length of the file.
    pub(crate) fn len(&self) -> u64 {
        self.file.meta.bytes
    }

    /// Bytes of the file, checked. Those of one chunk are not copied.
    pub(crate) fn get(&self, start: u64, len: usize) -> Result<Bytes, WalError> {
        let end = start.checked_add(len as u64);
        let end = end.filter(|end| *end <= self.len());
        let end = end.ok_or_else(|| self.file.corrupt(start, BEYOND.to_owned()))?;
        let size = CHUNK as u64;
        let (first, within) = (start / size, offset(start % size));
        if len == 0 {
            return Ok(Bytes::new());
        }
        if within + len <= CHUNK {
            return Ok(self.chunk(first)?.slice(within..within + len));
        }
        let mut whole = BytesMut::with_capacity(len);
        for at in first..end.div_ceil(size) {
            let chunk = self.chunk(at)?;
            let from = offset(start.saturating_sub(at * size)).min(chunk.len());
            let to = offset((end - at * size).min(size)).min(chunk.len());
            whole.extend_from_slice(&chunk[from..to]);
        }
        Ok(whole.freeze())
    }

    /// All that is left of the chunk in which this byte is; none at the end.
    pub(crate) fn rest_of_chunk(&self, start: u64) -> Result<Bytes, WalError> {
        let left = self.len().saturating_sub(start);
        let left = left.min(CHUNK as u64 - start % CHUNK as u64);
        self.get(start, offset(left))
    }

    fn chunk(&self, at: u64) -> Result<Bytes, WalError> {
        let mut recent = lock(&self.recent);
        if let Some(found) = recent.find(at) {
            return Ok(found);
        }
        drop(recent);
        let (bytes, most) = match self.through {
            Through::Cache => (self.file.chunk(at)?, MOST),
            Through::Straight => (self.file.chunk_now(at)?, MOST_STRAIGHT),
        };
        recent = lock(&self.recent);
        recent.keep(at, &bytes, most);
        Ok(bytes)
    }
}

impl Recent {
    fn find(&mut self, at: u64) -> Option<Bytes> {
        self.uses += 1;
        let found = self.chunks.iter_mut().find(|(held, ..)| *held == at);
        let (_, bytes, used) = found?;
        *used = self.uses;
        Some(bytes.clone())
    }

    /// Keeps a chunk in the place of one that is passed; not where all are in use.
    fn keep(&mut self, at: u64, bytes: &Bytes, most: usize) {
        let entry = (at, bytes.clone(), self.uses);
        if self.chunks.len() < most {
            self.chunks.push(entry);
            return;
        }
        let oldest = self.chunks.iter_mut().min_by_key(|(.., used)| *used);
        if let Some(oldest) = oldest
            && oldest.2 + PASSED < self.uses
        {
            *oldest = entry;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is in a file, as a place in memory.
fn offset(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

const BEYOND: &str = "a range beyond the end of the file";
/// Chunks that a reader holds on to: with the cache behind it, and without, where a row group must
/// fit.
const MOST: usize = 4;
const MOST_STRAIGHT: usize = 17;
/// A chunk that was not asked for while so many others were is passed.
const PASSED: u64 = 64;
