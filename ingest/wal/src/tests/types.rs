//! A column that has got another type holds the same values, in blocks and files of every form, on
//! every node, and takes what was refused. Tests only; must never make the texts that it expects by
//! the way that the product does.

use std::collections::BTreeMap;

use super::seed;
use crate::compact::merge::Keys;
use crate::parquet::sort_columns;
use crate::tests::model::{follow, open_copy};
use crate::tests::renames::rows;
use crate::{
    AppendError, Appender, Column, ColumnRole, ColumnType, Committer, Config, DEAD_LETTERS, Dedup,
    Follower, Log, OsDisk, Refusal, Row, TableDef, TableOptions, TableSchema, Value, Wanted,
    compact_now, open_primary,
};

fn open(dir: &tempfile::TempDir, tables: Vec<TableDef>) -> (Committer, Appender) {
    let config = Config {
        segment_size: 3_000,
        tables,
        ..Config::default()
    };
    let (committer, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
    let appender = committer.appender(Box::new(|_| ()));
    (committer, appender)
}

type Cells = BTreeMap<String, Value<'static>>;

fn append(appender: &mut Appender, time: i64, cells: &Cells) -> Result<(), Refusal> {
    let fields = cells.iter();
    let fields: Vec<_> = fields
        .map(|(name, value)| (name.clone().into(), value.clone()))
        .collect();
    let row = Row {
        time,
        tags: &[("device", if time % 3 == 0 { "a" } else { "b" })],
        fields: &fields,
    };
    match appender.append("t", &[row]) {
        Ok(group) => drop(appender.wait(group).expect("durable")),
        Err(AppendError::Refused(refusal)) => return Err(refusal),
        Err(other) => panic!("{other}"),
    }
    Ok(())
}

/// What a column that is so shows of a value that was sent.
fn shown(column: &Column, value: &Value<'_>) -> String {
    let number = |value: f64| format!("{:?}", value + 0.0);
    match (column.was.unwrap_or(column.kind), value) {
        (ColumnType::Float, Value::Int(value)) if value.abs() <= 1 << 53 => number(*value as f64),
        (ColumnType::Int | ColumnType::BigInt, Value::Float(value)) if value.fract() == 0.0 => {
            format!("{value:.0}")
        }
        (_, Value::Int(value)) => value.to_string(),
        (_, Value::Float(value)) => number(*value),
        (_, Value::Bool(value)) => value.to_string(),
        (_, Value::Text(value)) => value.to_string(),
    }
}

fn schema(log: &Log) -> std::sync::Arc<TableSchema> {
    let snapshot = log.snapshot();
    std::sync::Arc::clone(snapshot.catalog().table("t").expect("the table"))
}

/// Files are in the order that merges rely on.
fn check_order(log: &Log, schema: &TableSchema) {
    let by = sort_columns(schema);
    let all: Vec<usize> = (0..schema.columns.len()).collect();
    let keys = Keys::new(&schema.arrow(), &by).expect("keys");
    for file in log.snapshot().files(schema.id) {
        let wanted = Wanted::default();
        let groups = file.row_groups(schema, &wanted).expect("reads");
        let reader = file.read(schema, &all, &groups, &wanted, 10_000);
        for batch in reader.expect("reads") {
            let rows = keys.of(&batch.expect("reads")).expect("keys");
            assert!(rows.iter().is_sorted(), "{}", file.name());
        }
    }
}

/// All rows by their times, but for the tag.
fn check(log: &Log, model: &BTreeMap<i64, Cells>, at: &str) {
    let schema = schema(log);
    check_order(log, &schema);
    let mut found = BTreeMap::new();
    for (time, mut row) in rows(log) {
        row.remove("device");
        // The model's own texts of floats are Rust's shortest.
        for column in schema
            .columns
            .iter()
            .filter(|column| column.kind == ColumnType::Float)
        {
            if let Some(cell) = row.get_mut(&*column.name) {
                *cell = format!("{:?}", cell.parse::<f64>().expect("a float"));
            }
        }
        found.insert(time, row);
    }
    let expected: BTreeMap<i64, BTreeMap<String, String>> = model
        .iter()
        .map(|(time, cells)| {
            let cells = cells.iter().map(|(name, value)| {
                let column = &schema.columns[schema.column(name).expect("the column")];
                (name.clone(), shown(column, value))
            });
            (*time, cells.collect())
        })
        .collect();
    assert_eq!(found, expected, "{at}");
}

fn value(random: &mut fastrand::Rng, kind: u8) -> Value<'static> {
    match kind {
        0 => Value::Int(random.i64(-50..50)),
        1 => Value::Float(f64::from(random.i32(-200..200)) / 4.0),
        2 => Value::Bool(random.bool()),
        3 => Value::Text(["on", "off", "", "7.0"][random.usize(0..4)].into()),
        // No float holds it: JSON and Rust write large floats in two ways.
        _ => Value::Int(random.i64(1 << 54..) * if random.bool() { 1 } else { -1 }),
    }
}

