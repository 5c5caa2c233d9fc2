//! How far the rows of one table expire, and whether a clock is believed that says so. Pure: clocks
//! and what is stored come in. It must never hide rows by a clock that has jumped before the process
//! has seen time pass, nor purge what was seen until shortly before.
//!
//! The clock that was believed last follows from the log: it is the cut and the retention after it.
//! So no restart, whenever it comes, makes a jump a fact. A cut follows a clock that is set back at
//! once, and one that runs at once; only a step that no time has passed for, and that rows would go
//! by, waits. What is purged trails the cut by more than such a step.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::format::options::Expiry;

/// What is known of the clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Unix nanoseconds; may be wrong.
    pub(crate) wall: i64,
    /// What the process sees pass.
    pub(crate) now: Instant,
}

/// What becomes of a table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) expiry: Expiry,
    pub(crate) waiting: Option<Waiting>,
}

/// A cut that is not made yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Where it would be.
    pub(crate) cut: i64,
    /// For how long the process must still run.
    pub(crate) left: Duration,
}

/// Watches over the expiry of one table. It forgets nothing that matters with its process.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// When the clock was believed last.
    believed: Option<Instant>,
    cut: Option<Doubt>,
    purge: Option<Doubt>,
    is_approved: bool,
    /// Where the cut was before a clock that was behind, and when that was.
    was: Option<(i64, Instant)>,
    /// The cut for which it was looked what there is to purge.
    looked: Option<i64>,
}

/// A step that waits.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    since: Instant,
    /// Where it led at first.
    to: i64,
}

impl Guard {
    /// Somebody says that the step is right that waits at the next decision.
    pub(crate) fn approve(&mut self) {
        self.is_approved = true;
    }

    /// `held` is what the log says; `holds` whether any row of these times is stored.
    pub(crate) fn decide(
        &mut self,
        retention: Option<i64>,
        held: Expiry,
        clocks: Clocks,
        holds: impl Fn(Range<i64>) -> bool,
    ) -> Decision {
        let Some(retention) = retention else {
            *self = Self::default();
            let expiry = Expiry { cut: None, ..held };
            let waiting = None;
            return Decision { expiry, waiting };
        };
        let pace = Pace::of(retention);
        let target = pace.whole(clocks.wall.saturating_sub(retention));
        let waiting = self.waits(&pace, target, held, clocks.now, &holds);
        if waiting.is_none() {
            self.believed = Some(clocks.now);
        }
        let cut = match held.cut {
            _ if waiting.is_some() => held.cut,
            Some(cut) if target <= cut => {
                let back = pace.back(cut, target, held.purged);
                if back < cut {
                    self.was.get_or_insert((cut, clocks.now));
                }
                Some(back)
            }
            _ => Some(target),
        };
        let purged = match cut {
            Some(cut) if self.purge.is_some() || self.looked != Some(cut) => {
                self.looked = Some(cut);
                let hidden = held.seen_from().unwrap_or(i64::MIN);
                self.purged(&pace, (cut, hidden), held.purged, clocks.now, &holds)
            }
            _ => held.purged,
        };
        let expiry = Expiry { cut, purged };
        Decision { expiry, waiting }
    }

    /// Whether the cut must wait before it goes to `target`.
    fn waits(
        &mut self,
        pace: &Pace,
        target: i64,
        held: Expiry,
        now: Instant,
        holds: impl Fn(Range<i64>) -> bool,
    ) -> Option<Waiting> {
        let is_approved = std::mem::take(&mut self.is_approved);
        let seen = self.believed.map_or(0, |at| nanos(now - at));
        let usual = pace.slack.saturating_add(seen);
        let is_usual = held
            .cut
            .is_some_and(|cut| target.saturating_sub(cut) <= usual);
        // A machine without a clock of its own starts in the past, and is then set right.
        self.was = self.was.filter(|(_, at)| now - *at <= REMEMBERED);
        let is_return = self
            .was
            .is_some_and(|(cut, _)| target.saturating_sub(cut) <= usual);
        let seen_from = held.seen_from().unwrap_or(i64::MIN);
        if is_approved || is_usual || is_return || target <= seen_from || !holds(seen_from..target)
        {
            self.cut = None;
            return None;
        }
        let left = Doubt::left(&mut self.cut, pace, (target, pace.wait), now);
        left.map(|left| Waiting { cut: target, left })
    }

