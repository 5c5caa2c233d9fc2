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
    by_worker: HashMap<usize, Found>,
    /// Since when messages have waited and none was answered, also those of devices that have gone
    /// away meanwhile; 0: none does.
    since_unix_ms: u64,
    /// When one was last seen to wait.
    seen_unix_ms: u64,
    /// Messages that secondaries were waited for in vain no longer, of all workers.
    answered: u64,
    /// The log says that messages wait.
    told: bool,
}

/// What one worker has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) waits: Waits,
    /// Messages that were acknowledged after such a wait, since the start.
    pub(crate) answered: u64,
}

/// What the log is to be told.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Begun(Waits),
    Over,
}

impl ReplicaWaits {
    /// What one worker has found; `connected` secondaries could have its messages.
    pub(crate) fn report(&self, worker: usize, found: Found, connected: u8, now_ms: u64) {
        match self.news(worker, found, now_ms) {
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

    fn news(&self, worker: usize, found: Found, now_ms: u64) -> Option<News> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.by_worker.insert(worker, found);
        let waits = state.by_worker.values().map(|found| found.waits);
        let mut all = waits.fold(Waits::default(), Waits::and);
        let answered = state.by_worker.values().map(|found| found.answered).sum();
        // Devices that give up and come again wait all the same.
        if answered > state.answered || now_ms.saturating_sub(state.seen_unix_ms) >= FORGOTTEN_MS {
            state.since_unix_ms = 0;
        }
        state.answered = answered;
        if all.messages > 0 {
            state.seen_unix_ms = now_ms;
            if state.since_unix_ms == 0 {
                state.since_unix_ms = all.since_unix_ms;
            }
            state.since_unix_ms = state.since_unix_ms.min(all.since_unix_ms);
        }
        all.since_unix_ms = state.since_unix_ms;
        let since = state.since_unix_ms;
        let is_seen = state.told || all.messages > 0;
        let long = is_seen && since > 0 && now_ms.saturating_sub(since) >= LONG_MS;
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

/// None has come again for so long: nobody waits any more.
const FORGOTTEN_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_told_once_and_its_end_too() {
        let all = ReplicaWaits::default();
        assert_eq!(all.news(1, waits(3, 1_000), 1_500), None);
        assert_eq!(all.news(2, waits(1, 2_000), 5_999), None);
        let both = waits(4, 1_000).waits;
        assert_eq!(all.news(2, waits(1, 2_000), 6_000), Some(News::Begun(both)));
        assert_eq!(all.news(1, waits(9, 1_000), 60_000), None);
        assert_eq!(all.news(2, waits(0, 0), 60_000), None);
        assert_eq!(all.news(1, answered(10), 60_000), Some(News::Over));
        assert_eq!(all.news(2, waits(0, 0), 61_000), None);
        // The next wait is one of its own.
        assert_eq!(all.news(2, waits(1, 100_000), 101_000), None);
        assert_eq!(all.news(1, answered(11), 101_000), None);
    }

    #[test]
    fn devices_that_give_up_soon_and_come_again_are_told_of_too() {
        let all = ReplicaWaits::default();
        for second in 1..5 {
            let now = second * 1_000;
            assert_eq!(all.news(1, waits(1, now - 100), now), None);
            assert_eq!(all.news(1, waits(0, 0), now + 500), None, "it has gone");
        }
        let news = all.news(1, waits(2, 6_500), 7_000);
        assert_eq!(news, Some(News::Begun(waits(2, 900).waits)));
        assert_eq!(all.news(1, waits(0, 0), 8_000), None);
        assert_eq!(all.news(1, waits(1, 29_000), 30_000), None, "told once");
        assert_eq!(all.news(1, waits(0, 0), 89_999), None);
        assert_eq!(all.news(1, waits(0, 0), 90_000), Some(News::Over));
    }

    fn waits(messages: u64, since_unix_ms: u64) -> Found {
        Found {
            waits: Waits {
                messages,
                since_unix_ms,
            },
            answered: 0,
        }
    }

    fn answered(answered: u64) -> Found {
        let waits = Waits::default();
        Found { waits, answered }
    }
}
