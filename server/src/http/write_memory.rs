//! Memory for rows on their way in. Owns how much all writes together may take; must never let a
//! body be read that has no place.

use std::sync::Arc;
use std::time::Duration;

use intake::Encoding;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body;
use super::error::ApiError;

/// Places for bodies, in KiB.
#[derive(Debug)]
pub(crate) struct WriteMemory {
    places: Arc<Semaphore>,
    /// For bodies of unknown length, which have no place while they are read.
    streams: Arc<Semaphore>,
    max_body: usize,
    patience: Duration,
}

impl WriteMemory {
    /// All writes together take at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .max(WEIGHT << 10);
        Self {
            places: Arc::new(Semaphore::new((bytes >> 10).min(Semaphore::MAX_PERMITS))),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
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

    /// The right to read a body of unknown length: only a few at a time, since it may be the
    /// largest.
    pub(crate) async fn stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.wait(&self.streams, 1).await
    }

    /// Memory for so many bytes of text, as long as it is held.
    pub(crate) async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = (bytes.saturating_mul(WEIGHT) >> 10).max(1);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        self.wait(&self.places, kib).await
    }

    async fn wait(
        &self,
        places: &Arc<Semaphore>,
        count: u32,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(places).acquire_many_owned(count);
        match tokio::time::timeout(self.patience, place).await {
            Ok(Ok(place)) => Ok(place),
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

/// Bodies of unknown length that are read at once: together a quarter of all the memory.
const MAX_STREAMS: usize = 4;

/// How long a write waits for its place.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_have_a_place_or_are_refused() {
        let mut memory = WriteMemory::new(4 << 20);
        memory.patience = Duration::from_millis(20);
        assert_eq!(memory.max_body(), 256 << 10);
        let small = memory.take(10).await.expect("a place");
        let half = memory.take(128 << 10).await.expect("a place");
        let full = memory.take(memory.max_body()).await.expect_err("no place");
        assert!(matches!(full, ApiError::Busy(_)));
        drop((small, half));
        drop(memory.take(memory.max_body()).await.expect("a place"));
        assert_eq!(WriteMemory::new(u64::MAX).max_body(), MAX_BODY_BYTES);
    }

    #[test]
    fn a_body_is_given_room_for_what_it_may_hold() {
        let memory = WriteMemory::new(256 << 20);
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
