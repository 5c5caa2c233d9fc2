//! The one thread that reads everything that is stored. Must never let a second one start beside
//! it, nor hold up a connection or the end of the process.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use super::error::ApiError;

/// The right to read everything that is stored, held by whoever does.
#[derive(Clone)]
pub(crate) struct Verifier {
    turn: Arc<Semaphore>,
    /// Until when the disk is left to others.
    rest: Arc<Mutex<Instant>>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            rest: Arc::new(Mutex::new(Instant::now())),
        }
    }
}

impl Verifier {
    /// Does `work` on a thread of its own, which goes on when nobody waits any more. After it the
    /// disk rests for as long as it took, but not for more than a minute: who comes then waits.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let Ok(permit) = Arc::clone(&self.turn).try_acquire_owned() else {
            return Err(ApiError::Busy(
                "everything that is stored is being read already, for a verification or a digest: \
                 ask again when that is done",
            ));
        };
        let rest = *self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep_until(rest.into()).await;
        let (sender, receiver) = oneshot::channel();
        let rest = Arc::clone(&self.rest);
        let work = move || {
            let begun = Instant::now();
            let report = work();
            let until = Instant::now() + begun.elapsed().min(LONGEST_REST);
            *rest.lock().unwrap_or_else(PoisonError::into_inner) = until;
            drop(permit);
            if sender.send(report).is_err() {
                tracing::info!("the log was verified and nobody waited any more");
            }
        };
        thread::Builder::new()
            .name("verify".to_owned())
            .spawn(work)
            .map_err(|error| ApiError::Internal(format!("cannot start a thread: {error}")))?;
        receiver
            .await
            .map_err(|_| ApiError::Internal("verifying ended without a report".to_owned()))
    }
}

/// Longest time between two of them.
const LONGEST_REST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_reader_is_refused_until_the_first_is_done() {
        let verifier = Verifier::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut first = Box::pin(verifier.run(move || held.recv().is_ok()));
        assert!(futures::poll!(&mut first).is_pending());
        let refused = verifier.run(|| ()).await.expect_err("one at a time");
        assert!(matches!(refused, ApiError::Busy(_)));
        release.send(()).expect("the first still waits");
        assert_eq!(first.await, Ok(true));
        assert_eq!(verifier.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn the_disk_rests_after_each_for_as_long_as_it_took() {
        let (verifier, begun) = (Verifier::default(), Instant::now());
        let long = Duration::from_millis(200);
        let busy = move || {
            let started = Instant::now();
            while started.elapsed() < long {}
        };
        verifier.run(busy).await.expect("a turn");
        // Whoever waits for the end of the rest holds the turn.
        let mut next = Box::pin(verifier.run(Instant::now));
        assert!(futures::poll!(&mut next).is_pending());
        assert!(verifier.run(|| ()).await.is_err());
        let at = next.await.expect("a turn");
        assert!(at.duration_since(begun) >= long * 2);
    }
}
