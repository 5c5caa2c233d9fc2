//! Promises about earlier LSNs: a view at an LSN is what a reader saw when the log ended there, on
//! every node, however far each has compacted. Tests only; must never rely on which node compacts
//! first.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::tests::model::{Cells, cells_in_order, follow, open_copy, read_table};
use crate::{
    AppendError, Appender, AsOf, Committer, Config, Dedup, Log, Lsn, OsDisk, Refusal, Row,
    Snapshot, TableDef, TableOptions, Value, compact_now, open_primary,
};

pub(super) fn config(keep_segments: u64) -> Config {
    let table = |name: &str, dedup, retention| TableDef {
        name: name.to_owned(),
        options: TableOptions { dedup, retention },
        ..TableDef::default()
    };
    Config {
        segment_size: 5_000,
        keep_segments,
        upkeep_every: Duration::from_millis(10),
        tables: vec![
            table("keyed", Dedup::Key, None),
            table("short", Dedup::None, Some(Duration::from_secs(3_600))),
        ],
        ..Config::default()
    }
}

pub(super) fn open(dir: &TempDir, keep_segments: u64) -> Committer {
    open_primary(OsDisk::new(), dir.path(), &config(keep_segments))
        .expect("opens")
        .0
}

pub(super) fn dir() -> TempDir {
    tempfile::tempdir().expect("dir")
}

pub(super) fn append(
    appender: &mut Appender,
    table: &str,
    first: i64,
    rows: usize,
    field: &'static str,
) {
    let fields = [(Cow::Borrowed(field), Value::Int(first))];
    let row = |at: i64| Row {
        time: first + at,
        tags: &[("device", "d")],
        fields: &fields,
    };
    let rows: Vec<Row<'_>> = (0..).map(row).take(rows).collect();
    let group = loop {
        // Also what is too old, as if it came from before the cut.
        appender.inbox.times.set_oldest(table, None);
        match appender.append(table, &rows) {
            Err(AppendError::Refused(Refusal::Expired { .. })) => {}
            taken => break taken.expect("fits"),
        }
    };
    appender.wait(group).expect("durable");
}

/// Rows of all tables, some of several rows at once, with columns that come on the way.
pub(super) fn write(appender: &mut Appender, from: i64, to: i64) {
    let now = crate::clock::unix_nanos();
    for number in from..to {
        let known = usize::try_from(number / 25 + 1).expect("small").min(4);
        let field = FIELDS[usize::try_from(number).expect("small") % known];
        let rows = if number % 4 == 0 { 3 } else { 1 };
        match number % 3 {
            0 => append(appender, "plain", number, rows, field),
            // The same keys again and again.
            1 => append(appender, "keyed", number % 10, rows, field),
            // Fresh ones, and single ones that are older than the retention.
            _ if rows > 1 => append(appender, "short", now + number, rows, field),
            _ => append(appender, "short", now - 7_200_000_000_000, 1, field),
        }
    }
}

/// A log of a few segments with a cut in its middle.
pub(super) async fn written(primary: &Committer) {
    let mut appender = primary.appender(Box::new(|_| ()));
    write(&mut appender, 0, 40);
    let log = primary.log();
    let mut durable = log.durable();
    while log.snapshot().segments().len() < 2 || !is_cut(log) {
        durable.changed().await.expect("the log lives");
    }
    write(&mut appender, 40, 120);
}

fn is_cut(log: &Log) -> bool {
    let snapshot = log.snapshot();
    let table = snapshot.catalog().table("short");
    table.is_some_and(|table| snapshot.cut(table.id).is_some())
}

/// What a reader sees: all rows of all tables, and what the tables are.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    rows: BTreeMap<&'static str, Vec<Cells>>,
    tables: Vec<String>,
}

fn look(snapshot: &Snapshot) -> Seen {
    let catalog = snapshot.catalog();
    let tables = catalog.tables().map(|table| {
        let options = catalog.options(table.id);
        let columns: Vec<&str> = table.columns.iter().map(|c| &*c.name).collect();
        let cut = snapshot.cut(table.id);
        format!("{} {columns:?} {options:?} {cut:?}", table.name)
    });
    Seen {
        tables: tables.collect(),
        rows: TABLES.map(|name| (name, read_table(snapshot, name))).into(),
    }
}

