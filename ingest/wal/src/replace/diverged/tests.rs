//! A tail that is put aside is all there, and the log before it unchanged. Tests only; must never
//! look at anything but what a user has.

use std::borrow::Cow;

use tempfile::TempDir;

use super::*;
use crate::ids::Epoch;
use crate::{Config, FollowerConfig, OsDisk, Row, Value, compact_now, open_follower, open_primary};

fn disk() -> Arc<dyn Disk> {
    OsDisk::new()
}

/// A stopped log of several segments; its id, and every boundary in it.
fn sample(rows: i64, compact_at: Option<i64>) -> (TempDir, LogId, Vec<Position>) {
    let dir = tempfile::tempdir().expect("dir");
    let config = Config {
        segment_size: 2_500,
        ..Config::default()
    };
    let (primary, _) = open_primary(disk(), dir.path(), &config).expect("opens");
    let mut appender = primary.appender(Box::new(|_| ()));
    for number in 0..rows {
        let fields = [
            (Cow::Borrowed("n"), Value::Int(number)),
            (
                Cow::Owned(format!("c{}", number / 7 % 5)),
                Value::Bool(true),
            ),
        ];
        let row = Row {
            time: number,
            tags: &[("t", "a")],
            fields: &fields,
        };
        // Several blocks and their schemas in one group now and then.
        let tables = ["one", "two", "three"];
        let count = 1 + usize::try_from(number % 3).expect("small");
        let rows = vec![row; count];
        let table = tables[usize::try_from(number % 7 % 3).expect("small")];
        let group = appender.append(table, &rows).expect("fits");
        appender.wait(group).expect("durable");
        if compact_at == Some(number) {
            compact_now(primary.log()).expect("compacts");
        }
    }
    let log = primary.log().clone();
    let all = log.boundaries(Lsn(0), Lsn(u64::MAX), usize::MAX);
    let id = log.id();
    drop(appender);
    primary.stop().expect("stops");
    (dir, id, all)
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

/// First LSNs and rows of the data blocks of all segments in a directory.
fn blocks(dir: &Path) -> Vec<(Lsn, String)> {
    let mut found = Vec::new();
    let mut names = disk().list(dir).expect("lists");
    names.retain(|name| crate::paths::segment_first(name).is_some());
    names.sort();
    for name in names {
        for (schema, block) in segment_blocks(&disk(), &dir.join(&name)).expect("reads alone") {
            let all: Vec<usize> = (0..schema.columns.len()).collect();
            let batch = block.read(&schema, &all).expect("reads");
            found.push((block.first_lsn(), format!("{} {batch:?}", schema.name)));
        }
    }
    found
}

#[test]
fn log_and_shelf_together_are_what_was_there_wherever_it_is_cut() {
    let (dir, id, all) = sample(60, None);
    let original = blocks(&log_dir(dir.path(), id));
    let segments = crate::paths::segments(disk().as_ref(), &log_dir(dir.path(), id));
    assert!(segments.expect("lists").len() > 4);
    let tip = all[all.len() - 1];
    for at in &all {
        let copy = tempfile::tempdir().expect("dir");
        copy_dir(dir.path(), copy.path());
        let done = save_diverged(&disk(), copy.path(), id, *at).expect("held");
        let left = log_dir(copy.path(), id);
        let config = FollowerConfig::default();
        let opened = open_follower(disk(), copy.path(), id, Epoch(1), &config);
        let (follower, recovery) = opened.expect("opens");
        assert_eq!((follower.tip(), recovery.torn_tail), (*at, None));
        assert_eq!(recovery.damaged, 0, "{at}");
        drop(follower);
        assert_eq!((done.from, done.to), ((*at).into(), tip.into()));
        let listed = list_diverged(&disk(), copy.path()).expect("reads");
        if *at == tip {
            assert_eq!((done.rows, done.bytes, listed.len()), (0, 0, 0));
            continue;
        }
        assert_eq!(listed, std::slice::from_ref(&done));
        let mut together = blocks(&left);
        let aside = blocks(&done.path);
        assert!(aside.iter().all(|(first, _)| *first >= at.lsn));
        assert!(together.iter().all(|(first, _)| *first < at.lsn));
        together.extend(aside);
        assert_eq!(together, original, "cut at {at}");
    }
}

#[test]
fn what_is_no_boundary_or_is_in_files_is_not_cut() {
    let (dir, id, all) = sample(60, Some(40));
    let before = blocks(&log_dir(dir.path(), id));
    let compacted = compacted(disk().as_ref(), &log_dir(dir.path(), id), id).expect("reads");
    assert!(compacted.lsn > Lsn(0));
    let refused = |at: Position| {
        let result = save_diverged(&disk(), dir.path(), id, at);
        assert!(
            matches!(result, Err(WalError::NotHeld(held)) if held == at),
            "{result:?}"
        );
    };
    all.iter()
        .filter(|at| at.lsn < compacted.lsn)
        .for_each(|at| refused(*at));
    let last = all[all.len() - 2];
    refused(Position {
        chain: crate::Chain(last.chain.0 ^ 1),
        ..last
    });
    refused(Position {
        lsn: Lsn(last.lsn.0 + 1_000),
        ..last
    });
    assert_eq!(blocks(&log_dir(dir.path(), id)), before);
    assert_eq!(list_diverged(&disk(), dir.path()).expect("reads"), []);
    // Right where the files end it can be cut.
    let done = save_diverged(&disk(), dir.path(), id, compacted).expect("held");
    assert!(done.rows > 0);
    let config = FollowerConfig::default();
    let (follower, recovery) =
        open_follower(disk(), dir.path(), id, Epoch(1), &config).expect("opens");
    assert_eq!((follower.tip(), recovery.damaged), (compacted, 0));
}

#[test]
fn an_interrupted_cut_is_not_put_aside_twice() {
    let (dir, id, all) = sample(60, None);
    let at = all[all.len() / 3];
    let interrupted = tempfile::tempdir().expect("dir");
    copy_dir(dir.path(), interrupted.path());
    let whole = save_diverged(&disk(), dir.path(), id, at).expect("held");
    // The copies are there, the newest segment is gone already, the rest is not.
    copy_dir(
        &dir.path().join(DIVERGED),
        &interrupted.path().join(DIVERGED),
    );
    let log = log_dir(interrupted.path(), id);
    let segments = crate::paths::segments(disk().as_ref(), &log).expect("lists");
    let newest = segments[segments.len() - 1];
    std::fs::remove_file(log.join(segment_name(newest))).expect("removes");
    let again = save_diverged(&disk(), interrupted.path(), id, at).expect("held");
    assert_eq!((again.rows, again.to), (whole.rows, whole.to));
    assert_eq!(
        list_diverged(&disk(), interrupted.path())
            .expect("reads")
            .len(),
        1
    );
    assert_eq!(blocks(&log), blocks(&log_dir(dir.path(), id)));
}

#[test]
fn a_tail_that_cannot_be_read_is_put_aside_as_it_is() {
    let (dir, id, all) = sample(60, None);
    let log = log_dir(dir.path(), id);
    let segments = crate::paths::segments(disk().as_ref(), &log).expect("lists");
    let hurt = log.join(segment_name(segments[2]));
    let mut bytes = std::fs::read(&hurt).expect("reads");
    bytes[20] ^= 1;
    std::fs::write(&hurt, &bytes).expect("writes");
    let at = all[1];
    let done = save_diverged(&disk(), dir.path(), id, at).expect("held");
    let copy = done.path.join(segment_name(segments[2]));
    assert!(std::fs::read(&copy).expect("is there") == bytes);
    let read = segment_blocks(&disk(), &copy);
    assert!(matches!(read, Err(WalError::Corrupt { .. })));
    assert_eq!(list_diverged(&disk(), dir.path()).expect("reads"), [done]);
}

#[test]
fn a_log_that_is_kept_whole_is_listed() {
    let (dir, id, all) = sample(60, Some(40));
    let tip = all[all.len() - 1];
    let to = keep_as(disk().as_ref(), dir.path(), id).expect("a name");
    disk().rename(&log_dir(dir.path(), id), &to).expect("moves");
    let listed = list_diverged(&disk(), dir.path()).expect("reads");
    let rows = (0..60).map(|number| 1 + number % 3).sum::<u64>();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].from, listed[0].to),
        (id.genesis().into(), tip.into())
    );
    assert_eq!((listed[0].rows, &listed[0].path), (rows, &to));
    // A second one of the same name gets a number.
    std::fs::create_dir(log_dir(dir.path(), id)).expect("makes");
    let second = keep_as(disk().as_ref(), dir.path(), id).expect("a name");
    assert_ne!(second, to);
}
