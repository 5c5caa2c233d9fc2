//! The log against a model that is nothing but maps: random rows, schemas, retention, compaction
//! and reopening, on a primary and a secondary. Whatever was written must be read, once,
//! everywhere. Tests only; the model must never share code with the log.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};

use tempfile::TempDir;

use super::seed;
use crate::{
    Appender, Column, ColumnRole, ColumnType, Committer, Config, Dedup, Follower, FollowerConfig,
    Log, OsDisk, Row, Snapshot, TableDef, TableOptions, Value, Wanted, compact_now, merge_parts,
    open_follower, open_primary,
};

/// A row as the model keeps it: name to value, as text.
pub(crate) type Cells = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Keyed,
}

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Self::Plain => "plain \"quoted\"",
            Self::Keyed => "keyed",
        }
    }
}

fn config() -> Config {
    let options = TableOptions {
        dedup: Dedup::Key,
        retention: None,
    };
    let site = Column::new("site", ColumnRole::Tag, ColumnType::Text);
    Config {
        segment_size: 6_000,
        keep_segments: 200_000,
        tables: vec![TableDef {
            name: Kind::Keyed.table().to_owned(),
            columns: vec![site],
            strict: false,
            options,
        }],
        ..Config::default()
    }
}

/// One random row and what the model makes of it.
fn random_row(random: &mut fastrand::Rng, number: i64) -> (Kind, i64, String, Vec<(String, Cell)>) {
    let kind = if random.bool() {
        Kind::Plain
    } else {
        Kind::Keyed
    };
    // Some rows are late, and then often of a key that came long ago.
    let of = match random.u8(0..10) {
        0 => number - random.i64(0..3_000),
        1 | 2 => random.i64(0..=number),
        _ => number,
    };
    // Few keys, so that the same come again.
    let time = START + of.div_euclid(10) * 3_600_000_000_000 + random.i64(0..2) * 1_000_000;
    let device = format!("d{}", random.u8(0..2));
    let mut fields = Vec::new();
    for (at, name) in ["temperature", "count", "ok", "note", "odd name"]
        .into_iter()
        .enumerate()
    {
        if random.u8(0..3) == 0 {
            continue;
        }
        let cell = match at {
            0 => Cell::Float(f64::from(random.i32(-4_000..4_000)) / 100.0),
            // Begins as an integer and widens.
            1 if number > 200 && random.u8(0..50) == 0 => Cell::Float(1.0 / 3.0),
            1 => Cell::Int(random.i64(-5..1_000)),
            2 => Cell::Bool(random.bool()),
            3 => Cell::Text(format!("n{}", random.u8(0..9))),
            _ => Cell::Int(number),
        };
        // Columns come into being on the way.
        if at < 2 || number > 40 * i64::try_from(at).expect("small") {
            fields.push((name.to_owned(), cell));
        }
    }
    if fields.is_empty() {
        fields.push(("temperature".to_owned(), Cell::Float(0.5)));
    }
    (kind, time, device, fields)
}

#[derive(Clone, Debug)]
enum Cell {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Int(value) => Value::Int(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Bool(value) => Value::Bool(*value),
            Self::Text(value) => Value::Text(Cow::Borrowed(value)),
        }
    }

    /// Integers and floats alike, because a column may have widened meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn text(&self) -> String {
        match self {
            Self::Int(value) => format!("{}", *value as f64),
            Self::Float(value) => format!("{value}"),
            Self::Bool(value) => format!("{value}"),
            Self::Text(value) => value.clone(),
        }
    }
}

#[derive(Default)]
struct Model {
    plain: Vec<Cells>,
    keyed: BTreeMap<(i64, String), Cells>,
}

impl Model {
    fn write(&mut self, kind: Kind, time: i64, device: &str, fields: &[(String, Cell)]) {
        let mut cells: Cells = fields
            .iter()
            .map(|(name, cell)| (name.clone(), cell.text()))
            .collect();
        cells.insert("time".to_owned(), time.to_string());
        cells.insert("device".to_owned(), device.to_owned());
        match kind {
            Kind::Plain => self.plain.push(cells),
            Kind::Keyed => {
                let key = (time, device.to_owned());
                self.keyed.entry(key).or_default().extend(cells);
            }
        }
    }

