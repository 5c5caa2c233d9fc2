//! Whatever runs out at whatever place, the log goes on by itself. Tests only; must never let what
//! was acknowledged be missing afterwards.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;
use tempfile::TempDir;

use crate::tests::refusing_disk::RefusingDisk;
use crate::{Config, Disk, Row, Value, WalError, compact_now, open_primary};

/// What an operating system says when something has run out, or has come between.
const ERRORS: [Errno; 8] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::AGAIN,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::FBIG,
    Errno::INTR,
];

fn config() -> Config {
    Config {
        segment_size: 4096,
        keep_segments: 0,
        upkeep_every: Duration::from_millis(1),
        ..Config::default()
    }
}

/// Whether what such an operation covers may be lost when it fails.
fn poisons(operation: &str) -> bool {
    matches!(operation, "sync" | "sync_dir")
}

/// A directory where an fsync costs nothing, if there is one: a test asks for very many.
fn quick_dir() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// Which operations are refused, and how.
#[derive(Clone, Copy, Debug)]
struct Refused {
    at: usize,
    times: usize,
    errno: Errno,
}

/// What a run has asked of its disk.
struct Asked {
    operations: usize,
    refused: Vec<String>,
}

/// Opens a log, fills and compacts it, and opens it again, on a disk that refuses. Whatever is
/// refused, it goes on by itself, or ends with everything that was acknowledged on the disk.
fn run(refused: Refused) -> Asked {
    let Refused { at, times, errno } = refused;
    let dir = quick_dir();
    let refusing = Arc::new(RefusingDisk::default());
    let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(&refusing);
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    refusing.refuse(move |operation, _: &Path| {
        let nth = counting.fetch_add(1, Ordering::SeqCst);
        let refused = (at..at.saturating_add(times)).contains(&nth);
        if refused {
            telling.lock().expect("held").push(operation.to_owned());
        }
        refused.then(|| io::Error::from_raw_os_error(errno.raw_os_error()))
    });
    let acknowledged = fill(&disk, dir.path(), times);
    let refused = told.lock().expect("held").clone();
    let poisoned = refused.iter().any(|operation| poisons(operation));
    assert!(
        acknowledged == ROWS || poisoned,
        "{acknowledged}: {refused:?}"
    );
    let operations = asked.load(Ordering::SeqCst);
    refusing.relent();
    let (committer, recovery) = open_primary(disk, dir.path(), &config()).expect("opens again");
    assert_eq!(recovery.damaged, 0, "{refused:?}");
    // A stop gives up what is not written yet, and may leave the half of it.
    let half = refused.iter().any(|operation| operation == "write_at");
    assert!(recovery.torn_tail.is_none() || half, "{refused:?}");
    compact(committer.log(), 0);
    let rows = i64::try_from(rows(committer.log())).expect("few");
    // A group that was written and not acknowledged may be there.
    assert!(
        (acknowledged..=acknowledged + i64::from(poisoned)).contains(&rows),
        "{rows} of {acknowledged}: {refused:?}"
    );
    committer.stop().expect("stops");
    Asked {
        operations,
        refused,
    }
}

/// Opens the log as often as it takes, and appends rows, all of them unless the log fails; how many
/// were acknowledged.
fn fill(disk: &Arc<dyn Disk>, dir: &Path, failures: usize) -> i64 {
    let mut left = failures;
    let (committer, _) = loop {
        match open_primary(Arc::clone(disk), dir, &config()) {
            Ok(opened) => break opened,
            Err(WalError::Io { .. }) if left > 0 => left -= 1,
            Err(error) => panic!("{error}"),
        }
    };
    let log = committer.log().clone();
    let mut appender = committer.appender(Box::new(|_| ()));
    let mut acknowledged = 0;
    for time in 0..ROWS {
        let row = Row {
            time,
            tags: &[("topic", "plant/a")],
            fields: &[("n".into(), Value::Int(time))],
        };
        let group = appender.append("plant", &[row]);
        if !group.is_ok_and(|group| appender.wait(group).is_ok()) {
            assert!(
                log.failed().borrow().is_some(),
                "only a log that has failed refuses"
            );
            break;
        }
        acknowledged += 1;
        if time % 40 == 39 {
            compact(&log, failures);
        }
    }
    drop(appender);
    if log.failed().borrow().is_none() {
        // What the log says by itself may still be tried again.
        let begun = std::time::Instant::now();
        while log.stalled().borrow().is_some() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "it is over and told"
            );
            std::thread::yield_now();
        }
    }
    drop(log);
    // One that fails here has acknowledged everything before.
    let _ = committer.stop();
    acknowledged
}

