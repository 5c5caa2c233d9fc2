//! What the log is told of connections that are refused: the same reason once a minute, with how
//! many there were, and only so many reasons. Must never let strangers fill a log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clip::{MAX_NAME, MAX_REASON, clipped};

/// The refusals of one listener.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Mutex<HashMap<String, Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Refused for the same reason since.
    hidden: u64,
}

impl Refusals {
    /// A connection is refused, or closed for what its client sent.
    pub(crate) fn tell(&self, client: &str, peer: Option<SocketAddr>, reason: &str, now: Instant) {
        let reason = clipped(reason, MAX_REASON);
        let Some(before) = self.is_news(&reason, now) else {
            return;
        };
        let client = clipped(client, MAX_NAME);
        let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        tracing::info!(
            client,
            peer,
            reason,
            before,
            "refusing or closing a connection"
        );
    }

    /// Whether to say it: how many more there were since it was last said.
    fn is_news(&self, reason: &str, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |told: &Told| now.saturating_duration_since(told.at) < PAUSE;
        if let Some(known) = told.get_mut(reason) {
            if recent(known) {
                known.hidden = known.hidden.saturating_add(1);
                return None;
            }
            known.at = now;
            return Some(std::mem::take(&mut known.hidden));
        }
        if told.len() >= MOST_REASONS {
            told.retain(|_, told| recent(told));
        }
        if told.len() >= MOST_REASONS {
            return None;
        }
        let new = Told { at: now, hidden: 0 };
        told.insert(reason.to_owned(), new);
        Some(0)
    }
}

/// Between two lines for the same reason.
const PAUSE: Duration = Duration::from_secs(60);

/// Most reasons that are said within that time.
const MOST_REASONS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_a_minute_and_only_so_many_are() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.is_news("tls", start), Some(0));
        for _ in 0..1_000 {
            assert_eq!(refusals.is_news("tls", start + PAUSE / 2), None);
        }
        assert_eq!(refusals.is_news("tls", start + PAUSE), Some(1_000));
        let later = start + PAUSE;
        let said = (0..1_000).filter(|number| {
            let reason = format!("level {number}");
            refusals.is_news(&reason, later).is_some()
        });
        assert_eq!(said.count(), MOST_REASONS - 1);
        assert_eq!(refusals.is_news("new", later + PAUSE), Some(0));
    }
}
