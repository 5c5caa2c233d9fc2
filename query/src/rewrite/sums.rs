//! `sum` of integers and decimals, whose overflow is an error instead of another number. Owns how
//! wide it counts; must never touch sums of anything else.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, UInt64Type, i256,
};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};

use super::folds::{Fold, Groups, One};
use super::slides::Slide;

/// The function itself, but for sums that could wrap.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactSum(Sum);

impl ExactSum {
    pub(super) fn new() -> Self {
        Self(Sum::new())
    }
}

impl AggregateUDFImpl for ExactSum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            let exact = is_exact(args.return_field.data_type());
            let kind = args.return_field.data_type().clone();
            let inner = self.0.accumulator(args)?;
            return Ok(if exact {
                Box::new(Distinct { inner, kind })
            } else {
                inner
            });
        }
        match args.return_field.data_type() {
            DataType::Int64 => Ok(Box::new(One::new(Signed, None))),
            DataType::UInt64 => Ok(Box::new(One::new(Unsigned, None))),
            DataType::Decimal128(precision, scale) => {
                Ok(Box::new(One::new(Decimals(*precision, *scale), None)))
            }
            _ => self.0.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let wide = match args.return_field.data_type() {
            _ if args.is_distinct => None,
            DataType::Int64 | DataType::UInt64 => Some(WIDE),
            DataType::Decimal128(_, scale) => Some(widest(*scale)),
            _ => None,
        };
        if let Some(wide) = wide {
            let name = format_state_name(args.name, "sum");
            return Ok(vec![Arc::new(Field::new(name, wide, true))]);
        }
        self.0.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match args.return_field.data_type() {
            DataType::Int64 => Ok(Box::new(Groups::new(Signed))),
            DataType::UInt64 => Ok(Box::new(Groups::new(Unsigned))),
            DataType::Decimal128(precision, scale) => {
                Ok(Box::new(Groups::new(Decimals(*precision, *scale))))
            }
            _ => self.0.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return match args.return_field.data_type() {
                DataType::Int64 => Ok(Box::new(Different::default())),
                _ => self.0.create_sliding_accumulator(args),
            };
        }
        match args.return_field.data_type() {
            DataType::Float64 => Ok(Box::new(Slide::sum())),
            DataType::Int64 => Ok(Box::new(One::new(
                Signed,
                Some(|state, value| *state -= i128::from(value)),
            ))),
            DataType::UInt64 => Ok(Box::new(One::new(
                Unsigned,
                Some(|state, value| *state -= i128::from(value)),
            ))),
            DataType::Decimal128(precision, scale) => Ok(Box::new(One::new(
                Decimals(*precision, *scale),
                Some(|state, value| *state = state.wrapping_sub(i256::from_i128(value))),
            ))),
            _ => self.0.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.0.value_from_stats(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.0.set_monotonicity(kind)
    }
}

/// The values that are there, each once; their sum only at the end.
#[derive(Debug)]
struct Distinct {
    inner: Box<dyn Accumulator>,
    kind: DataType,
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum: Option<i128> = None;
        for state in self.inner.state()? {
            let ScalarValue::List(list) = state else {
                return Err(DataFusionError::Internal("a list was expected".to_owned()));
            };
            let wide = match &self.kind {
                DataType::Decimal128(_, _) => ArrayRef::clone(list.values()),
                _ => cast(list.values(), &WIDE)?,
            };
            for value in wide.as_primitive::<Decimal128Type>().iter().flatten() {
                let all = sum.get_or_insert(0);
                *all = all
                    .checked_add(value)
                    .ok_or_else(|| too_many_digits(i256::from_i128(*all)))?;
            }
        }
        let narrow = |sum: i128| -> Result<ScalarValue> {
            let too_large = |_| overflow(sum);
            Ok(match self.kind {
                DataType::Decimal128(precision, scale) => {
                    let sum = fits(i256::from_i128(sum), precision)?;
                    ScalarValue::Decimal128(Some(sum), precision, scale)
                }
                DataType::UInt64 => {
                    ScalarValue::UInt64(Some(u64::try_from(sum).map_err(too_large)?))
                }
                _ => ScalarValue::Int64(Some(i64::try_from(sum).map_err(too_large)?)),
            })
        };
        sum.map_or_else(|| ScalarValue::try_from(&self.kind), narrow)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
}

fn is_exact(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Int64 | DataType::UInt64 | DataType::Decimal128(_, _)
    )
}

