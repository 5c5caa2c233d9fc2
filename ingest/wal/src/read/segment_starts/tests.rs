//! What is retired is remembered: a log can always tell which older copies are beginnings of it,
//! and whatever becomes of the file, it never says anything else. Tests only; must never rely on
//! the timing of upkeep.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::paths::log_dir;
use crate::tests::refusing_disk::RefusingDisk;
use crate::{
    Appender, Committer, Config, Follower, FollowerConfig, Log, OldLog, OsDisk, Row, Staging,
    Value, compact_now, open_follower, open_primary, save_diverged,
};

/// A primary with small segments.
struct Source {
    dir: TempDir,
    primary: Committer,
    appender: Appender,
    number: i64,
}

/// Opens a primary that keeps none of the segments that are in files.
fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Committer {
    open_keeping(disk, dir, 0)
}

fn open_keeping(disk: &Arc<dyn Disk>, dir: &Path, keep_segments: u64) -> Committer {
    let config = Config {
        segment_size: 2_500,
        keep_segments,
        upkeep_every: Duration::from_millis(10),
        ..Config::default()
    };
    let opened = open_primary(Arc::clone(disk), dir, &config);
    let (primary, recovery) = opened.expect("opens");
    assert_eq!((recovery.damaged, recovery.torn_tail), (0, None));
    primary
}

impl Source {
    fn new(disk: &Arc<dyn Disk>) -> Self {
        Self::open(disk, tempfile::tempdir().expect("dir"))
    }

    fn open(disk: &Arc<dyn Disk>, dir: TempDir) -> Self {
        Self::of(open(disk, dir.path()), dir)
    }

    /// A log of which everything sealed is in files, and the order to retire it there; but nothing
    /// is gone yet.
    async fn due(disk: &Arc<dyn Disk>) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let mut source = Self::of(open_keeping(disk, dir.path(), u64::MAX), dir);
        source.write(60);
        compact_now(source.log()).expect("compacts");
        let source = Self::open(disk, source.close());
        source.ordered().await;
        assert_eq!(source.log().oldest().lsn, Lsn(0));
        source
    }

    fn of(primary: Committer, dir: TempDir) -> Self {
        Self {
            appender: primary.appender(Box::new(|_| ())),
            primary,
            dir,
            number: 0,
        }
    }

    fn close(self) -> TempDir {
        drop(self.appender);
        self.primary.stop().expect("stops");
        self.dir
    }

    fn log(&self) -> &Log {
        self.primary.log()
    }

    fn file(&self) -> PathBuf {
        log_dir(self.dir.path(), self.log().id()).join(PAST)
    }

    fn write(&mut self, rows: i64) {
        for _ in 0..rows {
            self.number += 1;
            let fields = [(Cow::Borrowed("n"), Value::Int(self.number))];
            let row = Row {
                time: self.number,
                tags: &[("t", "a")],
                fields: &fields,
            };
            let group = self.appender.append("one", &[row]).expect("fits");
            self.appender.wait(group).expect("durable");
        }
    }

    /// Waits for the order to retire what is in files; up to where.
    async fn ordered(&self) -> Lsn {
        let log = self.log();
        let mut durable = log.durable();
        loop {
            let retired = log.snapshot().catalog().retired();
            if retired >= log.snapshot().compacted().lsn {
                return retired;
            }
            durable.changed().await.expect("the log lives");
        }
    }

    async fn retire(&self) {
        compact_now(self.log()).expect("compacts");
        let retired = self.ordered().await;
        // The order may have sealed one more segment, which is compacted now and retired later.
        compact_now(self.log()).expect("retires");
        assert!(self.log().oldest().lsn >= retired);
    }
}

fn os() -> Arc<dyn Disk> {
    OsDisk::new()
}

fn all(log: &Log) -> Vec<Position> {
    log.boundaries(Lsn(0), Lsn(u64::MAX), usize::MAX)
}

/// Where the segments begin that are held.
fn held(log: &Log) -> Vec<Position> {
    let snapshot = log.snapshot();
    let sealed = snapshot.sealed.iter().map(|segment| segment.start());
    let known = sealed.filter_map(Boundary::position);
    known.chain([snapshot.tail.start]).collect()
}

