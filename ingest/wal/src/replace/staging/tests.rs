//! A copy is built beside a primary that writes and compacts meanwhile, and ends with the same
//! files. Tests only; must never use the network.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::ids::{Lsn, TableId};
use crate::parquet::{CHUNK_LEN, FileMeta, Window};
use crate::read::fingerprints::FINGERPRINTS;
use crate::{
    Appender, Bundle, Committer, Config, Log, OldLog, OsDisk, Row, Value, compact_now, find_log,
    open_follower, open_primary,
};

/// A primary with small segments.
struct Source {
    dir: TempDir,
    primary: Committer,
    appender: Appender,
    number: i64,
}

impl Source {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let config = Config {
            segment_size: 2_500,
            // Nothing but what the test writes, so that both can be compared at one position.
            upkeep_every: Duration::from_secs(3_600),
            ..Config::default()
        };
        let (primary, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
        Self {
            appender: primary.appender(Box::new(|_| ())),
            primary,
            dir,
            number: 0,
        }
    }

    fn log(&self) -> &Log {
        self.primary.log()
    }

    /// Rows of two tables; their schemas change on the way.
    fn write(&mut self, rows: i64) {
        for _ in 0..rows {
            self.number += 1;
            let name = format!("c{}", self.number / 40 % 5);
            let fields = [
                (Cow::Borrowed("n"), Value::Int(self.number)),
                (Cow::Owned(name), Value::Bool(true)),
            ];
            let row = Row {
                time: self.number * 1_000_000_000,
                tags: &[("t", "a")],
                fields: &fields,
            };
            let table = if self.number % 3 == 0 { "one" } else { "two" };
            let group = self.appender.append(table, &[row]).expect("fits");
            if self.number % 5 == 0 {
                self.appender.wait(group).expect("durable");
            }
        }
    }

    fn compact(&self) {
        compact_now(self.log()).expect("compacts");
    }
}

fn disk() -> Arc<dyn Disk> {
    OsDisk::new()
}

/// Names and contents of all files of a log.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for (prefix, dir) in [("", dir.to_owned()), ("parquet/", dir.join(FILES_DIR))] {
        for name in disk().list(&dir).expect("lists") {
            if name != FILES_DIR {
                let bytes = std::fs::read(dir.join(&name)).expect("reads");
                found.insert(format!("{prefix}{name}"), bytes);
            }
        }
    }
    found
}

async fn follow(log: &Log, follower: &mut Follower) {
    let mut cursor = log.cursor(follower.tip()).expect("held");
    while let Some(chunk) = cursor.next(1_000).expect("reads") {
        let blocks = chunk.parts.concat().into();
        follower.append(blocks).await.expect("continues");
    }
    let mut durable = follower.log().durable();
    let tip = follower.tip();
    durable.wait_for(|at| *at == tip).await.expect("flushed");
}

/// Brings in what is missing; gives up and finds it again before each file.
fn fill(log: &Log, data_dir: &Path, mut staging: Staging) -> Staging {
    while let Some(missing) = staging.wanted().first().cloned() {
        let bytes = log.export_from(&missing.name, missing.held).expect("held");
        staging
            .write(&missing.name, missing.held, &bytes)
            .expect("right");
        drop(staging);
        staging = Staging::find(&disk(), data_dir)
            .expect("reads")
            .expect("is there");
    }
    staging
}

