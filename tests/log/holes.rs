//! Damage anywhere in sealed segments, of a log with several tables: what is not in it is answered,
//! and nothing is left out of an answer. Must never take a wrong row for a right one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use tests::crash_disk::CrashDisk;
use wal::{
    BLOCK_HEADER_LEN, BlockHeader, BlockKind, Config, Disk, Log, Row, Snapshot, Value, WalError,
    Wanted, open_primary,
};

use crate::damage::{blocks_of, dir, segments};

/// What was written: by table, the times, which are the values, too.
type Rows = BTreeMap<&'static str, Vec<i64>>;

struct Written {
    disk: CrashDisk,
    rows: Rows,
    segments: Vec<(PathBuf, Vec<u8>)>,
}

fn config() -> Config {
    Config {
        segment_size: 6_000,
        ..Config::default()
    }
}

fn written() -> Written {
    let disk = CrashDisk::new();
    let (committer, _) = open_primary(Arc::new(disk.clone()), dir(), &config()).expect("opens");
    let mut appender = committer.appender(Box::new(|_| ()));
    let mut rows = Rows::new();
    for number in 0..ROWS {
        let begun = TABLES
            .len()
            .min(2 + usize::try_from(number / 30).expect("few"));
        let table = TABLES[usize::try_from(number).expect("few") % begun];
        let mut fields = vec![(Cow::Borrowed("n"), Value::Int(number))];
        if number % 13 == 0 {
            fields.push((Cow::Owned(format!("more{number}")), Value::Bool(true)));
        }
        let row = Row {
            time: number,
            tags: &[("unit", table)],
            fields: &fields,
        };
        let group = appender.append(table, &[row]).expect("fits");
        appender.wait(group).expect("durable");
        rows.entry(table).or_default().push(number);
    }
    drop(appender);
    committer.stop().expect("stops");
    let segments = segments(&disk);
    assert!(segments.len() > 6, "{} segments", segments.len());
    Written {
        disk,
        rows,
        segments,
    }
}

/// Values of a table's rows with a time in the range; an error where some cannot be had.
fn read(snapshot: &Snapshot, table: &str, range: (i64, i64)) -> Result<Vec<i64>, WalError> {
    let Some(schema) = snapshot.catalog().table(table) else {
        return Ok(Vec::new());
    };
    let wanted = Wanted {
        min_time: range.0,
        max_time: range.1,
        ..Wanted::default()
    };
    if let Some(error) = snapshot.lacks(schema.id, &wanted) {
        return Err(error);
    }
    let n = schema.column("n").expect("a column");
    let mut found = Vec::new();
    let inside = |block: &wal::BlockRef| block.max_time() >= range.0 && block.min_time() <= range.1;
    for block in snapshot
        .blocks(schema.id)
        .iter()
        .filter(|block| inside(block))
    {
        let batch = block.read(schema, &[n])?;
        let values = batch.column(0).as_primitive::<Int64Type>().values();
        found.extend(
            values
                .iter()
                .filter(|value| (range.0..=range.1).contains(value)),
        );
    }
    Ok(found)
}

fn expected(rows: &[i64], range: (i64, i64)) -> Vec<i64> {
    let inside = rows.iter().filter(|row| (range.0..=range.1).contains(row));
    inside.copied().collect()
}

/// Which tables answer for all times; what is answered for any time is right.
fn answering(log: &Log, rows: &Rows, random: &mut fastrand::Rng, story: &str) -> Vec<&'static str> {
    let snapshot = log.snapshot();
    let mut whole = Vec::new();
    for (table, rows) in rows {
        for _ in 0..6 {
            let from = random.i64(-5..ROWS);
            let range = (from, from + random.i64(0..ROWS / 3));
            match read(&snapshot, table, range) {
                Ok(found) => assert_eq!(found, expected(rows, range), "{story}: {table} {range:?}"),
                Err(WalError::Corrupt { .. }) => {}
                Err(error) => panic!("{story}: {error}"),
            }
        }
        match read(&snapshot, table, EVER) {
            Ok(found) => {
                assert_eq!(&found, rows, "{story}: {table}");
                whole.push(*table);
            }
            Err(WalError::Corrupt { .. }) => {}
            Err(error) => panic!("{story}: {error}"),
        }
    }
    whole
}

