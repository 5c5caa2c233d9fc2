//! What is written beside the log leaves the reserve of the disk alone, and what is kept for others
//! goes before the log stops. Tests only; must never wait without an end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::tests::refusing_disk::{RefusingDisk, held};
use crate::{
    Committer, Config, Disk, Log, Replicated, Row, Staging, Value, WalError, compact_now,
    open_primary,
};

fn config() -> Config {
    Config {
        segment_size: 16 << 10,
        keep_segments: u64::MAX,
        reserve_disk: RESERVE,
        upkeep_every: Duration::from_millis(1),
        ..Config::default()
    }
}

/// A log on a disk of so many bytes, and the least that was free when anybody but the committer
/// asked something of the disk.
fn on_disk_of(bytes: u64, dir: &Path) -> (Committer, Arc<RefusingDisk>, Arc<AtomicU64>) {
    let refusing = Arc::new(RefusingDisk::default());
    refusing.is_of(dir, bytes);
    let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(&refusing);
    let (committer, _) = open_primary(disk, dir, &config()).expect("opens");
    let least = Arc::new(AtomicU64::new(u64::MAX));
    let (lowest, of) = (Arc::clone(&least), dir.to_owned());
    refusing.refuse(move |_, _: &Path| {
        if std::thread::current().name() != Some("committer") {
            lowest.fetch_min(bytes.saturating_sub(held(&of)), Ordering::SeqCst);
        }
        None
    });
    (committer, refusing, least)
}

/// Appends rows until `all` are acknowledged, and compacts when a segment is sealed or the log
/// takes nothing. How many were when it took nothing for good.
fn fill(committer: &Committer, all: i64, values: &mut fastrand::Rng) -> Result<(), i64> {
    let log = committer.log().clone();
    let mut appender = committer.appender(Box::new(|_| ()));
    let mut compacted = 0;
    for from in (0..all).step_by(GROUP) {
        let text = "x".repeat(100);
        let rows: Vec<[(std::borrow::Cow<'_, str>, Value<'_>); 2]> = (0..GROUP)
            .map(|_| {
                let pad = Value::Text(text.as_str().into());
                [
                    ("n".into(), Value::Int(values.i64(0..4))),
                    ("pad".into(), pad),
                ]
            })
            .collect();
        let times = from..;
        let rows: Vec<Row<'_>> = times
            .zip(&rows)
            .map(|(time, fields)| Row {
                time,
                tags: &[("topic", "plant/a")],
                fields,
            })
            .collect();
        let before = log.end();
        appender.append("plant", &rows).expect("fits");
        let begun = Instant::now();
        while log.end().lsn.0 < before.lsn.0 + GROUP as u64 {
            if log.stalled().borrow().is_some() {
                compact(&log);
            }
            if begun.elapsed() > PATIENCE {
                return Err(from);
            }
            std::thread::yield_now();
        }
        let sealed = log.snapshot().segments().len();
        if sealed != compacted {
            compacted = sealed;
            compact(&log);
        }
    }
    Ok(())
}

/// As the thread does that compacts: what finds no room is tried again.
fn compact(log: &Log) {
    match compact_now(log) {
        Err(error) if !error.is_full() => panic!("{error}"),
        Ok(_) | Err(_) => {}
    }
}

#[test]
fn compaction_leaves_the_reserve_alone_and_the_log_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = fastrand::Rng::with_seed(super::seed());
    let (committer, _disk, least) = on_disk_of(DISK, dir.path());
    // In segments that is several times the disk; nobody needs them.
    fill(&committer, 12_000, &mut random).expect("goes on");
    let log = committer.log().clone();
    assert!(log.stats().bytes > DISK * 2, "{}", log.stats().bytes);
    let least = least.load(Ordering::SeqCst);
    assert!(least >= RESERVE, "{least}");
    assert!(log.stats().retired_segments > 0);
    let files = log.snapshot().file_infos();
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    assert!(rows > 10_000, "{rows}");
    committer.stop().expect("stops");
}

