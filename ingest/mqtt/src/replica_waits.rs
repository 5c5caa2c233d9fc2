//! What is told of messages that wait for secondaries: how many, since when, and a line in the log
//! when that takes long, and when it is over. Must never decide who is acknowledged.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Messages that are durable here and wait for secondaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) messages: u64,
    /// Since when the first of them has waited; 0: none does.
    pub(crate) since_unix_ms: u64,
}

impl Waits {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let since = match (self.since_unix_ms, other.since_unix_ms) {
            (0, since) | (since, 0) => since,
            (one, other) => one.min(other),
        };
        Self {
            messages: self.messages + other.messages,
            since_unix_ms: since,
        }
    }
}

/// The waits of one listener's workers.
#[derive(Debug, Default)]
pub(crate) struct ReplicaWaits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_worker: HashMap<usize, Waits>,
    /// The log says that messages wait.
    told: bool,
}

/// What the log is to be told.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Begun(Waits),
    Over,
}

impl ReplicaWaits {
    /// What one worker has found; `connected` secondaries could have its messages.
    pub(crate) fn report(&self, worker: usize, waits: Waits, connected: u8, now_ms: u64) {
        match self.news(worker, waits, now_ms) {
            None => {}
            Some(News::Begun(waits)) => tracing::warn!(
                messages = waits.messages,
                for_s = now_ms.saturating_sub(waits.since_unix_ms) / 1000,
                connected,
                "messages are on disk here and wait for secondaries before they are acknowledged: \
                 start the secondaries, or see replication.too_few"
            ),
            Some(News::Over) => tracing::info!("no message waits long for secondaries any more"),
        }
    }

    fn news(&self, worker: usize, waits: Waits, now_ms: u64) -> Option<News> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.by_worker.insert(worker, waits);
        let all = state.by_worker.values().copied();
        let all = all.fold(Waits::default(), Waits::and);
        let since = all.since_unix_ms;
        let long = since > 0 && now_ms.saturating_sub(since) >= LONG_MS;
        match (state.told, long) {
            (false, true) => {
                state.told = true;
                Some(News::Begun(all))
            }
            (true, false) => {
                state.told = false;
                Some(News::Over)
            }
            _ => None,
        }
    }
}

/// A message that waits longer is worth a line.
const LONG_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_told_once_and_its_end_too() {
        let waits = |messages, since_unix_ms| Waits {
            messages,
            since_unix_ms,
        };
        let all = ReplicaWaits::default();
        assert_eq!(all.news(1, waits(3, 1_000), 1_500), None);
        assert_eq!(all.news(2, waits(1, 2_000), 5_999), None);
        let both = waits(4, 1_000);
        assert_eq!(all.news(2, waits(1, 2_000), 6_000), Some(News::Begun(both)));
        assert_eq!(all.news(1, waits(9, 1_000), 60_000), None);
        assert_eq!(all.news(1, waits(0, 0), 60_000), None);
        assert_eq!(all.news(2, waits(0, 0), 60_000), Some(News::Over));
        assert_eq!(all.news(2, waits(0, 0), 61_000), None);
    }
}
