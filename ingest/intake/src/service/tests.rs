//! Writes over a log on a real disk: answered when they are on it, refused or failed otherwise.
//! Must never wait without a bound.

use bytes::Bytes;
use tempfile::TempDir;
use wal::{Committer, Config, OsDisk, Refusal, open_primary};

use super::*;
use crate::error::PayloadError;
use crate::timestamp::Unit;
use crate::write::{Encoding, Format, Target};

fn open(dir: &TempDir, config: &Config) -> (Committer, Arc<Intake>) {
    let (committer, _) = open_primary(OsDisk::new(), dir.path(), config).expect("a log");
    let intake = Intake::new(
        &committer.appenders(),
        committer.log().clone(),
        Reading::default(),
    );
    (committer, Arc::new(intake))
}

fn lines(text: impl Into<String>) -> Write {
    Write {
        client: "a client".to_owned(),
        target: Target::Lines,
        unit: Unit::Auto,
        encoding: Encoding::Plain,
        body: Bytes::from(text.into()),
        max_bytes: 1 << 20,
    }
}

fn json(table: &str, text: &str) -> Write {
    Write {
        target: Target::Table {
            table: table.to_owned(),
            format: Format::Json,
            tags: Vec::new(),
        },
        ..lines(text)
    }
}

#[tokio::test]
async fn a_write_is_answered_with_an_lsn_above_its_rows_once_they_are_on_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, intake) = open(&dir, &Config::default());
    let written = intake
        .write(lines("a,site=x v=1 1\nb v=2 2\na v=3 3"), ())
        .await
        .expect("written");
    assert_eq!((written.rows, written.faulty), (3, 0));
    assert!(committer.log().durable().borrow().lsn >= written.lsn);
    let next = intake
        .write(json("a", r#"{"v": 4}"#), ())
        .await
        .expect("written");
    assert!(next.lsn > written.lsn);
    assert_eq!(committer.log().stats().rows, 4);
    let stats = intake.stats();
    assert_eq!((stats.received, stats.written, stats.rows), (2, 2, 4));
    committer.stop().expect("stops");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_whole_or_line_by_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, intake) = open(&dir, &Config::default());
    intake.write(lines("a v=1"), ()).await.expect("written");
    let refused = intake
        .write(json("a", r#"[{"v": 2}, {"v": "x"}]"#), ())
        .await;
    assert!(matches!(
        refused,
        Err(IntakeError::Misfit { place, refusal: Refusal::Type { .. } })
            if place == "row 2, value \"x\""
    ));
    let unread = intake.write(json("a", "{"), ()).await;
    assert!(matches!(
        unread,
        Err(IntakeError::Payload(PayloadError::Json { .. }))
    ));
    let some = intake.write(lines("a v=2\na v=\"x\"\na v=3"), ()).await;
    let some = some.expect("written");
    assert_eq!((some.rows, some.faulty, some.faults[0].line), (2, 1, 2));
    assert!(some.faults[0].reason.contains("column \"v\""));
    let none = intake
        .write(lines("a v=\"x\""), ())
        .await
        .expect("an answer");
    assert_eq!((none.rows, none.lsn, none.faulty), (0, Lsn(0), 1));
    for named_time in ["a v=1,time=5", "a,time=x v=1"] {
        let none = intake.write(lines(named_time), ()).await;
        let reason = &none.expect("an answer").faults[0].reason;
        assert!(reason.contains("the column of the rows' times"), "{reason}");
    }
    assert_eq!(committer.log().stats().rows, 3);
    let stats = intake.stats();
    assert_eq!((stats.written, stats.refused, stats.waiting), (2, 5, 0));
    committer.stop().expect("stops");
}

#[tokio::test]
async fn more_than_may_wait_for_a_commit_waits_for_its_turn() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        pending_bytes: 1 << 12,
        ..Config::default()
    };
    let (committer, intake) = open(&dir, &config);
    let writes = (0..40).map(|table| {
        let text: Vec<String> = (0..200).map(|n| format!("t{} v={n}", table % 7)).collect();
        let intake = Arc::clone(&intake);
        tokio::spawn(async move { intake.write(lines(text.join("\n")), ()).await })
    });
    let writes: Vec<_> = writes.collect();
    for write in writes {
        let written = write.await.expect("runs").expect("written");
        assert_eq!(written.rows, 200);
    }
    assert_eq!(committer.log().stats().rows, 40 * 200);
    committer.stop().expect("stops");
}

