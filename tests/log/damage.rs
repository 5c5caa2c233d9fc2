//! Flipped bits, cut files and foreign files: found, named, never served.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tests::crash_disk::CrashDisk;
use tests::workload::{append, numbers};
use wal::{
    BLOCK_HEADER_LEN, BlockHeader, Config, FollowerConfig, Log, WalError, compact_now,
    open_follower, open_primary,
};

pub(crate) fn dir() -> &'static Path {
    Path::new("data")
}

pub(crate) fn config() -> Config {
    Config {
        segment_size: 4000,
        ..Config::default()
    }
}

pub(crate) fn filled() -> CrashDisk {
    let disk = CrashDisk::new();
    let (committer, _) = open_primary(Arc::new(disk.clone()), dir(), &config()).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in 0..ROWS {
        append(&mut appender, number).expect("acknowledged");
    }
    drop(appender);
    committer.stop().expect("stops");
    disk
}

pub(crate) fn open_and_read(disk: &CrashDisk) -> Result<Vec<i64>, WalError> {
    let (committer, _) = open_primary(Arc::new(disk.clone()), dir(), &config())?;
    let found = numbers(committer.log());
    committer.stop()?;
    found
}

pub(crate) fn segments(disk: &CrashDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = disk.contents();
    all.retain(|(path, _)| path.extension().is_some_and(|kind| kind == "log"));
    assert!(all.len() > 2, "{} segments", all.len());
    all
}

/// Offsets of the blocks in any segment's bytes.
pub(crate) fn blocks_of(bytes: &[u8]) -> Vec<usize> {
    let (_, mut at) = wal::SegmentHeader::decode("", bytes).expect("a header");
    let mut found = Vec::new();
    while let Ok(header) = BlockHeader::decode(bytes.get(at..).unwrap_or_default()) {
        found.push(at);
        at += header.total_len();
    }
    found
}

/// Offsets of the blocks in an active segment's bytes.
pub(crate) fn blocks(bytes: &[u8]) -> Vec<usize> {
    let mut at = (0..bytes.len())
        .step_by(8)
        .find(|at| BlockHeader::decode(&bytes[*at..]).is_ok());
    let mut found = Vec::new();
    while let Some(offset) = at {
        found.push(offset);
        let next = offset
            + BlockHeader::decode(&bytes[offset..])
                .expect("valid")
                .total_len();
        at = (next < bytes.len()).then_some(next);
    }
    found
}

#[test]
fn any_flipped_bit_in_a_sealed_segment_is_corruption_that_names_the_file() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let pristine = filled();
    let segments = segments(&pristine);
    for _ in 0..600 {
        let (path, bytes) = &segments[random.usize(..segments.len() - 1)];
        let (at, bit) = (random.usize(..bytes.len()), random.u8(..8));
        let disk = pristine.copy();
        disk.damage(path, |bytes| bytes[at] ^= 1 << bit);
        match open_and_read(&disk) {
            Ok(found) => {
                // Blocks that hold no rows are only checked by those who read them.
                assert!(
                    found.into_iter().eq(0..ROWS),
                    "wrong rows: byte {at} bit {bit}"
                );
            }
            Err(WalError::Corrupt { file, .. }) => assert_eq!(Path::new(&file), path),
            Err(WalError::NewerFormat { .. }) => {}
            Err(error) => panic!("byte {at} bit {bit} of {}: {error}", path.display()),
        }
    }
}

#[test]
fn a_torn_tail_is_cut_once_and_reported() {
    let disk = filled();
    let (path, bytes) = segments(&disk).pop().expect("an active segment");
    let last = *blocks(&bytes).last().expect("a block");
    disk.damage(&path, |bytes| bytes.truncate(last + BLOCK_HEADER_LEN + 3));
    let (committer, recovery) =
        open_primary(Arc::new(disk.clone()), dir(), &config()).expect("opens");
    let torn = recovery.torn_tail.expect("reported");
    assert_eq!(
        (Path::new(&torn.file), torn.offset),
        (path.as_path(), last as u64)
    );
    assert_eq!(torn.bytes, BLOCK_HEADER_LEN as u64 + 3);
    assert!(
        numbers(committer.log())
            .expect("reads")
            .into_iter()
            .eq(0..ROWS - 1)
    );
    committer.stop().expect("stops");
    let (committer, recovery) = open_primary(Arc::new(disk), dir(), &config()).expect("opens");
    assert_eq!(recovery.torn_tail, None, "cut twice");
    committer.stop().expect("stops");
}

