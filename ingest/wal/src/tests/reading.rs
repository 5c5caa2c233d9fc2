//! What reading meets: files that are cut short, sectors that cannot be read, nothing left of what
//! the process may have, and files that were in force once. It must never take what passes for
//! damage, nor hold more of the process than its bounds.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::tests::refusing_disk::RefusingDisk;
use crate::{
    Cache, Committer, Config, Disk, Log, OsDisk, Row, Share, Snapshot, Value, WalError, Wanted,
    compact_now, open_primary,
};

fn config(cache: u64) -> Config {
    Config {
        segment_size: 4_000,
        keep_segments: u64::MAX,
        upkeep_every: Duration::from_secs(3_600),
        cache: Cache::new(Share::new("cache", cache)),
        ..Config::default()
    }
}

fn open(disk: &Arc<RefusingDisk>, dir: &Path, cache: u64) -> Committer {
    let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(disk);
    open_primary(disk, dir, &config(cache)).expect("opens").0
}

/// One row a block.
fn write(committer: &Committer, table: &str, rows: std::ops::Range<i64>) {
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in rows {
        let row = Row {
            time: number,
            tags: &[("t", "a")],
            fields: &[(Cow::Borrowed("n"), Value::Int(number))],
        };
        let group = appender.append(table, &[row]).expect("fits");
        appender.wait(group).expect("durable");
    }
}

/// The rows that a view has of a table, read in full.
fn rows(snapshot: &Snapshot, table: &str) -> Result<usize, WalError> {
    let catalog = snapshot.catalog();
    let mut tables = catalog.tables();
    let schema = tables.find(|schema| schema.name == table).expect("known");
    if let Some(fault) = snapshot.damaged(schema.id) {
        return Err(fault);
    }
    let columns: Vec<usize> = (0..schema.columns.len()).collect();
    let mut found = 0;
    for block in snapshot.blocks(schema.id) {
        found += block.read(schema, &columns)?.num_rows();
    }
    let wanted = Wanted::default();
    for file in snapshot.files(schema.id) {
        let groups = file.row_groups(schema, &wanted)?;
        for batch in file.read(schema, &columns, &groups, &wanted, 1_000)? {
            found += batch?.num_rows();
        }
    }
    Ok(found)
}

fn cut_in_half(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    let len = file.metadata().expect("there").len();
    file.set_len(len / 2).expect("cuts");
}

fn parquet_path(log: &Log, at: usize) -> (std::path::PathBuf, String) {
    let name = log.snapshot().file_infos()[at].name.clone();
    (log.state().dir.join(&name), name)
}

#[test]
fn a_file_cut_short_under_a_running_log_is_an_error_for_who_reads_it_and_nothing_else() {
    let (dir, disk) = (tempfile::tempdir().expect("dir"), Arc::default());
    let primary = open(&disk, dir.path(), 0);
    let log = primary.log().clone();
    write(&primary, "one", 0..200);
    compact_now(&log).expect("compacts");
    write(&primary, "two", 0..200);
    // A Parquet file of one table, a sealed segment with rows of the other.
    let (path, name) = parquet_path(&log, 0);
    let one = |snapshot: &Snapshot| rows(snapshot, "one");
    let two = |snapshot: &Snapshot| rows(snapshot, "two");
    let before = log.snapshot();
    assert_eq!(
        (one(&before).ok(), two(&before).ok()),
        (Some(200), Some(200))
    );
    cut_in_half(&path);
    let error = one(&before).expect_err("half of it");
    assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(&name), "{error}");
    assert_eq!(two(&before).ok(), Some(200));
    let segment = before.pending().next().expect("sealed").path.clone();
    cut_in_half(segment.as_ref());
    let error = two(&before).expect_err("half of it");
    assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
    assert_eq!(log.damage().borrow().len(), 2, "both are known");
    write(&primary, "three", 0..50);
    assert_eq!(rows(&log.snapshot(), "three").ok(), Some(50));
    assert!(log.failed().borrow().is_none());
}

