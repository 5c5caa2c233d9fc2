//! Schemas and their bytes. Tests only; must never need a log.

use super::*;

fn sample() -> TableSchema {
    let mut schema = TableSchema::new(TableId(3), "plant \"north\"");
    schema.version = 4;
    for (name, role, kind) in [
        ("topic", ColumnRole::Tag, ColumnType::Text),
        ("temperature", ColumnRole::Field, ColumnType::Float),
        ("Zählerstand", ColumnRole::Field, ColumnType::Int),
        ("serial", ColumnRole::Field, ColumnType::BigInt),
        ("old", ColumnRole::Field, ColumnType::OldInt),
    ] {
        schema.columns.push(Column::new(name, role, kind));
    }
    schema
}

#[test]
fn a_schema_survives_the_round_trip() {
    let schema = sample();
    let bytes = schema.encode();
    assert!(bytes.len().is_multiple_of(8));
    assert_eq!(TableSchema::decode(&bytes, 4).expect("valid"), schema);
}

#[test]
fn text_says_what_it_was_made_of_and_older_versions_do_not_know_it() {
    let held = sample();
    for at in 2..held.columns.len() {
        let text = held.columns[at].as_text();
        let schema = held.with_column(at, text.clone());
        let bytes = schema.encode();
        assert_eq!(TableSchema::decode(&bytes, 4).expect("valid"), schema);
        assert!(TableSchema::decode(&bytes, 2).is_err());
        let again = schema.with_column(at, text.as_text());
        let bytes = again.encode();
        assert_eq!(TableSchema::decode(&bytes, 4).expect("valid"), again);
    }
}

#[test]
fn a_role_that_has_changed_does_not_change_what_files_are_sorted_by() {
    let held = sample();
    let text = held.columns[2].as_text();
    for (at, column, sorts) in [(1, held.columns[1].clone(), true), (2, text, false)] {
        let other = match column.role {
            ColumnRole::Tag => ColumnRole::Field,
            _ => ColumnRole::Tag,
        };
        let moved = column.with_role(other);
        let schema = held.with_column(at, moved.clone());
        assert_eq!((moved.role, moved.sorts()), (other, sorts));
        let bytes = schema.encode();
        assert_eq!(TableSchema::decode(&bytes, 4).expect("valid"), schema);
        assert!(TableSchema::decode(&bytes, 2).is_err());
        let back = moved.with_role(column.role);
        assert_eq!(
            (back.role, back.sorts(), back.moved),
            (column.role, sorts, false)
        );
        let schema = held.with_column(at, back);
        assert_eq!(
            TableSchema::decode(&schema.encode(), 3).expect("valid"),
            schema
        );
    }
}

#[test]
fn integers_of_older_versions_may_be_of_any_size_and_they_have_no_other_types() {
    let column = |kind| Column::new("n", ColumnRole::Field, kind);
    let with = |kind| {
        let mut schema = TableSchema::new(TableId(1), "t");
        schema.columns.push(column(kind));
        schema.encode()
    };
    for format in [1, 2] {
        let old = TableSchema::decode(&with(ColumnType::Int), format).expect("valid");
        assert_eq!(old.columns[1].kind, ColumnType::OldInt);
        for kind in [ColumnType::BigInt, ColumnType::OldInt] {
            assert!(
                TableSchema::decode(&with(kind), format).is_err(),
                "{kind:?}"
            );
        }
    }
}

#[test]
fn a_renamed_column_keeps_its_name_in_files_and_no_other_gets_it() {
    let schema = sample().renamed(1, "place").renamed(2, "topic");
    let column = |name: &str| Column::new(name, ColumnRole::Field, ColumnType::Text);
    let mut columns = schema.columns.clone();
    columns.extend(["temperature", "temperature (2)", "x"].map(column));
    let schema = schema.grown(columns);
    let names: Vec<&str> = (0..schema.columns.len())
        .map(|at| schema.stored_name(at))
        .collect();
    let expected = [
        "time",
        "topic",
        "temperature",
        "Zählerstand",
        "serial",
        "old",
        "temperature (2)",
        "temperature (2) (2)",
        "x",
    ];
    assert_eq!(names, expected);
    assert_eq!(schema.column("topic"), Some(2));
    let bytes = schema.encode();
    assert_eq!(TableSchema::decode(&bytes, 4).expect("valid"), schema);
    assert!(TableSchema::decode(&bytes, 2).is_err());
    // Called again what the files call it, it is as if nothing had been.
    let back = sample().renamed(2, "t").renamed(2, "temperature");
    assert_eq!((back.stored.len(), back.columns), (0, sample().columns));
}

#[test]
fn damaged_schema_bytes_never_panic() {
    let bytes = sample().renamed(1, "place").encode();
    for at in 0..bytes.len() {
        assert!(TableSchema::decode(&bytes[..at], 3).is_err() || at + 8 > bytes.len());
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let _ = TableSchema::decode(&damaged, 3);
        }
    }
}
