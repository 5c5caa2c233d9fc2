//! A refused message leaves no trace: not in the registry, not in the log, whatever it was refused
//! for. Tests only; must never know how a schema is found.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::model::follow;
use super::seed;
use crate::{
    AppendError, Appender, Column, ColumnRole, ColumnType, Columns, Committer, Config,
    DEAD_LETTERS, FollowerConfig, Limits, MAX_COLUMNS, MAX_TABLES, NewNames, OsDisk, Refusal, Row,
    Share, TableDef, Value, open_follower, open_primary,
};

type Fields = Vec<(Cow<'static, str>, Value<'static>)>;
type Tags = Vec<(&'static str, &'static str)>;

/// The columns of each table, by what was acknowledged.
type Model = BTreeMap<String, BTreeSet<String>>;

fn open(dir: &tempfile::TempDir, config: &Config) -> (Committer, Appender) {
    let (committer, _) = open_primary(OsDisk::new(), dir.path(), config).expect("opens");
    let appender = committer.appender(Box::new(|_| ()));
    (committer, appender)
}

fn strict() -> TableDef {
    let column = |name: &str, kind| Column::new(name, ColumnRole::Field, kind);
    TableDef {
        name: "strict".to_owned(),
        columns: vec![column("a", ColumnType::Int), column("b", ColumnType::Text)],
        strict: true,
        ..TableDef::default()
    }
}

fn random_value(random: &mut fastrand::Rng) -> Value<'static> {
    match random.u8(0..6) {
        0 => Value::Int(random.i64(-9..9)),
        1 => Value::Int(random.i64(..)),
        2 => Value::Float(random.f64()),
        3 => Value::Float(f64::from(random.i32(-9..9))),
        4 => Value::Bool(random.bool()),
        _ => Value::Text(Cow::Borrowed("t")),
    }
}

fn random_name(random: &mut fastrand::Rng) -> Cow<'static, str> {
    match random.u8(0..40) {
        0 => Cow::Borrowed(""),
        1 => Cow::Borrowed("bell\u{7}"),
        2 => Cow::Owned("n".repeat(257)),
        3 => Cow::Borrowed("time"),
        4..10 => Cow::Owned(format!("new{}", random.u16(..))),
        _ => Cow::Borrowed(["a", "b", "c", "d", "e", "f", "g", "h"][random.usize(0..8)]),
    }
}

fn random_rows(random: &mut fastrand::Rng) -> Vec<(Tags, Fields)> {
    let row = |random: &mut fastrand::Rng| {
        let tags = ["site", "a", "h"].into_iter();
        let tags: Tags = tags
            .filter(|name| random.u8(0..if *name == "site" { 2 } else { 12 }) == 0)
            .map(|name| (name, "x"))
            .collect();
        let count = random.usize(0..5);
        let fields = (0..count).map(|_| (random_name(random), random_value(random)));
        (tags, fields.collect())
    };
    let count = random.usize(1..4);
    (0..count).map(|_| row(random)).collect()
}

fn append(
    appender: &mut Appender,
    table: &str,
    rows: &[(Tags, Fields)],
) -> Result<crate::GroupId, AppendError> {
    appender.append(table, &timed(rows))
}

/// The same as a client's rows.
fn append_from(
    appender: &mut Appender,
    client: &str,
    table: &str,
    rows: &[(Tags, Fields)],
) -> Result<crate::GroupId, AppendError> {
    appender.append_from(client, table, &timed(rows))
}

fn timed(rows: &[(Tags, Fields)]) -> Vec<Row<'_>> {
    let rows = rows.iter().zip(1..);
    rows.map(|((tags, fields), time)| Row { time, tags, fields })
        .collect()
}

/// The tables of the log, and their columns.
fn logged(committer: &Committer) -> Model {
    let snapshot = committer.log().snapshot();
    let names = |columns: &Columns| {
        columns
            .iter()
            .map(|column| column.name.to_string())
            .collect()
    };
    let tables = snapshot.catalog().tables();
    tables
        .map(|table| (table.name.clone(), names(&table.columns)))
        .collect()
}