#[test]
fn a_bad_sector_is_damage_and_what_runs_out_is_not() {
    let (dir, disk) = (tempfile::tempdir().expect("dir"), Arc::default());
    let primary = open(&disk, dir.path(), 0);
    let log = primary.log().clone();
    write(&primary, "one", 0..100);
    compact_now(&log).expect("compacts");
    write(&primary, "one", 100..200);
    let before = log.snapshot();
    assert_eq!(rows(&before, "one").expect("whole"), 200);
    for errno in [EMFILE, ENFILE, ENOMEM, EAGAIN] {
        for operation in ["open_read", "read_at"] {
            disk.refuse(move |asked, _| {
                (asked == operation).then(|| io::Error::from_raw_os_error(errno))
            });
            match rows(&before, "one") {
                // All that it takes was open.
                Ok(found) => assert_eq!((operation, found), ("open_read", 200)),
                Err(error) => assert!(error.is_exhausted(), "{operation} {errno}: {error}"),
            }
            disk.relent();
            assert_eq!(rows(&before, "one").expect("it has passed"), 200);
        }
    }
    assert!(log.damage().borrow().is_empty(), "{:?}", log.damage());
    write(&primary, "one", 200..210);
    let (path, name) = parquet_path(&log, 0);
    disk.refuse(move |asked, at| {
        (asked == "read_at" && at.starts_with(&path)).then(|| io::Error::from_raw_os_error(EIO))
    });
    let error = rows(&before, "one").expect_err("a bad sector");
    assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
    let damaged = log.damage().borrow().clone();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].name, name);
    disk.relent();
    primary.stop().expect("stops");
}

#[test]
fn each_read_may_fail_once_at_every_place_with_every_error() {
    let (dir, disk) = (tempfile::tempdir().expect("dir"), Arc::default());
    let primary = open(&disk, dir.path(), 0);
    let log = primary.log().clone();
    write(&primary, "one", 0..100);
    compact_now(&log).expect("compacts");
    write(&primary, "one", 100..150);
    let snapshot = log.snapshot();
    for errno in [EMFILE, ENOMEM, EIO] {
        for place in 0.. {
            let asked = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&asked);
            disk.refuse(move |operation, _| {
                let reads = ["open_read", "read_at", "identity"].contains(&operation);
                let is_it = reads && counted.fetch_add(1, Ordering::Relaxed) == place;
                is_it.then(|| io::Error::from_raw_os_error(errno))
            });
            let found = rows(&snapshot, "one");
            disk.relent();
            match found {
                Ok(found) => assert_eq!(found, 150),
                Err(error) => {
                    assert_eq!(errno, EIO, "one failure of the others passes: {error}");
                    assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
                }
            }
            assert_eq!(rows(&snapshot, "one").expect("read again"), 150);
            if errno != EIO {
                assert!(log.damage().borrow().is_empty());
            }
            if asked.load(Ordering::Relaxed) <= place {
                break;
            }
        }
    }
    assert!(log.failed().borrow().is_none());
    primary.stop().expect("stops");
}

#[test]
fn opening_and_reading_hundreds_of_files_takes_few_descriptors_and_no_mapping() {
    let dir = tempfile::tempdir().expect("dir");
    let tables: Vec<String> = (0..300).map(|number| format!("t{number}")).collect();
    let (primary, _) = open_primary(OsDisk::new(), dir.path(), &config(1 << 20)).expect("opens");
    for table in &tables {
        write(&primary, table, 0..2);
    }
    compact_now(primary.log()).expect("compacts");
    for table in &tables {
        write(&primary, table, 2..4);
    }
    primary.stop().expect("stops");
    let (primary, _) = open_primary(OsDisk::new(), dir.path(), &config(1 << 20)).expect("opens");
    let snapshot = primary.log().snapshot();
    assert!(snapshot.file_infos().len() + snapshot.segments().len() > 320);
    for table in &tables {
        assert_eq!(rows(&snapshot, table).expect("reads"), 4, "{table}");
    }
    let here = dir.path().display().to_string();
    let open = std::fs::read_dir("/proc/self/fd").expect("lists");
    let open = open
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let ours = open.filter(|path| path.starts_with(dir.path())).count();
    assert!(ours <= 130, "{ours} descriptors");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("reads");
    assert!(!maps.contains(&here), "a file is mapped");
    let cache = primary.log().state().home.cache().share().clone();
    assert!(cache.used() <= cache.limit(), "{cache:?}");
    primary.stop().expect("stops");
}

