//! The whole write and read path of the log on a real directory, in small. Tests only; must never
//! use a disk that is not real.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};

use crate::{Config, FollowerConfig, OsDisk, Row, Value, open_follower, open_primary};

fn config() -> Config {
    Config {
        segment_size: 4096,
        ..Config::default()
    }
}

fn append(appender: &mut crate::Appender, time: i64, fields: &[(Cow<'_, str>, Value<'_>)]) {
    let row = Row {
        time,
        tags: &[("topic", "plant/a")],
        fields,
    };
    let group = appender.append("plant", &[row]).expect("fits");
    appender.wait(group).expect("durable");
}

#[test]
fn rows_come_back_after_reopening_with_widened_and_added_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = OsDisk::new();
    let (committer, recovery) =
        open_primary(Arc::clone(&disk), dir.path(), &config()).expect("opens");
    assert_eq!(recovery.torn_tail, None);
    let mut appender = committer.appender(Box::new(|_| ()));
    append(&mut appender, 1, &[("t".into(), Value::Int(20))]);
    append(
        &mut appender,
        2,
        &[
            ("t".into(), Value::Float(20.5)),
            ("ok".into(), Value::Bool(true)),
        ],
    );
    for time in 3..100 {
        append(
            &mut appender,
            time,
            &[
                ("n".into(), Value::Int(time)),
                ("s".into(), Value::Text("x".into())),
            ],
        );
    }
    drop(appender);
    let end = committer.stop().expect("stops");
    let (committer, recovery) = open_primary(disk, dir.path(), &config()).expect("opens again");
    assert_eq!((recovery.position, recovery.torn_tail), (end, None));
    assert!(recovery.segments > 3, "{} segments", recovery.segments);
    let snapshot = committer.log().snapshot();
    let schema = snapshot.catalog().table("plant").expect("the table");
    let blocks = snapshot.blocks(schema.id);
    let all: Vec<usize> = (0..schema.columns.len()).collect();
    let batches: Vec<_> = blocks
        .iter()
        .map(|block| block.read(schema, &all).expect("reads"))
        .collect();
    assert_eq!(
        batches.iter().map(|batch| batch.num_rows()).sum::<usize>(),
        99
    );
    let t = schema.column("t").expect("t");
    assert_eq!(
        batches[0].column(t).as_primitive::<Float64Type>().value(0),
        20.0
    );
    assert_eq!(
        batches[1].column(t).as_primitive::<Float64Type>().value(0),
        20.5
    );
    assert!(batches[2].column(t).is_null(0));
    let n = schema.column("n").expect("n");
    assert_eq!(
        batches[98].column(n).as_primitive::<Int64Type>().value(0),
        99
    );
    let topic = schema.column("topic").expect("topic");
    assert_eq!(
        batches[98].column(topic).as_string_view().value(0),
        "plant/a"
    );
}

#[tokio::test]
async fn a_follower_fed_by_a_cursor_writes_the_same_files() {
    let (a, b) = (
        tempfile::tempdir().expect("dir"),
        tempfile::tempdir().expect("dir"),
    );
    let (committer, _) = open_primary(OsDisk::new(), a.path(), &config()).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    for time in 0..200 {
        append(&mut appender, time, &[("n".into(), Value::Int(time))]);
    }
    let log = committer.log();
    let (mut follower, _) = open_follower(
        OsDisk::new(),
        b.path(),
        log.id(),
        log.epoch(),
        &FollowerConfig::default(),
    )
    .expect("opens");
    let mut cursor = log.cursor(follower.tip()).expect("from the start");
    while let Some(chunk) = cursor.next(1500).expect("reads") {
        follower
            .append(chunk.parts.concat().into())
            .await
            .expect("continues");
        assert_eq!(follower.tip(), chunk.end);
    }
    assert_eq!(follower.tip(), log.end());
    for lsn in 0..=follower.tip().lsn.0 {
        if let Some(chain) = log.chain_at(crate::Lsn(lsn)) {
            log.cursor(crate::Position {
                lsn: crate::Lsn(lsn),
                chain,
            })
            .expect("a boundary");
        }
    }
    follower.stop().await.expect("stops");
    let dir = format!("log-{}", log.id());
    let mut files = 0;
    for entry in std::fs::read_dir(a.path().join(&dir)).expect("lists") {
        let name = entry.expect("entry").file_name();
        if name == crate::parquet::FILES_DIR {
            continue;
        }
        let left = std::fs::read(a.path().join(&dir).join(&name)).expect("reads");
        let right = std::fs::read(b.path().join(&dir).join(&name)).expect("reads");
        assert!(left == right, "{name:?} differs");
        files += 1;
    }
    assert!(files > 3);
}