/// Damages a sealed segment somehow; says how.
fn damage(written: &Written, disk: &CrashDisk, random: &mut fastrand::Rng) -> String {
    let at = random.usize(..written.segments.len() - 1);
    let (path, sound) = &written.segments[at];
    let places = blocks_of(sound);
    let block = random.usize(..places.len());
    let body = places[block] + BLOCK_HEADER_LEN;
    let (from, to) = match random.u8(..7) {
        0 => (0, random.usize(1..places[0])),
        1 => (places[block], random.usize(places[block] + 1..body)),
        2 | 3 => (body, random.usize(body + 1..sound.len())),
        4 => (sound.len() - random.usize(1..60), sound.len()),
        5 => {
            let from = random.usize(..sound.len());
            (from, random.usize(from + 1..=sound.len()))
        }
        _ if random.bool() => {
            if disk.contents().iter().any(|(held, _)| held == path) {
                Disk::remove(disk, path).expect("removes");
            }
            return format!("segment {at} is removed");
        }
        _ => {
            let len = random.usize(..sound.len());
            disk_damage(disk, path, |bytes| bytes.truncate(len));
            return format!("segment {at} is cut to {len} of {}", sound.len());
        }
    };
    let flips = random.bool();
    disk_damage(disk, path, |bytes| {
        let to = to.min(bytes.len());
        let Some(hit) = bytes.get_mut(from.min(to)..to) else {
            return;
        };
        if flips {
            hit.iter_mut().for_each(|byte| *byte ^= 0x5a);
        } else {
            hit.fill(0);
        }
    });
    format!("segment {at} from {from} to {to}, flips {flips}")
}

fn disk_damage(disk: &CrashDisk, path: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    if disk.contents().iter().any(|(held, _)| held == path) {
        disk.damage(path, change);
    }
}

/// Puts everything back that is on the list of damage.
fn repair(log: &Log, sound: &Log, story: &str) {
    // Where several in a row are gone, the next is only told once the one before is there.
    for _ in 0..SEGMENTS {
        let Some(damaged) = log.damage().borrow().first().cloned() else {
            return;
        };
        let bytes = sound.export(&damaged.name).expect("is there");
        let taken = log.install(&damaged.name, bytes);
        taken.unwrap_or_else(|error| panic!("{story}: {error}"));
    }
}

#[test]
fn whatever_is_damaged_no_row_is_left_out_of_an_answer() {
    let seed = tests::seed();
    let written = written();
    let (sound, _) = open_primary(Arc::new(written.disk.copy()), dir(), &config()).expect("opens");
    let (mut answered, mut asked) = (0, 0);
    for number in 0..CASES {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        let disk = written.disk.copy();
        let hits = 1 + random.usize(..3);
        let done: Vec<String> = (0..hits)
            .map(|_| damage(&written, &disk, &mut random))
            .collect();
        let story = format!("seed {}: {}", seed.wrapping_add(number), done.join(", "));
        let opened = open_primary(Arc::new(disk.clone()), dir(), &config());
        // Indistinguishable from a newer format.
        let (committer, _) = match opened {
            Err(WalError::NewerFormat { .. } | WalError::WrongLog { .. }) => continue,
            opened => opened.unwrap_or_else(|error| panic!("{story}: {error}")),
        };
        let log = committer.log();
        answered += answering(log, &written.rows, &mut random, &story).len();
        asked += written.rows.len();
        log.verify();
        repair(log, sound.log(), &story);
        assert_eq!(log.verify().faults, [], "{story}");
        let whole = answering(log, &written.rows, &mut random, &story);
        assert_eq!(whole.len(), written.rows.len(), "{story}");
        committer.stop().expect("stops");
        let left = disk.contents();
        for (path, bytes) in &written.segments {
            let held = left.iter().find(|(held, _)| held == path);
            assert!(
                held.is_some_and(|(_, held)| held.starts_with(bytes)),
                "{story}"
            );
        }
    }
    sound.stop().expect("stops");
    println!("{answered} of {asked} tables answered");
    assert!(answered * 4 > asked, "{answered} of {asked}");
}

