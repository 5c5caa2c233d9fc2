//! What is told of the dead letters, and of what is not even there: the newest one, and a line in the
//! log for each of the two, at most once a minute for all workers together. Must never repeat more of a message than the bounds at its end say,
//! nor a character that a terminal obeys.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wal::clock::unix_nanos;

use crate::clip::{MAX_NAME, MAX_REASON, clipped};
use crate::error::Rejection;

/// A message that could not be stored where it was meant to go, as far as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its beginning.
    pub topic: String,
    pub client: String,
    pub reason: String,
    pub unix_ms: u64,
}

/// What became of a message that its table does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterFate {
    /// It is among the dead letters.
    Stored,
    /// It is nowhere.
    Lost,
}

/// The dead letters of one listener.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<DeadLetter>,
    stored: Untold,
    lost: Untold,
}

/// What the log has not been told of.
#[derive(Debug, Default)]
struct Untold {
    count: u64,
    /// How many there are of each kind of reason; there are few kinds.
    kinds: BTreeMap<&'static str, u64>,
    newest: Option<DeadLetter>,
    told: Option<Instant>,
}

/// What is to be told now.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    count: u64,
    kinds: String,
    newest: DeadLetter,
}

impl DeadLetters {
    /// There is one more.
    pub(crate) fn note(&self, fate: LetterFate, client: &str, topic: &str, rejection: &Rejection) {
        let letter = DeadLetter {
            topic: clipped(topic, MAX_NAME),
            client: clipped(client, MAX_NAME),
            reason: clipped(&rejection.to_string(), MAX_REASON),
            unix_ms: u64::try_from(unix_nanos() / 1_000_000).unwrap_or(0),
        };
        let mut state = self.lock();
        if fate == LetterFate::Stored {
            state.newest = Some(letter.clone());
        }
        let untold = match fate {
            LetterFate::Stored => &mut state.stored,
            LetterFate::Lost => &mut state.lost,
        };
        untold.count = untold.count.saturating_add(1);
        *untold.kinds.entry(rejection.kind()).or_default() += 1;
        untold.newest = Some(letter);
    }

    pub(crate) fn newest(&self) -> Option<DeadLetter> {
        self.lock().newest.clone()
    }

    /// Says in the log what has not been said, if it is time.
    pub(crate) fn tell(&self, now: Instant) {
        let mut state = self.lock();
        let (stored, lost) = (state.stored.due(now), state.lost.due(now));
        drop(state);
        if let Some(due) = stored {
            due.tell(
                "messages could not be stored in their tables: they are in system.dead_letters",
            );
        }
        if let Some(due) = lost {
            due.tell(
                "messages could not be stored in their tables, nor in system.dead_letters: more \
                 came of a client than dead_letters.max_rate_per_client, or they are too large: \
                 they are stored nowhere",
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Untold {
    /// How many there are since the last time, of which kinds, and the newest.
    fn due(&mut self, now: Instant) -> Option<Due> {
        let early = |told: Instant| now.saturating_duration_since(told) < PAUSE;
        if self.count == 0 || self.told.is_some_and(early) {
            return None;
        }
        self.told = Some(now);
        let kinds = std::mem::take(&mut self.kinds).into_iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{kind}: {count}"))
            .collect();
        Some(Due {
            count: std::mem::take(&mut self.count),
            kinds: kinds.join(", "),
            newest: self.newest.clone()?,
        })
    }
}

impl Due {
    fn tell(&self, what: &'static str) {
        let Self {
            count,
            kinds,
            newest,
        } = self;
        let DeadLetter {
            topic,
            client,
            reason,
            ..
        } = newest;
        tracing::warn!(count, kinds, topic, client, reason, "{what}");
    }
}

/// Between two lines in the log.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn due(letters: &DeadLetters, now: Instant) -> Option<Due> {
        letters.lock().stored.due(now)
    }

    #[test]
    fn the_first_is_told_at_once_and_then_what_came_in_a_minute_together_by_kinds() {
        let (letters, start) = (DeadLetters::default(), Instant::now());
        assert_eq!(due(&letters, start), None);
        letters.note(LetterFate::Stored, "c", "a/1", &Rejection::DollarTopic);
        assert_eq!(due(&letters, start).map(|due| due.count), Some(1));
        for number in 2..5 {
            let rejection = match number {
                3 => Rejection::TopicField,
                _ => Rejection::DollarTopic,
            };
            letters.note(LetterFate::Stored, "c", &format!("a/{number}"), &rejection);
            assert_eq!(due(&letters, start + Duration::from_secs(59)), None);
        }
        let told = due(&letters, start + PAUSE).expect("due");
        assert_eq!((told.count, told.newest.topic.as_str()), (3, "a/4"));
        assert_eq!(told.kinds, "field topic: 1, topic: 2");
        assert_eq!(due(&letters, start + 2 * PAUSE), None);
        assert_eq!(letters.newest(), Some(told.newest));
    }

    #[test]
    fn what_is_lost_is_told_by_itself_and_is_no_dead_letter() {
        let (letters, start) = (DeadLetters::default(), Instant::now());
        letters.note(LetterFate::Lost, "c", "a/1", &Rejection::DollarTopic);
        assert_eq!((due(&letters, start), letters.newest()), (None, None));
        assert_eq!(letters.lock().lost.due(start).map(|due| due.count), Some(1));
    }

    #[test]
    fn what_a_stranger_sent_is_clipped_and_escaped() {
        let letters = DeadLetters::default();
        let topic = format!("\u{1b}[2J{}", "x".repeat(1_000));
        let rejection = Rejection::NoTable("/".repeat(10_000));
        letters.note(LetterFate::Stored, "a\nb", &topic, &rejection);
        let newest = letters.newest().expect("there is one");
        assert!(newest.topic.starts_with("\\u{1b}[2Jxxx") && newest.topic.ends_with("xxx..."));
        assert_eq!(newest.client, "a\\nb");
        assert_eq!(newest.reason.len(), MAX_REASON + 3);
    }
}
