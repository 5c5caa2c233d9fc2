//! The one zero that SQL has, in rows that were stored when minus zero still was another. Must never
//! change any other value, nor copy a column that has none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;

/// `batch` with 0.0 for every -0.0.
///
/// # Errors
/// Never, as columns keep their types and lengths.
pub(super) fn one_zero(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let odd = |column: &ArrayRef| {
        *column.data_type() == DataType::Float64 && {
            let values = column.as_primitive::<Float64Type>().values();
            values.iter().any(|value| value.to_bits() == MINUS_ZERO)
        }
    };
    if !batch.columns().iter().any(odd) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(|column| {
        if odd(column) {
            let floats = column.as_primitive::<Float64Type>();
            Arc::new(floats.unary::<_, Float64Type>(|value| value + 0.0)) as ArrayRef
        } else {
            Arc::clone(column)
        }
    });
    RecordBatch::try_new(batch.schema(), columns.collect())
}

const MINUS_ZERO: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    #[test]
    fn minus_zero_is_zero_and_nothing_else_is_touched() {
        let floats = vec![
            Some(-0.0),
            None,
            Some(-1.5),
            Some(f64::NEG_INFINITY),
            Some(0.0),
        ];
        let floats: ArrayRef = Arc::new(Float64Array::from(floats));
        let integers: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, 0, 1, 2, 3]));
        let given = RecordBatch::try_from_iter([("f", floats), ("i", Arc::clone(&integers))]);
        let made = one_zero(given.expect("a batch")).expect("rows");
        let made_floats = made.column(0).as_primitive::<Float64Type>();
        assert_eq!(made_floats.value(0).to_bits(), 0);
        assert!(made_floats.is_null(1));
        assert_eq!(made_floats.value(2), -1.5);
        assert_eq!(made_floats.value(3), f64::NEG_INFINITY);
        assert!(Arc::ptr_eq(made.column(1), &integers));
    }
}
