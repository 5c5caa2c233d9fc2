//! Compaction on a disk that stops, fills up or fails: no row must ever be lost or doubled,
//! and two nodes must never end with different files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tests::crash_disk::CrashDisk;
use tests::seed;
use tests::trial::Trial;
use tests::workload::{append, numbers};
use wal::{
    Config, Disk, Epoch, FollowerConfig, Log, WalError, compact_now, open_follower, open_primary,
};

fn config() -> Config {
    Config {
        segment_size: 2_500,
        keep_segments: 4_000,
        upkeep_every: Duration::ZERO,
        ..Config::default()
    }
}

fn trial() -> Trial {
    Trial {
        config: config(),
        compacts: true,
        rows: ROWS,
    }
}

#[test]
fn acknowledged_rows_survive_a_crash_at_every_operation_of_compaction_too() {
    let (seed, trial) = (seed(), trial());
    let disk = trial.whole();
    let (operations, names) = (disk.operations(), names(&disk));
    assert!(
        names.iter().any(|name| name.ends_with(".parquet")),
        "{names:?}"
    );
    assert!(
        !names.contains(&"00000000000000000000.log".to_owned()),
        "the head was retired"
    );
    assert!(operations > 200, "{operations} operations");
    for stop in 0..operations {
        let mut random = fastrand::Rng::with_seed(seed ^ stop);
        let disk = CrashDisk::new();
        disk.stop_at(stop);
        let acknowledged = trial.run(&disk, 0, ROWS);
        let mut disk = disk.after_crash(&mut random);
        if random.bool() {
            // And once more, while what was left is put in order.
            disk.stop_at(random.u64(0..12));
            let _ = trial.rows_left(&disk);
            disk = disk.after_crash(&mut random);
        }
        trial.survives_and_goes_on(&disk, acknowledged, &format!("stop {stop}"));
    }
}

fn names(disk: &CrashDisk) -> Vec<String> {
    let name = |path: &PathBuf| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    disk.contents().iter().map(|(path, _)| name(path)).collect()
}

/// Follows `primary` and compacts, from wherever the copy on `disk` stands.
async fn follow(disk: &CrashDisk, primary: &Log) -> Result<(), WalError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let config = FollowerConfig::default();
    let (mut follower, _) = open_follower(disk, Trial::dir(), primary.id(), Epoch(1), &config)?;
    let mut cursor = primary.cursor(follower.tip())?;
    while let Some(chunk) = cursor.next(1_000)? {
        follower.append(chunk.parts.concat().into()).await?;
        compact_now(follower.log())?;
    }
    let (tip, mut durable) = (follower.tip(), follower.log().durable());
    let mut failed = follower.log().failed();
    tokio::select! {
        _ = durable.wait_for(|at| *at == tip) => {}
        _ = failed.wait_for(Option::is_some) => return Err(WalError::Closed),
    }
    // Whatever has been sealed is shown once the thread has ended.
    let log = follower.log().clone();
    follower.stop().await?;
    compact_now(&log).map(|_| ())
}

/// The files that are in force: what was is elsewhere while it is read.
fn parquet(disk: &CrashDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = disk.contents();
    all.retain(|(path, _)| {
        let folder = path.parent().and_then(std::path::Path::file_name);
        folder.is_some_and(|folder| folder == "parquet")
    });
    all
}