#[test]
fn what_is_refused_leaves_no_trace_and_what_is_taken_leaves_all_of_it() {
    let mut random = fastrand::Rng::with_seed(seed());
    let dir = tempfile::tempdir().expect("dir");
    let config = Config {
        tables: vec![strict()],
        ..Config::default()
    };
    let (committer, mut appender) = open(&dir, &config);
    let mut other = committer.appender(Box::new(|_| ()));
    let columns = ["time", "a", "b"].map(str::to_owned);
    let mut model = Model::from([("strict".to_owned(), BTreeSet::from(columns))]);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let table = ["one", "two", "strict", "system.x", "", "three\n"];
        let table = match random.u8(0..30) {
            0 => Cow::Owned(format!("t{}", random.u16(..))),
            1..4 => Cow::Borrowed(table[random.usize(0..6)]),
            _ => Cow::Borrowed(table[random.usize(0..3)]),
        };
        let rows = random_rows(&mut random);
        let before = appender.registry.state();
        let producer = if random.bool() {
            &mut appender
        } else {
            &mut other
        };
        match append(producer, &table, &rows) {
            Ok(group) => {
                taken += 1;
                producer.wait(group).expect("durable");
                let columns = model.entry(table.into_owned()).or_default();
                columns.insert("time".to_owned());
                for (tags, fields) in rows {
                    columns.extend(tags.into_iter().map(|(name, _)| name.to_owned()));
                    columns.extend(fields.into_iter().map(|(name, _)| name.into_owned()));
                }
            }
            Err(AppendError::Refused(_)) => {
                refused += 1;
                assert!(appender.registry.state() == before, "{table:?} {rows:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        taken > 100 && refused > 100,
        "{taken} taken, {refused} refused"
    );
    assert_eq!(logged(&committer), model);
    drop((appender, other));
    committer.stop().expect("stops");
    let (committer, appender) = open(&dir, &config);
    assert_eq!(logged(&committer), model, "after a restart");
    drop(appender);
    committer.stop().expect("stops");
}

/// One row, with fields of these names and values.
fn row(fields: &[(&str, Value<'static>)]) -> Vec<(Tags, Fields)> {
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| (Cow::Owned((*name).to_owned()), value.clone()));
    vec![(Vec::new(), fields.collect())]
}

#[test]
fn a_type_that_was_only_ever_refused_is_held_against_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(&dir, &Config::default());
    let twice = row(&[("temp", Value::Int(1)), ("temp", Value::Int(2))]);
    let refused = append(&mut appender, "s", &twice);
    assert!(matches!(
        refused,
        Err(AppendError::Refused(Refusal::Twice { .. }))
    ));
    let warm = row(&[("temp", Value::Text("warm".into()))]);
    let group = append(&mut appender, "s", &warm).expect("nothing was stored before");
    appender.wait(group).expect("durable");
    // Nor is one of two kinds the right one when both come at once.
    let mut both = row(&[("v", Value::Int(1))]);
    both.extend(row(&[("v", Value::Text("x".into()))]));
    let refused = append(&mut appender, "s", &both).expect_err("both");
    let text = refused.to_string();
    assert!(
        text.contains("\"v\"") && text.contains("both an integer and text"),
        "{text}"
    );
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn refused_messages_use_up_neither_columns_nor_tables() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(&dir, &Config::default());
    append(&mut appender, "one", &row(&[("v", Value::Int(1))])).expect("fits");
    let before = appender.registry.state();
    for number in 0..=MAX_COLUMNS + 75 {
        let name = format!("c{number}");
        let bad = match number % 3 {
            0 => row(&[(&name, Value::Int(1)), (&name, Value::Int(2))]),
            1 => row(&[(&name, Value::Int(1)), ("v", Value::Bool(true))]),
            _ => row(&[(&name, Value::Int(1)), ("", Value::Bool(true))]),
        };
        append(&mut appender, "one", &bad).expect_err("refused");
    }
    let twice = row(&[("v", Value::Int(1)), ("v", Value::Int(2))]);
    for number in 0..MAX_TABLES + 50 {
        append(&mut appender, &format!("t{number}"), &twice).expect_err("refused");
    }
    assert!(appender.registry.state() == before);
    append(&mut appender, "one", &row(&[("last", Value::Int(1))])).expect("a column");
    let group = append(&mut appender, "two", &row(&[("v", Value::Int(1))])).expect("a table");
    appender.wait(group).expect("durable");
    assert_eq!(logged(&committer).len(), 2);
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn rows_too_large_or_too_many_for_now_leave_no_trace() {
    let dir = tempfile::tempdir().expect("dir");
    // Nothing is ever committed.
    let config = Config {
        reserve_disk: u64::MAX,
        pending_bytes: 1_000,
        ..Config::default()
    };
    let (committer, mut appender) = open(&dir, &config);
    let before = appender.registry.state();
    let long = Value::Text("x".repeat((32 << 20) + 1).into());
    let refused = append(&mut appender, "one", &row(&[("long", long)]));
    assert!(matches!(
        refused,
        Err(AppendError::Refused(Refusal::TooLarge { .. }))
    ));
    assert!(appender.registry.state() == before);
    let text = Value::Text("x".repeat(1_000).into());
    append(&mut appender, "one", &row(&[("v", text)])).expect("the first always fits");
    let before = appender.registry.state();
    for table in ["one", "two"] {
        let full = append(&mut appender, table, &row(&[("more", Value::Int(1))]));
        assert!(matches!(full, Err(AppendError::Full)), "{full:?}");
    }
    assert!(appender.registry.state() == before);
    drop(appender);
    committer.stop().expect("stops");
}

#[tokio::test]
async fn the_dead_letters_find_room_when_no_other_table_does() {
    let (dir, there) = (
        tempfile::tempdir().expect("dir"),
        tempfile::tempdir().expect("dir"),
    );
    let share = Share::new("schemas", 0);
    let (committer, mut appender) = open(&dir, &Config::default());
    let fields = row(&[("v", Value::Int(1))]);
    let name = |number: usize| format!("t{number}");
    for number in 0..MAX_TABLES {
        while let Err(error) = append(&mut appender, &name(number), &fields) {
            assert!(matches!(error, AppendError::Full), "{error}");
            std::thread::yield_now();
        }
    }
    let refused = append(&mut appender, "more", &fields);
    assert!(matches!(
        refused,
        Err(AppendError::Refused(Refusal::TooManyTables { .. }))
    ));
    // A row of the last table, so that all of them are in the log.
    let last = append(&mut appender, &name(0), &fields).expect("is there");
    appender.wait(last).expect("durable");
    drop(appender);
    committer.stop().expect("stops");

    // The same log where nothing is left of anything, and the conf has tables of its own.
    let config = Config {
        schemas: share.clone(),
        limits: Limits {
            max_tables: 1,
            max_columns: 2,
            new_tables_per_minute: 1,
            new_columns_per_minute: 1,
        },
        tables: vec![TableDef {
            name: "declared".to_owned(),
            ..TableDef::default()
        }],
        ..Config::default()
    };
    let (committer, mut appender) = open(&dir, &config);
    assert!(share.used() > 0);
    for number in 0..3 {
        // Also under names that it does not have yet, as a later version may write them.
        let (text, field) = (Value::Text("odd".into()), format!("f{number}"));
        let letter = row(&[
            ("reason", text.clone()),
            ("payload", text.clone()),
            (&field, text),
        ]);
        append(&mut appender, "more", &letter).expect_err("nothing left");
        let group = append_from(&mut appender, "a", DEAD_LETTERS, &letter).expect("room");
        appender.wait(group).expect("durable");
    }
    let log = committer.log();
    let config = FollowerConfig {
        schemas: share.clone(),
        ..FollowerConfig::default()
    };
    let opened = open_follower(OsDisk::new(), there.path(), log.id(), log.epoch(), &config);
    let mut follower = opened.expect("opens").0;
    follow(log, &mut follower).await;
    let copy = follower.log().snapshot();
    let letters = copy.catalog().table(DEAD_LETTERS).expect("there");
    assert_eq!(letters.columns.len(), 6);
    assert_eq!(copy.catalog().count(), MAX_TABLES + 2);
    follower.stop().await.expect("stops");
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn a_client_that_makes_names_up_has_its_quota_and_costs_nobody_else() {
    let dir = tempfile::tempdir().expect("dir");
    let config = Config {
        limits: Limits {
            new_tables_per_minute: 3,
            new_columns_per_minute: 5,
            ..Limits::default()
        },
        ..Config::default()
    };
    let (committer, mut appender) = open(&dir, &config);
    let one = |name: &str| row(&[(name, Value::Int(1))]);
    let refused = |result: Result<_, AppendError>| match result {
        Ok(_) => None,
        Err(AppendError::Refused(Refusal::TooManyNew { client, what, .. })) => Some((client, what)),
        Err(error) => panic!("{error}"),
    };
    let tables = |appender: &mut Appender, client| {
        let made = |number: &usize| {
            let table = format!("{client}{number}");
            refused(append_from(appender, client, &table, &one("v"))).is_none()
        };
        (0..10).take_while(made).count()
    };
    assert_eq!(tables(&mut appender, "a"), 3);
    let before = appender.registry.state();
    let beyond = refused(append_from(&mut appender, "a", "a9", &one("v")));
    assert_eq!(beyond, Some(("a".to_owned(), NewNames::Tables)));
    assert!(appender.registry.state() == before, "nothing is left of it");
    // Two columns are left of its five; other producers know of them, too.
    let mut other = committer.appender(Box::new(|_| ()));
    let columns = |number: usize| append_from(&mut other, "a", "a0", &one(&format!("c{number}")));
    let columns: Vec<_> = (0..4).map(columns).map(refused).collect();
    let none = Some(("a".to_owned(), NewNames::Columns));
    assert_eq!(columns, [None, None, none.clone(), none]);
    // What is there is taken as ever, a wider type too, and what others bring.
    let wider = row(&[("v", Value::Float(0.5)), ("c0", Value::Int(2))]);
    assert_eq!(refused(append_from(&mut appender, "a", "a0", &wider)), None);
    assert_eq!(tables(&mut appender, "b"), 3);
    assert_eq!(
        refused(append_from(&mut appender, "b", "b0", &one("w"))),
        None
    );
    // Nobody's quota: what the node writes by itself.
    for number in 0..10 {
        append(&mut appender, &format!("own{number}"), &one("v")).expect("fits");
    }
    drop((appender, other));
    committer.stop().expect("stops");
}

#[test]
fn tables_and_columns_have_the_limits_of_the_conf_and_what_is_there_goes_on() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(&dir, &Config::default());
    let wide: Vec<_> = (0..8).map(|number| format!("c{number}")).collect();
    let wide: Vec<_> = wide.iter().map(|name| (&**name, Value::Int(1))).collect();
    append(&mut appender, "wide", &row(&wide)).expect("fits");
    let group = append(&mut appender, "other", &row(&[("v", Value::Int(1))])).expect("fits");
    appender.wait(group).expect("durable");
    drop(appender);
    committer.stop().expect("stops");
    let config = Config {
        limits: Limits {
            max_tables: 1,
            max_columns: 4,
            ..Limits::default()
        },
        ..Config::default()
    };
    let (committer, mut appender) = open(&dir, &config);
    let limit = |result| match result {
        Err(AppendError::Refused(
            Refusal::TooManyTables { limit } | Refusal::TooManyColumns { limit, .. },
        )) => limit,
        other => panic!("{other:?}"),
    };
    let one = |name: &str| row(&[(name, Value::Float(0.5))]);
    assert_eq!(limit(append(&mut appender, "more", &one("v"))), 1);
    assert_eq!(limit(append(&mut appender, "wide", &one("more"))), 4);
    append(&mut appender, "wide", &one("c7")).expect("a wider type is no new column");
    append(&mut appender, "other", &one("a")).expect("the third");
    append(&mut appender, "other", &one("b")).expect("the fourth");
    assert_eq!(limit(append(&mut appender, "other", &one("c"))), 4);
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn producers_that_grow_one_table_at_once_lose_no_column() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, appender) = open(&dir, &Config::default());
    drop(appender);
    std::thread::scope(|scope| {
        for producer in 0..4 {
            let mut appender = committer.appender(Box::new(|_| ()));
            scope.spawn(move || {
                for number in 0..100 {
                    let name = format!("p{producer}_{number}");
                    let fields = row(&[(&name, Value::Int(number)), ("all", Value::Int(1))]);
                    let group = append(&mut appender, "one", &fields).expect("fits");
                    if number == 99 {
                        appender.wait(group).expect("durable");
                    }
                }
            });
        }
    });
    assert_eq!(logged(&committer)["one"].len(), 402);
    committer.stop().expect("stops");
}
