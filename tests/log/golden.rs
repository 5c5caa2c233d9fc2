//! Files of every format version so far, frozen: each must be read for ever, and the current
//! version must still be written byte for byte as it was. Must never write one of them anew.

use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use tests::copy_dir;
use tests::workload::{keyed, numbers};
use wal::{OsDisk, open_primary};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

#[test]
fn every_golden_log_opens_and_reads() {
    let mut versions = 0;
    for entry in std::fs::read_dir(golden()).expect("the golden directory") {
        let from = entry.expect("an entry").path();
        let copy = tempfile::tempdir().expect("a directory");
        copy_dir(&from, copy.path());
        let (committer, recovery) =
            open_primary(OsDisk::new(), copy.path(), &keyed()).expect("opens");
        assert_eq!(recovery.torn_tail, None, "{}", from.display());
        assert!(recovery.segments > 1, "{}", from.display());
        let found = numbers(committer.log()).expect("reads");
        assert!(found.into_iter().eq(0..30), "{}", from.display());
        wal::compact_now(committer.log()).expect("compacts");
        let found = numbers(committer.log()).expect("reads");
        assert!(found.into_iter().eq(0..30), "{} compacted", from.display());
        committer.stop().expect("stops");
        versions += 1;
    }
    assert_eq!(
        versions,
        usize::from(wal::FORMAT_VERSION),
        "one directory per version"
    );
}

#[tokio::test]
async fn the_current_format_is_written_as_it_was() {
    let from = golden().join(format!("v{}", wal::FORMAT_VERSION));
    let (a, b) = (
        tempfile::tempdir().expect("dir"),
        tempfile::tempdir().expect("dir"),
    );
    copy_dir(&from, a.path());
    // Read as a secondary does: a primary would seal what has grown old.
    let config = wal::FollowerConfig::default();
    let id = wal::find_log(&wal::OsDisk, a.path())
        .expect("lists")
        .expect("a log");
    let open = |dir: &Path| wal::open_follower(OsDisk::new(), dir, id, wal::Epoch(1), &config);
    let (source, _) = open(a.path()).expect("opens");
    let (mut follower, _) = open(b.path()).expect("opens");
    let log = source.log();
    let mut cursor = log.cursor(log.id().genesis()).expect("from the start");
    while let Some(chunk) = cursor.next(1000).expect("reads") {
        follower
            .append(chunk.parts.concat().into())
            .await
            .expect("continues");
    }
    let copy = follower.log().clone();
    follower.stop().await.expect("stops");
    source.stop().await.expect("stops");
    wal::compact_now(&copy).expect("compacts");
    let files = files_below(&from);
    let kinds = |kind: &str| files.iter().filter(|name| name.ends_with(kind)).count();
    assert!(
        kinds(".log") > 1 && kinds(".parquet") > 1 && kinds("manifest") == 1,
        "{files:?}"
    );
    for name in files {
        let read = |dir: &Path| std::fs::read(dir.join(&name)).expect("reads");
        assert!(read(&from) == read(b.path()), "{name} differs");
    }
}

#[test]
fn large_integers_of_the_current_format_are_read_to_the_last_digit() {
    let from = golden().join(format!("v{}", wal::FORMAT_VERSION));
    let copy = tempfile::tempdir().expect("a directory");
    copy_dir(&from, copy.path());
    let (committer, _) = open_primary(OsDisk::new(), copy.path(), &keyed()).expect("opens");
    let snapshot = committer.log().snapshot();
    let schema = snapshot.catalog().table("serials").expect("the table");
    let serial = schema.column("serial").expect("the column");
    assert_eq!(schema.columns[serial].kind, wal::ColumnType::BigInt);
    let mut found: Vec<i64> = Vec::new();
    let mut take = |batch: &RecordBatch| {
        found.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
    };
    let wanted = wal::Wanted::default();
    for file in snapshot.files(schema.id) {
        let groups = file.row_groups(schema, &wanted).expect("reads");
        let reader = file.read(schema, &[serial], &groups, &wanted, 100);
        for batch in reader.expect("reads") {
            take(&batch.expect("reads"));
        }
    }
    for block in snapshot.blocks(schema.id) {
        take(&block.read(schema, &[serial]).expect("reads"));
    }
    found.sort_unstable();
    let large = (8..30).step_by(4).map(|n| 1_724_442_618_569_203_714 + n);
    assert!(
        found.iter().copied().eq([0, 4].into_iter().chain(large)),
        "{found:?}"
    );
    committer.stop().expect("stops");
}

/// All files below `dir`, relative to it.
fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("inside");
                found.push(name.display().to_string());
            }
        }
    }
    found
}
