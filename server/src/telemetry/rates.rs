//! How often the lines of one place in the source may be said. Must never look at a text, which may
//! differ each time, nor forget how many lines it left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Where in the source a line comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) target: String,
    pub(super) line: Option<u64>,
}

/// What was said of late, place by place: as many as there are in the source.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<Place, Allowance>);

#[derive(Debug)]
struct Allowance {
    /// Lines that may be said at once.
    left: u32,
    /// Since when one more has been growing.
    since: Instant,
    left_out: u64,
}

impl Rates {
    /// Whether a line from there may be said now; if so, how many before it were left out.
    pub(super) fn note(&mut self, place: Place, now: Instant) -> Option<u64> {
        let allowance = self.0.entry(place).or_insert(Allowance {
            left: BURST,
            since: now,
            left_out: 0,
        });
        allowance.grow(now);
        if allowance.left == 0 {
            allowance.left_out += 1;
            return None;
        }
        allowance.left -= 1;
        Some(std::mem::take(&mut allowance.left_out))
    }

    /// Lines that were left out, of places that could say more now and have not.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<(Place, u64)> {
        let mut overdue = Vec::new();
        for (place, allowance) in &mut self.0 {
            allowance.grow(now);
            if allowance.left_out > 0 && allowance.left > 0 {
                allowance.left -= 1;
                overdue.push((place.clone(), std::mem::take(&mut allowance.left_out)));
            }
        }
        overdue
    }
}

impl Allowance {
    fn grow(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let more = u32::try_from(passed.as_secs() / EVERY.as_secs()).unwrap_or(u32::MAX);
        if more >= BURST - self.left {
            (self.left, self.since) = (BURST, now);
        } else {
            self.left += more;
            self.since += EVERY * more;
        }
    }
}

/// Lines of one place at once, and how long one more takes to be allowed.
const BURST: u32 = 60;
const EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u64) -> Place {
        Place {
            target: "server".to_owned(),
            line: Some(line),
        }
    }

    #[test]
    fn a_flood_is_left_out_and_counted_and_others_are_not() {
        let (mut rates, begun) = (Rates::default(), Instant::now());
        let mut said = 0;
        let mut counted = 0;
        for step in 0..100_000_u32 {
            let now = begun + Duration::from_millis(10) * step;
            if let Some(left_out) = rates.note(place(1), now) {
                said += 1;
                counted += left_out + 1;
            }
        }
        assert!((150..170).contains(&said), "{said}");
        let end = begun + Duration::from_secs(1_000);
        assert_eq!(rates.note(place(2), end), Some(0));
        let rest = rates.overdue(end + EVERY);
        assert_eq!(rest.len(), 1);
        assert_eq!(counted + rest[0].1, 100_000);
        assert!(rates.overdue(end + EVERY * 2).is_empty());
    }

    #[test]
    fn what_comes_now_and_then_is_always_said() {
        let (mut rates, begun) = (Rates::default(), Instant::now());
        for step in 0..1_000 {
            assert_eq!(rates.note(place(1), begun + EVERY * step), Some(0));
        }
    }
}
