//! A function that says no before it makes too much. Owns the check of one call; must never change
//! what the function answers.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::Array;
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use super::estimate::{Argument, Estimate};
use crate::account;
use crate::error::QueryError;

/// What single values and batches of them may take.
#[derive(Debug, Clone)]
pub(crate) struct Bounded {
    inner: Arc<ScalarUDF>,
    estimate: Estimate,
    pool: Arc<dyn MemoryPool>,
}

impl Bounded {
    /// None for a function whose result cannot outgrow its arguments.
    pub(crate) fn around(inner: &Arc<ScalarUDF>, pool: &Arc<dyn MemoryPool>) -> Option<ScalarUDF> {
        let bounded = Self {
            inner: Arc::clone(inner),
            estimate: Estimate::of(inner.name())?,
            pool: Arc::clone(pool),
        };
        Some(ScalarUDF::new_from_impl(bounded))
    }

    /// Memory for what the call makes, or why it makes too much.
    fn check(&self, arguments: &[Argument], rows: usize) -> Result<Option<MemoryReservation>> {
        let Some(bytes) = self.estimate.bytes() else {
            return Ok(None);
        };
        let mut total = 0_u64;
        for row in 0..rows {
            let value = bytes(arguments, row);
            total = total.saturating_add(value);
            if value > MAX_VALUE_BYTES {
                let of = "one value".to_owned();
                return Err(self.refusal(value, MAX_VALUE_BYTES, "bytes", of).into());
            }
            if total > MAX_BATCH_BYTES {
                let of = format!("the values of {rows} rows");
                return Err(self.refusal(total, MAX_BATCH_BYTES, "bytes", of).into());
            }
        }
        if total > MAX_FOLDED && account::is_planning() {
            // Left as it is in the plan, and made where rows are.
            let of = "a constant".to_owned();
            return Err(self.refusal(total, MAX_FOLDED, "bytes", of).into());
        }
        if total <= UNCOUNTED {
            return Ok(None);
        }
        // The pool does not know of what earlier calls have made and others still use.
        account::check_with(total)?;
        let consumer = MemoryConsumer::new(format!("{}()", self.inner.name()));
        let reservation = consumer.register(&self.pool);
        reservation.try_grow(usize::try_from(total).unwrap_or(usize::MAX))?;
        Ok(Some(reservation))
    }

    /// Whether the call takes so long that it must be cut, or why one row takes too long.
    fn is_long(&self, arguments: &[Argument], rows: usize) -> Result<bool> {
        let Some(steps) = self.estimate.steps() else {
            return Ok(false);
        };
        let mut total = 0_u64;
        for row in 0..rows {
            let value = steps(arguments, row);
            if value > MAX_VALUE_STEPS {
                let of = "one value".to_owned();
                return Err(self.refusal(value, MAX_VALUE_STEPS, "steps", of).into());
            }
            total = total.saturating_add(value);
        }
        Ok(total > STEPS_AT_A_TIME)
    }

    /// Some rows after the other, as many as take not too long together, so that the statement can
    /// end in between.
    fn by_rows(&self, call: &ScalarFunctionArgs, arguments: &[Argument]) -> Result<ColumnarValue> {
        let steps = |row: usize| match self.estimate.steps() {
            Some(steps) => steps(arguments, row),
            None => 0,
        };
        let (mut made, mut start) = (Vec::new(), 0);
        while start < call.number_rows {
            account::check()?;
            let (mut end, mut total) = (start, 0_u64);
            while end < call.number_rows && (end == start || total < STEPS_AT_A_TIME) {
                total = total.saturating_add(steps(end));
                end += 1;
            }
            let mut part = call.clone();
            part.number_rows = end - start;
            for arg in &mut part.args {
                if let ColumnarValue::Array(array) = arg {
                    *array = array.slice(start, end - start);
                }
            }
            let values = self.inner.invoke_with_args(part)?;
            made.push(values.into_array(end - start)?);
            start = end;
        }
        if made.is_empty() {
            return self.inner.invoke_with_args(call.clone());
        }
        let made: Vec<&dyn Array> = made.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&made)?))
    }

    fn refusal(&self, wanted: u64, limit: u64, unit: &'static str, of: String) -> QueryError {
        QueryError::ValueTooLarge {
            function: self.inner.name().to_owned(),
            wanted,
            limit,
            unit,
            of,
        }
    }
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// Everything but a call is the inner function's; it is not simplified, since what that gives is a
/// function without bounds.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        account::check()?;
        let arguments = args.args.iter().map(Argument::new);
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        let constant = arguments.iter().all(Argument::is_constant);
        let rows = if constant { 1 } else { args.number_rows };
        let _memory = self.check(&arguments, rows)?;
        if self.is_long(&arguments, rows)? && !constant {
            return self.by_rows(&args, &arguments);
        }
        self.inner.invoke_with_args(args)
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// The largest value that a function may make.
pub(crate) const MAX_VALUE_BYTES: u64 = 16 << 20;
/// What one call may make for all its rows: made in well under a second, and short of the 2 GiB at
/// which offsets end.
const MAX_BATCH_BYTES: u64 = 1 << 30;
/// Less than a second.
const MAX_VALUE_STEPS: u64 = 1 << 28;
const STEPS_AT_A_TIME: u64 = 1 << 26;
/// What a plan may have as a constant: plans are copied often.
const MAX_FOLDED: u64 = 64 << 10;
/// Too little to ask the pool for.
const UNCOUNTED: u64 = 1 << 20;