/// The secondary has what the primary has, and goes on like it.
async fn check_equal(source: &mut Source, data_dir: &Path) {
    let (id, epoch) = (source.log().id(), source.log().epoch());
    let config = FollowerConfig::default();
    let (mut follower, recovery) =
        open_follower(disk(), data_dir, id, epoch, &config).expect("opens");
    assert_eq!((recovery.damaged, recovery.torn_tail), (0, None));
    for _ in 0..3 {
        source.write(150);
        follow(source.log(), &mut follower).await;
        source.compact();
        compact_now(follower.log()).expect("compacts");
        let (left, right) = (source.log().snapshot(), follower.log().snapshot());
        assert_eq!(left.end(), right.end());
        assert_eq!(left.file_infos(), right.file_infos());
        let theirs = contents(&log_dir(source.dir.path(), id));
        let ours = contents(&log_dir(data_dir, id));
        let mut same = 0;
        // Fingerprints are as many as there are files.
        for (name, bytes) in ours.iter().filter(|(name, _)| *name != FINGERPRINTS) {
            // The primary may have retired a segment that is here, and the other way round.
            if let Some(theirs) = theirs.get(name) {
                assert!(theirs == bytes, "{name} differs");
                same += usize::from(name.ends_with(".log"));
            }
        }
        assert!(same > 1, "only {same} segments in common");
        assert_eq!(ours.get("manifest"), theirs.get("manifest"));
        assert_eq!(follower.log().verify().faults, []);
    }
    follower.stop().await.expect("stops");
    assert!(Staging::find(&disk(), data_dir).expect("reads").is_none());
}

#[tokio::test]
async fn a_copy_built_while_the_primary_goes_on_has_the_same_files() {
    let mut source = Source::new();
    source.write(600);
    source.compact();
    let bundle = source.log().bundle();
    assert!(bundle.files() > 1 && bundle.bytes() > 0 && bundle.compacted().lsn > Lsn(0));
    let here = tempfile::tempdir().expect("dir");
    let staging = Staging::begin(&disk(), here.path(), bundle.manifest()).expect("begins");
    assert_eq!(staging.compacted(), bundle.compacted());
    assert!(!staging.is_complete());
    // Nothing is in force yet, and nothing can be put in force.
    assert_eq!(find_log(disk().as_ref(), here.path()).expect("reads"), None);
    let refused = staging.swap_in(OldLog::Remove, None);
    assert!(matches!(refused, Err(WalError::WrongLog { .. })));
    let staging = Staging::find(&disk(), here.path()).expect("reads");
    let staging = staging.expect("is there");
    let (mut follower, recovery) = staging.open_log(&FollowerConfig::default()).expect("opens");
    assert_eq!((follower.tip(), recovery.damaged), (bundle.compacted(), 0));
    source.write(100);
    follow(source.log(), &mut follower).await;
    let staging = fill(source.log(), here.path(), staging);
    assert!(staging.is_complete());
    let progress = staging.progress();
    assert_eq!(
        (progress.files, progress.bytes),
        (bundle.files(), bundle.bytes())
    );
    assert_eq!(
        (progress.files_held, progress.bytes_held),
        (bundle.files(), bundle.bytes())
    );
    follower.stop().await.expect("stops");
    assert_eq!(staging.swap_in(OldLog::Remove, None).expect("swaps"), None);
    check_equal(&mut source, here.path()).await;
}

#[tokio::test]
async fn a_copy_of_a_log_that_was_never_compacted_begins_at_its_beginning() {
    let mut source = Source::new();
    source.write(20);
    let here = tempfile::tempdir().expect("dir");
    let (id, epoch) = (source.log().id(), source.log().epoch());
    let staging = Staging::begin_empty(&disk(), here.path(), id, epoch).expect("begins");
    let same = Staging::begin(&disk(), here.path(), source.log().bundle().manifest());
    assert_eq!(same.expect("begins").compacted(), staging.compacted());
    assert_eq!((staging.epoch(), staging.is_complete()), (epoch, true));
    let (mut follower, _) = staging.open_log(&FollowerConfig::default()).expect("opens");
    follow(source.log(), &mut follower).await;
    follower.stop().await.expect("stops");
    staging.swap_in(OldLog::Keep, None).expect("swaps");
    check_equal(&mut source, here.path()).await;
}

