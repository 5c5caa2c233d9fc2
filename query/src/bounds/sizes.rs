//! How large single values of an array are. Owns the count of their bytes, without the shared
//! buffers they may lie in; must never copy a value.

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait,
    StructArray,
};
use arrow::datatypes::DataType;

/// Bytes of the value at `row`; 0 where it is null or not there.
pub(crate) fn value_bytes(array: &dyn Array, row: usize) -> u64 {
    if row >= array.len() || array.is_null(row) {
        return 0;
    }
    match array.data_type() {
        DataType::Utf8 => length(array.as_string::<i32>().value_length(row)),
        DataType::LargeUtf8 => length(array.as_string::<i64>().value_length(row)),
        DataType::Utf8View => view(array.as_string_view().views().get(row)),
        DataType::Binary => length(array.as_binary::<i32>().value_length(row)),
        DataType::LargeBinary => length(array.as_binary::<i64>().value_length(row)),
        DataType::BinaryView => view(array.as_binary_view().views().get(row)),
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys().get(row).copied();
            key.map_or(0, |key| value_bytes(dictionary.values().as_ref(), key))
        }
        DataType::Struct(_) => structure(array.as_struct(), row),
        _ => match elements(array, row) {
            Some((values, start, end)) => range_bytes(values, start, end),
            None => array.data_type().primitive_width().map_or(SLOT, wide),
        },
    }
}

/// The elements of the list or map at `row`: all elements, and which of them are its own.
pub(crate) fn elements(array: &dyn Array, row: usize) -> Option<(&ArrayRef, usize, usize)> {
    match array.data_type() {
        DataType::List(_) => list::<i32>(array.as_list(), row),
        DataType::LargeList(_) => list::<i64>(array.as_list(), row),
        DataType::FixedSizeList(_, _) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            let size = usize::try_from(list.value_length()).unwrap_or(0);
            let start = row.checked_mul(size)?;
            Some((list.values(), start, start + size))
        }
        DataType::Map(_, _) => {
            let map: &MapArray = array.as_map();
            let start = usize::try_from(*map.value_offsets().get(row)?).ok()?;
            let end = usize::try_from(*map.value_offsets().get(row + 1)?).ok()?;
            Some((map.keys(), start, end))
        }
        _ => None,
    }
}

/// The values in a list, counted to the bottom of lists in lists, and their bytes.
pub(crate) fn leaves(array: &dyn Array, row: usize) -> (u64, u64) {
    if row >= array.len() || array.is_null(row) {
        return (1, 0);
    }
    let Some((values, start, end)) = elements(array, row) else {
        return (1, value_bytes(array, row));
    };
    if elements(values.as_ref(), 0).is_none() {
        return (wide(end - start), range_bytes(values, start, end));
    }
    (start..end)
        .map(|at| leaves(values.as_ref(), at))
        .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
}

fn list<O: OffsetSizeTrait>(
    list: &GenericListArray<O>,
    row: usize,
) -> Option<(&ArrayRef, usize, usize)> {
    let start = list.value_offsets().get(row)?.as_usize();
    let end = list.value_offsets().get(row + 1)?.as_usize();
    Some((list.values(), start, end))
}

fn structure(array: &StructArray, row: usize) -> u64 {
    let fields = array.columns().iter();
    fields.map(|field| value_bytes(field.as_ref(), row)).sum()
}

fn range_bytes(values: &ArrayRef, start: usize, end: usize) -> u64 {
    let count = wide(end.saturating_sub(start));
    match values.data_type().primitive_width() {
        Some(width) => count.saturating_mul(wide(width)),
        None => (start..end)
            .map(|at| value_bytes(values.as_ref(), at).max(SLOT))
            .fold(0, u64::saturating_add),
    }
}

/// The length of a view is its lowest four bytes.
fn view(view: Option<&u128>) -> u64 {
    view.map_or(0, |view| (*view & u128::from(u32::MAX)) as u64)
}

fn length<L: TryInto<u64>>(length: L) -> u64 {
    length.try_into().unwrap_or(0)
}

fn wide(count: usize) -> u64 {
    count as u64
}

/// What a value takes that has no width of its own, at least: an offset.
pub(crate) const SLOT: u64 = 8;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, StringArray, StringViewArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn values_are_counted_one_by_one() {
        let long = "x".repeat(100);
        let texts = StringArray::from(vec![Some("ab"), None, Some(long.as_str())]);
        let counted: Vec<u64> = (0..4).map(|row| value_bytes(&texts, row)).collect();
        assert_eq!(counted, [2, 0, 100, 0]);
        let views = StringViewArray::from(vec![Some("ab"), None, Some(long.as_str())]);
        let counted: Vec<u64> = (0..3).map(|row| value_bytes(&views, row)).collect();
        assert_eq!(counted, [2, 0, 100]);
        assert_eq!(value_bytes(&Int64Array::from(vec![7]), 0), 8);
        let sliced = texts.slice(2, 1);
        assert_eq!(value_bytes(&sliced, 0), 100);
    }

    #[test]
    fn lists_are_counted_to_the_bottom() {
        let inner = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            Some(vec![Some(3)]),
        ]);
        assert_eq!((value_bytes(&inner, 0), leaves(&inner, 1)), (16, (1, 8)));
        let field = Arc::new(arrow::datatypes::Field::new(
            "item",
            inner.data_type().clone(),
            true,
        ));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2]);
        let outer = ListArray::new(field, offsets, Arc::new(inner), None);
        assert_eq!((value_bytes(&outer, 0), leaves(&outer, 0)), (24, (3, 24)));
    }
}
