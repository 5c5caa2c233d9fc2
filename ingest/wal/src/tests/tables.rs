//! A table that has got another name is the same table, on every node and after every restart; what
//! comes under its old name is another. Tests only; must never know a table by its number.

use std::collections::BTreeMap;
use std::path::Path;

use super::seed;
use crate::tests::model::{follow, open_copy, read_table};
use crate::{
    Appender, Committer, Config, DEAD_LETTERS, Log, OsDisk, Row, TableDef, Value, compact_now,
    open_primary,
};

fn open(dir: &Path, tables: Vec<TableDef>) -> (Committer, Appender) {
    let config = Config {
        segment_size: 2_000,
        tables,
        ..Config::default()
    };
    let (committer, _) = open_primary(OsDisk::new(), dir, &config).expect("opens");
    let appender = committer.appender(Box::new(|_| ()));
    (committer, appender)
}

fn send(appender: &mut Appender, table: &str, time: i64) {
    let row = Row {
        time,
        tags: &[("device", "d")],
        fields: &[("n".into(), Value::Int(time))],
    };
    let group = appender.append(table, &[row]).expect("fits");
    appender.wait(group).expect("durable");
}

/// The numbers in each table.
type Model = BTreeMap<String, Vec<i64>>;

fn rows(log: &Log) -> Model {
    let snapshot = log.snapshot();
    let tables = snapshot.catalog().tables();
    let tables = tables.map(|table| {
        let rows = read_table(&snapshot, &table.name);
        let numbers = rows.iter().map(|row| row["n"].parse().expect("a number"));
        let mut numbers: Vec<i64> = numbers.collect();
        numbers.sort_unstable();
        (table.name.clone(), numbers)
    });
    tables.collect()
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Asks for it, and whether that was taken.
fn drop_table(committer: &Committer, table: &str) -> Result<(), String> {
    let appenders = committer.appenders();
    let schema = appenders.schema(table).ok_or("no such table")?;
    let dropped = appenders.drop_table(table, schema.id);
    let dropped = dropped.map_err(|refusal| refusal.to_string())?;
    dropped.then_some(()).ok_or("another".to_owned())
}

/// Rows, renames, drops, compaction and restarts in any order, against a map whose keys change.
#[tokio::test]
async fn tables_have_the_names_of_today_on_every_node() {
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..4 {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
        let (mut committer, mut appender) = open(dirs[0].path(), Vec::new());
        let mut idle = committer.appender(Box::new(|_| ()));
        let mut secondary = open_copy(dirs[1].path(), committer.log());
        let mut model = Model::new();
        for time in 0..120 {
            let table = NAMES[random.usize(0..4)];
            let producer = if random.bool() {
                &mut appender
            } else {
                &mut idle
            };
            send(producer, table, time);
            model.entry(table.to_owned()).or_default().push(time);
            match random.u8(0..20) {
                0..6 => {
                    let (from, to) = (NAMES[random.usize(0..4)], NAMES[random.usize(0..4)]);
                    let renamed = committer.appenders().rename_table(from, to);
                    if !model.contains_key(from) || model.contains_key(to) {
                        renamed.expect_err("no such table, or taken");
                        continue;
                    }
                    renamed.expect("renames");
                    let moved = model.remove(from).expect("there");
                    model.insert(to.to_owned(), moved);
                }
                6 => drop(compact_now(committer.log()).expect("compacts")),
                9..12 => {
                    let table = NAMES[random.usize(0..4)];
                    let dropped = drop_table(&committer, table);
                    assert_eq!(
                        dropped.is_ok(),
                        model.remove(table).is_some(),
                        "{dropped:?}"
                    );
                }
                7 => follow(committer.log(), &mut secondary).await,
                8 => {
                    drop((appender, idle));
                    committer.stop().expect("stops");
                    (committer, appender) = open(dirs[0].path(), Vec::new());
                    idle = committer.appender(Box::new(|_| ()));
                }
                _ => {}
            }
        }
        // A row behind the last rename: once it is there, the name is.
        send(&mut appender, "end", 0);
        model.insert("end".to_owned(), vec![0]);
        follow(committer.log(), &mut secondary).await;
        for log in [committer.log(), secondary.log()] {
            assert_eq!(rows(log), model);
            compact_now(log).expect("compacts");
            assert_eq!(rows(log), model, "compacted");
            assert_eq!(log.verify().faults, []);
        }
        drop((appender, idle));
        committer.stop().expect("stops");
        secondary.stop().await.expect("stops");
        let (committer, _) = open(dirs[0].path(), Vec::new());
        assert_eq!(rows(committer.log()), model, "opened again");
        committer.stop().expect("stops");
    }
}

#[test]
fn what_cannot_be_renamed_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    let declared = TableDef {
        name: "declared".to_owned(),
        ..TableDef::default()
    };
    let (committer, mut appender) = open(dir.path(), vec![declared]);
    send(&mut appender, "a", 1);
    send(&mut appender, "b", 1);
    let before = appender.registry.state();
    for (from, to, part) in [
        ("none", "c", "no table \"none\""),
        ("a", "b", "\"b\": is a table already"),
        ("a", "a", "\"a\": is a table already"),
        ("a", DEAD_LETTERS, "is a table already"),
        (DEAD_LETTERS, "c", "Headwater's own"),
        ("a", "system.c", "is reserved"),
        ("a", "system", "is reserved"),
        ("a", "", "is empty"),
        ("declared", "c", "\"declared\" is one of the conf's"),
        ("a", "declared", "\"declared\" is one of the conf's"),
    ] {
        let refused = committer.appenders().rename_table(from, to);
        let refused = refused.expect_err(part);
        assert!(refused.to_string().contains(part), "{refused}");
    }
    assert!(appender.registry.state() == before);
    drop(appender);
    committer.stop().expect("stops");
}
