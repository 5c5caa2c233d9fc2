//! Joining, swapping and putting aside on a disk that stops at every operation: there is always
//! one whole log, and nothing that was there is gone. Must never look past the crates' public
//! surface.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use tests::crash_disk::CrashDisk;
use tests::seed;
use tests::workload::{append, numbers};
use wal::{
    Committer, Config, Disk, Epoch, Follower, FollowerConfig, Log, LogId, Lsn, OldLog, Position,
    Staging, WalError, compact_now, find_log, list_diverged, open_follower, open_primary,
    save_diverged, segment_blocks, settle,
};

fn dir() -> &'static Path {
    Path::new("data")
}

fn arc(disk: &CrashDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn primary(disk: &CrashDisk) -> Committer {
    let config = Config {
        segment_size: 2_500,
        upkeep_every: Duration::from_secs(3_600),
        ..Config::default()
    };
    open_primary(arc(disk), dir(), &config).expect("opens").0
}

/// Appends rows `from..to`, and makes files of them where that is wanted.
fn write(disk: &CrashDisk, from: i64, to: i64, compact: bool) {
    let committer = primary(disk);
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in from..to {
        append(&mut appender, number).expect("acknowledged");
    }
    if compact {
        compact_now(committer.log()).expect("compacts");
    }
    drop(appender);
    committer.stop().expect("stops");
}

fn open(disk: &CrashDisk, id: LogId) -> Result<Follower, WalError> {
    let config = FollowerConfig::default();
    open_follower(arc(disk), dir(), id, Epoch(1), &config).map(|(follower, _)| follower)
}

/// The rows of the log in force, and where it ends.
async fn rows(disk: &CrashDisk, id: LogId) -> Result<(Vec<i64>, Position), WalError> {
    let follower = open(disk, id)?;
    let found = (numbers(follower.log())?, follower.tip());
    assert_eq!(follower.log().verify().faults, []);
    follower.stop().await?;
    Ok(found)
}

async fn follow(log: &Log, follower: &mut Follower) -> Result<(), WalError> {
    let mut cursor = log.cursor(follower.tip())?;
    while let Some(chunk) = cursor.next(700)? {
        follower.append(chunk.parts.concat().into()).await?;
    }
    Ok(())
}

fn fill(log: &Log, staging: &mut Staging) -> Result<(), WalError> {
    while let Some(missing) = staging.wanted().first() {
        let bytes = log.export_from(&missing.name, missing.held).expect("held");
        staging.write(&missing.name, missing.held, &bytes)?;
    }
    Ok(())
}

/// Brings a log in, from whatever an earlier attempt has left.
async fn join(disk: &CrashDisk, log: &Log) -> Result<(), WalError> {
    let disk = arc(disk);
    settle(&disk, dir())?;
    let mut staging = match Staging::find(&disk, dir())? {
        Some(staging) => staging,
        None if find_log(disk.as_ref(), dir())?.is_some() => return Ok(()),
        None => Staging::begin(&disk, dir(), log.bundle().manifest())?,
    };
    let (mut follower, _) = staging.open_log(&FollowerConfig::default())?;
    follow(log, &mut follower).await?;
    follower.stop().await?;
    fill(log, &mut staging)?;
    staging.swap_in(OldLog::Remove, None).map(|_| ())
}

/// What is under one directory, by the rest of its path.
fn under(disk: &CrashDisk, prefix: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let prefix = dir().join(prefix);
    let all = disk.contents().into_iter();
    all.filter_map(|(path, bytes)| {
        let rest = path.strip_prefix(&prefix).ok()?;
        Some((rest.to_owned(), bytes))
    })
    .collect()
}

fn log_of(id: LogId) -> String {
    format!("log-{id}")
}

/// Nothing is left of a swap.
fn check_tidy(disk: &CrashDisk) {
    for (path, _) in disk.contents() {
        let text = path.display().to_string();
        let left = ["replaced-", "ready-", "draft", ".part"];
        assert!(!left.iter().any(|part| text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn a_join_that_crashes_anywhere_goes_on_and_ends_with_the_primarys_files() {
    let seed = seed();
    let source = CrashDisk::new();
    write(&source, 0, 60, true);
    write(&source, 60, 80, false);
    let committer = primary(&source);
    let log = committer.log();
    let disk = CrashDisk::new();
    join(&disk, log).await.expect("joins");
    let whole = under(&disk, &log_of(log.id()));
    let theirs = under(&source, &log_of(log.id()));
    for (path, bytes) in &whole {
        assert!(
            theirs.get(path) == Some(bytes),
            "{} differs",
            path.display()
        );
    }
    for stop in 0..disk.operations() {
        let mut random = fastrand::Rng::with_seed(seed ^ stop);
        let disk = CrashDisk::new();
        disk.stop_at(stop);
        let _ = join(&disk, log).await;
        let disk = disk.after_crash(&mut random);
        disk.stop_at(random.u64(0..30));
        let _ = join(&disk, log).await;
        let disk = disk.after_crash(&mut random);
        let joined = join(&disk, log).await;
        joined.unwrap_or_else(|error| panic!("stop {stop}: {error}"));
        assert!(
            under(&disk, &log_of(log.id())) == whole,
            "stop {stop}: files differ"
        );
        check_tidy(&disk);
    }
    committer.stop().expect("stops");
}

/// A node whose log is another history from row 20 on, and beside it a whole staged log.
struct Ready {
    disk: CrashDisk,
    id: LogId,
    old: (Vec<i64>, Position),
    old_files: BTreeMap<PathBuf, Vec<u8>>,
    new: (Vec<i64>, Position),
}

async fn ready() -> Ready {
    let source = CrashDisk::new();
    write(&source, 0, 20, false);
    let disk = source.copy();
    write(&disk, 1000, 1030, true);
    write(&source, 20, 60, true);
    let committer = primary(&source);
    let log = committer.log();
    let id = log.id();
    let old_files = under(&disk, &log_of(id));
    let old = rows(&disk, id).await.expect("opens");
    let shared = arc(&disk);
    let mut staging = Staging::begin(&shared, dir(), log.bundle().manifest()).expect("begins");
    fill(log, &mut staging).expect("right");
    let (mut follower, _) = staging.open_log(&FollowerConfig::default()).expect("opens");
    follow(log, &mut follower).await.expect("continues");
    follower.stop().await.expect("stops");
    let new = (numbers(log).expect("reads"), log.end());
    committer.stop().expect("stops");
    assert_ne!(old, new);
    Ready {
        disk,
        id,
        old,
        old_files,
        new,
    }
}

fn find(disk: &CrashDisk) -> Result<Option<Staging>, WalError> {
    Staging::find(&arc(disk), dir())
}

async fn crash_swap(ready: &Ready, old: OldLog, stop: u64, random: &mut fastrand::Rng) {
    let disk = ready.disk.copy();
    let staging = find(&disk).expect("reads").expect("is there");
    disk.stop_at(disk.operations() + stop);
    let _ = staging.swap_in(old, None);
    let mut disk = disk.after_crash(random);
    for _ in 0..random.u8(0..3) {
        disk.stop_at(random.u64(0..5));
        let _ = settle(&arc(&disk), dir());
        disk = disk.after_crash(random);
    }
    let settled = settle(&arc(&disk), dir());
    settled.unwrap_or_else(|error| panic!("stop {stop}: {error}"));
    let found = rows(&disk, ready.id).await;
    let found = found.unwrap_or_else(|error| panic!("stop {stop}: {error}"));
    if found == ready.old {
        let staging = find(&disk).expect("reads");
        let staging = staging.unwrap_or_else(|| panic!("stop {stop}: the new log is gone"));
        assert!(staging.is_complete(), "stop {stop}: {:?}", staging.wanted());
        staging.swap_in(old, None).expect("swaps");
    }
    let found = rows(&disk, ready.id).await.expect("opens");
    assert!(found == ready.new, "stop {stop}: {found:?}");
    let kept = list_diverged(&arc(&disk), dir()).expect("reads");
    match old {
        OldLog::Remove => assert_eq!(kept, []),
        OldLog::Keep => {
            assert_eq!(kept.len(), 1, "stop {stop}: {kept:?}");
            let name = kept[0].path.strip_prefix(dir()).expect("inside");
            let files = under(&disk, &name.display().to_string());
            assert!(
                files == ready.old_files,
                "stop {stop}: what was kept differs"
            );
        }
    }
    let before = disk.contents();
    settle(&arc(&disk), dir()).expect("settles");
    assert!(before == disk.contents(), "stop {stop}: settles twice");
    check_tidy(&disk);
}

#[tokio::test]
async fn a_swap_that_crashes_anywhere_leaves_one_whole_log() {
    let seed = seed();
    let ready = ready().await;
    for old in [OldLog::Remove, OldLog::Keep] {
        let disk = ready.disk.copy();
        let staging = find(&disk).expect("reads").expect("is there");
        let before = disk.operations();
        staging.swap_in(old, None).expect("swaps");
        let operations = disk.operations() - before;
        assert!(operations >= 6, "{operations} operations");
        for stop in 0..operations {
            for round in 0..20 {
                let mut random = fastrand::Rng::with_seed(seed ^ (round << 32) ^ stop);
                crash_swap(&ready, old, stop, &mut random).await;
            }
        }
    }
}

/// Numbers in the segments under `diverged/`.
fn numbers_aside(disk: &CrashDisk) -> BTreeSet<i64> {
    let disk = arc(disk);
    let mut found = BTreeSet::new();
    for part in list_diverged(&disk, dir()).expect("reads") {
        for name in disk.list(&part.path).expect("lists") {
            let blocks = segment_blocks(&disk, &part.path.join(name)).expect("reads alone");
            for (schema, block) in blocks {
                let n = schema.column("n").expect("the column of numbers");
                let batch = block.read(&schema, &[n]).expect("reads");
                found.extend(batch.column(0).as_primitive::<Int64Type>().values());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_tail_that_is_put_aside_survives_a_crash_anywhere() {
    let seed = seed();
    let base = CrashDisk::new();
    write(&base, 0, 60, false);
    let committer = primary(&base);
    let id = committer.log().id();
    let all = committer
        .log()
        .boundaries(Lsn(0), Lsn(u64::MAX), usize::MAX);
    committer.stop().expect("stops");
    let at = all[all.len() / 3];
    let wanted: BTreeSet<i64> = (0..60).collect();
    let disk = base.copy();
    let whole = save_diverged(&arc(&disk), dir(), id, at).expect("held");
    let operations = disk.operations();
    let left = rows(&disk, id).await.expect("opens").0;
    for stop in 0..operations {
        for round in 0..5 {
            let mut random = fastrand::Rng::with_seed(seed ^ (round << 32) ^ stop);
            let disk = base.copy();
            disk.stop_at(stop);
            assert!(save_diverged(&arc(&disk), dir(), id, at).is_err());
            let disk = disk.after_crash(&mut random);
            settle(&arc(&disk), dir()).expect("settles");
            let (mut found, tip) = rows(&disk, id)
                .await
                .unwrap_or_else(|error| panic!("stop {stop}: {error}"));
            assert!(tip.lsn >= at.lsn, "stop {stop}: cut too far");
            assert!(found.starts_with(&left), "stop {stop}: {found:?}");
            found.extend(numbers_aside(&disk));
            let together: BTreeSet<i64> = found.into_iter().collect();
            assert_eq!(together, wanted, "stop {stop}");
            let again = save_diverged(&arc(&disk), dir(), id, at);
            again.unwrap_or_else(|error| panic!("stop {stop}: {error}"));
            assert_eq!(rows(&disk, id).await.expect("opens"), (left.clone(), at));
            let aside = list_diverged(&arc(&disk), dir()).expect("reads");
            assert_eq!(aside.len(), 1, "stop {stop}: {aside:?}");
            assert_eq!((aside[0].rows, aside[0].to), (whole.rows, whole.to));
            check_tidy(&disk);
        }
    }
}

/// A primary over this disk with rows `from..to` and everything sealed in files.
fn grown(disk: &CrashDisk, rows: std::ops::Range<i64>) -> wal::Committer {
    let config = wal::Config {
        segment_size: 1500,
        upkeep_every: std::time::Duration::from_secs(3600),
        ..wal::Config::default()
    };
    let disk: Arc<dyn wal::Disk> = Arc::new(disk.clone());
    let (committer, _) = wal::open_primary(disk, Path::new("data"), &config).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in rows {
        tests::workload::append(&mut appender, number).expect("durable");
    }
    wal::compact_now(committer.log()).expect("compacts");
    committer
}

/// Brings in every file that is still missing.
fn bring(staging: &mut wal::Staging, from: &wal::Log) {
    while let Some(missing) = staging.wanted().first().cloned() {
        let bytes = from.export_from(&missing.name, missing.held);
        let bytes = bytes.expect("held by the peer");
        staging
            .write(&missing.name, missing.held, &bytes)
            .expect("right");
    }
}

#[test]
fn a_file_of_another_history_does_not_come_back_after_a_crash() {
    let base = CrashDisk::new();
    grown(&base, 0..9).stop().expect("stops");
    // Two histories of one log, whose files have the same names.
    let (first, second) = (
        grown(&base.copy(), 1050..1080),
        grown(&base.copy(), 1155..1185),
    );
    let data = Path::new("data");
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let own = CrashDisk::new();
        let disk: Arc<dyn wal::Disk> = Arc::new(own.clone());
        let manifest = first.log().bundle();
        let mut staging = wal::Staging::begin(&disk, data, manifest.manifest()).expect("begins");
        bring(&mut staging, first.log());
        let manifest = second.log().bundle();
        drop(wal::Staging::begin(&disk, data, manifest.manifest()).expect("begins anew"));
        own.stop_at(own.operations());
        let own = own.after_crash(&mut random);
        let disk: Arc<dyn wal::Disk> = Arc::new(own.clone());
        let Some(mut staging) = wal::Staging::find(&disk, data).expect("reads") else {
            continue;
        };
        bring(&mut staging, second.log());
        let held = own.contents();
        for file in second.log().snapshot().file_infos() {
            let right = second.log().export(&file.name).expect("intact");
            let is_right = held
                .iter()
                .any(|(path, bytes)| path.ends_with(&file.name) && bytes[..] == right[..]);
            assert!(is_right, "seed {seed}: {}", file.name);
        }
    }
}