#[tokio::test]
async fn damage_before_acknowledged_blocks_is_never_a_torn_tail_and_is_repaired_from_a_secondary() {
    let pristine = filled();
    let (path, bytes) = segments(&pristine).pop().expect("an active segment");
    let blocks = blocks(&bytes);
    assert!(blocks.len() > 3);
    for at in &blocks[..blocks.len() - 1] {
        // A header of which too much is gone may be that of a schema: nobody may write behind it.
        let disk = pristine.copy();
        disk.damage(&path, |bytes| bytes[at + 8..at + 64].fill(0));
        match open_and_read(&disk) {
            Err(WalError::Corrupt { file, offset, .. }) => {
                assert_eq!((Path::new(&file), offset), (path.as_path(), *at as u64));
            }
            other => panic!("block at {at}: {other:?}"),
        }
        for inside in [BLOCK_HEADER_LEN + 4, BLOCK_HEADER_LEN + 12] {
            let disk = pristine.copy();
            disk.damage(&path, |bytes| bytes[at + inside] ^= 4);
            let (committer, recovery) =
                open_primary(Arc::new(disk.clone()), dir(), &config()).expect("opens");
            let log = committer.log().clone();
            assert_eq!(
                (recovery.torn_tail, recovery.damaged),
                (None, 1),
                "block at {at}"
            );
            let header = BlockHeader::decode(&bytes[*at..]).expect("valid");
            match numbers(&log) {
                Ok(all) => {
                    assert_eq!(header.kind, wal::BlockKind::Secret, "rows are missing");
                    assert!(all.into_iter().eq(0..ROWS));
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains(&path.display().to_string()), "{error}");
                }
            }
            // What comes in is taken; what a secondary still has brings back the rest.
            let mut appender = committer.appender(Box::new(|_| ()));
            append(&mut appender, ROWS).expect("acknowledged");
            let healthy = copy_of(&pristine, &log).await;
            repair(&log, healthy.log());
            assert!(numbers(&log).expect("whole").into_iter().eq(0..=ROWS));
            assert_eq!(log.verify().faults, []);
            drop(appender);
            healthy.stop().await.expect("stops");
            committer.stop().expect("stops");
            assert!(
                open_and_read(&disk)
                    .expect("stays whole")
                    .into_iter()
                    .eq(0..=ROWS)
            );
        }
    }
}

/// A secondary that held what `pristine` has, and follows `log` from there.
async fn copy_of(pristine: &CrashDisk, log: &Log) -> wal::Follower {
    let disk = Arc::new(pristine.copy());
    let config = FollowerConfig::default();
    let (mut follower, _) =
        open_follower(disk, dir(), log.id(), wal::Epoch(1), &config).expect("opens");
    let mut cursor = log.cursor(follower.tip()).expect("held");
    while let Some(chunk) = cursor.next(1 << 20).expect("reads") {
        let blocks = chunk.parts.concat().into();
        follower.append(blocks).await.expect("continues");
    }
    let (tip, mut durable) = (follower.tip(), follower.log().durable());
    durable.wait_for(|at| *at == tip).await.expect("flushed");
    follower
}

/// Puts whole files of `from` in the place of all damaged ones of `log`.
fn repair(log: &Log, from: &Log) {
    let damage = log.damage().borrow().clone();
    assert!(!damage.is_empty());
    for damaged in damage {
        let bytes = from.export(&damaged.name).expect("is there");
        let mut wrong = bytes.to_vec();
        wrong[bytes.len() / 2] ^= 1;
        let refused = log.install(&damaged.name, wrong.into());
        assert!(refused.is_err(), "{}: took wrong bytes", damaged.name);
        log.install(&damaged.name, bytes).expect("takes it");
    }
    assert!(log.damage().borrow().is_empty());
}

