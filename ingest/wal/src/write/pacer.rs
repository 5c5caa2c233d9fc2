//! Decides when the next group starts. Pure: instants come in, a delay comes out. It must never
//! sleep itself.
//!
//! A lone row is committed at once. Under load, groups that follow each other as fast as the disk
//! allows would be small, and each costs system calls and wake-ups: so a group that comes while
//! rows stream in starts no sooner than `LOAD_INTERVAL` after the one before.

use std::time::{Duration, Instant};

/// Remembers the last group.
#[derive(Debug)]
pub(crate) struct Pacer {
    extra: Duration,
    last: Option<(Instant, u64)>,
}

impl Pacer {
    /// `extra` is the configured time to let any group fill.
    pub(crate) fn new(extra: Duration) -> Self {
        Self { extra, last: None }
    }

    /// How long to wait before the next group is taken.
    pub(crate) fn delay(&self, now: Instant) -> Duration {
        let paced = match self.last {
            Some((started, rows)) if rows >= LOAD_ROWS => {
                (started + LOAD_INTERVAL).saturating_duration_since(now)
            }
            _ => Duration::ZERO,
        };
        paced.max(self.extra)
    }

    /// A group of `rows` rows was taken at `now`.
    pub(crate) fn took(&mut self, now: Instant, rows: u64) {
        self.last = Some((now, rows));
    }
}

/// Groups of at least this many rows mean that rows stream in.
const LOAD_ROWS: u64 = 16;
/// The least time between the starts of two groups under load.
const LOAD_INTERVAL: Duration = Duration::from_micros(1_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_row_never_waits_and_a_stream_is_grouped() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Duration::ZERO);
        assert_eq!(pacer.delay(start), Duration::ZERO);
        pacer.took(start, 1);
        assert_eq!(pacer.delay(start), Duration::ZERO);
        pacer.took(start, LOAD_ROWS);
        assert_eq!(pacer.delay(start), LOAD_INTERVAL);
        assert_eq!(pacer.delay(start + LOAD_INTERVAL), Duration::ZERO);
    }
}
