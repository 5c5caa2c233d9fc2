//! Memory for rows on their way in. Owns how much all writes together may take; must never let a
//! body be parsed that has no place.

use std::sync::Arc;
use std::time::Duration;

use intake::Encoding;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wal::{Held, Share};

use super::body;
use super::error::ApiError;

/// Places for bodies, in KiB.
#[derive(Debug)]
pub(crate) struct WriteMemory {
    /// In order of arrival.
    places: Arc<Semaphore>,
    /// What is told of them.
    share: Share,
    max_body: usize,
    patience: Duration,
}

/// Memory for the rows of one write.
#[derive(Debug)]
pub(crate) struct Room {
    _place: OwnedSemaphorePermit,
    _held: Held,
}

impl WriteMemory {
    /// All writes together take at most what `share` has.
    pub(crate) fn new(share: Share) -> Self {
        let bytes = usize::try_from(share.limit())
            .unwrap_or(usize::MAX)
            .max(WEIGHT << 10);
        Self {
            places: Arc::new(Semaphore::new((bytes >> 10).min(Semaphore::MAX_PERMITS))),
            share,
            max_body: (bytes / WEIGHT).min(MAX_BODY_BYTES),
            patience: PATIENCE,
        }
    }

    /// Largest body, before and after it is unpacked.
    pub(crate) fn max_body(&self) -> usize {
        self.max_body
    }

    /// Most bytes that a body of this length may have once it is unpacked.
    pub(crate) fn place(&self, length: usize, encoding: Encoding) -> Result<usize, ApiError> {
        if length > self.max_body {
            return Err(body::too_large(self.max_body));
        }
        Ok(encoding.room(length).min(self.max_body))
    }

    /// Memory for so many bytes of text, as long as it is held.
    pub(crate) async fn take(&self, bytes: usize) -> Result<Room, ApiError> {
        let kib = (bytes.saturating_mul(WEIGHT) >> 10).max(1);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.places).acquire_many_owned(kib);
        match tokio::time::timeout(self.patience, place).await {
            Ok(Ok(place)) => Ok(Room {
                _place: place,
                _held: self.share.take_beyond(u64::from(kib) << 10),
            }),
            _ => Err(ApiError::Busy(
                "too many rows are on their way in: send again in a moment",
            )),
        }
    }
}

/// Largest body, where there is memory for it.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Parsed rows take several times the memory of their text; small ones most.
const WEIGHT: usize = 16;

/// How long a write waits for its place.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_have_a_place_or_are_refused() {
        let mut memory = WriteMemory::new(Share::new("writes", 4 << 20));
        memory.patience = Duration::from_millis(20);
        assert_eq!(memory.max_body(), 256 << 10);
        let small = memory.take(10).await.expect("a place");
        let half = memory.take(128 << 10).await.expect("a place");
        let full = memory.take(memory.max_body()).await.expect_err("no place");
        assert!(matches!(full, ApiError::Busy(_)));
        assert_eq!(memory.share.used(), (1 << 10) + (2 << 20));
        drop((small, half));
        assert_eq!(memory.share.used(), 0);
        drop(memory.take(memory.max_body()).await.expect("a place"));
        assert_eq!(
            WriteMemory::new(Share::unlimited("writes")).max_body(),
            MAX_BODY_BYTES
        );
    }

    #[test]
    fn a_body_is_given_room_for_what_it_may_hold() {
        let memory = WriteMemory::new(Share::new("writes", 256 << 20));
        let place = |length, encoding| memory.place(length, encoding);
        assert_eq!(place(7, Encoding::Plain), Ok(7));
        assert_eq!(place(7, Encoding::Gzip), Ok(1 << 20));
        assert_eq!(place(100 << 10, Encoding::Gzip), Ok(6400 << 10));
        assert_eq!(place(1 << 20, Encoding::Gzip), Ok(16 << 20));
        for encoding in [Encoding::Plain, Encoding::Gzip] {
            let large = place((16 << 20) + 1, encoding);
            assert_eq!(large, Err(body::too_large(16 << 20)));
        }
    }
}