#[test]
fn what_was_in_force_is_read_by_who_has_it_and_gone_after_him() {
    let (dir, disk) = (tempfile::tempdir().expect("dir"), Arc::default());
    let primary = open(&disk, dir.path(), 0);
    let log = primary.log().clone();
    for round in 0..12 {
        write(&primary, "one", round * 40..round * 40 + 40);
        compact_now(&log).expect("compacts");
    }
    let read_dirs = || {
        let names = OsDisk.list(dir.path()).expect("lists");
        names
            .iter()
            .filter(|name| name.starts_with("read-"))
            .count()
    };
    let (before, names) = (log.snapshot(), file_names(&log));
    let count = rows(&before, "one").expect("whole");
    for round in 12..40 {
        write(&primary, "one", round * 40..round * 40 + 40);
        compact_now(&log).expect("compacts");
    }
    let replaced = names.iter().filter(|name| !file_names(&log).contains(name));
    let replaced: Vec<&String> = replaced.collect();
    assert!(!replaced.is_empty(), "some have been merged");
    for name in &replaced {
        assert!(
            !log.state().dir.join(name).exists(),
            "{name} is in force no more"
        );
    }
    assert_eq!(rows(&before, "one").expect("as before"), count);
    assert_eq!(read_dirs(), 1);
    log.give_up_kept(false);
    assert_eq!(rows(&before, "one").expect("it is read"), count);
    drop(before);
    assert_eq!(read_dirs(), 0, "nothing is left of them");

    let before = log.snapshot();
    for round in 40..60 {
        write(&primary, "one", round * 40..round * 40 + 40);
        compact_now(&log).expect("compacts");
    }
    assert!(log.give_up_kept(true) > 0);
    let error = rows(&before, "one").expect_err("given up");
    assert!(matches!(error, WalError::GivenUp { .. }), "{error}");
    assert!(log.damage().borrow().is_empty());
    drop(before);
    primary.stop().expect("stops");
}

fn file_names(log: &Log) -> Vec<String> {
    let infos = log.snapshot().file_infos();
    infos.into_iter().map(|info| info.name).collect()
}

#[test]
fn retired_segments_are_read_by_who_has_them_and_gone_after_him() {
    let dir = tempfile::tempdir().expect("dir");
    let config = Config {
        keep_segments: 0,
        upkeep_every: Duration::from_millis(1),
        ..config(0)
    };
    let (primary, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
    let log = primary.log().clone();
    write(&primary, "one", 0..200);
    let before = log.snapshot();
    let segment = before.sealed.first().expect("sealed").path.clone();
    assert_eq!(rows(&before, "one").expect("whole"), 200);
    let mut at = 200;
    while Path::new(&segment).exists() {
        write(&primary, "one", at..at + 20);
        at += 20;
        compact_now(&log).expect("compacts");
    }
    assert_eq!(rows(&before, "one").expect("as before"), 200);
    drop(before);
    log.give_up_kept(false);
    let names = OsDisk.list(dir.path()).expect("lists");
    assert!(
        !names.iter().any(|name| name.starts_with("read-")),
        "{names:?}"
    );
    primary.stop().expect("stops");
}

const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
