//! A file that is taken whole from a peer, in memory. It owns how much of it there may be; it must
//! never hold a byte that has not come, nor one that the node's memory was not asked for.

use bytes::{Bytes, BytesMut};
use wal::{CHUNK_LEN, Held, Share};

use crate::files::sink::{FetchError, Sink};

/// Keeps a file in memory, which follows what has come, not what was announced.
pub(crate) struct Whole {
    bytes: BytesMut,
    length: usize,
    most: u64,
    memory: Share,
    held: Held,
    /// Bytes that are taken even where the share has none left.
    needed: u64,
}

impl Whole {
    /// At most so many bytes, and no more than the share has.
    pub(crate) fn of(most: u64, memory: &Share) -> Self {
        Self {
            bytes: BytesMut::new(),
            length: 0,
            most,
            memory: memory.clone(),
            held: memory.take_beyond(0),
            needed: 0,
        }
    }

    /// So many of them are taken whatever the share has: without them the node stays damaged.
    pub(crate) fn needed(most: u64, needed: u64, memory: &Share) -> Self {
        Self {
            needed,
            ..Self::of(most, memory)
        }
    }

    /// What has come. What it takes of the share is given back with the last copy of it.
    pub(crate) fn finish(self) -> Bytes {
        Bytes::from_owner(Counted {
            bytes: self.bytes.freeze(),
            _held: self.held,
        })
    }

    fn hold(&mut self, more: usize) -> Result<(), FetchError> {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        let held = self.held.bytes();
        if self.held.grow(more) {
            return Ok(());
        }
        if held.saturating_add(more) <= self.needed {
            self.held.grow_beyond(more);
            return Ok(());
        }
        Err(FetchError::NoMemory {
            length: self.length,
            limit: self.memory.limit(),
        })
    }
}

impl Sink for Whole {
    fn announced(&mut self, bytes: u64) -> Result<(), FetchError> {
        match usize::try_from(bytes) {
            Ok(length) if bytes <= self.most => {
                self.length = length;
                Ok(())
            }
            _ => Err(FetchError::Protocol("a file longer than it may be")),
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), FetchError> {
        let come = self.bytes.len() + bytes.len();
        let held = usize::try_from(self.held.bytes()).unwrap_or(usize::MAX);
        if come > held {
            let left = self.length.saturating_sub(held);
            self.hold(CHUNK_LEN.min(left).max(come - held))?;
        }
        if bytes.len() > self.bytes.capacity() - self.bytes.len() {
            let left = self.length - self.bytes.len();
            self.bytes.reserve(CHUNK_LEN.max(bytes.len()).min(left));
        }
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }
}

struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    async fn fill(whole: &mut Whole, announced: usize, come: usize) -> Result<(), FetchError> {
        whole.announced(announced as u64)?;
        let piece = Bytes::from(vec![7; 5_000]);
        let mut left = come;
        while left > 0 {
            let part = piece.slice(..left.min(piece.len()));
            left -= part.len();
            whole.take(part).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_has_come_is_counted_until_the_last_copy_is_gone() {
        let share = Share::new("test", 8 << 20);
        let mut whole = Whole::of(u64::MAX, &share);
        fill(&mut whole, 1 << 40, 3 * MIB).await.expect("fits");
        let used = share.used();
        assert!((3 << 20..=4 << 20).contains(&used), "{used}");
        let bytes = whole.finish();
        let copy = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(share.used(), used);
        drop(copy);
        assert_eq!(share.used(), 0);
    }

    #[tokio::test]
    async fn what_the_share_has_not_is_refused_unless_it_is_needed() {
        let share = Share::new("test", 2 << 20);
        let mut whole = Whole::of(u64::MAX, &share);
        let error = fill(&mut whole, 9 * MIB, 9 * MIB).await.expect_err("much");
        assert!(error.to_string().contains("node.memory_limit"), "{error}");
        assert!(share.used() <= share.limit());
        drop(whole);
        let mut whole = Whole::needed(u64::MAX, 4 << 20, &share);
        fill(&mut whole, 4 * MIB, 4 * MIB).await.expect("needed");
        assert_eq!(share.used(), 4 << 20);
        drop(whole);
        let mut whole = Whole::needed(u64::MAX, 4 << 20, &share);
        assert!(fill(&mut whole, 9 * MIB, 9 * MIB).await.is_err());
        drop(whole);
        assert_eq!(share.used(), 0);
        let mut whole = Whole::of(100, &share);
        assert!(fill(&mut whole, 101, 0).await.is_err());
    }
}
