//! Rows that are too old are refused or gone, everywhere, and come back while they are stored. Tests
//! only; must never wait for a clock.

use std::time::Duration;

use crate::tests::model::{Cells, read_table};
use crate::{
    AppendError, Appender, Committer, Config, Dedup, OsDisk, Refusal, Row, TableDef, TableOptions,
    Value, compact_now, open_primary,
};

const HOUR: i64 = 3_600_000_000_000;

fn kept_for(retention: Option<Duration>) -> Config {
    let options = TableOptions {
        dedup: Dedup::None,
        retention,
    };
    Config {
        segment_size: 3_000,
        upkeep_every: Duration::from_millis(1),
        tables: vec![TableDef {
            name: "plant".to_owned(),
            options,
            ..TableDef::default()
        }],
        ..Config::default()
    }
}

fn open(dir: &tempfile::TempDir, retention: Option<Duration>) -> Committer {
    let config = kept_for(retention);
    let (primary, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
    primary
}

/// A row that is so old.
fn append(appender: &mut Appender, table: &str, age: i64) -> Result<(), AppendError> {
    let row = Row {
        time: crate::clock::unix_nanos() - age,
        tags: &[("t", "a")],
        fields: &[("v".into(), Value::Int(age))],
    };
    let group = appender.append(table, &[row])?;
    appender.wait(group).expect("durable");
    Ok(())
}

#[test]
fn a_row_that_would_be_gone_at_once_is_refused_and_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("dir");
    let primary = open(&dir, Some(Duration::from_secs(3_600)));
    let mut appender = primary.appender(Box::new(|_| ()));
    // Also before the log has said anything of the table.
    let refused = append(&mut appender, "plant", 2 * HOUR).expect_err("too old");
    let AppendError::Refused(refusal @ Refusal::Expired { time, cut, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(time < cut && cut <= crate::clock::unix_nanos() - HOUR);
    let text = refusal.to_string();
    assert!(
        text.contains("\"plant\"") && text.contains("Z is older than"),
        "{text}"
    );
    append(&mut appender, "plant", HOUR / 2).expect("young enough");
    append(&mut appender, "other", 2 * HOUR).expect("kept for ever");
    let now = crate::clock::unix_nanos();
    let fields = [("new".into(), Value::Int(1))];
    let row = |time| Row {
        time,
        tags: &[],
        fields: &fields,
    };
    let mixed = appender.append("plant", &[row(now), row(now - 2 * HOUR)]);
    assert!(matches!(
        mixed,
        Err(AppendError::Refused(Refusal::Expired { .. }))
    ));
    assert_eq!(primary.log().stats().expired, 2);
    append(&mut appender, "plant", 0).expect("fits");
    let snapshot = primary.log().snapshot();
    assert_eq!(read_table(&snapshot, "plant").len(), 2);
    let schema = snapshot.catalog().table("plant").expect("there");
    assert!(schema.columns.iter().all(|column| &*column.name != "new"));
    drop(appender);
    primary.stop().expect("stops");
}

#[tokio::test]
async fn a_shorter_retention_waits_for_a_word_and_a_longer_one_brings_rows_back() {
    let dir = tempfile::tempdir().expect("dir");
    let primary = open(&dir, None);
    let mut appender = primary.appender(Box::new(|_| ()));
    for number in 0..100 {
        let age = if number % 2 == 0 { 0 } else { 30 * HOUR };
        append(&mut appender, "plant", age).expect("fits");
    }
    drop(appender);
    compact_now(primary.log()).expect("compacts");
    primary.stop().expect("stops");

    let primary = open(&dir, Some(Duration::from_secs(24 * 3_600)));
    let log = primary.log();
    let visible = || read_table(&log.snapshot(), "plant").len();
    let mut waiting = log.waiting_cuts();
    let waits = waiting
        .wait_for(|waiting| !waiting.is_empty())
        .await
        .expect("lives")[0]
        .clone();
    assert_eq!(waits.table, "plant");
    assert!(
        (40..=60).contains(&waits.rows) && waits.of_rows >= 95,
        "{waits:?}"
    );
    assert!(waits.left_s > 3_000 && waits.ahead_s.is_none(), "{waits:?}");
    assert_eq!(visible(), 100, "nothing is gone yet");
    assert!(!log.approve_cut("other"));
    assert!(log.approve_cut("plant"));
    waiting.wait_for(Vec::is_empty).await.expect("lives");
    let mut durable = log.durable();
    while visible() == 100 {
        durable.changed().await.expect("lives");
    }
    assert_eq!((visible(), log.stats().cuts), (50, 1));
    compact_now(log).expect("compacts");
    let mut appender = primary.appender(Box::new(|_| ()));
    assert!(append(&mut appender, "plant", 30 * HOUR).is_err());
    drop(appender);
    primary.stop().expect("stops");

    // A word that was a mistake.
    let primary = open(&dir, Some(Duration::from_secs(48 * 3_600)));
    let log = primary.log();
    let mut durable = log.durable();
    while read_table(&log.snapshot(), "plant").len() < 100 {
        durable.changed().await.expect("lives");
    }
    let mut appender = primary.appender(Box::new(|_| ()));
    append(&mut appender, "plant", 30 * HOUR).expect("taken again");
    drop(appender);
    primary.stop().expect("stops");
}

#[tokio::test]
async fn dead_letters_that_take_too_much_go_the_oldest_first() {
    let dir = tempfile::tempdir().expect("dir");
    let config = Config {
        dead_letter_bytes: Some(40_000),
        ..kept_for(None)
    };
    let (primary, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
    let mut appender = primary.appender(Box::new(|_| ()));
    for number in 0..100 {
        let text = "x".repeat(1_000);
        let row = Row {
            time: crate::clock::unix_nanos(),
            tags: &[],
            fields: &[
                ("n".into(), Value::Int(number)),
                ("payload".into(), Value::Text(text.into())),
            ],
        };
        for table in [crate::DEAD_LETTERS, "other"] {
            let group = appender.append(table, &[row]).expect("fits");
            appender.wait(group).expect("durable");
        }
    }
    let log = primary.log();
    let letters = || read_table(&log.snapshot(), crate::DEAD_LETTERS);
    let mut durable = log.durable();
    while letters().len() > 45 {
        durable.changed().await.expect("lives");
    }
    let left = letters();
    assert!(left.len() >= 20, "{}", left.len());
    let gone = 100 - left.len() as u64;
    assert!(log.stats().given_up >= gone / 2, "{:?}", log.stats());
    let newest = |cells: &Cells| format!("{cells:?}").contains("99");
    assert!(left.iter().any(newest), "the newest stays: {left:?}");
    assert_eq!(read_table(&log.snapshot(), "other").len(), 100);
    drop(appender);
    primary.stop().expect("stops");
}
