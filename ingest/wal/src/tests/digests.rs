//! Promises about comparing nodes: equal logs have equal digests, and a flipped byte is found and
//! named. Tests only; must never rely on which node compacts first.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::tests::as_of::{dir, flip, open, write, written};
use crate::tests::model::{follow, open_copy};
use crate::{Committer, DigestError, Follower, Log, Lsn, ScrubConfig, Scrubber, compact_now};

/// Two nodes of one log, both compacted as far as can be.
struct Pair {
    dirs: [TempDir; 2],
    primary: Committer,
    secondary: Follower,
}

impl Pair {
    async fn new() -> Self {
        let dirs = [dir(), dir()];
        let primary = open(&dirs[0], 1 << 30);
        written(&primary).await;
        let mut secondary = open_copy(dirs[1].path(), primary.log());
        follow(primary.log(), &mut secondary).await;
        for log in [primary.log(), secondary.log()] {
            compact_now(log).expect("compacts");
        }
        Self {
            dirs,
            primary,
            secondary,
        }
    }

    async fn stop(self) {
        self.primary.stop().expect("stops");
        self.secondary.stop().await.expect("stops");
        drop(self.dirs);
    }
}

#[tokio::test]
async fn nodes_agree_at_the_same_mark_whatever_the_primary_has_done_since() {
    let pair = Pair::new().await;
    let (primary, secondary) = (pair.primary.log(), pair.secondary.log());
    let mark = secondary.files_mark();
    assert_eq!(primary.files_mark(), mark);
    let mut appender = pair.primary.appender(Box::new(|_| ()));
    write(&mut appender, 120, 200);
    compact_now(primary).expect("compacts");
    assert_ne!(primary.files_mark(), mark);
    assert_eq!(
        primary.files_digest(mark.compacted, mark.next),
        Some(mark.digest)
    );
    let at = Some((mark.compacted, mark.next));
    let upto = secondary.snapshot().end();
    let (left, right) = (primary.digest(upto.lsn, at), secondary.digest(upto.lsn, at));
    let right = right.expect("held");
    assert_eq!(left.expect("held"), right);
    assert_eq!(right.upto, upto);
    assert!(
        right.ranges.len() > 2 && right.partitions.len() > 2,
        "{right:?}"
    );
    assert!(right.ranges.iter().all(|range| range.fault.is_none()));
    assert!(right.partitions.iter().all(|part| part.fault.is_none()));
    // Every LSN is cut to the last boundary, the same on both.
    for lsn in 0..=upto.lsn.0 {
        let digests = [primary, secondary].map(|log| log.digest(Lsn(lsn), at).expect("held"));
        assert_eq!(digests[0], digests[1]);
        assert!(digests[0].upto.lsn.0 <= lsn && lsn < digests[0].upto.lsn.0 + 3);
        assert_eq!(
            secondary.chain_at(digests[0].upto.lsn),
            digests[0].upto.chain
        );
    }
    let ahead = secondary.digest(Lsn(upto.lsn.0 + 1), None);
    assert_eq!(ahead, Err(DigestError::Ahead { at: upto.lsn }));
    let unknown = secondary.digest(upto.lsn, Some((Lsn(1), 99)));
    assert_eq!(unknown, Err(DigestError::UnknownMark { newest: mark }));
    drop(appender);
    pair.stop().await;
}

/// The faults that a digest names.
fn faults(log: &Log) -> Vec<String> {
    let digest = log.digest(log.snapshot().end().lsn, None).expect("held");
    let ranges = digest.ranges.into_iter().filter_map(|range| range.fault);
    let parts = digest.partitions.into_iter().filter_map(|part| part.fault);
    ranges.chain(parts).collect()
}

#[tokio::test]
async fn one_flipped_byte_makes_digests_differ_and_is_named_until_it_is_repaired() {
    let pair = Pair::new().await;
    let (primary, secondary) = (pair.primary.log(), pair.secondary.log());
    let upto = secondary.snapshot().end().lsn;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let snapshot = secondary.snapshot();
    let sealed = snapshot.sealed.iter().map(|segment| segment.name());
    let files = snapshot.file_infos().into_iter().map(|info| info.name);
    for name in sealed.chain(files) {
        let path = secondary.state().dir.join(&name);
        let len = std::fs::metadata(&path).expect("there").len();
        let offsets = [0, len - 1, random.u64(0..len)];
        for offset in offsets {
            flip(&path, offset);
            let found = faults(secondary);
            assert!(
                found.len() == 1 && found[0].contains(&name),
                "{name} {offset}: {found:?}"
            );
            let mark = secondary.files_mark();
            let at = Some((mark.compacted, mark.next));
            assert_ne!(primary.digest(upto, at), secondary.digest(upto, at));
            let listed = secondary.damage().borrow().clone();
            assert_eq!(listed.len(), 1, "{listed:?}");
            let whole = primary.export(&listed[0].name).expect("whole there");
            secondary.install(&name, whole).expect("repaired");
            assert_eq!(primary.digest(upto, at), secondary.digest(upto, at));
        }
    }
    pair.stop().await;
}

