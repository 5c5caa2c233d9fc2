//! Damage, an unfinished write, a crash and a secondary, in every combination, on disks in memory:
//! each acknowledged row is on some node afterwards, and where a secondary has it the primary gets
//! it back by itself. Must never take a loss that was not announced.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tests::crash_disk::CrashDisk;
use tests::workload::{append, numbers};
use wal::{
    BlockHeader, Config, Disk, Epoch, Follower, FollowerConfig, GiveUp, Log, LogId, Position,
    Recovery, Unreadable, WalError, find_broken, find_end, find_unreadable, give_up, open_follower,
    open_primary, open_to_add, take_unreadable,
};

use crate::damage::{blocks, dir};

fn arc(disk: &CrashDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn open(disk: &CrashDisk, config: &Config) -> Result<(wal::Committer, Recovery), WalError> {
    open_primary(arc(disk), dir(), config)
}

/// A log of acknowledged rows, and the bytes of one more write that a crash may have cut short.
struct Written {
    config: Config,
    id: LogId,
    /// With nothing but what was acknowledged.
    acknowledged: CrashDisk,
    rows: i64,
    end: Position,
    /// The newest segment, where its acknowledged bytes end, and what would have come then.
    newest: PathBuf,
    durable: usize,
    next: Vec<u8>,
}

fn newest(disk: &CrashDisk) -> (PathBuf, Vec<u8>) {
    let mut all = disk.contents();
    all.retain(|(path, _)| path.extension().is_some_and(|kind| kind == "log"));
    all.pop().expect("a segment")
}

/// A log whose newest segment has blocks, and was not about to be sealed.
fn written(random: &mut fastrand::Rng) -> Written {
    loop {
        let config = Config {
            segment_size: [2_500, 6_000, 100_000][random.usize(..3)],
            ..Config::default()
        };
        let disk = CrashDisk::new();
        let (committer, _) = open(&disk, &config).expect("opens");
        let (rows, id) = (random.i64(8..30), committer.log().id());
        let mut appender = committer.appender(Box::new(|_| ()));
        (0..rows).for_each(|row| append(&mut appender, row).expect("acknowledged"));
        let (acknowledged, end) = (disk.copy(), committer.log().end());
        append(&mut appender, rows).expect("acknowledged");
        drop(appender);
        committer.stop().expect("stops");
        let ((path, before), (same, after)) = (newest(&acknowledged), newest(&disk));
        if path == same && blocks(&before).len() > 3 && after.starts_with(&before) {
            return Written {
                config,
                id,
                acknowledged,
                rows,
                end,
                newest: path,
                durable: before.len(),
                next: after[before.len()..].to_vec(),
            };
        }
    }
}

/// What of a write is there after a crash: a beginning, or sectors here and there.
fn torn(next: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut left = next[..random.usize(..next.len())].to_vec();
    if random.bool() {
        left = next.to_vec();
        for sector in left.chunks_mut(64) {
            if random.bool() {
                sector.fill(0);
            }
        }
    }
    left
}

/// Changes bytes of one block: in its header, in its body, or anywhere.
fn rot(bytes: &mut [u8], block: (usize, usize), random: &mut fastrand::Rng) {
    let (from, to) = block;
    let body = from + wal::BLOCK_HEADER_LEN;
    let range = match random.u8(..4) {
        0 => from..body,
        1 | 2 => body..to,
        _ => from..to,
    };
    let at = random.usize(range.clone());
    match random.u8(..3) {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[at..range.end.min(at + 64)].fill(0),
        _ => bytes[at..range.end.min(at + 40)]
            .iter_mut()
            .for_each(|byte| *byte ^= random.u8(1..)),
    }
}

/// A secondary with the log up to some block, or to its end.
async fn secondary(written: &Written, random: &mut fastrand::Rng) -> Follower {
    let (committer, _) = open(&written.acknowledged.copy(), &written.config).expect("opens");
    let log = committer.log();
    let all = log.boundaries(wal::Lsn(0), log.end().lsn, usize::MAX);
    let upto = if random.u8(..3) == 0 {
        all[random.usize(..all.len())].lsn
    } else {
        log.end().lsn
    };
    let genesis = log.id().genesis();
    let bytes = log.export_blocks(genesis, upto, usize::MAX).expect("held");
    let config = FollowerConfig::default();
    let opened = open_follower(arc(&CrashDisk::new()), dir(), written.id, Epoch(1), &config);
    let (mut follower, _) = opened.expect("opens");
    follower.append(bytes).await.expect("continues");
    flushed(&follower).await;
    committer.stop().expect("stops");
    follower
}

async fn flushed(follower: &Follower) {
    let (tip, mut durable) = (follower.tip(), follower.log().durable());
    durable.wait_for(|at| *at == tip).await.expect("flushed");
}

/// What a primary does that cannot open its log: asks for the blocks.
fn heal(disk: &CrashDisk, peer: &Log, found: Unreadable) -> Result<(), Unreadable> {
    let mut lacking = found;
    loop {
        let lent = peer.export_blocks(lacking.from, lacking.to, usize::MAX);
        let taken = lent.map(|blocks| take_unreadable(&arc(disk), dir(), &blocks));
        match taken {
            Some(Ok(None)) => return Ok(()),
            Some(Ok(Some(left))) if left.from.lsn > lacking.from.lsn => lacking = left,
            _ => return Err(lacking),
        }
    }
}

/// What a primary does whose log may have ended further on: adds what the peer has behind its end,
/// before it writes anything. What it says of its end.
async fn ask_for_end(disk: &CrashDisk, peer: &Log) -> Option<wal::LogEnd> {
    let end = find_end(&arc(disk), dir()).expect("reads")?;
    if end.doubt.is_none() {
        return Some(end);
    }
    let (mut log, _) = open_to_add(arc(disk), dir(), &FollowerConfig::default()).expect("opens");
    while let Some(blocks) = peer.export_blocks(log.tip(), peer.end().lsn, usize::MAX)
        && !blocks.is_empty()
    {
        log.append(blocks).await.expect("continues");
        flushed(&log).await;
    }
    log.stop().await.expect("stops");
    Some(end)
}

/// Rows that can be read on an open log, whole blocks alone.
fn readable(log: &Log) -> Vec<i64> {
    match numbers(log) {
        Ok(found) => found,
        Err(WalError::Corrupt { .. }) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// Takes files from the peer while it has them.
async fn repair(log: &Log, peer: &mut Follower) {
    if let Ok(mut cursor) = log.cursor(peer.tip()) {
        while let Ok(Some(chunk)) = cursor.next(1 << 20) {
            let blocks = chunk.parts.concat().into();
            peer.append(blocks).await.expect("continues");
        }
        flushed(peer).await;
    }
    let damage = log.damage().borrow().clone();
    let has_all = peer.tip() == log.end();
    for damaged in damage {
        // A segment is shown as sealed a moment after its seal is durable.
        let patience = Instant::now() + Duration::from_secs(30);
        let bytes = loop {
            let bytes = peer.log().export(&damaged.name);
            if bytes.is_some() || !has_all || Instant::now() > patience {
                break bytes;
            }
            tokio::task::yield_now().await;
        };
        if let Some(bytes) = bytes {
            log.install(&damaged.name, bytes).expect("the right one");
        }
    }
}

async fn case(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let written = written(&mut random);
    let mut peer = secondary(&written, &mut random).await;
    let has_all = peer.tip() == written.end;
    let disk = written.acknowledged.copy();
    let tail = torn(&written.next, &mut random);
    let is_torn = random.u8(..4) > 0;
    let rots = random.usize(..3);
    let (_, sound) = newest(&written.acknowledged);
    let places = blocks(&sound);
    let mut hit = Vec::new();
    disk.damage(&written.newest, |bytes| {
        for _ in 0..rots {
            let block = random.usize(..places.len());
            let to = places.get(block + 1).copied().unwrap_or(written.durable);
            rot(bytes, (places[block], to), &mut random);
            hit.push(block);
        }
        if is_torn {
            bytes.extend_from_slice(&tail);
        }
    });
    let disk = if random.bool() {
        disk.after_crash(&mut random)
    } else {
        disk
    };
    let story = format!(
        "seed {seed}: rot in {hit:?} of {}, torn {is_torn}",
        places.len()
    );
    let header = |block: usize| BlockHeader::decode(&sound[places[block]..]).expect("valid");
    // Behind the last group nothing tells that it had been durable.
    let last_group = header(places.len() - 1).group_lsn;
    let last_hit = hit
        .iter()
        .any(|block| header(*block).group_lsn == last_group);
    let mut told_end = ask_for_end(&disk, peer.log()).await;
    let opened = match open(&disk, &written.config) {
        Err(WalError::Corrupt { .. }) => {
            let found = find_unreadable(&arc(&disk), dir()).expect("reads");
            let found = found.unwrap_or_else(|| panic!("{story}: refused, and nothing is told"));
            if let Err(left) = heal(&disk, peer.log(), found) {
                // Whole rows of a group that is not: nobody can tell whether it was acknowledged.
                let unsure = is_torn && left.rows_behind > 0 && left.to > written.end.lsn;
                assert!(!has_all || unsure, "{story}: not healed: {left:?}");
                // Of the last group's row nothing may be left that could tell.
                return given_up(&disk, &written, u64::from(last_hit), &mut random, &story);
            }
            told_end = ask_for_end(&disk, peer.log()).await;
            open(&disk, &written.config)
        }
        opened => opened,
    };
    let (committer, recovery) = opened.unwrap_or_else(|error| panic!("{story}: {error}"));
    repair(committer.log(), &mut peer).await;
    let log = committer.log();
    let end = log.end();
    let cut = recovery.position.lsn < written.end.lsn;
    // Only where nobody who has the rows can be asked, and never in silence; or where blocks before
    // cannot be read either: the log was sealed behind these.
    let in_doubt = told_end.is_some_and(|end| end.doubt.is_some());
    let has_hole = recovery.damaged > 0 && recovery.torn_tail.is_some();
    let excused = last_hit && ((!has_all && in_doubt) || has_hole);
    assert!(!cut || excused, "{story}: cut to {end}");
    assert_rows(log, (!cut).then_some(written.rows), has_all, &story);
    committer.stop().expect("stops");
    peer.stop().await.expect("stops");
}

/// Below its end the log has every row, or says that it has not: all that were `written` where it
/// was not cut, and perhaps the one that was not acknowledged.
fn assert_rows(log: &Log, written: Option<i64>, peer_has_all: bool, story: &str) {
    let found = readable(log);
    assert!(found.iter().copied().eq(0..found.len() as i64), "{story}");
    let damage = log.damage().borrow().clone();
    if let Some(written) = written
        && (peer_has_all || damage.is_empty())
    {
        let rows = i64::try_from(found.len()).expect("few");
        assert!(
            (written..=written + 1).contains(&rows),
            "{story}: {rows} rows; {damage:?}, end {}, {:?}",
            log.end(),
            numbers(log)
        );
    }
}

/// What an operator does where no other copy is left: loses what was announced, and nothing else.
fn given_up(
    disk: &CrashDisk,
    written: &Written,
    untold: u64,
    random: &mut fastrand::Rng,
    story: &str,
) {
    let found = find_broken(&arc(disk), dir()).expect("reads");
    let found = found.unwrap_or_else(|| panic!("{story}: refused, and nothing is told"));
    let (what, loss) = match random.bool() {
        true => (GiveUp::Tail, &found.tail),
        false => (GiveUp::Hole, &found.hole),
    };
    assert!(found.hole.lsns <= found.tail.lsns, "{story}: {found:?}");
    let done = give_up(&arc(disk), dir(), what).expect("gives up");
    let (told, kept) = done.expect("something");
    assert_eq!(told, found, "{story}");
    let (_, before) = newest(disk);
    assert!(
        disk.contents()
            .iter()
            .any(|(path, _)| path.starts_with(&kept))
    );
    let opened = open(disk, &written.config);
    let (committer, recovery) = opened.unwrap_or_else(|error| panic!("{story}: {what:?}: {error}"));
    let left = found.to.0 - loss.lsns;
    assert_eq!(
        (recovery.position.lsn.0, recovery.damaged),
        (left, 0),
        "{story}: {found:?}"
    );
    let rows = numbers(committer.log()).unwrap_or_else(|error| panic!("{story}: {error}"));
    assert!(rows.is_sorted_by(|a, b| a < b), "{story}: {rows:?}");
    let lost = (0..written.rows).filter(|row| !rows.contains(row)).count();
    assert!(
        lost as u64 <= loss.lsns + untold,
        "{story}: {lost} rows of {loss:?}"
    );
    let mut appender = committer.appender(Box::new(|_| ()));
    append(&mut appender, written.rows + 1).expect("goes on");
    assert!(!before.is_empty() && committer.log().verify().faults.is_empty());
    drop(appender);
    committer.stop().expect("stops");
    assert_eq!(
        find_broken(&arc(disk), dir()).expect("reads"),
        None,
        "{story}"
    );
}

#[tokio::test]
async fn what_was_acknowledged_survives_damage_with_an_unfinished_write_behind_it() {
    let seed = tests::seed();
    for number in 0..CASES {
        case(seed.wrapping_add(number)).await;
    }
}

#[tokio::test]
async fn a_hole_is_never_cut_with_what_is_torn_behind_it() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let written = written(&mut random);
    let (path, sound) = newest(&written.acknowledged);
    let places = blocks(&sound);
    let data = |at: &&usize| {
        let header = BlockHeader::decode(&sound[**at..]).expect("valid");
        header.kind == wal::BlockKind::Data
    };
    for at in places.iter().filter(data) {
        for kept in [wal::BLOCK_HEADER_LEN, wal::BLOCK_HEADER_LEN + 9] {
            let disk = written.acknowledged.copy();
            disk.damage(&path, |bytes| {
                bytes[at + wal::BLOCK_HEADER_LEN + 12] ^= 4;
                bytes.extend_from_slice(&written.next[..kept]);
            });
            let (committer, recovery) = open(&disk, &written.config).expect("opens");
            let torn = recovery.torn_tail.expect("told");
            assert_eq!(torn.offset, written.durable as u64, "block at {at}");
            assert_eq!((recovery.position, recovery.damaged), (written.end, 1));
            let mut peer = secondary(&written, &mut fastrand::Rng::with_seed(0)).await;
            repair(committer.log(), &mut peer).await;
            let found = numbers(committer.log());
            if peer.log().damage().borrow().is_empty()
                && committer.log().damage().borrow().is_empty()
            {
                assert!(found.expect("whole").into_iter().eq(0..written.rows));
            }
            peer.stop().await.expect("stops");
            committer.stop().expect("stops");
        }
    }
}

const CASES: u64 = 2_000;
