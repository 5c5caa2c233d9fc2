//! Catalogs by themselves. Tests only; must never need a log.

use super::*;
use crate::format::options::Dedup;
use crate::format::schema::{Column, ColumnRole, ColumnType};
use crate::format::shared::work;

fn schema(id: u32, version: u32, name: &str) -> Arc<TableSchema> {
    let schema = TableSchema::new(TableId(id), name);
    Arc::new(TableSchema { version, ..schema })
}

fn names(catalog: &Catalog) -> Vec<(String, u32)> {
    let found = catalog.tables().map(|schema| {
        let found = catalog.table(&schema.name).expect("by its name");
        assert_eq!(found.id, schema.id);
        (schema.name.clone(), schema.id.0)
    });
    let mut names: Vec<_> = found.collect();
    names.sort();
    names
}

fn field(name: &str, kind: ColumnType) -> Column {
    Column::new(name, ColumnRole::Field, kind)
}

#[test]
fn a_renamed_table_leaves_its_name_to_others() {
    let mut catalog = Catalog::default();
    for schema in [schema(1, 1, "a"), schema(2, 1, "b")] {
        catalog.insert(schema).expect("new");
    }
    // In their place in the log, one after the other.
    let mut blocks = catalog.clone();
    let taken = blocks.insert(schema(2, 2, "a"));
    taken.expect_err("two tables of one name");
    for schema in [schema(1, 2, "c"), schema(2, 2, "a"), schema(1, 3, "b")] {
        blocks.insert(schema).expect("the name is free");
    }
    let expected = [("a".to_owned(), 2), ("b".to_owned(), 1)];
    assert_eq!(names(&blocks), expected);
    assert_eq!(blocks.table("b").map(|table| table.version), Some(3));
    assert!(blocks.knows(TableId(1), 1) && !blocks.knows(TableId(1), 4));
    // The same again changes nothing.
    blocks.insert(schema(1, 3, "b")).expect("known");
    assert_eq!(names(&blocks), expected);
    assert!(!blocks.at_segment_start().knows(TableId(1), 2));
    // As a segment's head has them: what came between is not told.
    let of_head = |schemas: [Arc<TableSchema>; 2]| {
        let head = Head {
            schemas: schemas.to_vec(),
            ..Head::default()
        };
        Catalog::of_head(&head, &catalog)
    };
    let swapped = [schema(1, 3, "b"), schema(2, 2, "a")];
    let head = of_head(swapped).expect("each name once");
    assert_eq!(names(&head), expected);
    let same = [schema(1, 4, "b"), schema(2, 3, "b")];
    of_head(same).expect_err("two tables of one name");
}

#[test]
fn blocks_of_older_versions_are_read_as_they_were_written() {
    let mut catalog = Catalog::default();
    let mut schema = TableSchema::new(TableId(1), "t");
    schema.columns.push(field("n", ColumnType::Int));
    catalog.insert(Arc::new(schema.clone())).expect("new");
    for name in ["a", "b"] {
        let mut columns = schema.columns.clone();
        columns.push(field(name, ColumnType::Bool));
        schema = schema.grown(columns);
        catalog.insert(Arc::new(schema.clone())).expect("grows");
    }
    let wider = schema.columns[1].of_kind(ColumnType::Float);
    schema = schema.with_column(1, wider);
    catalog.insert(Arc::new(schema.clone())).expect("widens");
    schema = schema.with_column(1, schema.columns[1].as_text());
    catalog.insert(Arc::new(schema)).expect("text");
    let kinds = |version: u32, slots: &[usize]| {
        let written = catalog.written(TableId(1), version).expect("known");
        let fields = written.fields(slots)?;
        Some(
            fields
                .iter()
                .map(|field| field.data_type().to_string())
                .collect::<Vec<_>>(),
        )
    };
    for version in 1..=3 {
        assert_eq!(kinds(version, &[1]), Some(vec!["Int64".to_owned()]));
    }
    assert_eq!(kinds(4, &[1]), Some(vec!["Float64".to_owned()]));
    assert_eq!(
        kinds(5, &[1, 3]),
        Some(vec!["Utf8".to_owned(), "Boolean".to_owned()])
    );
    assert_eq!(kinds(2, &[3]), None, "not there yet");
    assert!(catalog.written(TableId(1), 6).is_none());
}