#[test]
fn a_table_answers_whose_rows_are_not_in_the_hole() {
    let written = written();
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let (path, sound) = &written.segments[3];
    for at in blocks_of(sound) {
        let header = BlockHeader::decode(&sound[at..]).expect("valid");
        if header.kind != BlockKind::Data {
            continue;
        }
        // The index as well: nothing but the block's own header says what is missing.
        let disk = written.disk.copy();
        disk.damage(path, |bytes| {
            bytes[at + BLOCK_HEADER_LEN + 12] ^= 4;
            let end = bytes.len();
            bytes[end - 3] ^= 1;
        });
        let (committer, recovery) = open_primary(Arc::new(disk), dir(), &config()).expect("opens");
        assert_eq!(recovery.damaged, 1);
        let log = committer.log();
        let hit = log
            .snapshot()
            .catalog()
            .tables()
            .find(|table| table.id == header.table)
            .cloned();
        let hit = hit.expect("a table");
        let whole = answering(log, &written.rows, &mut random, &format!("block at {at}"));
        assert_eq!(whole.len(), written.rows.len() - 1, "{whole:?}");
        assert!(!whole.contains(&hit.name.as_str()));
        let snapshot = log.snapshot();
        let rows = &written.rows[hit.name.as_str()];
        for range in [
            (i64::MIN, header.min_time - 1),
            (header.max_time + 1, i64::MAX),
        ] {
            let found = read(&snapshot, &hit.name, range).expect("not in the hole");
            assert_eq!(found, expected(rows, range), "block at {at}");
        }
        let earlier = log.snapshot_at(header.first_lsn).expect("held");
        read(&earlier, &hit.name, EVER).expect("the hole is behind it");
        committer.stop().expect("stops");
    }
}

#[test]
fn what_follows_from_sound_blocks_is_written_again() {
    let written = written();
    for (path, sound) in &written.segments[..written.segments.len() - 1] {
        let head = blocks_of(sound)[0];
        let parts = [
            (16, 40),
            (head - 9, head),
            (sound.len() - 70, sound.len()),
            (16, head),
        ];
        for (from, to) in parts {
            let disk = written.disk.copy();
            disk.damage(path, |bytes| {
                bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x33)
            });
            let (committer, recovery) =
                open_primary(Arc::new(disk.clone()), dir(), &config()).expect("opens");
            let story = format!("{} from {from} to {to}", path.display());
            assert_eq!((recovery.damaged, recovery.mended), (0, 1), "{story}");
            assert_eq!(committer.log().verify().faults, [], "{story}");
            committer.stop().expect("stops");
            let left = disk.contents();
            assert!(
                left.iter().any(|held| held.0 == *path && held.1 == *sound),
                "{story}"
            );
        }
    }
}

#[test]
fn where_nothing_can_be_told_of_a_hole_later_tables_answer_and_the_error_says_what_to_do() {
    let written = written();
    let (path, _) = &written.segments[1];
    let disk = written.disk.copy();
    Disk::remove(&disk, path).expect("removes");
    let (committer, _) = open_primary(Arc::new(disk), dir(), &config()).expect("opens");
    let snapshot = committer.log().snapshot();
    let error = read(&snapshot, TABLES[0], EVER)
        .expect_err("may be in it")
        .to_string();
    for part in ["cannot be told", "headwater open data"] {
        assert!(error.contains(part), "{error}");
    }
    let last = TABLES[TABLES.len() - 1];
    assert_eq!(
        read(&snapshot, last, EVER).expect("begun behind it"),
        written.rows[last]
    );
    committer.stop().expect("stops");
}

const TABLES: [&str; 5] = ["pump", "valve", "tank", "late", "later"];
const ROWS: i64 = 160;
const CASES: u64 = 400;
const SEGMENTS: usize = 64;
const EVER: (i64, i64) = (i64::MIN, i64::MAX);