/// A log whose first segments are retired; where they began, and all boundaries it ever had there.
async fn retired(disk: &Arc<dyn Disk>) -> (Source, Vec<Position>, Vec<Position>) {
    let mut source = Source::new(disk);
    source.write(60);
    let (all, starts) = (all(source.log()), held(source.log()));
    source.retire().await;
    let oldest = source.log().oldest();
    let below = |of: Vec<Position>| {
        let below = of.into_iter().filter(|at| at.lsn < oldest.lsn);
        below.collect::<Vec<_>>()
    };
    let (starts, all) = (below(starts), below(all));
    assert!(starts.len() > 3 && all.len() > 2 * starts.len());
    (source, starts, all)
}

/// The log knows exactly these starts below its oldest block, of all the boundaries that were
/// there.
fn check(log: &Log, starts: &[Position], all: &[Position]) {
    for at in all {
        let known = starts.contains(at).then_some(at.chain);
        assert_eq!(log.chain_at(at.lsn), known, "{at}");
        let refused = log.cursor(*at);
        assert!(matches!(refused, Err(WalError::NotHeld(held)) if held == *at));
    }
    let oldest = log.oldest().lsn;
    assert!(super::tests::all(log).iter().all(|at| at.lsn >= oldest));
    let mut landmarks = starts.to_vec();
    landmarks.extend(held(log));
    let end = log.end();
    landmarks.retain(|at| at.lsn < end.lsn);
    landmarks.push(end);
    assert_eq!(log.landmarks(usize::MAX), landmarks);
    // The newest starts, and the end besides, unless a segment begins there.
    let ends = usize::from(held(log).last() != Some(&end));
    for most in 0..landmarks.len() {
        let kept = (most + ends).clamp(1, landmarks.len());
        let newest = &landmarks[landmarks.len() - kept..];
        assert_eq!(log.landmarks(most), newest, "{most}");
    }
}

/// What the file says.
fn on_disk(path: &Path, log: LogId) -> Vec<Position> {
    let bytes = std::fs::read(path).expect("is there");
    let records = bytes.chunks(RECORD);
    let whole = |record: &[u8]| decode(log)(record).expect("whole");
    records.map(whole).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[tokio::test]
async fn below_its_oldest_block_a_log_says_what_it_said_when_it_was_whole() {
    let (source, starts, all) = retired(&os()).await;
    check(source.log(), &starts, &all);
    let id = source.log().id();
    assert_eq!(on_disk(&source.file(), id), starts);
    let dir = source.close();
    for _ in 0..2 {
        let primary = open(&os(), dir.path());
        check(primary.log(), &starts, &all);
        primary.stop().expect("stops");
    }
}

#[tokio::test]
async fn what_is_retired_later_is_added_and_nothing_is_written_twice() {
    let (mut source, mut starts, mut known) = retired(&os()).await;
    let id = source.log().id();
    let before = std::fs::read(source.file()).expect("is there");
    compact_now(source.log()).expect("nothing to do");
    assert!(std::fs::read(source.file()).expect("is there") == before);
    for reopened in [false, true] {
        if reopened {
            source = Source::open(&os(), source.close());
        }
        source.write(40);
        let (more, held) = (all(source.log()), held(source.log()));
        source.retire().await;
        let oldest = source.log().oldest().lsn;
        starts.extend(held.iter().filter(|at| at.lsn < oldest));
        known.extend(more.iter().filter(|at| at.lsn < oldest));
        check(source.log(), &starts, &known);
        assert_eq!(on_disk(&source.file(), id), starts);
    }
    let bytes = std::fs::read(source.file()).expect("is there");
    assert!(bytes.starts_with(&before), "only added to");
}

#[tokio::test]
async fn a_crash_before_segments_are_gone_leaves_both_and_is_no_contradiction() {
    let source = Source::due(&os()).await;
    let id = source.log().id();
    let copy = tempfile::tempdir().expect("dir");
    copy_dir(source.dir.path(), copy.path());
    let known = all(source.log());
    source.retire().await;
    let starts = on_disk(&source.file(), id);
    // Durable is what was remembered, and nothing was removed yet; or one segment was.
    let file = log_dir(copy.path(), id).join(PAST);
    std::fs::copy(source.file(), &file).expect("copies");
    for crash in 0..2 {
        let primary = open(&os(), copy.path());
        let log = primary.log();
        assert_eq!(log.oldest(), starts[crash].into());
        assert_eq!(log.state().starts.starts().as_slice(), starts);
        for at in known.iter().filter(|at| at.lsn >= log.oldest().lsn) {
            assert_eq!(log.chain_at(at.lsn), Some(at.chain));
            log.cursor(*at).expect("held");
        }
        assert!(log.landmarks(usize::MAX).starts_with(&starts));
        if crash == 1 {
            compact_now(log).expect("retires");
            assert_eq!(on_disk(&file, id), starts);
            assert!(log.oldest().lsn > starts[starts.len() - 1].lsn);
        }
        primary.stop().expect("stops");
        let first = log_dir(copy.path(), id).join(crate::paths::segment_name(Lsn(0)));
        if crash == 0 {
            std::fs::remove_file(first).expect("is there");
        }
    }
}

#[tokio::test]
async fn a_damaged_record_costs_only_what_is_behind_it() {
    let (source, starts, all) = retired(&os()).await;
    let (id, file) = (source.log().id(), source.file());
    let dir = source.close();
    let whole = std::fs::read(&file).expect("is there");
    let genesis = &starts[..1];
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&file, &damaged).expect("writes");
        let known = &starts[..(at / RECORD).max(1)];
        let found = read(os().as_ref(), file.parent().expect("a directory"), id);
        assert_eq!(found, starts[..at / RECORD], "byte {at}");
        if at % 7 == 0 {
            let primary = open(&os(), dir.path());
            check(primary.log(), known, &all);
            primary.stop().expect("stops");
        }
    }
    std::fs::remove_file(&file).expect("removes");
    let primary = open(&os(), dir.path());
    check(primary.log(), genesis, &all);
    primary.stop().expect("stops");
}