fn rows(log: &crate::Log) -> u64 {
    let snapshot = log.snapshot();
    let compacted = snapshot.compacted().lsn;
    let segments = snapshot.segments();
    let pending = segments.iter().filter(|segment| segment.first >= compacted);
    let files: u64 = snapshot.file_infos().iter().map(|file| file.rows).sum();
    files + pending.map(|segment| segment.rows).sum::<u64>()
}

/// As the thread does that compacts, which tries again later.
fn compact(log: &crate::Log, failures: usize) {
    for attempt in 0.. {
        match compact_now(log) {
            Ok(_) => return,
            Err(WalError::Io { .. }) if attempt < failures => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Some of the places, others each time; `EVERYWHERE=1`: all of them, with every error.
fn places(operations: usize, some: usize) -> Vec<(usize, Errno)> {
    let all = (0..operations).flat_map(|at| ERRORS.map(|errno| (at, errno)));
    let mut all: Vec<(usize, Errno)> = all.collect();
    if std::env::var_os("EVERYWHERE").is_none() {
        fastrand::Rng::with_seed(super::seed()).shuffle(&mut all);
        all.truncate(some);
    }
    all
}

const UNDISTURBED: Refused = Refused {
    at: usize::MAX,
    times: 0,
    errno: Errno::MFILE,
};

#[test]
fn at_any_place_once() {
    let Asked { operations, .. } = run(UNDISTURBED);
    assert!(operations > 200, "{operations}");
    let mut refused = Vec::new();
    for (at, errno) in places(operations, 300) {
        println!("{errno} at {at}");
        refused.extend(
            run(Refused {
                at,
                times: 1,
                errno,
            })
            .refused,
        );
    }
    refused.sort_unstable();
    refused.dedup();
    for needed in ["create", "rename", "write_at", "sync"] {
        let found = refused.iter().any(|operation| operation == needed);
        assert!(found, "{needed}: {refused:?}");
    }
}

#[test]
fn several_times_one_after_the_other() {
    let Asked { operations, .. } = run(UNDISTURBED);
    for (at, errno) in places(operations, 60) {
        println!("{errno} at {at}");
        run(Refused {
            at,
            times: 4,
            errno,
        });
    }
}

#[tokio::test]
async fn a_stall_is_told_and_so_is_its_end() {
    for errno in ERRORS {
        let dir = tempfile::tempdir().expect("a directory");
        let refusing = Arc::new(RefusingDisk::default());
        let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(&refusing);
        let (committer, _) = open_primary(disk, dir.path(), &Config::default()).expect("opens");
        let mut stalled = committer.log().stalled();
        refusing.refuse(move |operation, _: &Path| {
            (operation == "write_at").then(|| io::Error::from_raw_os_error(errno.raw_os_error()))
        });
        let mut appender = committer.appender(Box::new(|_| ()));
        let row = Row {
            time: 1,
            tags: &[("topic", "plant/a")],
            fields: &[("n".into(), Value::Int(1))],
        };
        let group = appender.append("plant", &[row]).expect("fits");
        let wait = async {
            stalled.wait_for(Option::is_some).await.expect("told");
            assert_eq!(committer.log().snapshot().end().lsn.0, 0, "{errno}");
            refusing.relent();
            stalled.wait_for(Option::is_none).await.expect("told");
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| panic!("{errno}"));
        appender.wait(group).expect("acknowledged");
        drop(appender);
        committer.stop().expect("stops");
    }
}

#[test]
fn a_failed_fsync_still_ends_the_log() {
    for errno in ERRORS {
        let dir = tempfile::tempdir().expect("a directory");
        let refusing = Arc::new(RefusingDisk::default());
        let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(&refusing);
        let (committer, _) = open_primary(disk, dir.path(), &Config::default()).expect("opens");
        refusing.refuse(move |operation, _: &Path| {
            (operation == "sync").then(|| io::Error::from_raw_os_error(errno.raw_os_error()))
        });
        let mut appender = committer.appender(Box::new(|_| ()));
        let row = Row {
            time: 1,
            tags: &[("topic", "plant/a")],
            fields: &[("n".into(), Value::Int(1))],
        };
        let group = appender.append("plant", &[row]).expect("fits");
        assert!(appender.wait(group).is_err(), "{errno}");
        drop(appender);
        committer.stop().expect_err("it has failed");
    }
}

const ROWS: i64 = 120;