#[tokio::test]
async fn a_bundle_keeps_replaced_files_and_a_newer_manifest_needs_only_what_is_new() {
    let mut source = Source::new();
    source.write(600);
    source.compact();
    let bundle = source.log().bundle();
    let here = tempfile::tempdir().expect("dir");
    let staging = Staging::begin(&disk(), here.path(), bundle.manifest()).expect("begins");
    let (mut follower, _) = staging.open_log(&FollowerConfig::default()).expect("opens");
    // Files come and go at the primary; each keeps pace.
    let early = follower.tip();
    for _ in 0..3 {
        source.write(50);
        follow(source.log(), &mut follower).await;
    }
    let gone = forget(&mut source, &bundle, &mut follower).await;
    let mut staging = fill(source.log(), here.path(), staging);
    assert!(staging.is_complete(), "the bundle held {gone:?}");
    drop(bundle);
    source.log().state().kept.history().clear();
    assert!(source.log().export(&gone[0]).is_none(), "nobody holds it");
    let newer = source.log().bundle();
    let refused = staging.refresh(newer.manifest(), early);
    assert!(matches!(refused, Err(WalError::NotHeld(_))), "{refused:?}");
    assert!(staging.is_complete());
    follow(source.log(), &mut follower).await;
    staging
        .refresh(newer.manifest(), follower.tip())
        .expect("newer");
    assert_eq!(staging.compacted(), newer.compacted());
    assert!(!staging.is_complete());
    let staging = fill(source.log(), here.path(), staging);
    follower.stop().await.expect("stops");
    staging.swap_in(OldLog::Remove, None).expect("swaps");
    check_equal(&mut source, here.path()).await;
}

/// Goes on until files of the bundle are gone everywhere else.
async fn forget(source: &mut Source, bundle: &Bundle, follower: &mut Follower) -> Vec<String> {
    for _ in 0..200 {
        source.write(100);
        follow(source.log(), follower).await;
        source.compact();
        let manifest = Manifest::decode("m", bundle.manifest()).expect("valid");
        let names = manifest.files.iter().map(FileMeta::name);
        let snapshot = source.log().snapshot();
        let forgotten = |name: &String| {
            let known = snapshot.files.find(name).is_some();
            !known && source.log().state().kept.replaced(name).is_none()
        };
        let gone: Vec<String> = names.filter(forgotten).collect();
        if !gone.is_empty() {
            return gone;
        }
    }
    panic!("no file was replaced");
}

#[tokio::test]
async fn a_log_that_ends_before_its_files_begins_where_they_end() {
    let mut source = Source::new();
    source.write(300);
    let here = tempfile::tempdir().expect("dir");
    let (id, epoch) = (source.log().id(), source.log().epoch());
    let first = Staging::begin_empty(&disk(), here.path(), id, epoch).expect("begins");
    let config = FollowerConfig::default();
    let (follower, _) = first.open_log(&config).expect("opens");
    follower.stop().await.expect("stops");
    source.compact();
    // As after a crash that lost what the follower had not yet made durable.
    let bundle = source.log().bundle();
    let manifest = Manifest::decode("m", bundle.manifest()).expect("valid");
    put_manifest(disk().as_ref(), &first.dir, &manifest).expect("writes");
    let found = Staging::find(&disk(), here.path()).expect("reads");
    let staging = found.expect("is there");
    let (mut follower, _) = staging.open_log(&config).expect("opens");
    assert_eq!(follower.tip(), bundle.compacted());
    follow(source.log(), &mut follower).await;
    let staging = fill(source.log(), here.path(), staging);
    follower.stop().await.expect("stops");
    staging.swap_in(OldLog::Remove, None).expect("swaps");
    check_equal(&mut source, here.path()).await;
}

/// A manifest of files of any bytes.
fn manifest_of(log: LogId, files: &[Vec<u8>]) -> Vec<u8> {
    let meta = |(ordinal, bytes): (usize, &Vec<u8>)| FileMeta {
        table: TableId(1),
        ordinal: ordinal as u64,
        window: Window::ALL,
        first: Lsn(0),
        end: Lsn(9),
        rows: 9,
        min_time: 0,
        max_time: 9,
        made_at: 0,
        bytes: bytes.len() as u64,
        chunks: bytes
            .chunks(CHUNK_LEN)
            .map(crate::bytes::checksum)
            .collect(),
    };
    let mut manifest = FileSet::empty(log.genesis()).manifest(log, Epoch(1));
    manifest.files = files.iter().enumerate().map(meta).collect();
    manifest.encode()
}