#[test]
fn a_change_goes_from_one_version_to_the_next_and_to_no_other() {
    let mut held = TableSchema::new(TableId(1), "t");
    for name in ["a", "b", "c"] {
        held.columns.push(field(name, ColumnType::Int));
    }
    let mut all = vec![held.clone()];
    let mut next = |schema: TableSchema| {
        all.push(schema.clone());
        schema
    };
    let mut held = next(held.renamed(2, "other"));
    for (name, kind) in [("b", ColumnType::Text), ("d", ColumnType::Bool)] {
        let mut columns = held.columns.clone();
        columns.push(field(name, kind));
        held = next(held.grown(columns));
    }
    held = next(held.called("u"));
    held = next(held.with_column(1, held.columns[1].of_kind(ColumnType::Float)));
    held = next(held.renamed(2, "back").renamed(2, "e"));
    next(held.with_column(1, held.columns[1].as_text()));
    for (from, before) in all.iter().enumerate() {
        for after in all.iter().skip(from + 1) {
            let change = SchemaChange::between(before, after);
            let bytes = change.encode();
            assert!(bytes.len().is_multiple_of(8));
            let change = SchemaChange::decode(&bytes, 4).expect("valid");
            assert_eq!(change.onto(before).as_ref(), Some(after));
            assert!(
                all.iter()
                    .all(|other| other == before || change.onto(other).is_none())
            );
            for at in 0..bytes.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] = value;
                    // Whatever it says: never a panic.
                    let _ = SchemaChange::decode(&damaged, 4).map(|change| change.onto(before));
                }
                assert!(at + 8 > bytes.len() || SchemaChange::decode(&bytes[..at], 4).is_err());
            }
        }
    }
}

/// A catalog of so many tables, each with so many columns.
fn catalog_of(tables: u32, columns: usize) -> Catalog {
    let mut catalog = Catalog::default();
    for id in 1..=tables {
        let mut schema = TableSchema::new(TableId(id), &format!("t{id}"));
        let more = (1..columns).map(|at| field(&format!("c{at}"), ColumnType::Int));
        schema.columns.extend(more);
        catalog.insert(Arc::new(schema)).expect("new");
    }
    catalog
}

#[test]
fn a_column_more_costs_the_change_whatever_the_width_and_the_number_of_tables() {
    let cost = |tables, columns| {
        let catalog = catalog_of(tables, columns);
        let held = Arc::clone(catalog.newest(TableId(1)).expect("there"));
        let mut after = catalog.clone();
        work::of(|| {
            let mut columns = held.columns.clone();
            columns.push(field("new", ColumnType::Int));
            let change = SchemaChange::between(&held, &held.grown(columns));
            after
                .apply(&Control::Change(Arc::new(change)))
                .expect("follows");
        })
    };
    let (narrow, wide) = (cost(1, 60), cost(1, 960));
    assert!(wide < narrow + 250, "{narrow} {wide}");
    let (few, many) = (cost(10, 60), cost(5_000, 60));
    assert!(many < few + 500, "{few} {many}");
}

#[test]
fn a_dropped_table_frees_its_name_and_memory_but_never_its_number() {
    let mut catalog = Catalog::default();
    catalog.insert(schema(1, 1, "a")).expect("new");
    let memory = catalog.memory();
    let options = TableOptions {
        dedup: Dedup::Key,
        ..TableOptions::default()
    };
    for id in [2, 3] {
        catalog
            .insert(schema(id, 1, "b"))
            .expect("the name is free");
        catalog.insert(schema(id, 2, "b")).expect("a later version");
        let settings = Control::Options(TableId(id), options);
        catalog.apply(&settings).expect("its options");
        catalog
            .apply(&Control::Drop(TableId(id)))
            .expect("is there");
        assert_eq!((catalog.count(), catalog.memory()), (1, memory));
        assert!(catalog.table("b").is_none() && catalog.newest(TableId(id)).is_none());
        assert_eq!(catalog.options(TableId(id)), TableOptions::default());
        // Blocks before can still be read, until the next segment.
        assert!(catalog.knows(TableId(id), 1) && catalog.knows(TableId(id), 2));
        assert!(catalog.has_dropped(TableId(id)));
        assert_eq!(catalog.next_id(), TableId(id + 1));
    }
    let refused = [
        catalog.clone().insert(schema(3, 3, "c")),
        catalog.clone().apply(&Control::Drop(TableId(3))),
        catalog.clone().apply(&Control::Drop(TableId(4))),
    ];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    let next = catalog.at_segment_start();
    assert!(!next.knows(TableId(2), 1) && !next.has_dropped(TableId(2)));
    let read = Catalog::of_head(&next.head(), &Catalog::default()).expect("a head");
    assert_eq!(read.next_id(), TableId(4));
    assert_eq!((read.count(), read.memory()), (1, memory));
}
