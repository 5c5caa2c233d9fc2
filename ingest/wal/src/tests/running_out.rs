//! Whatever runs out at whatever place, the log goes on by itself. Tests only; must never let what
//! was acknowledged be missing afterwards.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use crate::tests::refusing_disk::RefusingDisk;
use crate::{Config, Disk, Row, Value, WalError, compact_now, open_primary};

/// What an operating system says when something has run out.
const ERRORS: [Errno; 7] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::AGAIN,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::FBIG,
];

fn config() -> Config {
    Config {
        segment_size: 4096,
        keep_segments: 0,
        ..Config::default()
    }
}

/// Whether what such an operation covers may be lost when it fails.
fn poisons(operation: &str) -> bool {
    matches!(operation, "sync" | "sync_dir")
}

/// Operations that a run has asked of its disk; at the given one, `errno` so many times.
fn run(at: usize, times: usize, errno: Errno) -> (usize, Vec<&'static str>) {
    let dir = tempfile::tempdir().expect("a directory");
    let refusing = Arc::new(RefusingDisk::default());
    let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(&refusing);
    let (committer, _) = open_primary(Arc::clone(&disk), dir.path(), &config()).expect("opens");
    let log = committer.log().clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    refusing.refuse(move |operation, _: &Path| {
        if poisons(operation) {
            return None;
        }
        let nth = counting.fetch_add(1, Ordering::SeqCst);
        let refused = (at..at.saturating_add(times)).contains(&nth);
        if refused {
            let name = OPERATIONS.iter().find(|name| **name == operation);
            telling.lock().expect("held").extend(name);
        }
        refused.then(|| io::Error::from_raw_os_error(errno.raw_os_error()))
    });
    let mut appender = committer.appender(Box::new(|_| ()));
    for time in 0..ROWS {
        let row = Row {
            time,
            tags: &[("topic", "plant/a")],
            fields: &[("n".into(), Value::Int(time))],
        };
        let group = appender.append("plant", &[row]).expect("fits");
        appender.wait(group).expect("acknowledged");
        if time % 40 == 39 {
            compact(&log, times);
        }
    }
    assert_eq!(log.failed().borrow().clone(), None);
    assert_eq!(log.stalled().borrow().clone(), None, "it is over and told");
    refusing.relent();
    compact(&log, 0);
    drop((appender, log));
    committer.stop().expect("everything is on disk");
    let (committer, recovery) = open_primary(disk, dir.path(), &config()).expect("opens again");
    assert_eq!((recovery.torn_tail, recovery.damaged), (None, 0));
    let snapshot = committer.log().snapshot();
    let compacted = snapshot.compacted().lsn;
    let segments = snapshot.segments();
    let pending = segments.iter().filter(|segment| segment.first >= compacted);
    let files: u64 = snapshot.file_infos().iter().map(|file| file.rows).sum();
    let rows = files + pending.map(|segment| segment.rows).sum::<u64>();
    assert_eq!(rows, u64::try_from(ROWS).expect("small"));
    committer.stop().expect("stops");
    let told = told.lock().expect("held").clone();
    (asked.load(Ordering::SeqCst), told)
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

#[test]
fn at_every_place_once() {
    let (operations, _) = run(usize::MAX, 0, Errno::MFILE);
    assert!(operations > 40, "{operations}");
    let mut refused = Vec::new();
    for at in 0..operations {
        let (_, told) = run(at, 1, ERRORS[at % ERRORS.len()]);
        refused.extend(told);
    }
    refused.sort_unstable();
    refused.dedup();
    for needed in ["create", "open_dir", "rename", "write_at"] {
        assert!(refused.contains(&needed), "{needed}: {refused:?}");
    }
}

#[test]
fn several_times_one_after_the_other() {
    let (operations, _) = run(usize::MAX, 0, Errno::MFILE);
    for (nth, at) in (0..operations).step_by(5).enumerate() {
        run(at, 4, ERRORS[nth % ERRORS.len()]);
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

/// Names of operations that a test may see refused.
const OPERATIONS: [&str; 12] = [
    "list",
    "create_dir",
    "create",
    "open",
    "remove",
    "remove_dir_all",
    "rename",
    "free",
    "open_read",
    "read",
    "write_at",
    "open_dir",
];