    fn rows(&self, kind: Kind) -> Vec<Cells> {
        let mut rows = match kind {
            Kind::Plain => self.plain.clone(),
            Kind::Keyed => self.keyed.values().cloned().collect(),
        };
        rows.sort();
        rows
    }
}

fn cell(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int64 => {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let value = array.as_primitive::<Int64Type>().value(row) as f64;
            value.to_string()
        }
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Utf8View => array.as_string_view().value(row).to_owned(),
        _ => array
            .as_primitive::<TimestampNanosecondType>()
            .value(row)
            .to_string(),
    })
}

/// Rows, sorted.
fn cells(batches: &[RecordBatch]) -> Vec<Cells> {
    let mut rows = cells_in_order(batches);
    rows.sort();
    rows
}

pub(crate) fn cells_in_order(batches: &[RecordBatch]) -> Vec<Cells> {
    let mut rows = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let columns = schema.fields().iter().zip(batch.columns());
            rows.push(
                columns
                    .filter_map(|(field, array)| Some((field.name().clone(), cell(array, row)?)))
                    .collect(),
            );
        }
    }
    rows
}

/// All rows of a table, as a query reads them.
pub(crate) fn read_table(snapshot: &Snapshot, table: &str) -> Vec<Cells> {
    let Some(schema) = snapshot.catalog().table(table) else {
        return Vec::new();
    };
    let all: Vec<usize> = (0..schema.columns.len()).collect();
    let (files, blocks) = (snapshot.files(schema.id), snapshot.blocks(schema.id));
    let wanted = Wanted::default();
    let mut batches = Vec::new();
    if snapshot.catalog().options(schema.id).dedup == Dedup::Key {
        for part in merge_parts(files, blocks) {
            let reader = part.read(schema, &all, &wanted, 100).expect("reads");
            batches.extend(reader.map(|batch| batch.expect("reads")));
        }
    } else {
        for file in files {
            let groups = file.row_groups(schema, &wanted).expect("reads");
            let reader = file
                .read(schema, &all, &groups, &wanted, 100)
                .expect("reads");
            batches.extend(reader.map(|batch| batch.expect("reads")));
        }
        for block in blocks {
            batches.push(block.read(schema, &all).expect("reads"));
        }
    }
    cells(&batches)
}

fn check(log: &Log, model: &Model, at: &str) {
    let snapshot = log.snapshot();
    for kind in [Kind::Plain, Kind::Keyed] {
        let (found, expected) = (read_table(&snapshot, kind.table()), model.rows(kind));
        assert_eq!(found.len(), expected.len(), "{at}: rows of {kind:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{at}: {kind:?}");
        }
    }
}

fn open(dir: &Path) -> Committer {
    open_primary(OsDisk::new(), dir, &config())
        .expect("opens")
        .0
}

pub(crate) fn open_copy(dir: &Path, log: &Log) -> Follower {
    let config = FollowerConfig::default();
    let opened = open_follower(OsDisk::new(), dir, log.id(), log.epoch(), &config);
    opened.expect("opens").0
}

pub(crate) async fn follow(log: &Log, follower: &mut Follower) {
    let mut cursor = log.cursor(follower.tip()).expect("held");
    while let Some(chunk) = cursor.next(3_000).expect("reads") {
        follower
            .append(chunk.parts.concat().into())
            .await
            .expect("continues");
    }
    let mut durable = follower.log().durable();
    let tip = follower.tip();
    durable.wait_for(|at| *at == tip).await.expect("flushed");
}

/// Names and contents of the Parquet files of a log.
fn files_of(log: &Log) -> Vec<(String, u64, Vec<u8>)> {
    let dir = &log.state().dir;
    let mut all: Vec<_> = log
        .snapshot()
        .file_infos()
        .into_iter()
        .map(|info| {
            let bytes = std::fs::read(dir.join(&info.name)).expect("is there");
            (info.name, info.hash, bytes)
        })
        .collect();
    all.sort();
    all
}