#[test]
fn what_a_secondary_that_is_there_lacks_is_kept_to_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = fastrand::Rng::with_seed(super::seed());
    let (committer, disk, least) = on_disk_of(DISK, dir.path());
    let log = committer.log().clone();
    let behind = crate::NodeCopy {
        node: 7,
        flushed: crate::Lsn(100),
    };
    log.set_replicated(Replicated::new(vec![behind]));
    let stuck = fill(&committer, 12_000, &mut random);
    let stuck = stuck.expect_err("nothing may be given up that it lacks");
    assert!(log.stalled().borrow().is_some());
    assert!(log.oldest().lsn.0 <= 100, "{}", log.oldest().lsn);
    let least = least.load(Ordering::SeqCst);
    assert!(least >= RESERVE, "{least}");
    // It has gone, or come on.
    log.set_replicated(Replicated::default());
    let begun = Instant::now();
    while log.end().lsn.0 < u64::try_from(stuck).expect("some") + GROUP as u64 {
        compact(&log);
        assert!(begun.elapsed() < PATIENCE, "goes on");
    }
    assert!(log.stalled().borrow().is_none());
    drop(disk);
    committer.stop().expect("stops");
}

#[test]
fn what_comes_from_another_node_leaves_the_reserve_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = fastrand::Rng::with_seed(super::seed());
    let (committer, _disk, _) = on_disk_of(1 << 30, dir.path());
    let log = committer.log().clone();
    fill(&committer, 600, &mut random).expect("room for all");
    let bundle = log.bundle();
    let other = tempfile::tempdir().expect("a directory");
    let small = Arc::new(RefusingDisk::default());
    let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(&small);
    let staging = Staging::begin(&disk, other.path(), bundle.manifest()).expect("begins");
    let mut staging = staging.keep_free(RESERVE);
    small.is_of(other.path(), RESERVE + held(other.path()));
    let missing = staging.wanted();
    let first = missing.first().expect("a file");
    let path = dir
        .path()
        .join(format!("log-{}", log.id()))
        .join(&first.name);
    let bytes = std::fs::read(path).expect("whole");
    let refused = staging.write(&first.name, 0, &bytes).expect_err("no room");
    assert!(refused.is_full() && refused.may_pass(), "{refused}");
    let told = refused.to_string();
    assert!(told.contains("log.reserve_disk"), "{told}");
    small.is_of(other.path(), 1 << 30);
    staging
        .write(&first.name, 0, &bytes)
        .expect("there is room");
    committer.stop().expect("stops");
}

#[test]
fn compaction_that_finds_no_room_says_so_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = fastrand::Rng::with_seed(super::seed());
    let refusing = Arc::new(RefusingDisk::default());
    let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(&refusing);
    let (committer, _) = open_primary(disk, dir.path(), &config()).expect("opens");
    let log = committer.log().clone();
    let mut appender = committer.appender(Box::new(|_| ()));
    let text: String = (0..20_000).map(|_| random.alphanumeric()).collect();
    let row = Row {
        time: 1,
        tags: &[("topic", "plant/a")],
        fields: &[("pad".into(), Value::Text(text.as_str().into()))],
    };
    for _ in 0..3 {
        let group = appender
            .append("plant", std::slice::from_ref(&row))
            .expect("fits");
        appender.wait(group).expect("acknowledged");
    }
    // Less than the files need, and more than the manifest does.
    refusing.is_of(dir.path(), held(dir.path()) + RESERVE + 10_000);
    let refused = compact_now(&log).expect_err("no room");
    assert!(refused.is_full(), "{refused}");
    let parquet = dir.path().join(format!("log-{}", log.id())).join("parquet");
    assert_eq!(std::fs::read_dir(&parquet).expect("there").count(), 0);
    refusing.is_of(dir.path(), 1 << 30);
    compact_now(&log).expect("there is room");
    assert!(std::fs::read_dir(&parquet).expect("there").count() > 0);
    assert!(matches!(refused, WalError::Io { .. }));
    drop(appender);
    committer.stop().expect("stops");
}

const RESERVE: u64 = 200_000;
const DISK: u64 = 700_000;
const GROUP: usize = 50;
/// Longer than anything here takes that goes on.
const PATIENCE: Duration = Duration::from_secs(10);
