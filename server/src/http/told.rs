//! Answers that cost the more the more is stored, and are asked for again and again. Must never
//! make one beside another, nor let them take more than a quarter of a core, whoever asks and how
//! often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::Mutex;

use super::error::ApiError;

/// One such answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<Mutex<Option<Latest>>>);

#[derive(Debug)]
struct Latest {
    text: Bytes,
    begun: Instant,
    until: Instant,
}

impl Told {
    /// What `make` says now, once for all who asked before it began; where that takes long, what it
    /// said a moment ago.
    pub(crate) async fn get(
        &self,
        make: impl FnOnce() -> String + Send + 'static,
    ) -> Result<Bytes, ApiError> {
        let asked = Instant::now();
        let mut kept = Arc::clone(&self.0).lock_owned().await;
        let is_fresh = |kept: &&Latest| asked <= kept.begun || Instant::now() < kept.until;
        if let Some(kept) = kept.as_ref().filter(is_fresh) {
            return Ok(kept.text.clone());
        }
        // It keeps its turn even when nobody waits for it any more.
        let making = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let text = Bytes::from(make());
            let took = begun.elapsed();
            let rest = if took >= SLOW {
                took * 3
            } else {
                Duration::ZERO
            };
            *kept = Some(Latest {
                text: text.clone(),
                begun,
                until: Instant::now() + rest,
            });
            text
        });
        making
            .await
            .map_err(|error| ApiError::Internal(error.to_string()))
    }
}

/// What takes less is always made anew.
const SLOW: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_takes_long_is_told_again_and_what_does_not_is_made_anew() {
        let (told, made) = (Told::default(), Arc::new(AtomicU32::new(0)));
        let make = |long: Duration| {
            let made = Arc::clone(&made);
            move || {
                let begun = Instant::now();
                while begun.elapsed() < long {}
                made.fetch_add(1, Ordering::Relaxed).to_string()
            }
        };
        for n in 0..3 {
            let text = told.get(make(Duration::ZERO)).await.expect("a text");
            assert_eq!(text, n.to_string());
        }
        let slow = SLOW * 10;
        assert_eq!(told.get(make(slow)).await.expect("a text"), "3");
        assert_eq!(told.get(make(slow)).await.expect("a text"), "3");
        // It is made anew in the end.
        let until = Instant::now() + slow * 40;
        while told.get(make(slow)).await.expect("a text") == "3" {
            assert!(Instant::now() < until);
        }
        assert_eq!(made.load(Ordering::Relaxed), 5);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_are_told_the_same() {
        let (told, made) = (Told::default(), Arc::new(AtomicU32::new(0)));
        let ask = || {
            let made = Arc::clone(&made);
            told.get(move || made.fetch_add(1, Ordering::Relaxed).to_string())
        };
        let answers = futures::future::join_all((0..1_000).map(|_| ask())).await;
        assert!(answers.iter().all(Result::is_ok));
        // One that was being made, perhaps, and one that all the others waited for.
        assert!((1..=2).contains(&made.load(Ordering::Relaxed)));
    }
}
