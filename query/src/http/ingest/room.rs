//! Memory for rows on their way in. Owns how much all writes together may take; must never let a body
//! be read that has no place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::QueryError;
use crate::http::body;

/// Places for bodies, in KiB.
#[derive(Debug)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    max_body: usize,
    patience: Duration,
}

impl Room {
    /// All writes together take at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .max(WEIGHT << 10);
        Self {
            places: Arc::new(Semaphore::new((bytes >> 10).min(Semaphore::MAX_PERMITS))),
            max_body: (bytes / WEIGHT).min(MAX_BODY_BYTES),
            patience: PATIENCE,
        }
    }

    /// Largest body, before and after it is unpacked.
    pub(crate) fn max_body(&self) -> usize {
        self.max_body
    }

    /// A place for a body of this length, as long as it is held; of the largest where it is not known.
    pub(crate) async fn take(
        &self,
        length: Option<usize>,
    ) -> Result<OwnedSemaphorePermit, QueryError> {
        if length.is_some_and(|length| length > self.max_body) {
            return Err(body::too_large(self.max_body));
        }
        let kib = (length.unwrap_or(self.max_body).saturating_mul(WEIGHT) >> 10).max(1);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.places).acquire_many_owned(kib);
        match tokio::time::timeout(self.patience, place).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(QueryError::Busy(
                "too many rows are on their way in: send again in a moment",
            )),
        }
    }
}

/// Largest body, where there is memory for it.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Parsed rows take about three times the memory of their text.
const WEIGHT: usize = 4;

/// How long a write waits for its place.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_have_a_place_or_are_refused() {
        let mut room = Room::new(1 << 20);
        room.patience = Duration::from_millis(20);
        assert_eq!(room.max_body(), 256 << 10);
        let small = room.take(Some(10)).await.expect("a place");
        let half = room.take(Some(128 << 10)).await.expect("a place");
        let full = room.take(None).await.expect_err("no place");
        assert!(matches!(full, QueryError::Busy(_)));
        drop((small, half));
        let all = room.take(None).await.expect("a place");
        drop(all);
        let large = room
            .take(Some((256 << 10) + 1))
            .await
            .expect_err("too large");
        assert_eq!(large, body::too_large(256 << 10));
        assert_eq!(Room::new(u64::MAX).max_body(), MAX_BODY_BYTES);
    }
}