#[tokio::test]
async fn a_flipped_byte_of_the_active_segment_is_named() {
    let pair = Pair::new().await;
    let secondary = pair.secondary.log();
    let tail = secondary.snapshot().segments().pop().expect("active");
    assert!(tail.blocks > 0);
    flip(Path::new(&tail.path), tail.bytes - 1);
    let found = faults(secondary);
    assert!(
        found.len() == 1 && found[0].contains(&tail.path),
        "{found:?}"
    );
    assert_eq!(secondary.damage().borrow().len(), 1);
    pair.stop().await;
}

#[tokio::test]
async fn scrubbing_finds_flipped_bytes_and_files_that_are_gone() {
    let pair = Pair::new().await;
    let log = pair.secondary.log();
    let dir = &log.state().dir;
    let snapshot = log.snapshot();
    let segment = snapshot.sealed[1].name();
    let files: Vec<String> = snapshot
        .file_infos()
        .into_iter()
        .map(|info| info.name)
        .collect();
    flip(&dir.join(&segment), 300);
    flip(&dir.join(&files[0]), 10);
    std::fs::remove_file(dir.join(&files[1])).expect("removed");
    let off = Scrubber::start(
        log,
        ScrubConfig {
            rate: 0,
            ..ScrubConfig::default()
        },
    )
    .expect("starts");
    off.stop();
    let scrubber = Scrubber::start(
        log,
        ScrubConfig {
            rate: 1 << 30,
            ..ScrubConfig::default()
        },
    )
    .expect("starts");
    let mut damage = log.damage();
    let all = |list: &Vec<crate::Damaged>| list.len() >= 3;
    let found = damage.wait_for(all).await.expect("the log lives").clone();
    let mut names: Vec<String> = found.into_iter().map(|damaged| damaged.name).collect();
    let mut expected = vec![segment, files[0].clone(), files[1].clone()];
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    while scrubber.stats().passes == 0 {
        tokio::task::yield_now().await;
    }
    let stats = scrubber.stats();
    assert_eq!((stats.passes, stats.faults), (1, 3));
    assert!(
        stats.bytes > 10_000 && stats.last_pass_unix_ms > 0,
        "{stats:?}"
    );
    // It would park for minutes.
    scrubber.stop();
    for name in expected {
        let whole = pair.primary.log().export(&name).expect("whole there");
        log.install(&name, whole).expect("repaired");
    }
    let scrubber = Scrubber::start(
        log,
        ScrubConfig {
            rate: 1 << 30,
            ..ScrubConfig::default()
        },
    )
    .expect("starts");
    while scrubber.stats().passes == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(scrubber.stats().faults, 0);
    scrubber.stop();
    assert_eq!(log.verify().faults, []);
    pair.stop().await;
}

#[tokio::test]
async fn a_slow_scrubber_stops_at_once() {
    let pair = Pair::new().await;
    let slow = Scrubber::start(
        pair.secondary.log(),
        ScrubConfig {
            rate: 1,
            ..ScrubConfig::default()
        },
    );
    let slow = slow.expect("starts");
    slow.stop();
    pair.stop().await;
}

#[test]
fn history_is_bounded_in_number_and_time() {
    use crate::parquet::FileSet;
    use crate::read::file_history::FilesMark;
    use std::time::Instant;
    let id = crate::LogId([1; 16]);
    let set = |next| {
        let mut set = FileSet::empty(id.genesis());
        set.next = next;
        Arc::new(set)
    };
    let mark = |next| FilesMark::of(&set(next), id, crate::Epoch(1));
    let start = Instant::now();
    let mut history = crate::read::file_history::FileHistory::new(mark(0), set(0));
    for next in 1..2_000 {
        history.push(mark(next), set(next), start);
    }
    assert_eq!(history.held().count(), 32);
    assert_eq!(history.newest(), mark(1_999));
    history.push(mark(1_999), set(1_999), start);
    assert_eq!(history.held().count(), 32, "a repair is no change");
    history.expire(start + Duration::from_secs(599));
    assert_eq!(history.held().count(), 32);
    history.expire(start + Duration::from_secs(601));
    assert_eq!(history.held().count(), 1);
}