fn random_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::fill(&mut bytes);
    bytes
}

#[test]
fn what_is_partly_here_goes_on_after_its_last_right_chunk() {
    let here = tempfile::tempdir().expect("dir");
    let log = LogId::random();
    let files = [
        random_bytes(3 * CHUNK_LEN + 77),
        Vec::new(),
        random_bytes(2 * CHUNK_LEN),
    ];
    let manifest = manifest_of(log, &files);
    let mut staging = Staging::begin(&disk(), here.path(), &manifest).expect("begins");
    let wanted = staging.wanted();
    let names: Vec<String> = wanted.iter().map(|missing| missing.name.clone()).collect();
    assert_eq!(names.len(), 2, "the empty one is here already: {names:?}");
    let chunk = CHUNK_LEN as u64;
    let [first, second] = [&names[0], &names[1]];
    // Not aligned, not there, not right: nothing is kept.
    assert!(staging.write(first, 0, &files[0][..100]).is_err());
    assert!(staging.write(first, chunk, &files[0][CHUNK_LEN..]).is_err());
    let mut wrong = files[0][..2 * CHUNK_LEN].to_vec();
    wrong[CHUNK_LEN + 5] ^= 1;
    assert!(staging.write(first, 0, &wrong).is_err());
    assert!(staging.write("parquet/other", 0, &[]).is_err());
    assert_eq!(staging.wanted(), wanted);
    staging
        .write(first, 0, &files[0][..2 * CHUNK_LEN])
        .expect("right");
    staging
        .write(second, 0, &files[2][..CHUNK_LEN])
        .expect("right");
    let part = staging.dir.join(format!("{first}.part"));
    drop(staging);
    // What a crash leaves: bytes behind the last whole chunk, and one that is wrong.
    let mut torn = std::fs::read(&part).expect("reads");
    torn[CHUNK_LEN + 9] ^= 1;
    torn.extend([7; 1000]);
    std::fs::write(&part, torn).expect("writes");
    let found = Staging::find(&disk(), here.path()).expect("reads");
    let mut staging = found.expect("is there");
    let held: Vec<u64> = staging.wanted().iter().map(|file| file.held).collect();
    assert_eq!(held, [chunk, chunk]);
    assert_eq!(std::fs::metadata(&part).expect("is there").len(), chunk);
    staging
        .write(first, chunk, &files[0][CHUNK_LEN..])
        .expect("right");
    assert!(staging.write(first, 0, &files[0]).is_err(), "is whole");
    // Starting over with a manifest that has another second file keeps the first.
    let other = [files[0].clone(), Vec::new(), random_bytes(CHUNK_LEN + 1)];
    let manifest = manifest_of(log, &other);
    let mut staging = {
        drop(staging);
        Staging::begin(&disk(), here.path(), &manifest).expect("begins")
    };
    assert_eq!(staging.wanted().len(), 1);
    assert_eq!(staging.wanted()[0].held, 0);
    staging.write(second, 0, &other[2]).expect("right");
    assert!(staging.is_complete());
    assert_eq!(
        std::fs::read(staging.dir.join(first)).expect("reads"),
        files[0]
    );
    staging.discard().expect("removes");
    assert!(
        Staging::find(&disk(), here.path())
            .expect("reads")
            .is_none()
    );
}