#[tokio::test]
async fn a_flipped_bit_in_a_file_is_never_read_and_is_repaired() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let pristine = filled();
    let (committer, _) = open_primary(Arc::new(pristine.clone()), dir(), &config()).expect("opens");
    compact_now(committer.log()).expect("compacts");
    let healthy = committer.log().clone();
    assert!(numbers(&healthy).expect("reads").into_iter().eq(0..ROWS));
    let whole = pristine.copy();
    // Not the names that readers keep: those go when the log is opened again.
    let in_force = |path: &Path| {
        let place = path.parent().and_then(Path::file_name);
        place.is_some_and(|name| name == "parquet")
    };
    let files: Vec<_> = whole
        .contents()
        .into_iter()
        .filter(|(path, _)| in_force(path))
        .collect();
    assert!(!files.is_empty());
    for _ in 0..60 {
        let disk = whole.copy();
        let (path, bytes) = &files[random.usize(..files.len())];
        let (at, bit, cut) = (
            random.usize(..bytes.len()),
            random.u8(..8),
            random.u8(..8) == 0,
        );
        disk.damage(path, |bytes| {
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << bit;
            }
        });
        let (damaged, recovery) = open_primary(Arc::new(disk), dir(), &config()).expect("opens");
        assert_eq!(recovery.damaged, usize::from(cut));
        let report = damaged.log().verify();
        assert_eq!(report.faults.len(), 1, "byte {at} of {}", path.display());
        assert_eq!(Path::new(&report.faults[0].file), path);
        match numbers(damaged.log()) {
            Err(WalError::Corrupt { file, .. }) => assert_eq!(Path::new(&file), path),
            other => panic!("byte {at} of {}: {other:?}", path.display()),
        }
        repair(damaged.log(), &healthy);
        assert!(
            numbers(damaged.log())
                .expect("whole")
                .into_iter()
                .eq(0..ROWS)
        );
        assert_eq!(damaged.log().verify().faults, []);
        damaged.stop().expect("stops");
    }
    committer.stop().expect("stops");
}

#[test]
fn a_damaged_sealed_segment_does_not_keep_a_primary_from_starting() {
    let pristine = filled();
    let all = segments(&pristine);
    for (path, bytes) in &all[..all.len() - 1] {
        for at in [3, 70, bytes.len() - 3] {
            let disk = pristine.copy();
            // And a block of rows, or all that is around them would follow from them.
            let rows = blocks_of(bytes).into_iter().find(|at| {
                let header = BlockHeader::decode(&bytes[*at..]).expect("valid");
                header.kind == wal::BlockKind::Data
            });
            disk.damage(path, |bytes| {
                bytes[at] ^= 1;
                bytes[rows.expect("rows") + BLOCK_HEADER_LEN + 12] ^= 1;
            });
            let (committer, recovery) =
                open_primary(Arc::new(disk), dir(), &config()).expect("opens");
            assert_eq!(recovery.damaged, 1);
            let mut appender = committer.appender(Box::new(|_| ()));
            append(&mut appender, ROWS).expect("acknowledged");
            numbers(committer.log()).expect_err("rows are missing");
            let (whole, _) =
                open_primary(Arc::new(pristine.copy()), dir(), &config()).expect("opens");
            repair(committer.log(), whole.log());
            assert!(
                numbers(committer.log())
                    .expect("whole")
                    .into_iter()
                    .eq(0..=ROWS)
            );
            whole.stop().expect("stops");
            drop(appender);
            committer.stop().expect("stops");
        }
    }
}

#[tokio::test]
async fn a_follower_cuts_damage_in_its_active_segment_to_fetch_it_again() {
    let disk = filled();
    let (path, bytes) = segments(&disk).pop().expect("an active segment");
    let at = blocks(&bytes)[1];
    disk.damage(&path, |bytes| bytes[at + 100] ^= 1);
    let id = wal::find_log(&disk, dir()).expect("lists").expect("a log");
    let (follower, recovery) = open_follower(
        Arc::new(disk),
        dir(),
        id,
        wal::Epoch(1),
        &FollowerConfig::default(),
    )
    .expect("opens");
    assert_eq!(recovery.torn_tail.expect("reported").offset, at as u64);
    follower.stop().await.expect("stops");
}

#[test]
fn a_newer_format_is_refused_by_name_and_left_alone() {
    let disk = filled();
    let (path, _) = segments(&disk).remove(0);
    disk.damage(&path, |bytes| bytes[8] = wal::FORMAT_VERSION + 1);
    let before = disk.contents();
    let error = open_and_read(&disk).expect_err("refused").to_string();
    assert!(
        error.contains(&format!("format version {}", wal::FORMAT_VERSION + 1))
            && error.contains(&format!("up to {}", wal::FORMAT_VERSION)),
        "{error}"
    );
    assert!(before == disk.contents(), "a refused log was changed");
}

