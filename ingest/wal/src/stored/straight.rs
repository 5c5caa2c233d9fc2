//! Reading a file from its beginning to its end, or bytes that are in memory already, past the
//! cache: what is read once must not take the place of what is asked for again. It must never hold
//! more than one window of a file.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::WalError;
use crate::stored::file::StoredFile;

/// Where the bytes of a file are that is read.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// On the disk.
    File(Arc<StoredFile>, u64),
    /// In memory, for the time in which it is checked.
    Bytes(Bytes, String),
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File(_, len) => *len,
            Self::Bytes(bytes, _) => bytes.len() as u64,
        }
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::File(file, _) => file.path(),
            Self::Bytes(_, path) => path.clone(),
        }
    }

    /// These bytes, past the cache.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Bytes, WalError> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(WalError::corrupt(&self.path(), offset, CUT_SHORT));
        }
        match self {
            Self::File(file, _) => file.read(offset, len),
            Self::Bytes(bytes, _) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                Ok(bytes.slice(from..from + len))
            }
        }
    }

    /// A piece that `check` has looked at, from the cache where it is on the disk.
    pub(crate) fn piece(
        &self,
        offset: u64,
        len: usize,
        check: impl FnOnce(&Bytes) -> Result<(), WalError>,
    ) -> Result<Bytes, WalError> {
        match self {
            Self::File(file, _) => file.piece(offset, len, check),
            Self::Bytes(..) => {
                let bytes = self.read(offset, len)?;
                check(&bytes)?;
                Ok(bytes)
            }
        }
    }

    /// Reads it from here to there.
    pub(crate) fn straight(&self) -> Straight<'_> {
        Straight {
            content: self,
            window: Vec::new(),
            at: 0,
        }
    }
}

/// A reader that goes forward.
#[derive(Debug)]
pub(crate) struct Straight<'a> {
    content: &'a Content,
    /// Of a file: bytes from `at` on.
    window: Vec<u8>,
    at: u64,
}

impl Straight<'_> {
    /// These bytes; reads on where they are not in the window.
    pub(crate) fn get(&mut self, offset: u64, len: usize) -> Result<&[u8], WalError> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.content.len()) {
            return Err(WalError::corrupt(&self.content.path(), offset, CUT_SHORT));
        }
        let file = match self.content {
            Content::Bytes(bytes, _) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                return Ok(bytes
                    .get(from..from.saturating_add(len))
                    .unwrap_or_default());
            }
            Content::File(file, _) => file,
        };
        if !self.holds(offset, len) {
            let left = self.content.len() - offset;
            let want = left.min((len as u64).max(WINDOW));
            self.window.clear();
            self.at = offset;
            let want = usize::try_from(want).unwrap_or(len);
            let read = file.read_into(offset, want, &mut self.window);
            // What lies behind may be what cannot be read.
            if read.is_err() && self.window.len() < len {
                self.window.clear();
                file.read_into(offset, len, &mut self.window)?;
            }
        }
        let from = usize::try_from(offset - self.at).unwrap_or(usize::MAX);
        let found = self.window.get(from..from.saturating_add(len));
        found.ok_or_else(|| WalError::corrupt(&self.content.path(), offset, CUT_SHORT))
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        let end = self.at + self.window.len() as u64;
        offset >= self.at && offset + len as u64 <= end
    }
}

const CUT_SHORT: &str = "the file is cut short";
/// Bytes that are read at a time.
const WINDOW: u64 = 1 << 20;