#[test]
fn beginning_anew_reads_no_whole_file_again_that_was_checked_before() {
    let here = tempfile::tempdir().expect("dir");
    let log = LogId::random();
    let files = [random_bytes(CHUNK_LEN + 77), random_bytes(500)];
    let manifest = manifest_of(log, &files);
    let mut staging = Staging::begin(&disk(), here.path(), &manifest).expect("begins");
    let names: Vec<String> = staging.wanted().into_iter().map(|file| file.name).collect();
    for (name, bytes) in names.iter().zip(&files) {
        staging.write(name, 0, bytes).expect("right");
    }
    // Whoever reads it finds this out.
    let path = staging.dir.join(&names[1]);
    let mut rotten = files[1].clone();
    rotten[3] ^= 1;
    std::fs::write(&path, &rotten).expect("writes");
    let whole = staging.progress();
    drop(staging);
    let staging = Staging::begin(&disk(), here.path(), &manifest).expect("begins");
    assert_eq!(staging.progress(), whole);
    drop(staging);
    // Of another length it cannot be that file.
    std::fs::write(&path, &rotten[1..]).expect("writes");
    let mut staging = Staging::begin(&disk(), here.path(), &manifest).expect("begins");
    assert_eq!(staging.wanted().len(), 1);
    staging.write(&names[1], 0, &files[1]).expect("right");
    drop(staging);
    // Under its name another file is awaited, of the same length.
    let other = [files[0].clone(), random_bytes(500)];
    let staging = Staging::begin(&disk(), here.path(), &manifest_of(log, &other));
    assert_eq!(staging.expect("begins").wanted()[0].name, names[1]);
    // No manifest vouches for the one that is here, although it is the right one.
    std::fs::write(&path, &other[1]).expect("writes");
    let dir = log_dir(&here.path().join(INCOMING), log);
    std::fs::remove_file(dir.join(MANIFEST)).expect("removes");
    let staging = Staging::begin(&disk(), here.path(), &manifest_of(log, &other));
    assert!(staging.expect("begins").is_complete());
    std::fs::write(&path, &rotten).expect("writes");
    std::fs::remove_file(dir.join(MANIFEST)).expect("removes");
    let staging = Staging::begin(&disk(), here.path(), &manifest_of(log, &other));
    assert_eq!(staging.expect("begins").wanted().len(), 1);
}

#[test]
fn a_manifest_says_of_which_log_it_is_and_damaged_ones_do_not() {
    let log = LogId::random();
    let manifest = manifest_of(log, &[random_bytes(10)]);
    assert_eq!(Staging::log_of(&manifest).expect("valid"), log);
    let refused = Staging::log_of(&manifest[1..]);
    assert!(matches!(refused, Err(WalError::Corrupt { .. })));
}

#[test]
fn a_staged_log_of_another_history_goes_when_one_is_begun() {
    let here = tempfile::tempdir().expect("dir");
    let (one, two) = (LogId::random(), LogId::random());
    let files = [random_bytes(10)];
    Staging::begin(&disk(), here.path(), &manifest_of(one, &files)).expect("begins");
    Staging::begin(&disk(), here.path(), &manifest_of(two, &files)).expect("begins");
    let found = Staging::find(&disk(), here.path()).expect("reads");
    assert_eq!(found.expect("is there").log(), two);
    let incoming = disk().list(&here.path().join(INCOMING)).expect("lists");
    assert_eq!(incoming, [format!("{LOG_PREFIX}{two}")]);
}

#[test]
fn boundaries_are_places_that_the_log_has() {
    let mut source = Source::new();
    source.write(300);
    let log = source.log();
    let end = log.end();
    let all = log.boundaries(Lsn(0), Lsn(u64::MAX), usize::MAX);
    assert!(all.len() > 60, "{} boundaries", all.len());
    assert_eq!(
        (Some(all[0]), all[all.len() - 1]),
        (log.oldest().position(), end)
    );
    for at in &all {
        assert_eq!(log.chain_at(at.lsn), Some(at.chain), "{at}");
    }
    assert!(all.windows(2).all(|pair| pair[0].lsn < pair[1].lsn));
    let few = log.boundaries(Lsn(50), Lsn(250), 9);
    assert_eq!(few.len(), 9);
    assert!(few[0].lsn >= Lsn(50) && few[8].lsn <= Lsn(250));
    assert!(few.iter().all(|at| all.contains(at)));
    let inside = |at: &&Position| at.lsn >= Lsn(50) && at.lsn <= Lsn(250);
    let outermost: Vec<&Position> = all.iter().filter(inside).collect();
    assert_eq!(
        (&few[0], &few[8]),
        (outermost[0], outermost[outermost.len() - 1])
    );
}
