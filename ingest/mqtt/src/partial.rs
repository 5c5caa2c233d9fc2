//! A packet that has begun and is not whole: whether it comes on fast enough. Pure; must never read
//! a clock, nor hold against a client what the server made it wait for.

use std::time::{Duration, Instant};

/// How far one packet has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partial {
    begun: Instant,
    have: usize,
    /// When it had last come on by enough, and how far it was.
    mark: (Instant, usize),
}

impl Partial {
    pub(crate) fn new(have: usize, now: Instant) -> Self {
        Self {
            begun: now,
            have,
            mark: (now, have),
        }
    }

    /// So much of it is there now.
    pub(crate) fn advance(&mut self, have: usize, now: Instant) {
        self.have = have;
        if have.saturating_sub(self.mark.1) >= LEAST_PROGRESS {
            self.mark = (now, have);
        }
    }

    /// The client has not been let send.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.begun = now;
        self.mark = (now, self.have);
    }

    /// Whether it has stood still for too long, or takes longer than its size explains.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.mark.0) > STILL
            || self.age(now) > WHOLE + at_rate(self.have, LEAST_RATE)
    }

    /// By how much it is slower than others may be made to wait for.
    pub(crate) fn lateness(&self, now: Instant) -> Option<Duration> {
        let expected = PATIENCE + at_rate(self.have, DUE_RATE);
        self.age(now).checked_sub(expected)
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }
}

fn at_rate(bytes: usize, per_second: u64) -> Duration {
    Duration::from_secs(bytes as u64 / per_second)
}

/// A packet comes on by so many bytes within this time, or ends.
const LEAST_PROGRESS: usize = 1 << 10;
const STILL: Duration = Duration::from_secs(30);

/// It is whole after this time, and so many seconds for its size.
const WHOLE: Duration = Duration::from_secs(60);
const LEAST_RATE: u64 = 2 << 10;

/// The same where memory is short.
const PATIENCE: Duration = Duration::from_secs(5);
const DUE_RATE: u64 = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_must_come_on_and_be_whole_in_a_time_that_goes_by_its_size() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut partial = Partial::new(10, begun);
        assert!(!partial.is_overdue(at(30)) && partial.is_overdue(at(31)));
        // A byte now and then is no progress.
        partial.advance(900, at(20));
        assert!(partial.is_overdue(at(31)));
        partial.advance(2_000, at(29));
        assert!(!partial.is_overdue(at(59)) && partial.is_overdue(at(60)));
        // Steady, and slower than any link.
        let mut partial = Partial::new(0, begun);
        let overdue = (1..).find(|second| {
            partial.advance(*second as usize * 100, at(*second));
            partial.is_overdue(at(*second))
        });
        assert!(
            overdue.is_some_and(|second| (60..70).contains(&second)),
            "{overdue:?}"
        );
        // A megabyte at 4 KiB a second is fine.
        let mut partial = Partial::new(0, begun);
        for second in 0..256 {
            partial.advance(second as usize * 4_096, at(second));
            assert!(!partial.is_overdue(at(second)), "{second}");
        }
    }

    #[test]
    fn where_memory_is_short_the_slow_ones_are_known() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut slow = Partial::new(1 << 10, begun);
        let mut fast = Partial::new(1 << 20, begun);
        assert_eq!(slow.lateness(at(4)), None);
        assert_eq!(slow.lateness(at(25)), Some(Duration::from_secs(20)));
        assert_eq!(fast.lateness(at(30)), None);
        slow.excuse(at(25));
        assert_eq!(slow.lateness(at(26)), None);
        fast.advance(2 << 20, at(31));
        assert!(!fast.is_overdue(at(61)) && fast.is_overdue(at(62)));
    }
}
