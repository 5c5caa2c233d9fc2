//! Who asks for which file of a staged log, and what rests until when. Pure: it must never ask a
//! peer, read a clock or touch the log.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wal::{Lsn, Missing};

use crate::backoff::Backoff;

/// What a worker does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is missing.
    Done,
    Fetch(Missing),
    /// Ask for the manifest in force.
    Manifest,
    /// Try to go on with this one.
    Refresh(Bytes),
    /// Nothing before that moment, or before the staged log has come so far.
    Wait {
        due: Option<Instant>,
        from: Option<Lsn>,
    },
}

/// How an attempt to get a file failed; the last of them counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// The connections ended: says nothing about the file.
    Lost,
    /// Nobody helped.
    Unhelped,
    /// A peer does not have it, or not any more.
    Gone,
}

/// Who does what, and what rests until when. Pure: the caller brings the time.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Files that are being asked for.
    busy: HashSet<String>,
    resting: HashMap<String, Rest>,
    pub(super) renewal: Renewal,
    /// Pauses between two manifests.
    renewals: Backoff,
    /// Before that no manifest is asked for.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Rest {
    due: Instant,
    backoff: Backoff,
}

/// The next manifest.
#[derive(Debug)]
pub(super) enum Renewal {
    /// Not needed.
    None,
    /// To be asked for at that moment.
    Due(Instant),
    /// Somebody asks for it, or tries it.
    Busy,
    /// It begins where the staged log is not yet.
    Here(Bytes, Lsn),
}

impl Schedule {
    pub(super) fn new() -> Self {
        Self {
            busy: HashSet::new(),
            resting: HashMap::new(),
            renewal: Renewal::None,
            renewals: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            not_before: None,
        }
    }

    /// What to do about the files that are missing, while the staged log stands at `tip`.
    pub(super) fn next(&mut self, wanted: &[Missing], tip: Lsn, now: Instant) -> Step {
        if wanted.is_empty() {
            return Step::Done;
        }
        let (mut due, mut from) = (None, None);
        match std::mem::replace(&mut self.renewal, Renewal::Busy) {
            Renewal::Due(at) if at <= now => return Step::Manifest,
            Renewal::Here(manifest, place) if place <= tip => return Step::Refresh(manifest),
            other => {
                match other {
                    Renewal::Due(at) => due = Some(at),
                    Renewal::Here(_, place) => from = Some(place),
                    Renewal::None | Renewal::Busy => {}
                }
                self.renewal = other;
            }
        }
        for missing in wanted {
            match self.resting.get(&missing.name) {
                _ if self.busy.contains(&missing.name) => {}
                Some(rest) if rest.due > now => {
                    due = Some(due.map_or(rest.due, |due| rest.due.min(due)));
                }
                _ => {
                    self.busy.insert(missing.name.clone());
                    return Step::Fetch(missing.clone());
                }
            }
        }
        Step::Wait { due, from }
    }

    /// Something came of this file.
    pub(super) fn came(&mut self, name: &str) {
        self.busy.remove(name);
        self.resting.remove(name);
    }

    /// Nothing came of this file; when a peer does not have it, the next manifest may be needed.
    /// How long it rests.
    pub(super) fn failed(&mut self, name: &str, failure: Failure, now: Instant) -> Duration {
        self.busy.remove(name);
        if failure == Failure::Gone && matches!(self.renewal, Renewal::None) {
            let due = self
                .not_before
                .map_or(now, |not_before| not_before.max(now));
            self.renewal = Renewal::Due(due);
        }
        let rest = self.resting.entry(name.to_owned()).or_insert_with(|| Rest {
            due: now,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
        });
        if failure == Failure::Lost {
            rest.backoff.reset();
        }
        let pause = rest.backoff.pause(fastrand::f64());
        rest.due = now + pause;
        pause
    }

    /// No manifest came, or one that is of no use; how long until the next is asked for.
    pub(super) fn ask_later(&mut self, now: Instant) -> Duration {
        let pause = self.renewals.pause(fastrand::f64());
        self.renewal = Renewal::Due(now + pause);
        pause
    }

    /// The newer manifest is in force: what rested may be another file now, or none.
    pub(super) fn renewed(&mut self, now: Instant) {
        self.renewal = Renewal::None;
        self.resting.clear();
        self.not_before = Some(now + self.renewals.pause(fastrand::f64()));
    }
}

