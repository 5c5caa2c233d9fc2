//! Crashes at every operation of a disk that keeps only what was synced: what was acknowledged
//! must never be missing afterwards.

use std::sync::Arc;

use tests::crash_disk::CrashDisk;
use tests::seed;
use tests::trial::Trial;
use tests::workload::append;
use wal::{Config, Disk, LogId, Position, WalError, open_follower, open_primary};

fn config() -> Config {
    Config {
        segment_size: 2500,
        ..Config::default()
    }
}

fn trial() -> Trial {
    Trial {
        config: config(),
        compacts: false,
        rows: ROWS,
    }
}

#[test]
fn acknowledged_rows_survive_a_crash_at_every_operation() {
    let (seed, trial) = (seed(), trial());
    let disk = trial.whole();
    let operations = disk.operations();
    assert!(operations > 100, "{operations} operations");
    for stop in 0..operations {
        let mut random = fastrand::Rng::with_seed(seed ^ stop);
        let disk = CrashDisk::new();
        disk.stop_at(stop);
        let acknowledged = trial.run(&disk, 0, ROWS);
        let disk = disk.after_crash(&mut random);
        trial.survives_and_goes_on(&disk, acknowledged, &format!("stop {stop}"));
    }
}

#[test]
fn a_crash_during_recovery_loses_nothing_either() {
    let (seed, trial) = (seed(), trial());
    let disk = trial.whole();
    for stop in 0..disk.operations() {
        let mut random = fastrand::Rng::with_seed(seed ^ stop);
        let disk = CrashDisk::new();
        disk.stop_at(stop);
        let mut acknowledged = trial.run(&disk, 0, ROWS);
        let mut disk = disk.after_crash(&mut random);
        for _ in 0..4 {
            disk.stop_at(random.u64(0..8));
            acknowledged = acknowledged.max(trial.run(&disk, acknowledged, acknowledged));
            disk = disk.after_crash(&mut random);
        }
        let left = trial
            .rows_left(&disk)
            .unwrap_or_else(|error| panic!("stop {stop}: {error}"));
        assert!(
            left >= acknowledged,
            "stop {stop}: {acknowledged} acknowledged, {left} left"
        );
    }
}

#[test]
fn reopening_changes_nothing() {
    let disk = trial().whole();
    let before = disk.contents();
    assert_eq!(trial().rows_left(&disk).expect("opens"), ROWS);
    assert!(before == disk.contents(), "reopening changed a file");
}

#[test]
fn a_failed_fsync_poisons_the_log_for_good() {
    let disk = CrashDisk::new();
    let (committer, _) =
        open_primary(Arc::new(disk.clone()), Trial::dir(), &config()).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    append(&mut appender, 0).expect("acknowledged");
    let failed = committer.log().failed();
    let durable = committer.log().end();
    // The header's fsync was number 0, that of the segment's secret 1, the first row's 2.
    disk.fail_sync_at(3);
    assert!(
        append(&mut appender, 1).is_err(),
        "acknowledged without an fsync"
    );
    assert!(
        append(&mut appender, 2).is_err(),
        "acknowledged after a failed fsync"
    );
    let reason = failed.borrow().clone().expect("the process is told");
    assert!(
        reason.contains("fsync") && reason.contains(".log"),
        "{reason}"
    );
    assert_eq!(committer.log().end(), durable, "shown as durable");
    drop(appender);
    assert!(committer.stop().is_err());
}

#[test]
fn what_a_failed_fsync_has_left_is_on_the_disk_before_it_is_served_as_durable() {
    let seed = seed();
    let whole = trial().whole();
    let syncs = whole.syncs();
    assert!(syncs > 30, "{syncs} fsyncs");
    for fails in 0..syncs {
        let disk = CrashDisk::new();
        disk.fail_sync_at(fails);
        let acknowledged = trial().run(&disk, 0, ROWS);
        // The process starts again, over what the operating system still has in memory.
        let disk = disk.copy();
        let Ok(left) = trial().rows_left(&disk) else {
            panic!("fsync {fails}: does not open");
        };
        // And then the machine stops.
        let disk = disk.after_crash(&mut fastrand::Rng::with_seed(seed ^ fails));
        let found = trial().survives(&disk, acknowledged, &format!("fsync {fails}"));
        assert!(
            found >= left,
            "fsync {fails}: {left} rows were served as durable"
        );
    }
}

/// A whole log to follow: its blocks and their end.
fn source() -> (LogId, CrashDisk, Vec<bytes::Bytes>, Position) {
    let disk = trial().whole();
    let (committer, _) =
        open_primary(Arc::new(disk.clone()), Trial::dir(), &config()).expect("opens");
    let log = committer.log();
    let mut cursor = log.cursor(log.id().genesis()).expect("from the start");
    let mut chunks = Vec::new();
    while let Some(chunk) = cursor.next(700).expect("reads") {
        chunks.push(chunk.parts.concat().into());
    }
    let (id, end) = (log.id(), log.end());
    committer.stop().expect("stops");
    (id, disk, chunks, end)
}

/// Follows `chunks` from wherever the log on `disk` ends.
async fn follow(
    disk: &CrashDisk,
    id: LogId,
    chunks: &[bytes::Bytes],
) -> Result<Position, WalError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut follower, _) = open_follower(
        disk,
        Trial::dir(),
        id,
        wal::Epoch(1),
        &wal::FollowerConfig::default(),
    )?;
    let all: bytes::Bytes = chunks.concat().into();
    let mut at = 0;
    let mut lsn = wal::Lsn(0);
    while at < all.len() {
        let header = wal::BlockHeader::decode(&all[at..])?;
        let block = all.slice(at..at + header.total_len());
        at += block.len();
        lsn = lsn.max(header.end().lsn);
        if header.first_lsn < follower.tip().lsn {
            continue;
        }
        follower.append(block).await?;
    }
    let end = follower.tip();
    follower.stop().await?;
    Ok(end)
}

#[tokio::test]
async fn a_follower_that_crashes_anywhere_ends_with_the_primarys_files() {
    let seed = seed();
    let (id, primary, chunks, end) = source();
    let disk = CrashDisk::new();
    assert_eq!(follow(&disk, id, &chunks).await.expect("follows"), end);
    assert!(disk.contents() == primary.contents(), "files differ");
    for stop in 0..disk.operations() {
        let mut random = fastrand::Rng::with_seed(seed ^ stop);
        let disk = CrashDisk::new();
        disk.stop_at(stop);
        let _ = follow(&disk, id, &chunks).await;
        let disk = disk.after_crash(&mut random);
        let reached = follow(&disk, id, &chunks).await;
        assert_eq!(
            reached.unwrap_or_else(|error| panic!("stop {stop}: {error}")),
            end
        );
        assert!(
            disk.contents() == primary.contents(),
            "stop {stop}: files differ"
        );
    }
}

const ROWS: i64 = 40;
