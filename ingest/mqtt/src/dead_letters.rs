//! What is told of the dead letters: the newest one, and a line in the log, at most once a minute
//! for all workers together. Must never repeat more of a message than the bounds at its end say,
//! nor a character that a terminal obeys.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wal::clock::unix_nanos;

use crate::clip::{MAX_NAME, MAX_REASON, clipped};

/// A message that could not be stored where it was meant to go, as far as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its beginning.
    pub topic: String,
    pub client: String,
    pub reason: String,
    pub unix_ms: u64,
}

/// The dead letters of one listener.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<DeadLetter>,
    /// How many the log has not been told of.
    untold: u64,
    told: Option<Instant>,
}

impl DeadLetters {
    /// There is one more.
    pub(crate) fn note(&self, client: &str, topic: &str, reason: String) {
        let letter = DeadLetter {
            topic: clipped(topic, MAX_NAME),
            client: clipped(client, MAX_NAME),
            reason: clipped(&reason, MAX_REASON),
            unix_ms: u64::try_from(unix_nanos() / 1_000_000).unwrap_or(0),
        };
        let mut state = self.lock();
        state.newest = Some(letter);
        state.untold = state.untold.saturating_add(1);
    }

    pub(crate) fn newest(&self) -> Option<DeadLetter> {
        self.lock().newest.clone()
    }

    /// Says in the log what has not been said, if it is time.
    pub(crate) fn tell(&self, now: Instant) {
        let Some((count, letter)) = self.due(now) else {
            return;
        };
        let DeadLetter {
            topic,
            client,
            reason,
            ..
        } = letter;
        tracing::warn!(
            count,
            topic,
            client,
            reason,
            "messages could not be stored in their tables: they are in system.dead_letters"
        );
    }

    /// What is to be told now: how many since the last time, and the newest.
    fn due(&self, now: Instant) -> Option<(u64, DeadLetter)> {
        let mut state = self.lock();
        let early = |told: Instant| now.saturating_duration_since(told) < PAUSE;
        if state.untold == 0 || state.told.is_some_and(early) {
            return None;
        }
        state.told = Some(now);
        let count = std::mem::take(&mut state.untold);
        state.newest.clone().map(|letter| (count, letter))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between two lines in the log.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_then_what_came_in_a_minute_together() {
        let (letters, start) = (DeadLetters::default(), Instant::now());
        assert_eq!(letters.due(start), None);
        letters.note("c", "a/1", "odd".to_owned());
        assert_eq!(letters.due(start).map(|(count, _)| count), Some(1));
        for number in 2..5 {
            letters.note("c", &format!("a/{number}"), "odd".to_owned());
            assert_eq!(letters.due(start + Duration::from_secs(59)), None);
        }
        let (count, newest) = letters.due(start + PAUSE).expect("due");
        assert_eq!((count, newest.topic.as_str()), (3, "a/4"));
        assert_eq!(letters.due(start + 2 * PAUSE), None);
        assert_eq!(letters.newest(), Some(newest));
    }

    #[test]
    fn what_a_stranger_sent_is_clipped_and_escaped() {
        let letters = DeadLetters::default();
        let topic = format!("\u{1b}[2J{}", "x".repeat(1_000));
        letters.note("a\nb", &topic, "y".repeat(10_000));
        let newest = letters.newest().expect("there is one");
        assert!(newest.topic.starts_with("\\u{1b}[2Jxxx") && newest.topic.ends_with("xxx..."));
        assert_eq!(newest.client, "a\\nb");
        assert_eq!(newest.reason.len(), MAX_REASON + 3);
    }
}
