//! `sum` and `avg` of floats over a window that moves: of the values that are in it. DataFusion takes
//! off what leaves, and so keeps what it cannot take off: NaN, infinities, and what a large value has
//! swallowed. Must never subtract.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

use super::delegate::delegate;

/// `avg` itself, but for floats over a window that moves.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Mean {
    pub(super) inner: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Mean {
    delegate!();

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        let float = args.expr_fields.first().map(|field| field.data_type());
        if float == Some(&DataType::Float64) && !args.is_distinct {
            return Ok(Box::new(Slide::mean()));
        }
        self.inner.create_sliding_accumulator(args)
    }
}

/// Values in the order they came in, with what is needed to know their sum.
#[derive(Debug, Default)]
pub(super) struct Slide {
    /// Sums of the older values from each on; that of all of them is the last.
    older: Vec<f64>,
    newer: Vec<f64>,
    newer_sum: f64,
    mean: bool,
}

impl Slide {
    pub(super) fn sum() -> Self {
        Self::default()
    }

    fn mean() -> Self {
        Self {
            mean: true,
            ..Self::default()
        }
    }

    fn push(&mut self, value: f64) {
        self.newer.push(value);
        self.newer_sum += value;
    }

    fn pop(&mut self) {
        if self.older.is_empty() {
            let mut sum = 0.0;
            while let Some(value) = self.newer.pop() {
                sum += value;
                self.older.push(sum);
            }
            self.newer_sum = 0.0;
        }
        self.older.pop();
    }

    fn value(&self) -> Option<f64> {
        let count = self.older.len() + self.newer.len();
        let sum = self.older.last().copied().unwrap_or_default() + self.newer_sum;
        let value = if self.mean { sum / count as f64 } else { sum };
        (count > 0).then_some(if value.is_nan() { f64::NAN } else { value })
    }
}

impl Accumulator for Slide {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in floats(values)?.iter().flatten() {
            self.push(value);
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for _ in floats(values)?.iter().flatten() {
            self.pop();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.value()))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(whole())
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        Err(whole())
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.older.capacity() + self.newer.capacity()) * size_of::<f64>()
    }
}

fn floats(values: &[ArrayRef]) -> Result<&arrow::array::PrimitiveArray<Float64Type>> {
    values
        .first()
        .and_then(|values| values.as_primitive_opt::<Float64Type>())
        .ok_or_else(|| DataFusionError::Internal("floats were expected".to_owned()))
}

/// A window is computed at one place.
fn whole() -> DataFusionError {
    DataFusionError::Internal("a window has no partial sums".to_owned())
}

#[cfg(test)]
mod tests {
    use super::Slide;

    #[test]
    fn what_has_left_is_forgotten() {
        let mut slide = Slide::sum();
        for (value, leaves, expected) in [
            (f64::NAN, false, None),
            (1e300, true, Some(1e300)),
            (1.0, false, None),
            (2.0, true, Some(3.0)),
        ] {
            slide.push(value);
            if leaves {
                slide.pop();
            }
            if let Some(expected) = expected {
                assert_eq!(slide.value(), Some(expected));
            }
        }
        slide.pop();
        assert_eq!(slide.value(), Some(2.0));
        slide.pop();
        assert_eq!(slide.value(), None);
    }
}
