//! Promises of log shipping, whatever becomes of the network, the disks and the nodes: a
//! secondary's log is its primary's up to its tip, nothing acknowledged is missing, nothing is
//! there twice, and what was on a secondary alone is put aside. Both ends are the product's
//! own; network and disks are ours and must never be real.
//!
//! `HEADWATER_SEED=n` runs one schedule and prints it, `HEADWATER_SCHEDULES=n` as many; else
//! they run for a while.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod link;
mod network;
mod oracle;
mod primary;
mod schedule;
mod secondary;
mod upstream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use schedule::{Options, Sabotage, Violation, run};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse::<u64>();
    Some(number.unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

fn told(seed: u64, violation: &Violation) -> String {
    let shown = violation.trace.len().saturating_sub(SHOWN);
    let trace = violation.trace[shown..].join("\n");
    let what = &violation.what;
    format!("{trace}\nseed {seed}: {what}\nagain: HEADWATER_SEED={seed}")
}

fn add(to: &mut BTreeMap<&'static str, u64>, counts: BTreeMap<&'static str, u64>) {
    for (what, count) in counts {
        *to.entry(what).or_default() += count;
    }
}

#[test]
fn secondaries_equal_their_primary_whatever_happens() {
    if let Some(seed) = number("HEADWATER_SEED") {
        println!("seed {seed}");
        match run(seed, Options::default()) {
            Ok(report) => println!("{}\n{:?}", report.trace.join("\n"), report.counts),
            Err(violation) => panic!("{}", told(seed, &violation)),
        }
        return;
    }
    let wanted = number("HEADWATER_SCHEDULES");
    let first = fastrand::u64(..u64::MAX / 2);
    println!("seed {first} and those after it");
    let (next, begun) = (AtomicU64::new(0), Instant::now());
    let counts = Mutex::new(BTreeMap::<&'static str, u64>::new());
    let failed = Mutex::new(Vec::<String>::new());
    // More than there are processors: a schedule waits for its nodes' threads now and then.
    let lanes = std::thread::available_parallelism().map_or(4, |cores| 2 * cores.get());
    let lane = || {
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            let enough = match wanted {
                Some(wanted) => nth >= wanted,
                None => begun.elapsed() >= WHILE,
            };
            if enough {
                return;
            }
            match run(first + nth, Options::default()) {
                Ok(report) => {
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    add(&mut counts, report.counts);
                    *counts.entry("schedules").or_default() += 1;
                }
                Err(violation) => {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.push(told(first + nth, &violation));
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(lane);
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{counts:?}");
    if counts.get("schedules").is_some_and(|ran| *ran >= MANY) {
        let never = HAPPENS.iter().filter(|what| !counts.contains_key(*what));
        let never: Vec<_> = never.collect();
        assert!(never.is_empty(), "never happened: {never:?}");
    }
}

#[test]
fn one_seed_is_one_schedule() {
    for nth in 0..6 {
        let seed = fastrand::u64(..u64::MAX / 2) + nth;
        println!("seed {seed}");
        let options = Options {
            unpacked: true,
            ..Options::default()
        };
        let trace = || match run(seed, options) {
            Ok(report) => report.trace,
            Err(violation) => panic!("{}", told(seed, &violation)),
        };
        assert_eq!(trace(), trace(), "seed {seed} does not repeat itself");
    }
}

/// A simulation that cannot fail proves nothing.
#[test]
fn what_is_broken_on_purpose_is_noticed() {
    for (sabotage, seeds, noticed) in [
        (Sabotage::SkipsPieces, 20, &["refused", "come to rest"][..]),
        (
            Sabotage::Rots,
            60,
            &["other bytes", "damaged", "not held", "checksum"],
        ),
        (Sabotage::Forgets, 300, &["acknowledged up to"]),
        (Sabotage::LosesTails, 300, &["shelf"]),
    ] {
        let options = Options {
            sabotage,
            ..Options::default()
        };
        let found = (0..seeds).find_map(|seed| run(seed, options).err());
        let found = found.unwrap_or_else(|| panic!("{sabotage:?} was not noticed"));
        let named = noticed.iter().any(|what| found.what.contains(what));
        assert!(named, "{sabotage:?} was taken for this: {}", found.what);
    }
}

/// How long schedules are run when their number is not told.
const WHILE: Duration = Duration::from_secs(50);

/// From so many schedules on each of these must have happened.
const MANY: u64 = 700;
const HAPPENS: [&str; 22] = [
    "ahead of a relay",
    "another upstream",
    "apart from a relay on its own",
    "at rest two relays deep",
    "attempt dropped",
    "begun anew",
    "block byte flipped",
    "cut",
    "file byte flipped",
    "head retired",
    "nothing in common",
    "old bytes replayed",
    "partition",
    "primary crashed",
    "primary restored",
    "refused",
    "secondary crashed",
    "staged log given up",
    "swapped in",
    "swapped in for a log kept whole",
    "swapped in for a diverged end",
    "tail diverged",
];

/// Lines of a schedule that are shown before what went wrong.
const SHOWN: usize = 60;
