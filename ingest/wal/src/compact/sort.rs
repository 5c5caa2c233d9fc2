//! Sorts rows by tags and time. Tags repeat from row to row: each distinct set of them is compared
//! once, and rows by the rank of their set. It must never change the order of rows that are equal.

use std::collections::HashMap;
use std::hash::Hash;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take, take_record_batch};
use arrow::datatypes::{DataType, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use foldhash::fast::FixedState;

/// The batch sorted by `tags` (text columns) and then by column `time`; rows of equal keys stay in
/// their order.
pub(crate) fn sort_rows(
    batch: &RecordBatch,
    tags: &[usize],
    time: usize,
) -> Result<RecordBatch, ArrowError> {
    let times = batch.column(time).as_primitive::<TimestampNanosecondType>();
    let (sets, first_rows) = sets_of(batch, tags)?;
    let ranks = ranks_of(batch, tags, &first_rows)?;
    let mut order: Vec<(u32, i64, u32)> = times
        .values()
        .iter()
        .zip(&sets)
        .zip(0..)
        .map(|((time, set), row)| (ranks[*set as usize], *time, row))
        .collect();
    if order.is_sorted() {
        return Ok(batch.clone());
    }
    order.sort_unstable();
    let rows: UInt32Array = order.iter().map(|(_, _, row)| *row).collect();
    take_record_batch(batch, &rows)
}

/// The set of tags of every row, and the first row of every set.
fn sets_of(batch: &RecordBatch, tags: &[usize]) -> Result<(Vec<u32>, Vec<u32>), ArrowError> {
    let rows = batch.num_rows();
    let mut sets = vec![0_u32; rows];
    for tag in tags {
        // Fields that were tags are text of another kind.
        let texts = cast(batch.column(*tag), &DataType::Utf8View)?;
        let texts = texts.as_string_view();
        let text = |row: usize| texts.is_valid(row).then(|| texts.value(row));
        let mut names = Numbers::new();
        let mut pairs = Numbers::new();
        for (row, set) in sets.iter_mut().enumerate() {
            *set = pairs.of((*set, names.of(text(row))));
        }
    }
    let mut first_rows = Vec::new();
    let mut renumbered = Numbers::new();
    for (row, set) in (0_u32..).zip(&mut sets) {
        *set = renumbered.of(*set);
        if *set as usize == first_rows.len() {
            first_rows.push(row);
        }
    }
    Ok((sets, first_rows))
}

/// Numbers values in the order in which they come.
struct Numbers<T> {
    known: HashMap<T, u32, FixedState>,
}

impl<T: Hash + Eq> Numbers<T> {
    fn new() -> Self {
        Self {
            known: HashMap::with_hasher(FixedState::default()),
        }
    }

    fn of(&mut self, value: T) -> u32 {
        let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        *self.known.entry(value).or_insert(next)
    }
}

/// The place of every set among all sets, given a row of each.
fn ranks_of(batch: &RecordBatch, tags: &[usize], rows: &[u32]) -> Result<Vec<u32>, ArrowError> {
    let mut ranks = vec![0; rows.len()];
    if tags.is_empty() {
        return Ok(ranks);
    }
    let picked = UInt32Array::from(rows.to_vec());
    let columns: Result<Vec<ArrayRef>, ArrowError> = tags
        .iter()
        .map(|tag| take(batch.column(*tag).as_ref(), &picked, None))
        .collect();
    let columns = columns?;
    let fields = columns
        .iter()
        .map(|column| SortField::new(column.data_type().clone()));
    let keys = RowConverter::new(fields.collect())?.convert_columns(&columns)?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by(|a, b| keys.row(*a).cmp(&keys.row(*b)));
    for (rank, set) in (0..).zip(order) {
        ranks[set] = rank;
    }
    Ok(ranks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::merge::Keys;
    use arrow::array::{Int64Array, StringViewArray, TimestampNanosecondArray};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use std::sync::Arc;

    #[test]
    fn rows_are_in_the_order_of_their_keys_as_merging_sees_it() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let schema = Arc::new(Schema::new(vec![
            Field::new(
                "time",
                DataType::Timestamp(TimeUnit::Nanosecond, None),
                false,
            ),
            Field::new("a", DataType::Utf8View, true),
            Field::new("b", DataType::Utf8View, true),
            Field::new("n", DataType::Int64, false),
        ]));
        for _ in 0..200 {
            let rows = random.usize(0..80);
            let tag = |random: &mut fastrand::Rng| {
                let text = ["", "a", "aa", "b", "a tag longer than twelve bytes"];
                (random.u8(0..4) > 0).then(|| text[random.usize(..text.len())])
            };
            let a: StringViewArray = (0..rows).map(|_| tag(&mut random)).collect();
            let b: StringViewArray = (0..rows).map(|_| tag(&mut random)).collect();
            let times: Vec<i64> = (0..rows).map(|_| random.i64(-3..3)).collect();
            let n: Vec<i64> = (0..).take(rows).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(TimestampNanosecondArray::from(times)),
                Arc::new(a),
                Arc::new(b),
                Arc::new(Int64Array::from(n)),
            ];
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("fits");
            let sorted = sort_rows(&batch, &[1, 2], 0).expect("sorts");
            assert_eq!(sorted.num_rows(), rows);
            let keys = Keys::new(&schema, &[1, 2, 0]).expect("keys");
            let found = keys.of(&sorted).expect("keys");
            let places = sorted
                .column(3)
                .as_primitive::<arrow::datatypes::Int64Type>();
            for at in 1..rows {
                let ordering = found.row(at - 1).cmp(&found.row(at));
                assert!(
                    ordering.is_lt() || places.value(at - 1) < places.value(at) && ordering.is_eq()
                );
            }
        }
    }
}