/// A primary with two producers, a secondary, and what was sent.
struct Trial {
    dirs: [tempfile::TempDir; 3],
    committer: Committer,
    appenders: [Appender; 2],
    secondary: Follower,
    model: BTreeMap<i64, Cells>,
    random: fastrand::Rng,
}

impl Trial {
    fn new(random: fastrand::Rng) -> Self {
        let dirs = [(); 3].map(|()| tempfile::tempdir().expect("dir"));
        let (committer, appender) = open(&dirs[0], Vec::new());
        Self {
            secondary: open_copy(dirs[1].path(), committer.log()),
            appenders: [appender, committer.appender(Box::new(|_| ()))],
            dirs,
            committer,
            model: BTreeMap::new(),
            random,
        }
    }

    /// Sends a row; when it does not fit, lets its column take anything, now and then.
    fn send(&mut self, time: i64, kinds: &BTreeMap<&str, u8>) {
        let random = &mut self.random;
        let mut cells = Cells::new();
        for (name, kind) in kinds {
            if random.bool() {
                let other = random.u8(0..8) == 0;
                let kind = if other { random.u8(0..5) } else { *kind };
                cells.insert((*name).to_owned(), value(random, kind));
            }
        }
        if cells.is_empty() {
            return;
        }
        let refusal = match append(&mut self.appenders[random.usize(0..2)], time, &cells) {
            Ok(()) => return drop(self.model.insert(time, cells)),
            Err(refusal) => refusal,
        };
        if random.u8(0..4) > 0 {
            return;
        }
        let (Refusal::Type { column, .. }
        | Refusal::NotWhole { column, .. }
        | Refusal::Rounds { column, .. }) = &refusal
        else {
            panic!("{refusal}");
        };
        let helps = format!("headwater table change-type \"t\" {column:?} text");
        assert!(refusal.to_string().contains(&helps), "{refusal}");
        let appenders = self.committer.appenders();
        let changed = appenders.change_type("t", column, ColumnType::Text);
        changed.expect("anything becomes text");
    }

    /// Integers that no float rounds become floats; no other column does.
    fn make_floats(&self) {
        // What was asked for last may not be in the log yet.
        let Some(schema) = self.appenders[0].schema("t") else {
            return;
        };
        let appenders = self.committer.appenders();
        for column in &schema.columns {
            let changed = appenders.change_type("t", &column.name, ColumnType::Float);
            if column.kind != ColumnType::Int {
                changed.expect_err("no integers that floats hold");
            }
        }
    }

    /// Fields of text become tags, and tags fields.
    fn change_role(&self, column: &str) {
        let Some(schema) = self.appenders[0].schema("t") else {
            return;
        };
        let Some(held) = schema.column(column).map(|at| &schema.columns[at]) else {
            return;
        };
        let role = match held.role {
            ColumnRole::Tag => ColumnRole::Field,
            _ => ColumnRole::Tag,
        };
        let appenders = self.committer.appenders();
        let changed = appenders.change_role("t", column, role);
        if held.kind == ColumnType::Text {
            changed.expect("text may be either");
        }
    }

