//! Says what repeats at growing intervals. It owns the memory of what was said of late, by kind,
//! and must never look at a text, which may differ each time, nor read a clock: peers, timers and
//! disks that fail every few seconds for a year must not fill a log.

use std::time::{Duration, Instant};

/// Remembers the kinds of complaints that were made lately.
#[derive(Clone, Debug)]
pub struct Quiet<K> {
    kinds: Vec<(K, Repeated)>,
    /// All those for which there is no place.
    others: Option<Repeated>,
}

/// Whether a line is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The first of its kind.
    First,
    /// The state goes on: a reminder.
    Again(Lasted),
    /// It was said not long ago.
    Not,
}

/// How often something was the case, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasted {
    /// Times, the first one counted.
    pub times: u64,
    /// Since the first time.
    pub time: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Repeated {
    since: Instant,
    last: Instant,
    times: u64,
    pause: Duration,
    due: Instant,
}

impl<K> Default for Quiet<K> {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            others: None,
        }
    }
}

impl<K: PartialEq> Quiet<K> {
    /// Notes that it is the case again, and whether to say so.
    pub fn note(&mut self, kind: K, now: Instant) -> Due {
        self.kinds.retain(|(_, repeated)| !repeated.is_old(now));
        self.others = self.others.filter(|repeated| !repeated.is_old(now));
        if let Some((_, repeated)) = self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            return repeated.again(now);
        }
        if self.kinds.len() < KINDS {
            self.kinds.push((kind, Repeated::new(now)));
            return Due::First;
        }
        match &mut self.others {
            Some(repeated) => repeated.again(now),
            None => {
                self.others = Some(Repeated::new(now));
                Due::First
            }
        }
    }

    /// Forgets this kind: it is the case no more. How it was, if it was.
    pub fn over(&mut self, kind: &K, now: Instant) -> Option<Lasted> {
        let at = self.kinds.iter().position(|(known, _)| known == kind)?;
        let (_, repeated) = self.kinds.swap_remove(at);
        Some(repeated.lasted(now))
    }

    /// Forgets all kinds that `is_over` names.
    pub fn forget(&mut self, is_over: impl Fn(&K) -> bool) {
        self.kinds.retain(|(kind, _)| !is_over(kind));
    }

    /// Forgets everything, so that the next complaint is news.
    pub fn reset(&mut self) {
        self.kinds.clear();
        self.others = None;
    }
}

impl Repeated {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            last: now,
            times: 1,
            pause: SHORTEST,
            due: now + SHORTEST,
        }
    }

    fn again(&mut self, now: Instant) -> Due {
        self.last = now;
        self.times += 1;
        if now < self.due {
            return Due::Not;
        }
        self.pause = (self.pause * 2).min(LONGEST);
        self.due = now + self.pause;
        Due::Again(self.lasted(now))
    }

    fn lasted(&self, now: Instant) -> Lasted {
        Lasted {
            times: self.times,
            time: now.saturating_duration_since(self.since),
        }
    }

    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= LONGEST * 2
    }
}

/// First and longest time between two lines about one thing.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3_600);

/// Kinds remembered one by one; more share a place.
const KINDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, s: u64) -> Instant {
        start + Duration::from_secs(s)
    }

    #[test]
    fn what_lasts_is_said_less_and_less_and_at_most_hourly() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        let said: Vec<u64> = (0..86_400)
            .step_by(8)
            .filter(|s| quiet.note("a", after(start, *s)) != Due::Not)
            .collect();
        assert_eq!(said[..4], [0, 64, 184, 424], "{said:?}");
        assert!(said.len() < 32, "{} lines a day", said.len());
        let gaps = said.windows(2).map(|pair| pair[1] - pair[0]);
        assert_eq!(gaps.max(), Some(3_600));
    }

    #[test]
    fn another_kind_is_news_and_so_is_one_that_was_over() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        assert_eq!(quiet.note(1, start), Due::First);
        assert_eq!(quiet.note(2, after(start, 1)), Due::First);
        assert_eq!(quiet.note(1, after(start, 2)), Due::Not);
        let lasted = Lasted {
            times: 2,
            time: Duration::from_secs(3),
        };
        assert_eq!(quiet.over(&1, after(start, 3)), Some(lasted));
        assert_eq!(quiet.over(&1, after(start, 3)), None);
        assert_eq!(quiet.note(1, after(start, 4)), Due::First);
        assert_eq!(quiet.note(2, after(start, 4)), Due::Not);
        quiet.forget(|kind| *kind == 2);
        assert_eq!(quiet.note(2, after(start, 5)), Due::First);
        quiet.reset();
        assert_eq!(quiet.note(2, after(start, 6)), Due::First);
        assert_eq!(quiet.note(2, after(start, 66 + 7_200)), Due::First);
    }

    #[test]
    fn a_reminder_says_how_often_and_for_how_long() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        for s in 0..60 {
            quiet.note((), after(start, s));
        }
        let lasted = Lasted {
            times: 61,
            time: Duration::from_secs(60),
        };
        assert_eq!(quiet.note((), after(start, 60)), Due::Again(lasted));
    }

    #[test]
    fn any_number_of_kinds_takes_bounded_memory_and_few_lines() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        let lines = (0..100_000_u64)
            .filter(|i| quiet.note(i % 5_000, after(start, i / 1_000)) != Due::Not)
            .count();
        assert_eq!(quiet.kinds.len(), KINDS);
        assert!(lines < 2 * KINDS + 4, "{lines}");
    }
}