/// Shortest and longest pause between two attempts for the same file, and between two manifests.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(names: &[&str]) -> Vec<Missing> {
        let one = |name: &&str| Missing {
            name: (*name).to_owned(),
            bytes: 1,
            held: 0,
        };
        names.iter().map(one).collect()
    }

    #[test]
    fn files_are_asked_for_in_order_and_by_one_worker_each() {
        let now = Instant::now();
        let (mut schedule, wanted) = (Schedule::new(), missing(&["a", "b", "c"]));
        for nth in 0..2 {
            assert_eq!(
                schedule.next(&wanted, Lsn(0), now),
                Step::Fetch(wanted[nth].clone())
            );
        }
        // More came of it, but not all.
        schedule.came("a");
        assert_eq!(
            schedule.next(&wanted, Lsn(0), now),
            Step::Fetch(wanted[0].clone())
        );
        assert_eq!(
            schedule.next(&wanted[..2], Lsn(0), now),
            Step::Wait {
                due: None,
                from: None
            }
        );
        assert_eq!(schedule.next(&[], Lsn(0), now), Step::Done);
    }

    #[test]
    fn what_failed_rests_longer_each_time_and_the_others_go_on() {
        let mut now = Instant::now();
        let (mut schedule, wanted) = (Schedule::new(), missing(&["a", "b"]));
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            assert_eq!(
                schedule.next(&wanted[..1], Lsn(0), now),
                Step::Fetch(wanted[0].clone())
            );
            let pause = schedule.failed("a", Failure::Unhelped, now);
            assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MAX, "{pause:?}");
            let due = Some(now + pause);
            assert_eq!(
                schedule.next(&wanted[..1], Lsn(0), now),
                Step::Wait { due, from: None }
            );
            now += pause;
            last = pause;
        }
        assert!(last >= PAUSE_MAX / 2, "{last:?}");
        assert_eq!(
            schedule.next(&wanted[..1], Lsn(0), now),
            Step::Fetch(wanted[0].clone())
        );
        let pause = schedule.failed("a", Failure::Lost, now);
        assert!(
            pause <= PAUSE_MIN,
            "a new connection begins anew: {pause:?}"
        );
        now += pause;
        assert_eq!(
            schedule.next(&wanted, Lsn(0), now),
            Step::Fetch(wanted[0].clone())
        );
        schedule.came("a");
        assert_eq!(
            schedule.next(&wanted, Lsn(0), now),
            Step::Fetch(wanted[0].clone())
        );
        schedule.failed("a", Failure::Unhelped, now);
        assert_eq!(
            schedule.next(&wanted, Lsn(0), now),
            Step::Fetch(wanted[1].clone())
        );
    }

    #[test]
    fn a_manifest_is_asked_for_by_one_worker_and_not_in_a_storm() {
        let mut now = Instant::now();
        let (mut schedule, wanted) = (Schedule::new(), missing(&["a"]));
        assert_eq!(
            schedule.next(&wanted, Lsn(0), now),
            Step::Fetch(wanted[0].clone())
        );
        schedule.failed("a", Failure::Gone, now);
        assert_eq!(schedule.next(&wanted, Lsn(0), now), Step::Manifest);
        assert!(matches!(
            schedule.next(&wanted, Lsn(0), now),
            Step::Wait {
                due: Some(_),
                from: None
            }
        ));
        schedule.renewal = Renewal::Here(Bytes::from_static(b"m"), Lsn(7));
        let waits = schedule.next(&wanted, Lsn(6), now);
        assert!(
            matches!(
                waits,
                Step::Wait {
                    from: Some(Lsn(7)),
                    ..
                }
            ),
            "{waits:?}"
        );
        assert_eq!(
            schedule.next(&wanted, Lsn(7), now),
            Step::Refresh(Bytes::from_static(b"m"))
        );
        schedule.renewed(now);
        // It names the same file, which is gone still.
        let mut asked = 0;
        let end = now + Duration::from_secs(60);
        while now < end {
            match schedule.next(&wanted, Lsn(7), now) {
                Step::Fetch(missing) => {
                    schedule.failed(&missing.name, Failure::Gone, now);
                }
                Step::Manifest => {
                    asked += 1;
                    schedule.renewed(now);
                }
                Step::Wait { due, .. } => now = due.expect("something is due"),
                other => panic!("{other:?}"),
            }
        }
        assert!((2..=12).contains(&asked), "{asked}");
    }
}