/// A primary, a secondary and what they should hold.
struct World {
    dirs: [TempDir; 2],
    primary: Committer,
    appender: Appender,
    secondary: Follower,
    model: Model,
    random: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        let dir = || tempfile::tempdir().expect("dir");
        let dirs = [dir(), dir()];
        let primary = open(dirs[0].path());
        Self {
            secondary: open_copy(dirs[1].path(), primary.log()),
            appender: primary.appender(Box::new(|_| ())),
            primary,
            dirs,
            model: Model::default(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn write(&mut self, number: i64) {
        let (kind, time, device, fields) = random_row(&mut self.random, number);
        self.model.write(kind, time, &device, &fields);
        let fields: Vec<(Cow<'_, str>, Value<'_>)> = fields
            .iter()
            .map(|(name, cell)| (Cow::Borrowed(name.as_str()), cell.value()))
            .collect();
        let row = Row {
            time,
            tags: &[("device", &device)],
            fields: &fields,
        };
        let group = self.appender.append(kind.table(), &[row]).expect("fits");
        self.appender.wait(group).expect("durable");
    }

    async fn follow(&mut self) {
        follow(self.primary.log(), &mut self.secondary).await;
    }

    /// Something that must change no answer.
    async fn act(&mut self) {
        match self.random.u16(0..400) {
            0..3 => {
                compact_now(self.primary.log()).expect("compacts");
            }
            3..6 => self.follow().await,
            6..8 => {
                self.follow().await;
                compact_now(self.secondary.log()).expect("compacts");
                check(self.secondary.log(), &self.model, "secondary");
            }
            8..10 => check(self.primary.log(), &self.model, "primary"),
            10 => self.reopen_primary(),
            11 => self.reopen_secondary().await,
            _ => {}
        }
    }

    fn reopen_primary(&mut self) {
        let dir = tempfile::tempdir().expect("dir");
        let none = open(dir.path());
        let old = std::mem::replace(&mut self.primary, none);
        old.stop().expect("stops");
        let none = std::mem::replace(&mut self.primary, open(self.dirs[0].path()));
        none.stop().expect("stops");
        self.appender = self.primary.appender(Box::new(|_| ()));
        check(self.primary.log(), &self.model, "primary after reopening");
    }

    async fn reopen_secondary(&mut self) {
        let none = tempfile::tempdir().expect("dir");
        let log = self.primary.log();
        let none = open_copy(none.path(), log);
        let old = std::mem::replace(&mut self.secondary, none);
        old.stop().await.expect("stops");
        let again = open_copy(self.dirs[1].path(), log);
        let none = std::mem::replace(&mut self.secondary, again);
        none.stop().await.expect("stops");
    }

    async fn finish(mut self) {
        self.follow().await;
        check(
            self.primary.log(),
            &self.model,
            "before the last compaction",
        );
        // The primary may seal a segment by itself at any time.
        loop {
            for log in [self.primary.log(), self.secondary.log()] {
                compact_now(log).expect("compacts");
            }
            if self.primary.log().files_mark() == self.secondary.log().files_mark() {
                break;
            }
            self.follow().await;
        }
        for log in [self.primary.log(), self.secondary.log()] {
            check(log, &self.model, "at the end");
            assert_eq!(log.verify().faults, []);
        }
        let (left, right) = (files_of(self.primary.log()), files_of(self.secondary.log()));
        assert!(!left.is_empty());
        let names = |files: &[(String, u64, Vec<u8>)]| {
            let names = files.iter().map(|file| file.0.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&left), names(&right));
        assert!(left == right, "files differ");
        drop(self.appender);
        self.primary.stop().expect("stops");
        self.secondary.stop().await.expect("stops");
        for dir in &self.dirs {
            let report = crate::verify_dir(&OsDisk::new(), dir.path()).expect("reads");
            assert_eq!(report.faults, [], "{}", dir.path().display());
            assert!(report.files > 0 && report.torn_tail.is_none());
        }
    }
}

#[tokio::test]
async fn whatever_was_written_is_read_once_before_and_after_compaction_on_every_node() {
    let seed = seed();
    let mut world = World::new(seed);
    for number in 0..1_500 {
        world.write(number);
        if number % 100 == 0 {
            // Never so far behind that the log's head is gone.
            world.follow().await;
        }
        world.act().await;
    }
    world.finish().await;
}

const DAY: i64 = 86_400_000_000_000;
/// 2026-01-01.
const START: i64 = 20_454 * DAY;