    async fn act(&mut self) {
        match self.random.u8(0..20) {
            0 => self.make_floats(),
            5..7 => {
                let names = ["a", "b", "c", "d", "device"];
                let name = names[self.random.usize(0..names.len())];
                self.change_role(name);
            }
            1..3 => drop(compact_now(self.committer.log()).expect("compacts")),
            3 => {
                follow(self.committer.log(), &mut self.secondary).await;
                drop(compact_now(self.secondary.log()).expect("compacts"));
            }
            4 if !self.model.is_empty() => check(self.committer.log(), &self.model, "meanwhile"),
            _ => {}
        }
    }

    /// The same after a restart.
    fn reopened(self) -> Self {
        drop(self.appenders);
        self.committer.stop().expect("stops");
        let (committer, appender) = open(&self.dirs[0], Vec::new());
        if !self.model.is_empty() {
            check(committer.log(), &self.model, "opened again");
        }
        Self {
            appenders: [appender, committer.appender(Box::new(|_| ()))],
            committer,
            ..self
        }
    }

    /// All nodes hold it, one that comes late as well.
    async fn end(mut self) {
        // A row behind the last change.
        let last = Cells::from([("end".to_owned(), Value::Int(1))]);
        append(&mut self.appenders[0], 999, &last).expect("fits");
        self.model.insert(999, last);
        let mut late = open_copy(self.dirs[2].path(), self.committer.log());
        follow(self.committer.log(), &mut self.secondary).await;
        follow(self.committer.log(), &mut late).await;
        for log in [self.committer.log(), self.secondary.log(), late.log()] {
            check(log, &self.model, "at the end");
            compact_now(log).expect("compacts");
            check(log, &self.model, "compacted");
            assert_eq!(log.verify().faults, []);
        }
        drop(self.appenders);
        self.committer.stop().expect("stops");
        self.secondary.stop().await.expect("stops");
        late.stop().await.expect("stops");
    }
}

/// Rows, changes, compaction and restarts in any order, against the values as they were sent.
#[tokio::test]
async fn rows_hold_what_was_sent_whatever_their_columns_become() {
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..5 {
        let mut trial = Trial::new(random.fork());
        // What each column gets mostly.
        let kinds = ["a", "b", "c", "d"].map(|name| (name, random.u8(0..5)));
        for time in 0..150 {
            trial.send(time, &BTreeMap::from(kinds));
            trial.act().await;
            if random.u8(0..30) == 0 {
                trial = trial.reopened();
            }
        }
        trial.end().await;
    }
}

/// The tables of a conf, one of which has a key.
fn declared() -> Vec<TableDef> {
    let field = |name: &str, kind| Column::new(name, ColumnRole::Field, kind);
    let site = || Column::new("site", ColumnRole::Tag, ColumnType::Text);
    let declared = TableDef {
        name: "declared".to_owned(),
        columns: vec![
            field("state", ColumnType::Bool),
            field("n", ColumnType::Int),
            site(),
        ],
        ..TableDef::default()
    };
    let keyed = TableDef {
        name: "keyed".to_owned(),
        columns: vec![site(), field("text", ColumnType::Text)],
        options: TableOptions {
            dedup: Dedup::Key,
            ..TableOptions::default()
        },
        ..TableDef::default()
    };
    vec![declared, keyed]
}

/// A column of each type.
fn one_of_each() -> Cells {
    let cells = [
        ("int", Value::Int(1)),
        ("big", Value::Int(i64::MAX)),
        ("float", Value::Float(0.5)),
        ("flag", Value::Bool(true)),
        ("text", Value::Text("x".into())),
    ];
    cells.map(|(name, value)| (name.to_owned(), value)).into()
}

