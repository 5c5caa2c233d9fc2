//! Tables that grow by a field with each message, as broken devices make them. Tests only; must
//! never look at a clock: what it costs is counted.

use std::path::Path;

use super::model::{follow, open_copy};
use crate::{
    AppendError, Appender, Config, DEAD_LETTERS, FollowerConfig, Log, OsDisk, Refusal, Row, Share,
    Snapshot, Value, compact_now, open_follower, open_primary,
};

/// Bytes of all segments of a log.
fn disk_bytes(log: &Log) -> u64 {
    log.snapshot().segments().iter().map(|one| one.bytes).sum()
}

/// Sends messages, each with a field that its table has not had, each in a group of its own.
fn send(appender: &mut Appender, messages: std::ops::Range<i64>) {
    for message in messages {
        let fields = [(format!("field_{message}").into(), Value::Int(message))];
        let row = Row {
            time: message,
            tags: &[],
            fields: &fields,
        };
        let table = format!("t{}", message / 400);
        let group = appender.append(&table, &[row]).expect("fits");
        appender.wait(group).expect("durable");
    }
}

fn open(dir: &Path) -> crate::Committer {
    let config = Config {
        segment_size: 40_000,
        ..Config::default()
    };
    open_primary(OsDisk::new(), dir, &config).expect("opens").0
}

/// Each row has its own column, and no other.
fn check(snapshot: &Snapshot, messages: i64) {
    let mut found = 0;
    for schema in snapshot.catalog().tables() {
        for (at, column) in schema.columns.iter().enumerate().skip(1) {
            let of = column
                .name
                .strip_prefix("field_")
                .and_then(|of| of.parse().ok());
            let mut values = 0;
            for block in snapshot.blocks(schema.id) {
                let batch = block.read(schema, &[at]).expect("reads");
                let array = batch.column(0);
                values += array.len() - array.null_count();
            }
            for file in snapshot.files(schema.id) {
                let wanted = crate::Wanted::default();
                let groups = file.row_groups(schema, &wanted).expect("reads");
                let reader = file
                    .read(schema, &[at], &groups, &wanted, 100)
                    .expect("reads");
                for batch in reader {
                    let batch = batch.expect("reads");
                    let array = batch.column(0);
                    values += array.len() - array.null_count();
                }
            }
            assert_eq!((values, of.is_some_and(|of: i64| of < messages)), (1, true));
            found += 1;
        }
    }
    assert_eq!(found, messages);
}

#[tokio::test]
async fn a_new_field_with_each_message_costs_a_field_in_memory_and_in_the_log() {
    let dir = tempfile::tempdir().expect("dir");
    let primary = open(dir.path());
    let mut appender = primary.appender(Box::new(|_| ()));
    let mut measured = Vec::new();
    for (from, to) in [(0, 350), (350, 700)] {
        send(&mut appender, from..to);
        let snapshot = primary.log().snapshot();
        measured.push((disk_bytes(primary.log()), snapshot.catalog().memory()));
    }
    let [(disk, memory), (twice_disk, twice_memory)] = measured[..] else {
        panic!("two of them");
    };
    assert!(disk < 350 * 1_200, "{disk}");
    assert!(twice_disk < disk * 5 / 2, "{disk} {twice_disk}");
    assert!(memory < 350 * 160, "{memory}");
    assert!(twice_memory < memory * 5 / 2, "{memory} {twice_memory}");

    // The same on a secondary, over segments that are sealed and files.
    let there = tempfile::tempdir().expect("dir");
    let mut follower = open_copy(there.path(), primary.log());
    follow(primary.log(), &mut follower).await;
    let copy = follower.log().clone();
    assert!(copy.snapshot().segments().len() > 3);
    let tables = |log: &Log| {
        let snapshot = log.snapshot();
        let tables = snapshot.catalog().tables();
        tables.map(|schema| (**schema).clone()).collect::<Vec<_>>()
    };
    assert_eq!(tables(&copy), tables(primary.log()));
    follower.stop().await.expect("stops");
    compact_now(primary.log()).expect("compacts");
    check(&primary.log().snapshot(), 700);
    let before = tables(primary.log());
    drop(appender);
    primary.stop().expect("stops");

    // And again from the disk.
    for dir in [dir.path(), there.path()] {
        let opened = open(dir);
        assert_eq!(tables(opened.log()), before);
        check(&opened.log().snapshot(), 700);
        let opened_memory = opened.log().snapshot().catalog().memory();
        assert_eq!(opened_memory, twice_memory);
        opened.stop().expect("stops");
    }
}

