//! An aggregate that says no before its value becomes too large. Owns the check of what it has
//! gathered and of what it gives; must never change what the aggregate answers.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator,
    ReversedUDAF, SetMonotonicity, Signature,
};
use datafusion::physical_expr::expressions::Literal;

use super::scalar::MAX_VALUE_BYTES;
use super::sizes::value_bytes;
use crate::account;
use crate::error::QueryError;

/// An aggregate within bounds.
#[derive(Debug, Clone)]
pub(crate) struct BoundedAggregate {
    inner: Arc<AggregateUDF>,
    pool: Arc<dyn MemoryPool>,
    /// Whether each row of a window has a copy of what it gives.
    windowed: bool,
}

impl BoundedAggregate {
    /// None for an aggregate whose value cannot outgrow those it is of.
    pub(crate) fn around(
        inner: &Arc<AggregateUDF>,
        pool: &Arc<dyn MemoryPool>,
    ) -> Option<AggregateUDF> {
        GROWING
            .contains(&inner.name())
            .then(|| Self::new(Arc::clone(inner), Arc::clone(pool), false).into())
    }

    /// For windows, where each row is looked at without giving the thread back.
    pub(crate) fn around_window(
        inner: &Arc<AggregateUDF>,
        pool: &Arc<dyn MemoryPool>,
    ) -> AggregateUDF {
        Self::new(Arc::clone(inner), Arc::clone(pool), true).into()
    }

    /// Of distinct values: each group has a set of them, and a list when it is handed on.
    pub(crate) fn around_distinct(
        inner: &Arc<AggregateUDF>,
        pool: &Arc<dyn MemoryPool>,
    ) -> AggregateUDF {
        Self::new(Arc::clone(inner), Arc::clone(pool), false).into()
    }

    fn new(inner: Arc<AggregateUDF>, pool: Arc<dyn MemoryPool>, windowed: bool) -> Self {
        Self {
            inner,
            pool,
            windowed,
        }
    }

    fn bound(&self) -> Bound {
        let name = self.inner.name();
        let consumer = MemoryConsumer::new(format!("{name}()"));
        Bound {
            function: name.to_owned(),
            given: consumer.register(&self.pool),
            copies: self.windowed.then_some(0),
            calls: 0,
        }
    }

    /// A digest takes memory for all of its parts at once.
    fn check_parts(&self, args: &AccumulatorArgs<'_>) -> Result<()> {
        if !DIGESTS.contains(&self.inner.name()) {
            return Ok(());
        }
        for expr in args.exprs.iter().skip(1) {
            let literal = expr.downcast_ref::<Literal>().map(Literal::value);
            let parts = literal.and_then(|value| value.cast_to(&DataType::UInt64).ok());
            if let Some(ScalarValue::UInt64(Some(parts))) = parts
                && parts > MAX_PARTS
            {
                return Err(QueryError::ValueTooLarge {
                    function: self.inner.name().to_owned(),
                    wanted: parts,
                    limit: MAX_PARTS,
                    unit: "centroids",
                    of: "one value".to_owned(),
                }
                .into());
            }
        }
        Ok(())
    }
}

impl PartialEq for BoundedAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.windowed == other.windowed
    }
}

impl Eq for BoundedAggregate {}

