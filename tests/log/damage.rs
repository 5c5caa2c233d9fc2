//! Flipped bits, cut files and foreign files: found, named, never served.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tests::crash_disk::CrashDisk;
use tests::workload::{append, numbers};
use wal::{BLOCK_HEADER_LEN, BlockHeader, Config, WalError, open_follower, open_primary};

const ROWS: i64 = 66;

fn dir() -> &'static Path {
    Path::new("data")
}

fn config() -> Config {
    Config {
        segment_size: 4000,
        ..Config::default()
    }
}

fn filled() -> CrashDisk {
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

fn open_and_read(disk: &CrashDisk) -> Result<Vec<i64>, WalError> {
    let (committer, _) = open_primary(Arc::new(disk.clone()), dir(), &config())?;
    let found = numbers(committer.log());
    committer.stop()?;
    found
}

fn segments(disk: &CrashDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let all = disk.contents();
    assert!(all.len() > 2, "{} segments", all.len());
    all
}

/// Offsets of the blocks in an active segment's bytes.
fn blocks(bytes: &[u8]) -> Vec<usize> {
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

#[test]
fn damage_before_acknowledged_blocks_is_never_taken_for_a_torn_tail() {
    let pristine = filled();
    let (path, bytes) = segments(&pristine).pop().expect("an active segment");
    let blocks = blocks(&bytes);
    assert!(blocks.len() > 3);
    for at in &blocks[..blocks.len() - 1] {
        for inside in [9, 70, BLOCK_HEADER_LEN + 12] {
            let disk = pristine.copy();
            disk.damage(&path, |bytes| bytes[at + inside] ^= 4);
            match open_and_read(&disk) {
                Err(WalError::Corrupt { file, offset, .. }) => {
                    assert_eq!((Path::new(&file), offset), (path.as_path(), *at as u64));
                }
                other => panic!("block at {at}: {other:?}"),
            }
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
    let (follower, recovery) =
        open_follower(Arc::new(disk), dir(), id, wal::Epoch(1)).expect("opens");
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
        error.contains("format version 2") && error.contains("up to 1"),
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
    let (mut follower, _) =
        open_follower(Arc::new(mine.clone()), dir(), id, wal::Epoch(1)).expect("opens");
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
        open_follower(Arc::new(mine), dir(), log.id(), wal::Epoch(1)).is_err(),
        "foreign log"
    );
    committer.stop().expect("stops");
}
