//! Merged rows are those of a sorted map. Tests only; must never merge by the code under test.

use super::*;
use arrow::array::{AsArray, Int64Array, StringViewArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use std::collections::BTreeMap;

type Values = (Option<i64>, Option<i64>);
type RowOf = (Option<u8>, i64, Option<i64>, Option<i64>);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("tag", DataType::Utf8View, true),
        Field::new("time", DataType::Int64, false),
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
    ]))
}

fn batch(rows: &[RowOf]) -> RecordBatch {
    let tags: StringViewArray = rows
        .iter()
        .map(|row| row.0.map(|tag| format!("t{tag}")))
        .collect();
    let times = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let a: Int64Array = rows.iter().map(|row| row.2).collect();
    let b: Int64Array = rows.iter().map(|row| row.3).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(tags), Arc::new(times), Arc::new(a), Arc::new(b)];
    RecordBatch::try_new(schema(), columns).expect("fits")
}

fn rows(batches: &[RecordBatch]) -> Vec<RowOf> {
    let mut found = Vec::new();
    for batch in batches {
        let tags = batch.column(0).as_string_view();
        let int = |at: usize| batch.column(at).as_primitive::<Int64Type>();
        for at in 0..batch.num_rows() {
            let tag = tags
                .is_valid(at)
                .then(|| tags.value(at)[1..].parse().expect("a number"));
            let value = |column: usize| int(column).is_valid(at).then(|| int(column).value(at));
            found.push((tag, int(1).value(at), value(2), value(3)));
        }
    }
    found
}

fn sorted(keys: &Keys, batch: &RecordBatch) -> RecordBatch {
    let rows = keys.of(batch).expect("keys");
    let mut order: Vec<u32> = (0..).take(batch.num_rows()).collect();
    order.sort_by_key(|row| rows.row(*row as usize));
    take_record_batch(batch, &UInt32Array::from(order)).expect("takes")
}

/// Random runs, cut into batches, and their rows oldest first.
fn random_runs(random: &mut fastrand::Rng) -> (Vec<Run>, Vec<RowOf>) {
    let keys = Keys::new(&schema(), &[0, 1]).expect("keys");
    let (mut runs, mut all): (Vec<Run>, Vec<RowOf>) = (Vec::new(), Vec::new());
    let times = random.i64(1..40);
    for _ in 0..random.usize(1..7) {
        let rows: Vec<RowOf> = (0..random.usize(0..60))
            .map(|_| {
                let tag = (random.u8(0..4) > 0).then(|| random.u8(0..3));
                let value =
                    |random: &mut fastrand::Rng| random.bool().then(|| random.i64(0..1_000));
                (tag, random.i64(0..times), value(random), value(random))
            })
            .collect();
        let sorted = sorted(&keys, &batch(&rows));
        all.extend(rows);
        let mut batches = Vec::new();
        let mut at = 0;
        while at < sorted.num_rows() {
            let len = random.usize(1..9).min(sorted.num_rows() - at);
            batches.push(Ok(sorted.slice(at, len)));
            at += len;
        }
        runs.push(Box::new(batches.into_iter()));
    }
    (runs, all)
}

fn merged(runs: Vec<Run>, unique: bool, batch_rows: usize) -> Vec<RowOf> {
    let key = Key {
        columns: vec![0, 1],
        unique,
    };
    let merger = Merger::new(schema(), &key, runs, batch_rows).expect("starts");
    let batches: Vec<RecordBatch> = merger.map(|batch| batch.expect("merges")).collect();
    rows(&batches)
}

#[test]
fn merging_keeps_every_row_in_the_order_of_keys_and_of_writing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..400 {
        let (runs, mut expected) = random_runs(&mut random);
        expected.sort_by_key(|row| (row.0, row.1));
        let batch_rows = random.usize(1..50);
        assert_eq!(merged(runs, false, batch_rows), expected);
    }
}

#[test]
fn the_last_write_wins_column_by_column() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..400 {
        let (runs, written) = random_runs(&mut random);
        let mut expected: BTreeMap<(Option<u8>, i64), Values> = BTreeMap::new();
        for (tag, time, a, b) in written {
            let held = expected.entry((tag, time)).or_default();
            *held = (a.or(held.0), b.or(held.1));
        }
        let expected: Vec<RowOf> = expected
            .into_iter()
            .map(|((tag, time), (a, b))| (tag, time, a, b))
            .collect();
        assert_eq!(merged(runs, true, random.usize(1..50)), expected);
    }
}

#[test]
fn galloping_finds_the_border() {
    for limit in 0..70 {
        for from in 0..=limit {
            for border in from..=limit {
                assert_eq!(gallop(from, limit, |at| at < border), border);
            }
        }
    }
}