impl Hash for BoundedAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl AggregateUDFImpl for BoundedAggregate {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.check_parts(&args)?;
        let (inner, bound) = (self.inner.accumulator(args)?, self.bound());
        Ok(Box::new(Gathering { inner, bound }))
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        self.check_parts(&args)?;
        let inner = self.inner.create_sliding_accumulator(args)?;
        let bound = self.bound();
        Ok(Box::new(Gathering { inner, bound }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.check_parts(&args)?;
        let inner = self.inner.create_groups_accumulator(args)?;
        let bound = self.bound();
        Ok(Box::new(GatheringGroups { inner, bound }))
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial_ordering: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = AggregateUDF::clone(&self.inner);
        let ordered = inner.with_beneficial_ordering(beneficial_ordering)?;
        Ok(ordered.map(|inner| {
            let bounded = Self::new(Arc::new(inner), Arc::clone(&self.pool), self.windowed);
            Arc::new(bounded) as Arc<dyn AggregateUDFImpl>
        }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner.reverse_udf() {
            ReversedUDAF::Reversed(inner) => {
                let bounded = Self::new(inner, Arc::clone(&self.pool), self.windowed);
                ReversedUDAF::Reversed(Arc::new(bounded.into()))
            }
            other => other,
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner.supports_within_group_clause()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// What the values of one accumulator may take.
#[derive(Debug)]
struct Bound {
    function: String,
    /// Memory of the large values that have been given: a window keeps one for each row.
    given: MemoryReservation,
    /// Over a window, the rows since it was last given: a frame that has all of them has one value.
    copies: Option<usize>,
    calls: u32,
}

impl Bound {
    /// Whether the statement may go on. Over a window it is asked for each row.
    fn look(&mut self) -> Result<()> {
        self.calls = self.calls.wrapping_add(1);
        if self.copies.is_none() || self.calls % LOOK_CALLS == 1 {
            account::check()?;
        }
        Ok(())
    }

    fn saw(&mut self, values: &[ArrayRef]) {
        if let (Some(copies), Some(first)) = (&mut self.copies, values.first()) {
            *copies = copies.saturating_add(first.len());
        }
    }

    /// Memory for a copy of all that has been gathered, but not for each row of a window.
    fn copy(&mut self, bytes: usize) -> Result<()> {
        if self.copies.is_some() || bytes as u64 <= LARGE {
            return Ok(());
        }
        self.given.try_grow(bytes)
    }

    fn check(&mut self, values: &dyn Array) -> Result<()> {
        if values.data_type().is_primitive() {
            return Ok(());
        }
        self.check_bytes((0..values.len()).map(|row| value_bytes(values, row)))
    }

    fn check_bytes(&mut self, values: impl IntoIterator<Item = u64>) -> Result<()> {
        let mut large = 0_u64;
        for bytes in values {
            if bytes > MAX_VALUE_BYTES {
                return Err(QueryError::ValueTooLarge {
                    function: self.function.clone(),
                    wanted: bytes,
                    limit: MAX_VALUE_BYTES,
                    unit: "bytes",
                    of: "one value".to_owned(),
                }
                .into());
            }
            if bytes > LARGE {
                large = large.saturating_add(bytes);
            }
        }
        let copies = self.copies.as_mut().map_or(1, std::mem::take).max(1);
        let large = usize::try_from(large).unwrap_or(usize::MAX);
        self.given.try_grow(large.saturating_mul(copies))
    }
}

#[derive(Debug)]
struct Gathering {
    inner: Box<dyn Accumulator>,
    bound: Bound,
}

impl Accumulator for Gathering {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.bound.look()?;
        self.bound.saw(values);
        self.inner.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.bound.look()?;
        self.bound.copy(self.inner.size())?;
        let value = self.inner.evaluate()?;
        match &value {
            ScalarValue::List(list) => self.bound.check(list.as_ref())?,
            ScalarValue::LargeList(list) => self.bound.check(list.as_ref())?,
            ScalarValue::Utf8(Some(text))
            | ScalarValue::LargeUtf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
                if text.len() as u64 > LARGE =>
            {
                self.bound.check_bytes([text.len() as u64])?;
            }
            _ => {
                self.bound.copies = self.bound.copies.map(|_| 0);
            }
        }
        Ok(value)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.bound.look()?;
        self.bound.copy(self.inner.size())?;
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.bound.look()?;
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

struct GatheringGroups {
    inner: Box<dyn GroupsAccumulator>,
    bound: Bound,
}

impl GatheringGroups {
    /// All groups are copied at once where they are given at once, and then let go.
    fn copy(&mut self, emit_to: EmitTo) -> Result<()> {
        account::check()?;
        match emit_to {
            EmitTo::All => {
                self.bound.copy(self.inner.size())?;
                self.bound.given.free();
                Ok(())
            }
            EmitTo::First(_) => Ok(()),
        }
    }
}

impl GroupsAccumulator for GatheringGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.inner
            .update_batch(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.copy(emit_to)?;
        let values = self.inner.evaluate(emit_to)?;
        self.bound.check(values.as_ref())?;
        Ok(values)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.copy(emit_to)?;
        self.inner.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.inner
            .merge_batch(values, group_indices, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, opt_filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// Calls for the rows of a window from one look to the next.
const LOOK_CALLS: u32 = 8;

/// Values below this are not counted one by one.
const LARGE: u64 = 1 << 10;

/// Parts that a digest may have; 100 are usual.
const MAX_PARTS: u64 = 100_000;

const DIGESTS: &[&str] = &[
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
];

/// What gives a large value, or holds much for a short one, and copies it all when it is merged.
const GROWING: &[&str] = &[
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "array_agg",
    "first_value",
    "last_value",
    "median",
    "nth_value",
    "percentile_cont",
    "string_agg",
];
