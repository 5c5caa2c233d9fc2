//! How much a secondary may say: a bound on messages per second, so that one that floods its
//! upstream costs it no more than its share of a core. Pure: it must never wait or read a clock.

use std::time::{Duration, Instant};

/// A bucket of messages.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Messages that may come at once, in billionths.
    left: u64,
    at: Instant,
}

impl Pace {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            left: BURST * WHOLE,
            at: now,
        }
    }

    /// Takes a message out; how long to wait before the next is read, where it is empty.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        let gained = u64::try_from(passed * u128::from(RATE)).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(gained).min(BURST * WHOLE);
        self.at = now;
        match self.left.checked_sub(WHOLE) {
            Some(left) => {
                self.left = left;
                None
            }
            None => {
                self.left = 0;
                Some(PAUSE)
            }
        }
    }
}

/// A message, as it is counted.
const WHOLE: u64 = 1_000_000_000;

/// Messages per second. A secondary that follows a busy primary says about 550: a report every
/// 2 ms, statements of those behind it every 20 ms.
const RATE: u64 = 800;

/// Messages at once: what a node says that was held up for a moment.
const BURST: u64 = 400;

/// Coarse, so that waiting costs nothing either.
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that are read in so many milliseconds of somebody who says this many in each.
    fn read(per_ms: u32, ms: u64) -> u64 {
        let begun = Instant::now();
        let (mut pace, mut now, mut count) = (Pace::new(begun), begun, 0);
        while now < begun + Duration::from_millis(ms) {
            for _ in 0..per_ms {
                if let Some(pause) = pace.next(now) {
                    now += pause;
                }
                count += 1;
            }
            now += Duration::from_millis(1);
        }
        count
    }

    #[test]
    fn who_says_what_is_due_never_waits_and_a_flood_does() {
        // One each millisecond is more than anybody says for long; half of them is usual.
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        for at in 0..5_000 {
            assert_eq!(pace.next(begun + Duration::from_micros(at * 1_800)), None);
        }
        let flood = read(1_000, 10_000);
        assert!((7_500..=9_500).contains(&flood), "{flood}");
    }
}