/// What is seen when only the first `rows` of the block are there.
fn with_prefix(before: &Seen, table: &'static str, rows: &[Cells]) -> Seen {
    let mut seen = before.clone();
    let held = seen.rows.entry(table).or_default();
    if table == "keyed" {
        let key = |row: &Cells| (row["time"].clone(), row.get("device").cloned());
        let mut keyed: BTreeMap<_, Cells> = held.drain(..).map(|row| (key(&row), row)).collect();
        for row in rows {
            keyed.entry(key(row)).or_default().extend(row.clone());
        }
        held.extend(keyed.into_values());
    } else {
        held.extend_from_slice(rows);
    }
    held.sort();
    seen
}

/// What a reader sees at every LSN, found by a node that takes one block after the other.
async fn oracle(log: &Log) -> BTreeMap<Lsn, Seen> {
    let dir = dir();
    let mut plain = open_copy(dir.path(), log);
    let mut cursor = log.cursor(plain.tip()).expect("from the start");
    let mut before = look(&plain.log().snapshot());
    let mut all = BTreeMap::from([(Lsn(0), before.clone())]);
    while let Some(chunk) = cursor.next(1).expect("reads") {
        let first = plain.tip().lsn;
        let end = plain
            .append(chunk.parts.concat().into())
            .await
            .expect("fits");
        let mut durable = plain.log().durable();
        durable.wait_for(|at| *at == end).await.expect("flushed");
        let snapshot = plain.log().snapshot();
        for lsn in first.0 + 1..end.lsn.0 {
            let (table, rows) = last_block(&snapshot, first);
            let count = usize::try_from(lsn - first.0).expect("few");
            all.insert(Lsn(lsn), with_prefix(&before, table, &rows[..count]));
        }
        before = look(&snapshot);
        all.insert(end.lsn, before.clone());
    }
    plain.stop().await.expect("stops");
    all
}

fn last_block(snapshot: &Snapshot, first: Lsn) -> (&'static str, Vec<Cells>) {
    for name in TABLES {
        let Some(schema) = snapshot.catalog().table(name) else {
            continue;
        };
        let columns: Vec<usize> = (0..schema.columns.len()).collect();
        let blocks = snapshot.blocks(schema.id);
        if let Some(block) = blocks.iter().find(|block| block.first_lsn() == first) {
            let batch = block.read(schema, &columns).expect("reads");
            return (name, cells_in_order(&[batch]));
        }
    }
    panic!("no block at LSN {first}");
}