#[tokio::test]
async fn a_follower_that_crashes_anywhere_ends_with_the_primarys_parquet_files() {
    let seed = seed();
    let primary_disk = CrashDisk::new();
    let keep = Config {
        keep_segments: u64::MAX,
        ..config()
    };
    let opened = open_primary(Arc::new(primary_disk.clone()), Trial::dir(), &keep);
    let (committer, _) = opened.expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in 0..ROWS {
        append(&mut appender, number).expect("acknowledged");
    }
    drop(appender);
    compact_now(committer.log()).expect("compacts");
    let expected = parquet(&primary_disk);
    assert!(expected.len() > 1);
    let disk = CrashDisk::new();
    follow(&disk, committer.log()).await.expect("follows");
    assert!(parquet(&disk) == expected, "files differ");
    for stop in (0..disk.operations()).step_by(2) {
        let mut random = fastrand::Rng::with_seed(seed ^ stop);
        let disk = CrashDisk::new();
        disk.stop_at(stop + random.u64(0..2));
        let _ = follow(&disk, committer.log()).await;
        let disk = disk.after_crash(&mut random);
        let followed = follow(&disk, committer.log()).await;
        followed.unwrap_or_else(|error| panic!("stop {stop}: {error}"));
        let found = parquet(&disk);
        let list = |files: &[(PathBuf, Vec<u8>)]| {
            let line =
                |(path, bytes): &(PathBuf, Vec<u8>)| format!("{} {}", path.display(), bytes.len());
            files.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(list(&found), list(&expected), "stop {stop}");
        assert!(found == expected, "stop {stop}: files differ");
    }
    committer.stop().expect("stops");
}

#[test]
fn a_write_that_fails_anywhere_acknowledges_nothing_and_loses_nothing() {
    let trial = trial();
    let disk = trial.whole();
    for number in 0..disk.writes() {
        let disk = CrashDisk::new();
        disk.fail_write_at(number);
        let acknowledged = trial.run(&disk, 0, ROWS);
        disk.fail_write_at(u64::MAX);
        trial.survives(&disk, acknowledged, &format!("write {number}"));
    }
}

#[tokio::test]
async fn a_full_disk_stops_acknowledging_keeps_reading_and_heals_by_itself() {
    for reserve in [0, 3_000] {
        let disk = CrashDisk::new();
        disk.set_capacity(Some(9_000));
        let config = Config {
            reserve_disk: reserve,
            ..config()
        };
        let opened = open_primary(Arc::new(disk.clone()), Trial::dir(), &config);
        let (committer, _) = opened.expect("opens");
        let log = committer.log().clone();
        let mut stalled = log.stalled();
        let mut appender = committer.appender(Box::new(|_| ()));
        let writer = std::thread::spawn(move || {
            for number in 0..ROWS {
                append(&mut appender, number).expect("acknowledged in the end");
            }
        });
        let reason = stalled
            .wait_for(Option::is_some)
            .await
            .expect("lives")
            .clone();
        let reason = reason.expect("a reason");
        assert!(reason.contains("full"), "{reason}");
        let before = numbers(&log).expect("reads go on").len();
        assert!(
            before < usize::try_from(ROWS).expect("few"),
            "{before} rows fit"
        );
        assert!(!writer.is_finished());
        disk.set_capacity(None);
        stalled.wait_for(Option::is_none).await.expect("heals");
        writer.join().expect("all acknowledged");
        assert!(numbers(&log).expect("reads").into_iter().eq(0..ROWS));
        assert_eq!(*log.failed().borrow(), None);
        committer.stop().expect("stops");
        assert_eq!(trial().rows_left(&disk).expect("opens"), ROWS);
    }
}

#[test]
fn compaction_waits_out_a_full_disk() {
    let disk = CrashDisk::new();
    let (committer, _) =
        open_primary(Arc::new(disk.clone()), Trial::dir(), &config()).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in 0..ROWS {
        append(&mut appender, number).expect("acknowledged");
    }
    disk.set_capacity(Some(disk.used() + 600));
    let error = compact_now(committer.log())
        .expect_err("no room")
        .to_string();
    assert!(error.contains("write"), "{error}");
    assert!(
        numbers(committer.log())
            .expect("reads")
            .into_iter()
            .eq(0..ROWS)
    );
    disk.set_capacity(None);
    compact_now(committer.log()).expect("compacts");
    assert!(
        numbers(committer.log())
            .expect("reads")
            .into_iter()
            .eq(0..ROWS)
    );
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn a_lost_manifest_is_made_again_while_the_log_has_every_row() {
    let disk = CrashDisk::new();
    let keep = Config {
        keep_segments: u64::MAX,
        ..config()
    };
    let (committer, _) = open_primary(Arc::new(disk.clone()), Trial::dir(), &keep).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in 0..ROWS {
        append(&mut appender, number).expect("acknowledged");
    }
    drop(appender);
    compact_now(committer.log()).expect("compacts");
    committer.stop().expect("stops");
    let (files, log) = (
        parquet(&disk),
        wal::find_log(&disk, Trial::dir()).expect("lists"),
    );
    let manifest = Trial::dir()
        .join(format!("log-{}", log.expect("a log")))
        .join("manifest");
    disk.damage(&manifest, |bytes| bytes[40] ^= 1);
    let (committer, _) = open_primary(Arc::new(disk.clone()), Trial::dir(), &keep).expect("opens");
    assert!(
        numbers(committer.log())
            .expect("reads")
            .into_iter()
            .eq(0..ROWS)
    );
    compact_now(committer.log()).expect("compacts");
    assert!(parquet(&disk) == files, "the same log gave other files");
    committer.stop().expect("stops");
}

const ROWS: i64 = 60;