    /// Up to where rows may leave the files. It stays where there is nothing to purge: it can never
    /// go back. `hidden` is up to where rows were hidden before.
    fn purged(
        &mut self,
        pace: &Pace,
        (cut, hidden): (i64, i64),
        held: Option<i64>,
        now: Instant,
        holds: impl Fn(Range<i64>) -> bool,
    ) -> Option<i64> {
        let goal = pace.whole(cut.saturating_sub(pace.lag));
        let from = held.unwrap_or(i64::MIN);
        if goal <= from || !holds(from..goal) {
            self.purge = None;
            return held;
        }
        // What a clock that was behind has shown again is hidden for a while before it goes.
        let is_usual = held.is_some_and(|held| goal.saturating_sub(held) <= pace.slack);
        if is_usual && self.was.is_none() && goal <= hidden {
            self.purge = None;
            return Some(goal);
        }
        match Doubt::left(&mut self.purge, pace, (goal, pace.purge_wait), now) {
            Some(_) => held,
            None => Some(goal),
        }
    }
}

impl Doubt {
    /// For how long a step to a time must still wait, of so long in all; none: it is made. It waits
    /// anew when it leads elsewhere by more than the time that has passed.
    fn left(
        held: &mut Option<Self>,
        pace: &Pace,
        (to, wait): (i64, Duration),
        now: Instant,
    ) -> Option<Duration> {
        let new = Self { since: now, to };
        let doubt = held.get_or_insert(new);
        let passed = now - doubt.since;
        if to.abs_diff(doubt.to) > pace.slack.saturating_add(nanos(passed)).unsigned_abs() {
            *doubt = new;
            return Some(wait);
        }
        if passed >= wait {
            *held = None;
            return None;
        }
        Some(wait - passed)
    }
}

/// What is usual for a table of one retention; nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// A cut moves by whole multiples of this.
    grain: i64,
    /// A step up to this is no jump.
    slack: i64,
    /// How far what is purged trails the cut: what a step of the usual size hides can come back.
    lag: i64,
    wait: Duration,
    purge_wait: Duration,
}

impl Pace {
    fn of(retention: i64) -> Self {
        let part = retention / PARTS;
        let slack = part.clamp(SLACK_LEAST, SLACK_MOST);
        let wait = Duration::from_nanos(part.unsigned_abs());
        Self {
            grain: (retention / GRAINS).clamp(GRAIN_LEAST, GRAIN_MOST),
            slack,
            lag: slack.max(LAG_LEAST),
            wait: wait.clamp(WAIT_LEAST, WAIT_MOST),
            purge_wait: wait.clamp(PURGE_WAIT_LEAST, PURGE_WAIT_MOST),
        }
    }

    fn whole(&self, time: i64) -> i64 {
        time.div_euclid(self.grain).saturating_mul(self.grain)
    }

    /// Where a cut goes that the clock is behind. Below what is purged nothing would come back.
    fn back(&self, cut: i64, target: i64, purged: Option<i64>) -> i64 {
        let target = purged.map_or(target, |purged| target.max(purged)).min(cut);
        let is_far = cut.saturating_sub(target) > self.grain.saturating_mul(2);
        if is_far { target } else { cut }
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 1_440 * MINUTE;
/// A cut moves on by at least this part of the retention.
const GRAINS: i64 = 100;
/// Shortest and longest step of a cut.
const GRAIN_LEAST: i64 = SECOND;
const GRAIN_MOST: i64 = DAY;
/// A step of more than this part of the retention is a jump, and waits for as long.
const PARTS: i64 = 8;
/// The same at least, so that a restart is none, and at most.
const SLACK_LEAST: i64 = 10 * SECOND;
const SLACK_MOST: i64 = 7 * DAY;
/// What is purged trails the cut at least by this.
const LAG_LEAST: i64 = 10 * MINUTE;
/// A cut waits for so long at least and at most.
const WAIT_LEAST: Duration = Duration::from_secs(60);
const WAIT_MOST: Duration = Duration::from_secs(86_400);
/// The same of what is purged, once it is cut.
const PURGE_WAIT_LEAST: Duration = Duration::from_secs(600);
const PURGE_WAIT_MOST: Duration = Duration::from_secs(3_600);
/// How long a clock that was behind may take to be set right again.
const REMEMBERED: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