/// Integers over a window that moves, each once however often it is there.
#[derive(Debug, Default)]
struct Different {
    counts: HashMap<i64, usize>,
    sum: i128,
}

impl Accumulator for Different {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in integers(values)?.iter().flatten() {
            let count = self.counts.entry(value).or_insert(0);
            *count += 1;
            if *count == 1 {
                self.sum += i128::from(value);
            }
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in integers(values)?.iter().flatten() {
            let left = self.counts.get(&value).map_or(0, |count| count - 1);
            if left > 0 {
                self.counts.insert(value, left);
            } else if self.counts.remove(&value).is_some() {
                self.sum -= i128::from(value);
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.counts.is_empty() {
            return Ok(ScalarValue::Int64(None));
        }
        let sum = i64::try_from(self.sum).map_err(|_| overflow(self.sum))?;
        Ok(ScalarValue::Int64(Some(sum)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(whole())
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        Err(whole())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i64, usize)>()
    }
}

fn integers(values: &[ArrayRef]) -> Result<&PrimitiveArray<Int64Type>> {
    let first = values.first();
    let integers = first.and_then(|values| values.as_primitive_opt::<Int64Type>());
    integers.ok_or_else(|| DataFusionError::Internal("integers were expected".to_owned()))
}

/// A window is computed at one place.
fn whole() -> DataFusionError {
    DataFusionError::Internal("a window has no partial sums".to_owned())
}

/// Decimals of so many digits, so many of them behind the point.
struct Decimals(u8, i8);

impl Fold for Decimals {
    type Input = Decimal128Type;
    type State = Decimal256Type;

    fn start(&self) -> i256 {
        i256::ZERO
    }

    /// Holds more summands than there can be.
    fn add(state: &mut i256, value: i128) {
        *state = state.wrapping_add(i256::from_i128(value));
    }

    fn merge(state: &mut i256, other: i256) -> Result<()> {
        *state = state.wrapping_add(other);
        Ok(())
    }

    fn states(&self, states: PrimitiveArray<Decimal256Type>) -> ArrayRef {
        Arc::new(states.with_data_type(widest(self.1)))
    }

    fn finish(&self, states: PrimitiveArray<Decimal256Type>) -> Result<ArrayRef> {
        let narrow =
            states.try_unary::<_, Decimal128Type, DataFusionError>(|sum| fits(sum, self.0))?;
        let kind = DataType::Decimal128(self.0, self.1);
        Ok(Arc::new(narrow.with_data_type(kind)))
    }
}

fn widest(scale: i8) -> DataType {
    DataType::Decimal256(76, scale)
}

fn fits(sum: i256, precision: u8) -> Result<i128> {
    let narrow = sum.to_i128().filter(|sum| {
        let most = 10_u128.checked_pow(u32::from(precision));
        most.is_none_or(|most| sum.unsigned_abs() < most)
    });
    narrow.ok_or_else(|| too_many_digits(sum))
}

fn too_many_digits(sum: i256) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the sum {sum} has more than 38 digits: use sum(CAST(... AS DOUBLE))"
    ))
}

struct Signed;

struct Unsigned;

macro_rules! wide_fold {
    ($fold:ident, $kind:ty) => {
        impl Fold for $fold {
            type Input = $kind;
            type State = Decimal128Type;

            fn start(&self) -> i128 {
                0
            }

            fn add(state: &mut i128, value: <$kind as ArrowPrimitiveType>::Native) {
                *state += i128::from(value);
            }

            fn merge(state: &mut i128, other: i128) -> Result<()> {
                *state = state.checked_add(other).ok_or_else(|| overflow(*state))?;
                Ok(())
            }

            fn states(&self, states: PrimitiveArray<Decimal128Type>) -> ArrayRef {
                Arc::new(states.with_data_type(WIDE))
            }

            fn finish(&self, states: PrimitiveArray<Decimal128Type>) -> Result<ArrayRef> {
                let narrow = states.try_unary::<_, $kind, DataFusionError>(|sum| {
                    sum.try_into().map_err(|_| overflow(sum))
                });
                Ok(Arc::new(narrow?))
            }
        }
    };
}

wide_fold!(Signed, Int64Type);
wide_fold!(Unsigned, UInt64Type);

fn overflow(sum: i128) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the sum {sum} exceeds 64 bits: use sum(CAST(... AS DOUBLE)) or \
         sum(CAST(... AS DECIMAL(38, 0)))"
    ))
}

/// Holds the sum of as many 64-bit integers as there can be.
const WIDE: DataType = DataType::Decimal128(38, 0);
