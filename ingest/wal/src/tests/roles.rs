//! A name has one column, whether rows have it as a tag or as a field. Tests only; must never
//! depend on which came first where both come at once.

use std::borrow::Cow;

use arrow::array::AsArray;
use arrow::datatypes::DataType;

use crate::tests::model::{follow, open_copy};
use crate::{
    AppendError, Appender, Column, ColumnRole, ColumnType, Committer, Config, Dedup, Log, OsDisk,
    Refusal, Row, TableDef, TableOptions, Value, Wanted, compact_now, open_primary,
};

/// A row that has `site` as a tag, or as a field.
enum Site {
    Tag(&'static str),
    Field(Value<'static>),
}

use Site::{Field, Tag};

fn open(config: &Config) -> (tempfile::TempDir, Committer, Appender) {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, _) = open_primary(OsDisk::new(), dir.path(), config).expect("opens");
    let appender = committer.appender(Box::new(|_| ()));
    (dir, committer, appender)
}

fn keyed() -> Config {
    let options = TableOptions {
        dedup: Dedup::Key,
        retention: None,
    };
    Config {
        tables: vec![TableDef {
            name: "t".to_owned(),
            options,
            ..TableDef::default()
        }],
        ..Config::default()
    }
}

/// One message of these rows, at times from `time` on.
fn send(appender: &mut Appender, time: i64, rows: &[Site]) -> Result<(), AppendError> {
    type Cells = (
        Vec<(&'static str, &'static str)>,
        Vec<(Cow<'static, str>, Value<'static>)>,
    );
    let cells = |site: &Site| -> Cells {
        let v = ("v".into(), Value::Int(1));
        match site {
            Tag(text) => (vec![("site", text)], vec![v]),
            Field(value) => (Vec::new(), vec![v, ("site".into(), value.clone())]),
        }
    };
    let cells: Vec<Cells> = rows.iter().map(cells).collect();
    let rows = cells.iter().zip(time..);
    let rows: Vec<Row<'_>> = rows
        .map(|((tags, fields), time)| Row { time, tags, fields })
        .collect();
    let group = appender.append("t", &rows)?;
    appender.wait(group).expect("durable");
    Ok(())
}

fn role(log: &Log) -> (ColumnRole, ColumnType) {
    let snapshot = log.snapshot();
    let schema = snapshot.catalog().table("t").expect("the table");
    let site = &schema.columns[schema.column("site").expect("site")];
    (site.role, site.kind)
}

/// The texts of `site`, sorted.
fn sites(log: &Log) -> Vec<String> {
    let snapshot = log.snapshot();
    let schema = snapshot.catalog().table("t").expect("the table");
    let site = [schema.column("site").expect("site")];
    let mut batches = Vec::new();
    for file in snapshot.files(schema.id) {
        let wanted = Wanted::default();
        let groups = file.row_groups(schema, &wanted).expect("reads");
        let reader = file.read(schema, &site, &groups, &wanted, 100);
        batches.extend(reader.expect("reads").map(|batch| batch.expect("reads")));
    }
    for block in snapshot.blocks(schema.id) {
        batches.push(block.read(schema, &site).expect("reads"));
    }
    let mut found = Vec::new();
    for batch in batches {
        let array = batch.column(0);
        let texts: Vec<Option<&str>> = match array.data_type() {
            DataType::Utf8View => array.as_string_view().iter().collect(),
            _ => array.as_string::<i32>().iter().collect(),
        };
        found.extend(texts.into_iter().flatten().map(str::to_owned));
    }
    found.sort();
    found
}

fn text(text: &'static str) -> Site {
    Field(Value::Text(text.into()))
}

#[tokio::test]
async fn a_tag_whose_name_is_a_text_field_is_stored_there() {
    let config = Config {
        segment_size: 1_000,
        ..Config::default()
    };
    let (_dir, committer, mut appender) = open(&config);
    let copy = tempfile::tempdir().expect("dir");
    send(&mut appender, 0, &[text("a")]).expect("a field");
    let messages = [
        vec![Tag("b")],
        vec![Tag("c"), text("d"), Tag("e")],
        vec![text("f"), Tag("g")],
        vec![Tag("b")],
    ];
    for (message, at) in messages.iter().zip(1..) {
        send(&mut appender, at * 10, message).expect("goes to the field");
    }
    assert_eq!(role(committer.log()), (ColumnRole::Field, ColumnType::Text));
    let expected = ["a", "b", "b", "c", "d", "e", "f", "g"];
    let mut secondary = open_copy(copy.path(), committer.log());
    follow(committer.log(), &mut secondary).await;
    for log in [committer.log(), secondary.log()] {
        assert_eq!(sites(log), expected);
        compact_now(log).expect("compacts");
        assert_eq!(sites(log), expected);
    }
    drop(appender);
    committer.stop().expect("stops");
    secondary.stop().await.expect("stops");
}

#[test]
fn a_field_whose_name_is_a_tag_is_stored_there_as_text() {
    let (_dir, committer, mut appender) = open(&Config::default());
    send(&mut appender, 0, &[Tag("a")]).expect("a tag");
    let values = [
        Value::Int(7),
        Value::Float(0.5),
        Value::Bool(true),
        Value::Float(-0.0),
    ];
    for value in values {
        send(&mut appender, 1, &[Field(value)]).expect("goes to the tag");
    }
    assert_eq!(role(committer.log()).0, ColumnRole::Tag);
    assert_eq!(sites(committer.log()), ["0", "0.5", "7", "a", "true"]);
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn both_at_once_are_a_tag_in_either_order() {
    for message in [[Tag("a"), text("b")], [text("a"), Tag("b")]] {
        let (_dir, committer, mut appender) = open(&Config::default());
        send(&mut appender, 0, &message).expect("a tag");
        assert_eq!(role(committer.log()).0, ColumnRole::Tag);
        assert_eq!(sites(committer.log()), ["a", "b"]);
        drop(appender);
        committer.stop().expect("stops");
    }
}

#[test]
fn a_tag_for_a_field_that_holds_no_text_is_refused_and_the_reason_says_what_to_do() {
    for (value, holds) in [
        (Value::Int(1), "an integer"),
        (Value::Int(i64::MAX), "integers beyond 2^53"),
        (Value::Float(0.5), "a float"),
        (Value::Bool(true), "a boolean"),
    ] {
        let (_dir, committer, mut appender) = open(&Config::default());
        send(&mut appender, 0, &[Field(value)]).expect("a field");
        let refused = send(&mut appender, 1, &[Tag("a")]).expect_err("no text");
        let refused = refused.to_string();
        for part in [
            "\"site\"",
            "\"t\"",
            "is a field that holds",
            holds,
            "as a tag",
            "another name",
        ] {
            assert!(refused.contains(part), "{part:?} is not in {refused}");
        }
        drop(appender);
        committer.stop().expect("stops");
    }
}

#[test]
fn where_tags_are_the_key_no_tag_goes_into_a_field() {
    let (dir, committer, mut appender) = open(&keyed());
    send(&mut appender, 0, &[text("a")]).expect("a field");
    // Both rows would be one: the tag that tells them apart is in no key.
    let refused = send(&mut appender, 1, &[Tag("b"), Tag("c")]).expect_err("outside the key");
    let outside = matches!(refused, AppendError::Refused(Refusal::TagOutsideKey { .. }));
    assert!(outside, "{refused}");
    drop(appender);
    committer.stop().expect("stops");
    // Nor in one that the log knows already.
    let (committer, _) = open_primary(OsDisk::new(), dir.path(), &keyed()).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    send(&mut appender, 2, &[Tag("b")]).expect_err("outside the key");
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn a_declared_tag_whose_name_is_a_field_is_refused_at_the_start_with_a_way_out() {
    let (dir, committer, mut appender) = open(&Config::default());
    send(&mut appender, 0, &[text("a")]).expect("a field");
    drop(appender);
    committer.stop().expect("stops");
    let mut config = Config::default();
    config.tables.push(TableDef {
        name: "t".to_owned(),
        columns: vec![Column::new("site", ColumnRole::Tag, ColumnType::Text)],
        ..TableDef::default()
    });
    let refused = open_primary(OsDisk::new(), dir.path(), &config).expect_err("a field");
    let refused = refused.to_string();
    for part in [
        "\"t\"",
        "\"site\"",
        "is a field that holds text",
        "rename-column",
    ] {
        assert!(refused.contains(part), "{part:?} is not in {refused}");
    }
}
