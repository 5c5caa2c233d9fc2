//! A table that an operator takes away: gone from that place of the log on, on every node, with its
//! bytes; whoever looks from before still sees it. Tests only; must never rely on what is dropped
//! being overwritten.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::tests::model::{follow, open_copy, read_table};
use crate::{
    Appender, Committer, Config, DEAD_LETTERS, Log, OsDisk, Row, Share, TableDef, TableId, Value,
    compact_now, open_primary,
};

fn open(dir: &Path, share: &Share) -> (Committer, Appender) {
    let declared = TableDef {
        name: "declared".to_owned(),
        ..TableDef::default()
    };
    let config = Config {
        segment_size: 2_000,
        schemas: share.clone(),
        tables: vec![declared],
        ..Config::default()
    };
    let (committer, _) = open_primary(OsDisk::new(), dir, &config).expect("opens");
    let appender = committer.appender(Box::new(|_| ()));
    (committer, appender)
}

fn send(appender: &mut Appender, table: &str, times: std::ops::Range<i64>) {
    for time in times {
        let fields = [("n".into(), Value::Int(time))];
        let row = Row {
            time,
            tags: &[("device", "d")],
            fields: &fields,
        };
        let group = appender.append(table, &[row]).expect("fits");
        appender.wait(group).expect("durable");
    }
}

fn id(log: &Log, table: &str) -> Option<TableId> {
    let snapshot = log.snapshot();
    snapshot.catalog().table(table).map(|schema| schema.id)
}

/// Drops a table of the log, and waits until it is gone.
async fn drop_table(committer: &Committer, table: &str) {
    let log = committer.log();
    let mut durable = log.durable();
    let id = id(log, table).expect("is there");
    let dropped = committer.appenders().drop_table(table, id);
    assert!(dropped.expect("an operator may"));
    while log.snapshot().catalog().newest(id).is_some() {
        durable.changed().await.expect("the log lives");
    }
}

fn numbers(log: &Log, table: &str) -> Vec<i64> {
    let rows = read_table(&log.snapshot(), table);
    rows.iter()
        .map(|row| row["n"].parse().expect("a number"))
        .collect()
}

fn file_names(log: &Log) -> Vec<(String, u64)> {
    let infos = log.snapshot().file_infos().into_iter();
    let mut names: Vec<_> = infos.map(|info| (info.name, info.hash)).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_dropped_table_is_gone_from_its_place_on_and_its_bytes_with_the_next_compaction() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
    let share = Share::new("schemas", 1 << 20);
    let (committer, mut appender) = open(dirs[0].path(), &share);
    let log = committer.log().clone();
    send(&mut appender, "kept", 0..5);
    let without = share.used();
    // In files, in sealed segments and in the tail.
    send(&mut appender, "gone", 0..40);
    compact_now(&log).expect("compacts");
    send(&mut appender, "gone", 40..60);
    send(&mut appender, "kept", 5..10);
    let mut secondary = open_copy(dirs[1].path(), &log);
    follow(&log, &mut secondary).await;
    compact_now(secondary.log()).expect("compacts");
    let (before, old) = (log.snapshot(), id(&log, "gone"));
    assert!(before.segments().len() > 1 && !file_names(&log).is_empty());

    drop_table(&committer, "gone").await;
    let dropped_at = log.snapshot().end().lsn;
    assert_eq!(id(&log, "gone"), None);
    assert_eq!(share.used(), without, "its memory is given back");
    assert_eq!(numbers(&log, "kept"), (0..10).collect::<Vec<_>>());
    // Whoever looks from before goes on seeing it.
    assert_eq!(read_table(&before, "gone").len(), 60);
    let view = log
        .snapshot_at(before.end().lsn)
        .expect("a view from before");
    assert_eq!(read_table(&view, "gone").len(), 60);
    assert_eq!(log.verify().faults, []);

    // The name is free, for a table of its own.
    send(&mut appender, "gone", 100..103);
    let new = id(&log, "gone");
    assert!(new > old, "{new:?} {old:?}");
    follow(&log, &mut secondary).await;
    for log in [&log, secondary.log()] {
        assert_eq!(numbers(log, "gone"), [100, 101, 102]);
        let view = log
            .snapshot_at(before.end().lsn)
            .expect("a view from before");
        assert_eq!(read_table(&view, "gone").len(), 60);
        let view = log.snapshot_at(dropped_at).expect("a view from between");
        assert!(view.catalog().table("gone").is_none());
        compact_now(log).expect("compacts");
        assert_eq!(numbers(log, "gone"), [100, 101, 102]);
        assert_eq!(log.verify().faults, []);
        let old = format!("{:05}-", old.expect("was there").0);
        let names = file_names(log);
        assert!(
            names.iter().all(|(name, _)| !name.contains(&old)),
            "{names:?}"
        );
    }
    assert_eq!(file_names(&log), file_names(secondary.log()));
    assert_eq!(read_table(&before, "gone").len(), 60, "its readers keep it");

    drop((before, view, appender));
    committer.stop().expect("stops");
    secondary.stop().await.expect("stops");
}

