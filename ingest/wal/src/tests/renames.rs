//! A column that has got another name is the same column, in blocks and in files, on every node;
//! what comes with its old name is another. Tests only; must never look at names in files but where
//! it says so.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};

use super::seed;
use crate::tests::model::{follow, open_copy};
use crate::{
    Appender, ColumnRole, Committer, Config, DEAD_LETTERS, Log, OsDisk, Row, Value, Wanted,
    compact_now, open_primary,
};

pub(crate) type Cells = BTreeMap<String, String>;

fn open(dir: &tempfile::TempDir) -> (Committer, Appender) {
    let config = Config {
        segment_size: 2_000,
        ..Config::default()
    };
    let (committer, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
    let appender = committer.appender(Box::new(|_| ()));
    (committer, appender)
}

/// Renames, and waits until the log says so.
async fn rename(committer: &Committer, from: &str, to: &str) {
    let appenders = committer.appenders();
    let schema = appenders.rename_column("t", from, to).expect("renames");
    let log = committer.log();
    let mut durable = log.durable();
    let written = |_: &crate::Position| {
        let snapshot = log.snapshot();
        let newest = snapshot.catalog().newest(schema.id);
        newest.is_some_and(|newest| newest.version >= schema.version)
    };
    durable.wait_for(written).await.expect("goes on");
}

fn send(appender: &mut Appender, time: i64, tag: &str, fields: &[(&str, Value<'static>)]) {
    let fields = fields.iter();
    let fields: Vec<_> = fields
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect();
    let row = Row {
        time,
        tags: &[("device", tag)],
        fields: &fields,
    };
    let group = appender.append("t", &[row]).expect("fits");
    appender.wait(group).expect("durable");
}

fn text(array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Utf8View => array.as_string_view().value(row).to_owned(),
        _ => {
            let times = array.as_primitive::<TimestampNanosecondType>();
            times.value(row).to_string()
        }
    })
}

/// All rows by their times, cells by the names of today.
pub(crate) fn rows(log: &Log) -> BTreeMap<i64, Cells> {
    let snapshot = log.snapshot();
    let schema = snapshot.catalog().table("t").expect("the table");
    let all: Vec<usize> = (0..schema.columns.len()).collect();
    let mut batches = Vec::new();
    for file in snapshot.files(schema.id) {
        let wanted = Wanted::default();
        let groups = file.row_groups(schema, &wanted).expect("reads");
        let reader = file.read(schema, &all, &groups, &wanted, 100);
        batches.extend(reader.expect("reads").map(|batch| batch.expect("reads")));
    }
    for block in snapshot.blocks(schema.id) {
        batches.push(block.read(schema, &all).expect("reads"));
    }
    let mut rows = BTreeMap::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut cells = Cells::new();
            for (column, array) in schema.columns.iter().zip(batch.columns()) {
                let found = text(array, row);
                cells.extend(found.map(|text| (column.name.to_string(), text)));
            }
            let time = cells.remove("time").expect("a time");
            rows.insert(time.parse().expect("a number"), cells);
        }
    }
    rows
}

const NAMES: [&str; 6] = ["a", "b", "c", "device", "a (2)", "old"];