#[tokio::test]
async fn a_torn_record_is_cut_and_what_comes_next_is_written_over_it() {
    let (source, starts, known) = retired(&os()).await;
    let (id, file) = (source.log().id(), source.file());
    let dir = source.close();
    let whole = std::fs::read(&file).expect("is there");
    let last = starts.len() - 1;
    for torn in [1, RECORD / 2, RECORD - 1] {
        let copy = tempfile::tempdir().expect("dir");
        copy_dir(dir.path(), copy.path());
        let mut bytes = whole[..last * RECORD + torn].to_vec();
        // Some of a write may have come, all of it or something else.
        bytes.extend(vec![0; torn * 3]);
        std::fs::write(log_dir(copy.path(), id).join(PAST), bytes).expect("writes");
        let mut source = Source::open(&os(), copy);
        check(source.log(), &starts[..last], &known);
        source.write(40);
        let held = held(source.log());
        source.retire().await;
        let oldest = source.log().oldest().lsn;
        let mut left = starts[..last].to_vec();
        left.extend(held.iter().filter(|at| at.lsn < oldest));
        assert_eq!(on_disk(&source.file(), id), left);
    }
}

#[tokio::test]
async fn what_contradicts_the_log_is_not_believed() {
    let mut source = Source::new(&os());
    source.write(60);
    let (id, starts) = (source.log().id(), held(source.log()));
    let (all, file) = (all(source.log()), source.file());
    let dir = source.close();
    let inside = all.iter().find(|at| !starts.contains(at)).expect("one");
    let behind = Position {
        lsn: Lsn(1 << 40),
        chain: Chain(1),
    };
    let mut other = starts[1];
    other.chain.0 ^= 1;
    for wrong in [other, *inside, behind] {
        let mut claimed = vec![starts[0]];
        claimed.extend([wrong, starts[2]]);
        claimed.sort_by_key(|at| at.lsn);
        std::fs::write(&file, encode(id, &claimed)).expect("writes");
        let primary = open(&os(), dir.path());
        let before = claimed.iter().position(|at| *at == wrong);
        let believed = primary.log().state().starts.starts();
        assert_eq!(believed.as_slice(), &claimed[..before.expect("is in it")]);
        for at in &all {
            assert_eq!(primary.log().chain_at(at.lsn), Some(at.chain));
        }
        assert_eq!(primary.log().chain_at(behind.lsn), None);
        primary.stop().expect("stops");
    }
    // Another log's, however whole.
    std::fs::write(&file, encode(LogId::random(), &starts)).expect("writes");
    assert_eq!(read(os().as_ref(), file.parent().expect("one"), id), []);
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

#[tokio::test]
async fn a_log_that_was_brought_in_knows_what_its_source_knows() {
    let (mut source, _, known) = retired(&os()).await;
    source.write(40);
    let known = [known, all(source.log())].concat();
    // In files, but still held there.
    compact_now(source.log()).expect("compacts");
    let (id, bundle) = (source.log().id(), source.log().bundle());
    let here = tempfile::tempdir().expect("dir");
    let mut staging = Staging::begin(&os(), here.path(), bundle.manifest()).expect("begins");
    let past = source.log().export_from(PAST, 0).expect("is there");
    assert_eq!(past, source.log().segment_starts());
    let mut damaged = past.to_vec();
    damaged[RECORD + 3] ^= 1;
    let foreign = encode(LogId::random(), &known);
    for records in [&foreign, &damaged[..], &past, &past[..RECORD + 5], &past] {
        staging.take_segment_starts(records).expect("takes");
    }
    let end = bundle.compacted().lsn;
    let below = |at: &&Position| at.lsn < end;
    let starts = source.log().landmarks(usize::MAX);
    let starts: Vec<Position> = starts.iter().filter(below).copied().collect();
    let file = log_dir(&here.path().join(crate::paths::INCOMING), id).join(PAST);
    assert_eq!(on_disk(&file, id), starts);
    drop(staging);
    let staging = Staging::find(&os(), here.path()).expect("reads");
    let mut staging = staging.expect("is there");
    for missing in staging.wanted() {
        let bytes = source.log().export(&missing.name).expect("held");
        staging.write(&missing.name, 0, &bytes).expect("right");
    }
    let config = FollowerConfig::default();
    let (mut follower, _) = staging.open_log(&config).expect("opens");
    let known: Vec<Position> = known.iter().filter(below).copied().collect();
    check(follower.log(), &starts, &known);
    follow(source.log(), &mut follower).await;
    follower.stop().await.expect("stops");
    staging.swap_in(OldLog::Remove, None).expect("swaps");
    let opened = open_follower(os(), here.path(), id, source.log().epoch(), &config);
    let (mut follower, recovery) = opened.expect("opens");
    assert_eq!(recovery.damaged, 0);
    check(follower.log(), &starts, &known);
    follow(source.log(), &mut follower).await;
    assert!(follower.log().landmarks(usize::MAX).starts_with(&starts));
    follower.stop().await.expect("stops");
    // Another attempt begins with nothing: it may be another history.
    Staging::begin(&os(), here.path(), bundle.manifest()).expect("begins");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_log_that_is_cut_vouches_for_nothing_behind_the_cut() {
    let (mut source, starts, _) = retired(&os()).await;
    source.write(10);
    let (id, file, all) = (source.log().id(), source.file(), all(source.log()));
    let dir = source.close();
    let at = all[all.len() - 3];
    assert!(at.lsn >= starts[starts.len() - 1].lsn);
    let mut forged = starts.clone();
    forged.extend(&all[all.len() - 3..]);
    std::fs::write(&file, encode(id, &forged)).expect("writes");
    save_diverged(&os(), dir.path(), id, at).expect("held");
    forged.truncate(starts.len() + 1);
    assert_eq!(on_disk(&file, id), forged, "what is at the cut is right");
}

#[tokio::test]
async fn a_full_disk_is_relieved_segment_by_segment_and_nothing_is_forgotten() {
    let full = Arc::new(RefusingDisk::default());
    let disk: Arc<dyn Disk> = Arc::<RefusingDisk>::clone(&full);
    let source = Source::due(&disk).await;
    let starts = held(source.log());
    full.refuse(|operation, path| {
        let is_it = operation == "create" && path.ends_with(PAST_NEW);
        is_it.then(|| io::Error::from(io::ErrorKind::StorageFull))
    });
    for gone in 1..3 {
        compact_now(source.log()).expect("retires one");
        assert_eq!(source.log().oldest(), starts[gone].into());
        assert_eq!(source.log().chain_at(starts[1].lsn), Some(starts[1].chain));
        assert!(!source.file().exists());
    }
    full.relent();
    source.retire().await;
    let oldest = source.log().oldest().lsn;
    let gone: Vec<Position> = starts.into_iter().filter(|at| at.lsn < oldest).collect();
    assert_eq!(on_disk(&source.file(), source.log().id()), gone);
    assert!(gone.len() > 3 && source.log().state().starts.is_saved());
}

#[test]
fn what_is_too_much_is_thinned_out_and_the_newest_stays() {
    let at = |lsn| Position {
        lsn: Lsn(lsn),
        chain: Chain(7),
    };
    for count in 1..40 {
        let mut starts: Vec<Position> = (0..count).map(at).collect();
        thin(&mut starts, 10);
        let least = usize::try_from(count).expect("small").min(5);
        assert!((least..=10).contains(&starts.len()), "{count}");
        assert_eq!(starts.last(), Some(&at(count - 1)), "{count}");
    }
}