#[test]
fn a_damaged_header_of_the_newest_segment_is_written_again() {
    let pristine = filled();
    let (path, bytes) = segments(&pristine).pop().expect("an active segment");
    for at in 0..blocks(&bytes)[0] {
        let disk = pristine.copy();
        disk.damage(&path, |bytes| bytes[at] ^= 0x20);
        if (8..12).contains(&at) {
            // Indistinguishable from a newer format.
            assert!(open_and_read(&disk).is_err());
            continue;
        }
        let found = open_and_read(&disk).unwrap_or_else(|error| panic!("byte {at}: {error}"));
        assert!(found.into_iter().eq(0..ROWS), "byte {at}");
        let mended = disk.contents().into_iter().find(|(held, _)| *held == path);
        assert!(mended.is_some_and(|(_, held)| held.starts_with(&bytes)));
    }
}

#[test]
fn a_missing_manifest_is_no_reason_to_delete_files() {
    let disk = CrashDisk::new();
    let config = Config {
        keep_segments: 0,
        upkeep_every: std::time::Duration::ZERO,
        ..config()
    };
    let (committer, _) = open_primary(Arc::new(disk.clone()), dir(), &config).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in 0..ROWS {
        append(&mut appender, number).expect("acknowledged");
        compact_now(committer.log()).expect("compacts");
    }
    drop(appender);
    committer.stop().expect("stops");
    let find = |end: &str| {
        let all = disk.contents().into_iter();
        let all = all.filter(|(path, _)| path.to_string_lossy().ends_with(end));
        all.collect::<Vec<_>>()
    };
    assert!(
        find("00000000000000000000.log").is_empty(),
        "the head is retired"
    );
    let (files, manifest) = (find(".parquet"), find("manifest"));
    wal::Disk::remove(&disk, &manifest[0].0).expect("is there");
    let error = open_and_read(&disk).expect_err("refused").to_string();
    assert!(error.contains("manifest"), "{error}");
    assert!(files == find(".parquet"), "files were deleted");
}

#[test]
fn a_manifest_of_a_newer_format_is_refused_and_no_file_is_lost() {
    let disk = filled();
    let (committer, _) = open_primary(Arc::new(disk.clone()), dir(), &config()).expect("opens");
    compact_now(committer.log()).expect("compacts");
    committer.stop().expect("stops");
    let is_manifest = |(path, _): &(PathBuf, Vec<u8>)| path.ends_with("manifest");
    let (path, _) = disk.contents().into_iter().find(is_manifest).expect("one");
    disk.damage(&path, |bytes| bytes[8] = wal::FORMAT_VERSION + 1);
    let before = disk.contents();
    let error = open_and_read(&disk).expect_err("refused").to_string();
    assert!(
        error.contains("manifest")
            && error.contains(&format!("format version {}", wal::FORMAT_VERSION + 1)),
        "{error}"
    );
    assert!(before == disk.contents(), "a refused log was changed");
}

#[tokio::test]
async fn a_foreign_or_diverged_block_is_refused_and_nothing_is_written() {
    let (mine, other) = (filled(), filled());
    let id = wal::find_log(&mine, dir()).expect("lists").expect("a log");
    let (committer, _) = open_primary(Arc::new(other), dir(), &config()).expect("opens");
    let log = committer.log();
    let mut cursor = log.cursor(log.id().genesis()).expect("from the start");
    let foreign: bytes::Bytes = cursor
        .next(1 << 20)
        .expect("reads")
        .expect("blocks")
        .parts
        .concat()
        .into();
    let before = mine.contents();
    let (mut follower, _) = open_follower(
        Arc::new(mine.clone()),
        dir(),
        id,
        wal::Epoch(1),
        &FollowerConfig::default(),
    )
    .expect("opens");
    let tip = follower.tip();
    assert!(matches!(
        follower.append(foreign).await,
        Err(WalError::Diverged { .. })
    ));
    assert!(matches!(
        follower.append(vec![1; 200].into()).await,
        Err(WalError::InvalidBlock(_))
    ));
    assert_eq!(follower.tip(), tip);
    follower.stop().await.expect("stops");
    assert!(before == mine.contents());
    assert!(
        open_follower(
            Arc::new(mine),
            dir(),
            log.id(),
            wal::Epoch(1),
            &FollowerConfig::default()
        )
        .is_err(),
        "foreign log"
    );
    committer.stop().expect("stops");
}

pub(crate) const ROWS: i64 = 69;