/// Rows, renames, compaction and restarts in any order, against maps whose keys are renamed.
#[tokio::test]
async fn rows_have_the_names_of_today_in_blocks_and_files_on_every_node() {
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..12 {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
        let (mut committer, mut appender) = open(&dirs[0]);
        let mut secondary = open_copy(dirs[1].path(), committer.log());
        let mut model: BTreeMap<i64, Cells> = BTreeMap::new();
        for time in 0..120 {
            let tag = format!("d{}", random.u8(0..3));
            let mut cells = Cells::from([("device".to_owned(), tag.clone())]);
            let mut fields = Vec::new();
            for name in ["a", "b", "c", "a (2)", "old"] {
                if random.bool() {
                    let number = random.i64(0..100);
                    cells.insert(name.to_owned(), number.to_string());
                    fields.push((name, Value::Int(number)));
                }
            }
            if fields.is_empty() {
                continue;
            }
            send(&mut appender, time, &tag, &fields);
            model.insert(time, cells);
            match random.u8(0..20) {
                0..3 => {
                    let (from, to) = (NAMES[random.usize(0..6)], NAMES[random.usize(0..6)]);
                    let snapshot = committer.log().snapshot();
                    let schema = snapshot.catalog().table("t").expect("the table");
                    // A tag of that name comes with every row.
                    let is_tag = |name: &str| {
                        let column = schema.column(name).map(|at| &schema.columns[at]);
                        column.is_some_and(|column| column.role == ColumnRole::Tag)
                    };
                    if to == "device" && !is_tag(from) {
                        continue;
                    }
                    if schema.column(from).is_none() || schema.column(to).is_some() {
                        let refused = committer.appenders().rename_column("t", from, to);
                        refused.expect_err("no such column, or taken");
                        continue;
                    }
                    rename(&committer, from, to).await;
                    for cells in model.values_mut() {
                        let cell = cells.remove(from);
                        cells.extend(cell.map(|cell| (to.to_owned(), cell)));
                    }
                }
                3 => drop(compact_now(committer.log()).expect("compacts")),
                4 => {
                    drop(appender);
                    committer.stop().expect("stops");
                    (committer, appender) = open(&dirs[0]);
                }
                _ => {}
            }
        }
        follow(committer.log(), &mut secondary).await;
        for log in [committer.log(), secondary.log()] {
            assert_eq!(rows(log), model);
            compact_now(log).expect("compacts");
            assert_eq!(rows(log), model, "compacted");
            assert_eq!(log.verify().faults, []);
        }
        drop(appender);
        committer.stop().expect("stops");
        secondary.stop().await.expect("stops");
    }
}

#[tokio::test]
async fn the_old_name_is_free_for_another_role_and_type_also_for_who_knew_the_table() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(&dir);
    let mut idle = committer.appender(Box::new(|_| ()));
    send(&mut appender, 1, "x", &[("state", Value::Bool(true))]);
    send(&mut idle, 2, "x", &[("state", Value::Bool(false))]);
    rename(&committer, "state", "on").await;
    // Both producers had learnt the schema.
    send(
        &mut appender,
        3,
        "x",
        &[("state", Value::Text("ON".into()))],
    );
    send(&mut idle, 4, "x", &[("state", Value::Text("OFF".into()))]);
    let cell = |time: i64, name: &str| rows(committer.log())[&time].get(name).cloned();
    let shown = [1, 2, 3, 4].map(|time| (cell(time, "on"), cell(time, "state")));
    let text = |text: &str| Some(text.to_owned());
    let expected = [
        (text("true"), None),
        (text("false"), None),
        (None, text("ON")),
        (None, text("OFF")),
    ];
    assert_eq!(shown, expected);
    drop((appender, idle));
    committer.stop().expect("stops");
}

#[test]
fn what_cannot_be_renamed_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(&dir);
    send(
        &mut appender,
        1,
        "x",
        &[("a", Value::Int(1)), ("b", Value::Int(1))],
    );
    let before = appender.registry.state();
    let appenders = committer.appenders();
    for (table, from, to, part) in [
        ("none", "a", "c", "no table \"none\""),
        ("t", "none", "c", "with a column \"none\""),
        ("t", "time", "c", "\"time\": is the time"),
        ("t", "a", "b", "\"b\": is a column of the table already"),
        (
            "t",
            "a",
            "time",
            "\"time\": is a column of the table already",
        ),
        ("t", "a", "a", "\"a\": is a column of the table already"),
        ("t", "a", "", "is empty"),
        (DEAD_LETTERS, "reason", "why", "Headwater's own, and stays"),
    ] {
        let refused = appenders.rename_column(table, from, to).expect_err(part);
        assert!(refused.to_string().contains(part), "{refused}");
    }
    assert!(appender.registry.state() == before);
    drop(appender);
    committer.stop().expect("stops");
}