#[test]
fn a_type_that_cannot_be_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(&dir, declared());
    append(&mut appender, 1, &one_of_each()).expect("fits");
    let before = appender.registry.state();
    let appenders = committer.appenders();
    let change = |table: &str, column: &str, kind| appenders.change_type(table, column, kind);
    let (float, text) = (ColumnType::Float, ColumnType::Text);
    for (table, column, kind, part) in [
        ("none", "int", text, "no table \"none\""),
        ("t", "none", text, "with a column \"none\""),
        ("t", "time", text, "it is the time of every table"),
        ("t", "device", text, "it is a tag, which takes any value"),
        ("t", "big", float, "floats would round them: make it text"),
        ("t", "float", float, "it is so already"),
        ("t", "flag", float, "rename-column"),
        ("t", "text", float, "rename-column"),
        ("t", "text", ColumnType::Int, "rename-column"),
        ("t", "float", ColumnType::Int, "rename-column"),
        ("declared", "state", text, "declared otherwise"),
        ("declared", "n", text, "declared otherwise"),
        (DEAD_LETTERS, "reason", text, "Headwater's own"),
    ] {
        let refused = change(table, column, kind).expect_err(part).to_string();
        assert!(refused.contains(part), "{refused}");
    }
    assert!(appender.registry.state() == before);
    change("declared", "n", float).expect("the conf's integers are floats as well");
    change("t", "text", text).expect("it takes any value from now on");
    let refused = change("t", "text", text).expect_err("twice").to_string();
    let part = "takes any value as text already";
    assert!(refused.contains(part), "{refused}");
    let cells = Cells::from([("text".to_owned(), Value::Bool(true))]);
    append(&mut appender, 2, &cells).expect("text takes any value");
    drop(appender);
    committer.stop().expect("stops");
    // The conf that let it be starts the node again.
    let (committer, _) = open(&dir, declared());
    assert_eq!(rows(committer.log())[&2]["text"], "true");
    committer.stop().expect("stops");
}

#[test]
fn a_role_that_cannot_be_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(&dir, declared());
    append(&mut appender, 1, &one_of_each()).expect("fits");
    let before = appender.registry.state();
    let appenders = committer.appenders();
    let change = |table: &str, column: &str, role| appenders.change_role(table, column, role);
    let (tag, field) = (ColumnRole::Tag, ColumnRole::Field);
    for (table, column, role, part) in [
        ("none", "text", tag, "no table \"none\""),
        ("t", "none", tag, "with a column \"none\""),
        ("t", "time", tag, "a table has one time"),
        ("t", "text", ColumnRole::Time, "a table has one time"),
        ("t", "text", field, "it is so already"),
        ("t", "flag", tag, "tags are text: make it text first"),
        ("declared", "site", field, "declared otherwise"),
        ("keyed", "site", field, "where dedup is \"key\""),
        ("keyed", "text", tag, "where dedup is \"key\""),
        (DEAD_LETTERS, "reason", tag, "Headwater's own"),
    ] {
        let refused = change(table, column, role).expect_err(part).to_string();
        assert!(refused.contains(part), "{refused}");
    }
    assert!(appender.registry.state() == before);
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn a_key_is_not_made_of_tags_that_files_are_not_sorted_by() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(&dir, Vec::new());
    let cells = Cells::from([("site".to_owned(), Value::Text("north".into()))]);
    append(&mut appender, 1, &cells).expect("fits");
    let role = |committer: &Committer, role| {
        let changed = committer.appenders().change_role("t", "site", role);
        changed.expect("text may be either");
    };
    role(&committer, ColumnRole::Tag);
    drop(appender);
    committer.stop().expect("stops");
    let keyed = TableDef {
        name: "t".to_owned(),
        options: TableOptions {
            dedup: Dedup::Key,
            ..TableOptions::default()
        },
        ..TableDef::default()
    };
    let config = Config {
        tables: vec![keyed.clone()],
        ..Config::default()
    };
    let refused = open_primary(OsDisk::new(), dir.path(), &config).expect_err("not in order");
    let refused = refused.to_string();
    assert!(refused.contains("change-role"), "{refused}");
    let (committer, _) = open(&dir, Vec::new());
    role(&committer, ColumnRole::Field);
    committer.stop().expect("stops");
    let (committer, mut appender) = open(&dir, vec![keyed]);
    append(&mut appender, 1, &cells).expect("fits");
    assert_eq!(rows(committer.log()).len(), 1);
    drop(appender);
    committer.stop().expect("stops");
}