/// Every LSN from `oldest` on shows what was seen there; none before does.
fn check(log: &Log, seen: &BTreeMap<Lsn, Seen>, oldest: Lsn, at: &str) {
    assert_eq!(log.oldest_as_of(), oldest, "{at}");
    let end = log.snapshot().end().lsn;
    for (lsn, seen) in seen.range(..=end) {
        let found = log.snapshot_at(*lsn);
        if *lsn < oldest {
            assert_eq!(found.err(), Some(AsOf::Gone { oldest }), "{at}");
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{at}: LSN {lsn}: {error}"));
        let position = found.end();
        assert_eq!(position.lsn, *lsn, "{at}");
        if let Some(chain) = log.chain_at(*lsn) {
            assert_eq!(position.chain, Some(chain), "{at}: LSN {lsn}");
        }
        assert_eq!(look(&found), *seen, "{at}: LSN {lsn}");
    }
    // A primary may have gone on meanwhile.
    let ahead = log.snapshot_at(Lsn(u64::MAX)).err();
    assert!(matches!(ahead, Some(AsOf::Ahead { at }) if at >= end));
}

#[tokio::test]
async fn a_view_at_an_lsn_is_what_a_reader_saw_there_on_every_node() {
    let dirs = [dir(), dir()];
    let primary = open(&dirs[0], 1 << 30);
    written(&primary).await;
    let log = primary.log();
    let seen = oracle(log).await;
    assert!(seen.len() > 150, "{} LSNs", seen.len());
    check(log, &seen, Lsn(0), "primary, not compacted");
    let mut secondary = open_copy(dirs[1].path(), log);
    let mut cursor = log.cursor(secondary.tip()).expect("from the start");
    let mut chunks = 0;
    while let Some(chunk) = cursor.next(6_000).expect("reads") {
        let bytes = chunk.parts.concat().into();
        let end = secondary.append(bytes).await.expect("continues");
        let mut durable = secondary.log().durable();
        durable.wait_for(|at| *at == end).await.expect("flushed");
        chunks += 1;
        if chunks % 3 == 0 {
            compact_now(secondary.log()).expect("compacts");
            check(secondary.log(), &seen, Lsn(0), "secondary, on its way");
        }
    }
    compact_now(log).expect("compacts");
    assert!(log.snapshot().compacted().lsn > Lsn(0));
    check(log, &seen, Lsn(0), "primary, compacted");
    check(secondary.log(), &seen, Lsn(0), "secondary, at the end");
    secondary.stop().await.expect("stops");
    let secondary = open_copy(dirs[1].path(), log);
    let oldest = secondary.log().snapshot().compacted().lsn;
    assert!(oldest > Lsn(0));
    check(secondary.log(), &seen, oldest, "secondary, opened again");
    secondary.stop().await.expect("stops");
    primary.stop().expect("stops");
}

#[tokio::test]
async fn a_view_is_gone_once_the_segments_behind_its_files_are() {
    let dir = dir();
    let primary = open(&dir, 12_000);
    written(&primary).await;
    let log = primary.log();
    let seen = oracle(log).await;
    compact_now(log).expect("compacts");
    let mut durable = log.durable();
    while log.snapshot().catalog().retired() == Lsn(0) {
        durable.changed().await.expect("the log lives");
    }
    compact_now(log).expect("retires");
    let held = log.oldest().lsn;
    assert!(held > Lsn(0));
    let oldest = log.oldest_as_of();
    assert!(oldest >= held && oldest < log.snapshot().compacted().lsn);
    check(log, &seen, oldest, "retired");
    primary.stop().expect("stops");
}

#[tokio::test]
async fn a_view_that_ends_inside_a_block_does_not_claim_to_be_exact() {
    let dir = dir();
    let primary = open(&dir, 1 << 30);
    let mut appender = primary.appender(Box::new(|_| ()));
    append(&mut appender, "plain", 1, 5, "a");
    let log = primary.log();
    let whole = log.snapshot();
    let schema = whole.catalog().table("plain").expect("there");
    let first = whole.blocks(schema.id)[0].first_lsn();
    for rows in 0..5 {
        let view = log.snapshot_at(Lsn(first.0 + rows)).expect("held");
        let blocks = view.blocks(schema.id);
        let expected = usize::try_from(rows).expect("few");
        assert_eq!(
            blocks.iter().map(|block| block.rows()).sum::<usize>(),
            expected
        );
        assert!(blocks.iter().all(|block| !block.exact()));
        let none = blocks.first().map(|block| block.read(schema, &[]));
        assert_eq!(
            none.map_or(0, |none| none.expect("reads").num_rows()),
            expected
        );
    }
    assert!(whole.blocks(schema.id)[0].exact());
    drop(appender);
    primary.stop().expect("stops");
}

pub(super) fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ 0x10], offset)
        .expect("writes");
}

/// Damages a segment so that it cannot be opened.
fn tear(path: &Path) {
    // Or what is around the blocks would be written again.
    let aside = path.with_extension("aside");
    let (from, to) = if path.exists() {
        (path, &*aside)
    } else {
        (&*aside, path)
    };
    std::fs::rename(from, to).expect("renames");
}

#[tokio::test]
async fn a_view_over_a_damaged_segment_says_so_and_knows_its_tables() {
    let (left, right) = (dir(), dir());
    let primary = open(&left, 1 << 30);
    written(&primary).await;
    let log = primary.log();
    let seen = oracle(log).await;
    let count = log.snapshot().sealed.len();
    for torn in [1, count - 1] {
        let mut secondary = open_copy(right.path(), log);
        follow(log, &mut secondary).await;
        let path = secondary.log().snapshot().sealed[torn].path.clone();
        secondary.stop().await.expect("stops");
        tear(Path::new(&path));
        let secondary = open_copy(right.path(), log);
        let damaged = secondary.log();
        let segment = Arc::clone(&damaged.snapshot().sealed[torn]);
        assert!(segment.fault.is_some());
        let hole = segment.start().lsn..=segment.end.lsn;
        for (lsn, seen) in seen.range(..=damaged.snapshot().end().lsn) {
            let view = damaged.snapshot_at(*lsn).expect("held");
            let table = view.catalog().table("plain");
            let fault = table.and_then(|table| view.damaged(table.id));
            if lsn <= hole.start() {
                assert_eq!(look(&view), *seen, "LSN {lsn}");
                assert!(fault.is_none());
            } else {
                assert!(fault.is_some(), "LSN {lsn}");
            }
            if lsn >= hole.end() {
                assert_eq!(look(&view).tables, seen.tables, "LSN {lsn}");
            }
        }
        secondary.stop().await.expect("stops");
        tear(Path::new(&path));
    }
    primary.stop().expect("stops");
}

/// One without rules, one of keys, one that is cut.
const TABLES: [&str; 3] = ["plain", "keyed", "short"];
const FIELDS: [&str; 4] = ["a", "b", "c", "d"];
