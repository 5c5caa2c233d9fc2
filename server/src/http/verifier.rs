//! The one thread that reads everything that is stored. Must never let a second one start beside
//! it, nor hold up a connection or the end of the process.

use std::sync::Arc;
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use super::error::ApiError;

/// The right to read everything that is stored, held by whoever does.
pub(crate) struct Verifier(Arc<Semaphore>);

impl Default for Verifier {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Verifier {
    /// Does `work` on a thread of its own, which goes on when nobody waits any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            return Err(ApiError::Busy("the log is being verified already"));
        };
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            let report = work();
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
}
