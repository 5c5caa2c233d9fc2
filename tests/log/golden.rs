//! Files of every format version so far, frozen: each must be read for ever, and the current
//! version must still be written byte for byte as it was.

use std::path::{Path, PathBuf};

use tests::copy_dir;
use tests::workload::numbers;
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
            open_primary(OsDisk::new(), copy.path(), &wal::Config::default()).expect("opens");
        assert_eq!(recovery.torn_tail, None, "{}", from.display());
        assert!(recovery.segments > 1, "{}", from.display());
        let found = numbers(committer.log()).expect("reads");
        assert!(found.into_iter().eq(0..30), "{}", from.display());
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
    let (committer, _) =
        open_primary(OsDisk::new(), a.path(), &wal::Config::default()).expect("opens");
    let log = committer.log();
    let (mut follower, _) =
        wal::open_follower(OsDisk::new(), b.path(), log.id(), log.epoch()).expect("opens");
    let mut cursor = log.cursor(log.id().genesis()).expect("from the start");
    while let Some(chunk) = cursor.next(1000).expect("reads") {
        follower
            .append(chunk.parts.concat().into())
            .await
            .expect("continues");
    }
    follower.stop().await.expect("stops");
    committer.stop().expect("stops");
    let dir = std::fs::read_dir(&from)
        .expect("lists")
        .next()
        .expect("a log")
        .expect("entry");
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path()).expect("lists") {
        let name = entry.expect("entry").path();
        let written = b.path().join(name.strip_prefix(&from).expect("inside"));
        let equal = std::fs::read(&name).expect("reads") == std::fs::read(&written).expect("reads");
        assert!(equal, "{} differs", written.display());
        files += 1;
    }
    assert!(files > 1);
}