#[tokio::test]
async fn what_is_given_up_before_the_log_took_any_of_it_is_said_to_be_stored_nowhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, intake) = open(&dir, &Config::default());
    let mut intake = Arc::into_inner(intake).expect("one");
    intake.max_wait = Duration::ZERO;
    let intake = Arc::new(intake);
    for write in [lines("a v=1\nb v=2"), json("a", r#"{"v": 1}"#)] {
        let late = intake.write(write, ()).await.expect_err("no time");
        let told = late.to_string();
        assert!(matches!(late, IntakeError::Stalled(_)), "{late:?}");
        assert!(told.contains("nothing of it is stored"), "{told}");
    }
    assert_eq!((intake.stats().rows, intake.stats().failed), (0, 2));
    committer.stop().expect("stops");
    let (committer, _) = open(&dir, &Config::default());
    assert_eq!(committer.log().snapshot().catalog().tables().count(), 0);
    committer.stop().expect("stops");
}

#[tokio::test]
async fn a_closed_log_takes_nothing_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, intake) = open(&dir, &Config::default());
    let last = intake.write(lines("a v=1"), ()).await.expect("written");
    let end = committer.stop().expect("stops");
    assert!(end.lsn >= last.lsn);
    let refused = intake.write(lines("a v=2"), ()).await;
    assert!(matches!(refused, Err(IntakeError::Closed(_))));
    assert_eq!(intake.stats().failed, 1);
}

#[tokio::test]
async fn a_stop_under_load_leaves_nobody_without_an_answer() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().expect("a directory");
        let (committer, intake) = open(&dir, &Config::default());
        intake.write(lines("a v=1"), ()).await.expect("written");
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let intake = Arc::clone(&intake);
                tokio::spawn(async move {
                    let mut written = 1;
                    while intake.write(lines("a v=1"), ()).await.is_ok() {
                        written += 1;
                    }
                    written
                })
            })
            .collect();
        let log = committer.log().clone();
        spawn_blocking(move || committer.stop())
            .await
            .expect("runs")
            .expect("stops");
        let mut written = 0;
        for writer in writers {
            let ended = tokio::time::timeout(Duration::from_secs(10), writer).await;
            written += ended.expect("an answer in time").expect("runs") - 1;
        }
        assert!(log.stats().rows > written, "answered, and not on disk");
    }
}

#[tokio::test]
async fn a_client_beyond_its_quota_is_told_to_come_again_and_others_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let limits = wal::Limits {
        new_tables_per_minute: 2,
        new_columns_per_minute: 4,
        ..wal::Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let (committer, intake) = open(&dir, &config);
    let is_later = |error: &IntakeError| {
        matches!(
            error,
            IntakeError::Refused(Refusal::TooManyNew { client, .. }) if client == "a client"
        )
    };
    let some = intake.write(lines("a v=1\nb v=1\nc v=1\na v=2"), ()).await;
    let some = some.expect("what there is room for");
    assert_eq!((some.rows, some.faulty, some.faults[0].line), (3, 1, 3));
    assert!(
        some.faults[0]
            .reason
            .contains("ingest.new_tables_per_minute"),
        "{:?}",
        some.faults
    );
    // None of it: the whole write may come again.
    let none = intake.write(lines("c v=1\nd v=1"), ()).await;
    assert!(is_later(&none.expect_err("later")));
    let none = intake.write(json("c", r#"{"v": 1}"#), ()).await;
    assert!(is_later(&none.expect_err("later")));
    let none = intake.write(json("a", r#"{"x": 1, "y": 2, "z": 3}"#), ());
    assert!(is_later(&none.await.expect_err("later")));
    let known = intake.write(lines("a v=1,x=1,y=1\nb v=1"), ()).await;
    assert_eq!(known.expect("its last columns").rows, 2);
    let other = Write {
        client: "another".to_owned(),
        ..json("c", r#"{"v": 1}"#)
    };
    assert_eq!(intake.write(other, ()).await.expect("its own").rows, 1);
    committer.stop().expect("stops");
}

#[tokio::test]
async fn a_dropped_table_is_gone_once_that_is_answered_also_one_that_is_on_its_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, intake) = open(&dir, &Config::default());
    for round in 0..20 {
        let writing = intake.write(lines(format!("a v={round}\nb v=1")), ());
        let (written, dropped) = tokio::join!(writing, async {
            loop {
                match intake.drop_table("a").await {
                    // Not even on its way yet.
                    Err(IntakeError::Refused(Refusal::Unknown { .. })) => {
                        tokio::task::yield_now().await;
                    }
                    dropped => break dropped,
                }
            }
        });
        assert_eq!(written.expect("written").rows, 2);
        let dropped = dropped.expect("is there");
        let snapshot = committer.log().snapshot();
        assert!(snapshot.catalog().table("a").is_none());
        assert!(snapshot.end().lsn >= dropped);
    }
    let refused = intake.drop_table("a").await;
    assert!(matches!(
        refused,
        Err(IntakeError::Refused(Refusal::Unknown { .. }))
    ));
    committer.stop().expect("stops");
}