#[tokio::test]
async fn the_number_of_a_dropped_table_is_never_another_tables() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
    let share = Share::new("schemas", 1 << 20);
    let (committer, mut appender) = open(dirs[0].path(), &share);
    send(&mut appender, "kept", 0..5);
    let without = share.used();
    send(&mut appender, "gone", 0..5);
    let gone = id(committer.log(), "gone");
    let mut secondary = open_copy(dirs[1].path(), committer.log());
    // The newest table goes, the log is opened again.
    drop_table(&committer, "gone").await;
    drop(appender);
    committer.stop().expect("stops");
    for compacted in [false, true] {
        let (committer, mut appender) = open(dirs[0].path(), &share);
        let log = committer.log().clone();
        assert_eq!(share.used(), without);
        if compacted {
            compact_now(&log).expect("compacts");
        }
        send(&mut appender, "fresh", 0..3);
        assert!(id(&log, "fresh") > gone);
        follow(&log, &mut secondary).await;
        for log in [&log, secondary.log()] {
            assert_eq!(numbers(log, "fresh"), [0, 1, 2]);
            assert_eq!((id(log, "gone"), id(log, "fresh") > gone), (None, true));
        }
        drop_table(&committer, "fresh").await;
        drop(appender);
        committer.stop().expect("stops");
    }
    secondary.stop().await.expect("stops");
}

#[tokio::test]
async fn rows_that_come_while_their_table_is_dropped_are_before_it_or_behind_it() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
    let (committer, appender) = open(dirs[0].path(), &Share::unlimited("schemas"));
    let log = committer.log().clone();
    let done = AtomicBool::new(false);
    let handed_over = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..3)
            .map(|producer| {
                let mut appender = committer.appender(Box::new(|_| ()));
                let done = &done;
                scope.spawn(move || {
                    let mut time = producer;
                    while !done.load(Ordering::Acquire) {
                        send(&mut appender, "t", time..time + 1);
                        time += 3;
                    }
                    // Behind the last drop.
                    let last = [time + 300_000, time + 300_003];
                    for time in last {
                        send(&mut appender, "t", time..time + 1);
                    }
                    last
                })
            })
            .collect();
        for round in 0..60 {
            while id(&log, "t").is_none() {
                std::thread::yield_now();
            }
            if round % 8 == 7 {
                let appenders = committer.appenders();
                // Unless what is there is being dropped.
                let _ = appenders.rename_table("t", &format!("kept{round}"));
                continue;
            }
            let Some(held) = committer.appenders().schema("t") else {
                continue;
            };
            committer
                .appenders()
                .drop_table("t", held.id)
                .expect("an operator may");
        }
        done.store(true, Ordering::Release);
        producers
            .into_iter()
            .flat_map(|producer| producer.join().expect("every row was taken"))
            .collect::<Vec<i64>>()
    });
    let mut secondary = open_copy(dirs[1].path(), &log);
    follow(&log, &mut secondary).await;
    let there = numbers(&log, "t");
    assert!(
        handed_over.iter().all(|time| there.contains(time)),
        "{handed_over:?}"
    );
    for log in [&log, secondary.log()] {
        compact_now(log).expect("compacts");
        assert_eq!(numbers(log, "t").len(), there.len());
        assert_eq!(log.verify().faults, []);
    }
    assert_eq!(file_names(&log), file_names(secondary.log()));
    drop(appender);
    committer.stop().expect("stops");
    secondary.stop().await.expect("stops");
}

#[test]
fn what_cannot_be_dropped_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(dir.path(), &Share::unlimited("schemas"));
    send(&mut appender, "a", 0..1);
    let before = appender.registry.state();
    let held = id(committer.log(), "a").expect("is there");
    for (table, part) in [
        ("none", "no table \"none\""),
        (DEAD_LETTERS, "Headwater's own"),
        ("declared", "\"declared\" is one of the conf's"),
    ] {
        let refused = committer.appenders().drop_table(table, held);
        let refused = refused.expect_err(part);
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let another = committer.appenders().drop_table("a", TableId(held.0 + 1));
    assert!(!another.expect("is there"), "another table by then");
    assert!(appender.registry.state() == before);
    drop(appender);
    committer.stop().expect("stops");
}
