//! `min` and `max` of floats, which DataFusion takes in the order of rows where there is a NaN. Owns
//! that NaN is the largest value; must never touch extremes of anything else.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, PrimitiveArray};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

use super::delegate::delegate;
use super::folds::{Fold, Groups};

/// The function itself, but for floats in groups.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Extreme {
    inner: Arc<AggregateUDF>,
    largest: bool,
}

impl Extreme {
    pub(super) fn smallest(inner: Arc<AggregateUDF>) -> Self {
        Self {
            inner,
            largest: false,
        }
    }

    pub(super) fn largest(inner: Arc<AggregateUDF>) -> Self {
        Self {
            inner,
            largest: true,
        }
    }

    fn groups<T: ArrowPrimitiveType>(&self, nan: T::Native) -> Box<dyn GroupsAccumulator>
    where
        T::Native: ArrowNativeTypeOp,
    {
        if self.largest {
            let least = T::Native::MIN_TOTAL_ORDER;
            Box::new(Groups::new(Floats::<T, Largest>(least, PhantomData)))
        } else {
            Box::new(Groups::new(Floats::<T, Smallest>(nan, PhantomData)))
        }
    }
}

impl AggregateUDFImpl for Extreme {
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
        match args.return_field.data_type() {
            DataType::Float64 => Ok(self.groups::<Float64Type>(f64::NAN)),
            DataType::Float32 => Ok(self.groups::<Float32Type>(f32::NAN)),
            _ => self.inner.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }
}

/// Which of two floats goes.
trait Side: Send + Sync + 'static {
    const GOES: Ordering;
}

struct Largest;

impl Side for Largest {
    const GOES: Ordering = Ordering::Less;
}

struct Smallest;

impl Side for Smallest {
    const GOES: Ordering = Ordering::Greater;
}

/// Keeps one of the values; what it begins with loses against any.
struct Floats<T: ArrowPrimitiveType, S: Side>(T::Native, PhantomData<S>);

impl<T, S: Side> Fold for Floats<T, S>
where
    T: ArrowPrimitiveType,
    T::Native: ArrowNativeTypeOp,
{
    type Input = T;
    type State = T;

    fn start(&self) -> T::Native {
        self.0
    }

    fn add(state: &mut T::Native, value: T::Native) {
        if state.compare(value) == S::GOES {
            *state = value;
        }
    }

    fn merge(state: &mut T::Native, other: T::Native) -> Result<()> {
        Self::add(state, other);
        Ok(())
    }

    fn states(&self, states: PrimitiveArray<T>) -> ArrayRef {
        Arc::new(states)
    }

    fn finish(&self, states: PrimitiveArray<T>) -> Result<ArrayRef> {
        Ok(Arc::new(states))
    }
}
