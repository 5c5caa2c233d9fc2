//! Rows that are too old are gone, at once and everywhere. Tests only; must never wait for a clock.

use std::time::Duration;

use crate::tests::model::read_table;
use crate::{
    Appender, Config, Dedup, OsDisk, Row, TableDef, TableOptions, Value, compact_now, open_primary,
};

fn short_lived() -> Config {
    let options = TableOptions {
        dedup: Dedup::None,
        retention: Some(Duration::from_secs(3_600)),
    };
    Config {
        segment_size: 3_000,
        tables: vec![TableDef {
            name: "plant".to_owned(),
            options,
            ..TableDef::default()
        }],
        ..Config::default()
    }
}

/// A hundred rows, of which every other one is too old on arrival.
fn write_fresh_and_old(appender: &mut Appender) {
    let now = crate::clock::unix_nanos();
    for number in 0..100 {
        let age_s = if number % 2 == 0 {
            number
        } else {
            7_200 + number
        };
        let row = Row {
            time: now - age_s * 1_000_000_000,
            tags: &[("t", "a")],
            fields: &[("v".into(), Value::Int(age_s))],
        };
        let group = appender.append("plant", &[row]).expect("fits");
        appender.wait(group).expect("durable");
    }
}

#[tokio::test]
async fn rows_older_than_the_retention_are_gone_at_once_and_leave_the_files() {
    let dir = tempfile::tempdir().expect("dir");
    let (primary, _) = open_primary(OsDisk::new(), dir.path(), &short_lived()).expect("opens");
    let log = primary.log();
    let mut appender = primary.appender(Box::new(|_| ()));
    write_fresh_and_old(&mut appender);
    let is_cut = || {
        let snapshot = log.snapshot();
        let table = snapshot.catalog().table("plant").expect("there").id;
        snapshot.cut(table).is_some()
    };
    let mut durable = log.durable();
    while !is_cut() {
        durable.changed().await.expect("the log lives");
    }
    let visible = || read_table(&log.snapshot(), "plant").len();
    let stored = || {
        let infos = log.snapshot().file_infos();
        infos.iter().map(|info| info.rows).sum::<u64>()
    };
    assert_eq!(visible(), 50);
    compact_now(log).expect("compacts");
    assert_eq!(visible(), 50);
    // From here on the cut is in the log before the rows: what is gone is not even written.
    let before = stored();
    write_fresh_and_old(&mut appender);
    assert_eq!(visible(), 100);
    compact_now(log).expect("compacts");
    assert_eq!(visible(), 100);
    let more = stored() - before;
    assert!(more < 70, "{before}, then {more} rows more in files");
    drop(appender);
    primary.stop().expect("stops");
}