#[test]
fn rows_of_one_group_that_have_nothing_in_common_are_not_filled_up_with_nulls() {
    let dir = tempfile::tempdir().expect("dir");
    let primary = open(dir.path());
    let mut appender = primary.appender(Box::new(|_| ()));
    let names: Vec<String> = (0..500).map(|number| format!("field_{number}")).collect();
    let fields = names.iter().zip(0..);
    let fields: Vec<_> = fields
        .map(|(name, number)| [(name.clone().into(), Value::Int(number))])
        .collect();
    let rows = fields.iter().zip(0..).map(|(fields, time)| Row {
        time,
        tags: &[],
        fields,
    });
    let rows: Vec<Row<'_>> = rows.collect();
    let group = appender.append("t0", &rows).expect("fits");
    appender.wait(group).expect("durable");
    check(&primary.log().snapshot(), 500);
    // Filled up they would be 2 MB.
    let bytes = primary.log().snapshot().tail_bytes;
    assert!(bytes < 400_000, "{bytes}");
    drop(appender);
    primary.stop().expect("stops");
}

#[test]
fn no_more_of_a_log_is_headers_than_blocks_however_wide_its_tables_are() {
    let dir = tempfile::tempdir().expect("dir");
    let config = Config {
        segment_size: 1_000,
        ..Config::default()
    };
    let (primary, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
    let mut appender = primary.appender(Box::new(|_| ()));
    let names: Vec<String> = (0..1_000).map(|number| format!("field_{number}")).collect();
    let value = |name: &String| (name.clone().into(), Value::Int(1));
    let wide: Vec<_> = names.iter().map(value).collect();
    for fields in std::iter::once(&wide[..]).chain(std::iter::repeat_n(&wide[..1], 300)) {
        let row = Row {
            time: 1,
            tags: &[],
            fields,
        };
        let group = appender.append("wide", &[row]).expect("fits");
        appender.wait(group).expect("durable");
    }
    let snapshot = primary.log().snapshot();
    let header = |segment: &crate::read::sealed::Sealed| segment.entries[0].offset;
    assert!(
        snapshot.sealed.len() > 2 && snapshot.sealed.len() < 20,
        "{}",
        snapshot.sealed.len()
    );
    for segment in snapshot.sealed.iter() {
        assert!(segment.len() >= 2 * header(segment), "{}", segment.len());
    }
    drop(appender);
    primary.stop().expect("stops");
}

/// A row of one field, under this name.
fn one(appender: &mut Appender, table: &str, field: &str) -> Result<crate::GroupId, AppendError> {
    let fields = [(field.into(), Value::Int(1))];
    let row = Row {
        time: 1,
        tags: &[],
        fields: &fields,
    };
    appender.append(table, &[row])
}

fn open_within(dir: &Path, share: &Share) -> crate::Committer {
    let config = Config {
        schemas: share.clone(),
        ..Config::default()
    };
    open_primary(OsDisk::new(), dir, &config).expect("opens").0
}

#[tokio::test]
async fn beyond_their_memory_no_new_names_are_taken_and_all_else_goes_on() {
    let dir = tempfile::tempdir().expect("dir");
    let share = Share::new("schemas", 40_000);
    let primary = open_within(dir.path(), &share);
    let mut appender = primary.appender(Box::new(|_| ()));
    let (mut tables, mut columns) = (0, 0);
    let refused = |result: Result<_, AppendError>| match result {
        Ok(_) => false,
        Err(AppendError::Refused(Refusal::SchemaMemory { limit, .. })) => {
            assert_eq!(limit, 40_000);
            true
        }
        Err(error) => panic!("{error}"),
    };
    while !refused(one(&mut appender, &format!("t{tables}"), "v")) {
        tables += 1;
    }
    // A column takes less than a table.
    while !refused(one(&mut appender, "t0", &format!("c{columns}"))) {
        columns += 1;
    }
    assert!(tables > 10 && columns < 12, "{tables} {columns}");
    assert!(share.used() <= share.limit());
    // What is there goes on, and what is refused elsewhere finds its place.
    one(&mut appender, "t1", "v").expect("is there");
    let last = one(&mut appender, DEAD_LETTERS, "reason").expect("always");
    appender.wait(last).expect("durable");
    let there = tempfile::tempdir().expect("dir");
    let smaller = Share::new("schemas", 1_000);
    let config = FollowerConfig {
        schemas: smaller.clone(),
        ..FollowerConfig::default()
    };
    let log = primary.log();
    let opened = open_follower(OsDisk::new(), there.path(), log.id(), log.epoch(), &config);
    let mut follower = opened.expect("opens").0;
    follow(log, &mut follower).await;
    let copy = follower.log().clone();
    follower
        .stop()
        .await
        .expect("takes what its primary has taken");
    assert_eq!(copy.snapshot().catalog().count(), tables + 1);
    drop(appender);
    primary.stop().expect("stops");
    // Nor does a log end that has more than there is room for now.
    let primary = open_within(dir.path(), &smaller);
    assert!(smaller.used() > smaller.limit());
    let mut appender = primary.appender(Box::new(|_| ()));
    one(&mut appender, "t1", "v").expect("is there");
    assert!(matches!(
        one(&mut appender, "t1", "w"),
        Err(AppendError::Refused(Refusal::SchemaMemory { .. }))
    ));
    drop(appender);
    primary.stop().expect("stops");
    // Whoever held memory has given it back.
    assert_eq!((share.used(), smaller.used()), (0, 0));
}
