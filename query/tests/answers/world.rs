//! The same rows in engines over logs in every state: in the tail, in segments, half compacted,
//! compacted, with and without keys. Must never hand out states whose rows differ.

use std::borrow::Cow;
use std::sync::Arc;

use query::{Engine, Node, ReplicationRow};
use tempfile::TempDir;
use wal::{Committer, Config, Dedup, Log, OsDisk, Row, TableDef, TableOptions, Value, compact_now};

/// An engine, and what it stands on.
pub(crate) struct World {
    pub(crate) state: &'static str,
    pub(crate) engine: Engine,
    _committer: Committer,
    _dir: TempDir,
}

/// A row whose values are its own.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) time: i64,
    pub(crate) tags: Vec<(&'static str, String)>,
    pub(crate) fields: Vec<(&'static str, Value<'static>)>,
}

struct Alone(Log);

impl Node for Alone {
    fn log(&self) -> Option<Log> {
        Some(self.0.clone())
    }

    fn lag_ms(&self) -> Option<u64> {
        Some(0)
    }

    fn replication(&self) -> Vec<ReplicationRow> {
        Vec::new()
    }
}

/// Every state there is, with the same rows in table `t`, and in `k` where keys have one row.
pub(crate) fn states(rows: &[Made]) -> Vec<World> {
    [
        ("tail", u64::MAX, 0),
        ("segments", 1, 0),
        ("half", 1, rows.len() / 2),
        ("compacted", 1, rows.len()),
    ]
    .into_iter()
    .map(|(state, segment_size, compacted)| world(state, rows, segment_size, compacted))
    .collect()
}

/// One engine whose rows are in the tail.
pub(crate) fn tail(tables: &[(&str, &[Made])]) -> World {
    let mut world = Empty::new(u64::MAX);
    for (table, rows) in tables {
        world.write(table, rows);
    }
    world.finish("tail", 1)
}

fn world(state: &'static str, rows: &[Made], segment_size: u64, compacted: usize) -> World {
    let mut world = Empty::new(segment_size.min(64 << 20));
    let (first, rest) = rows.split_at(compacted);
    for (part, compact) in [(first, compacted > 0), (rest, false)] {
        for group in part.chunks(GROUP) {
            world.write("t", group);
            world.write("k", group);
        }
        if compact {
            compact_now(world.committer.log()).expect("compacted");
        }
    }
    world.finish(state, 2)
}

struct Empty {
    committer: Committer,
    appender: wal::Appender,
    dir: TempDir,
}

impl Empty {
    fn new(segment_size: u64) -> Self {
        let dir = TempDir::new().expect("a directory");
        let keyed = TableDef {
            name: "k".to_owned(),
            options: TableOptions {
                dedup: Dedup::Key,
                ..TableOptions::default()
            },
            ..TableDef::default()
        };
        let config = Config {
            segment_size,
            tables: vec![keyed],
            ..Config::default()
        };
        let (committer, _) =
            wal::open_primary(OsDisk::new(), dir.path(), &config).expect("a new log");
        let appender = committer.appender(Box::new(|_| {}));
        Self {
            committer,
            appender,
            dir,
        }
    }

    fn write(&mut self, table: &str, rows: &[Made]) {
        let tags: Vec<Vec<(&str, &str)>> = rows
            .iter()
            .map(|row| row.tags.iter().map(|(n, v)| (*n, v.as_str())).collect())
            .collect();
        let fields: Vec<Vec<(Cow<'_, str>, Value<'_>)>> = rows
            .iter()
            .map(|row| {
                let fields = row.fields.iter();
                fields
                    .map(|(n, v)| (Cow::Borrowed(*n), v.clone()))
                    .collect()
            })
            .collect();
        let rows: Vec<Row<'_>> = rows
            .iter()
            .zip(tags.iter().zip(&fields))
            .map(|(row, (tags, fields))| Row {
                time: row.time,
                tags,
                fields,
            })
            .collect();
        let group = self.appender.append(table, &rows).expect("rows that fit");
        self.appender.wait(group).expect("durable");
    }

    fn finish(self, state: &'static str, threads: usize) -> World {
        let node = Alone(self.committer.log().clone());
        let config = query::Config {
            threads,
            query_timeout: std::time::Duration::from_secs(600),
            max_concurrent_queries: 64,
            ..query::Config::default()
        };
        World {
            state,
            engine: Engine::new(&config, Arc::new(node)).expect("an engine"),
            _committer: self.committer,
            _dir: self.dir,
        }
    }
}

/// Rows around midnights, changes of clocks and each other, with every type and with NULLs.
pub(crate) fn random_rows(rng: &mut fastrand::Rng, count: usize) -> Vec<Made> {
    (0..count)
        .map(|_| {
            let midnight = *rng.choice(MIDNIGHTS).expect("some") * SECOND;
            let time = match rng.u8(..4) {
                0 => midnight + rng.i64(-3..=3),
                1 => midnight + rng.i64(-14 * 3600..=14 * 3600) * SECOND,
                2 => midnight + rng.i64(-28..=28) * 1800 * SECOND,
                _ => midnight + rng.i64(-3 * DAY..=3 * DAY),
            };
            let mut tags = Vec::new();
            if rng.u8(..8) > 0 {
                tags.push(("site", format!("s{}", rng.u8(..4))));
            }
            tags.push(("device", format!("d{}", rng.u8(..12))));
            let mut fields = Vec::new();
            if rng.u8(..6) > 0 {
                fields.push(("i", Value::Int(rng.i64(-20..=20))));
            }
            if rng.u8(..6) > 0 {
                fields.push(("f", Value::Float(f64::from(rng.i32(-40..=40)) / 4.0)));
            }
            if rng.u8(..6) > 0 {
                fields.push(("b", Value::Bool(rng.bool())));
            }
            if rng.u8(..6) > 0 {
                let text = *rng.choice(TEXTS).expect("some");
                fields.push(("x", Value::Text(Cow::Borrowed(text))));
            }
            Made { time, tags, fields }
        })
        .collect()
}

pub(crate) const TEXTS: &[&str] = &["", "a", "B", "ab", "7", "-3", "2.5", "true", "2026-11-01"];

/// Midnights UTC, in seconds: two in a row, and two days on which clocks change.
const MIDNIGHTS: &[i64] = &[
    1_793_491_200, // 2026-11-01, New York
    1_793_836_800, // 2026-11-05
    1_793_923_200,
    1_792_886_400, // 2026-10-25, Berlin
    1_772_928_000, // 2026-03-08, New York
];
const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
const GROUP: usize = 250;
