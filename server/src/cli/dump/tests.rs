//! Every row of every segment that can be read is printed once, and the rest is complained of. Must
//! never need a running node.

use std::borrow::Cow;

use tempfile::TempDir;
use wal::{Row, Value};

use super::*;

/// A stopped log of several segments, with two tables that grow; returns its segments.
fn sample() -> (TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let config = wal::Config {
        segment_size: 2_500,
        ..wal::Config::default()
    };
    let (committer, _) = wal::open_primary(OsDisk::new(), dir.path(), &config).unwrap();
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in 0..40_i64 {
        let mut fields = vec![(Cow::Borrowed("n"), Value::Int(number))];
        if number >= 20 {
            fields.push((Cow::Borrowed("table"), Value::Text("t".into())));
        }
        let row = Row {
            time: 1_700_000_000_000_000_000 + number,
            tags: &[("site", "north")],
            fields: &fields,
        };
        let table = if number % 2 == 0 { "even" } else { "odd" };
        let group = appender.append(table, &[row]).unwrap();
        appender.wait(group).unwrap();
    }
    drop(appender);
    committer.stop().unwrap();
    let mut found = Found::default();
    found.look(dir.path(), 0).unwrap();
    assert!(found.segments.len() > 2, "{:?}", found.segments);
    (dir, found.segments)
}

/// What is printed, what is complained of, and how many faults there are.
fn dumped(paths: &[PathBuf], format: Format) -> (String, String, u64) {
    let mut dump = Dump::new(format, Vec::new(), Vec::new());
    dump.all(paths).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(dump.out), text(dump.complaints), dump.faults)
}

#[test]
fn every_row_is_a_line_with_its_table() {
    let (dir, _) = sample();
    let (text, complaints, faults) = dumped(&[dir.path().to_owned()], Format::Jsonl);
    assert_eq!((complaints.as_str(), faults), ("", 0));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 40);
    assert_eq!(
        lines[1],
        r#"{"table":"odd","time":"2023-11-14T22:13:20.000000001Z","site":"north","n":1}"#
    );
    for (number, line) in lines.iter().enumerate() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["n"], number);
        // A stored column of that name has another one here.
        assert_eq!(row.get("table_").is_some(), number >= 20, "{line}");
    }
}

#[test]
fn csv_names_its_columns_wherever_they_change() {
    let (_dir, segments) = sample();
    let (text, _, faults) = dumped(&segments, Format::Csv);
    let names = |line: &&str| line.starts_with("table,time,site,n");
    let first: Vec<&str> = text.lines().take(2).collect();
    assert_eq!(
        first,
        ["table,time,site,n", "even,2023-11-14T22:13:20Z,north,0",]
    );
    assert!(text.lines().any(|line| line == "table,time,site,n,table_"));
    assert_eq!(text.lines().filter(|line| !names(line)).count(), 40);
    assert_eq!(faults, 0);
}

#[test]
fn what_is_damaged_is_told_and_the_rest_printed() {
    let (dir, segments) = sample();
    let hurt = &segments[1];
    let blocks = wal::segment_blocks(&(OsDisk::new() as Arc<dyn Disk>), hurt).unwrap();
    let in_hurt: usize = blocks.iter().map(|(_, block)| block.rows()).sum();
    let first = blocks[0].1.rows();
    drop(blocks);
    let mut bytes = fs::read(hurt).unwrap();
    // Text of the first block; names of columns and tables are in other blocks.
    let at = bytes.windows(5).position(|window| window == b"north");
    bytes[at.unwrap()] ^= 1;
    fs::write(hurt, &bytes).unwrap();
    let (text, complaints, faults) = dumped(&[dir.path().to_owned()], Format::Jsonl);
    assert_eq!(faults, 1, "{complaints}");
    assert!(
        complaints.contains(&hurt.display().to_string()),
        "{complaints}"
    );
    assert!(complaints.contains(" at offset "), "{complaints}");
    assert_eq!(text.lines().count(), 40 - first, "of {in_hurt}");

    fs::write(hurt, b"no segment").unwrap();
    let nothing = dir.path().join("empty");
    fs::create_dir(&nothing).unwrap();
    fs::write(nothing.join("a.parquet"), b"").unwrap();
    let (text, complaints, faults) =
        dumped(&[segments[0].clone(), hurt.clone(), nothing], Format::Jsonl);
    assert_eq!(faults, 2, "{complaints}");
    assert!(!text.is_empty());
    assert!(complaints.contains("holds no segment"), "{complaints}");
    assert!(complaints.contains("1 Parquet files"), "{complaints}");
}
