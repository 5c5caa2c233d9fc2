//! Window functions, which look at each row of a window without giving their thread back. Owns the
//! memory for long values that are given again, and the look whether the statement may go on; must
//! never change what a function answers.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{
    Documentation, LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF,
    WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;

use super::sizes::value_bytes;
use crate::account;

/// A window function within bounds.
#[derive(Debug, Clone)]
pub(super) struct BoundedWindow {
    inner: Arc<WindowUDF>,
    pool: Arc<dyn MemoryPool>,
}

impl BoundedWindow {
    pub(super) fn around(inner: Arc<WindowUDF>, pool: &Arc<dyn MemoryPool>) -> Arc<WindowUDF> {
        let pool = Arc::clone(pool);
        Arc::new(WindowUDF::new_from_impl(Self { inner, pool }))
    }
}

impl PartialEq for BoundedWindow {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for BoundedWindow {}

impl Hash for BoundedWindow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl WindowUDFImpl for BoundedWindow {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn expressions(&self, args: ExpressionArgs<'_>) -> Vec<Arc<dyn PhysicalExpr>> {
        self.inner.expressions(args)
    }

    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs<'_>,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        let kind = args.input_fields().first().map(|field| field.data_type());
        let copies =
            COPYING.contains(&self.inner.name()) && kind.is_some_and(|kind| !kind.is_primitive());
        let constants = args.input_exprs().iter().skip(1);
        let constants = constants.filter_map(|expr| expr.downcast_ref::<Literal>());
        let constants: Vec<ScalarValue> = constants.map(|c| c.value().clone()).collect();
        let name = format!("{}()", self.inner.name());
        let held = MemoryConsumer::new(name).register(&self.pool);
        let inner = self.inner.partition_evaluator_factory(args)?;
        Ok(Box::new(Counting {
            inner,
            copies,
            constants,
            held,
            rows: 0,
        }))
    }

    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        self.inner.simplify()
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.field(args)
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.inner.sort_options()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        match self.inner.reverse_expr() {
            ReversedUDWF::Reversed(other) => {
                ReversedUDWF::Reversed(Self::around(other, &self.pool))
            }
            same => same,
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.inner.inner().limit_effect(args)
    }
}

#[derive(Debug)]
struct Counting {
    inner: Box<dyn PartitionEvaluator>,
    /// Whether it gives values that may be long.
    copies: bool,
    /// What is given where there is no row.
    constants: Vec<ScalarValue>,
    /// Memory of the long values that have been given.
    held: MemoryReservation,
    /// That have been evaluated.
    rows: usize,
}

impl Counting {
    fn hold(&self, value: &ScalarValue, copies: usize) -> Result<()> {
        if value.is_null() || value.data_type().is_primitive() {
            return Ok(());
        }
        // A value knows its own size without a copy, but not within what is shared.
        if value.size() <= LONG {
            return Ok(());
        }
        let bytes = match value {
            ScalarValue::Utf8(Some(text))
            | ScalarValue::LargeUtf8(Some(text))
            | ScalarValue::Utf8View(Some(text)) => text.len() as u64,
            ScalarValue::List(list) => value_bytes(list.as_ref(), 0),
            other => other.size() as u64,
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.held.try_grow(bytes.saturating_mul(copies))
    }
}

impl PartitionEvaluator for Counting {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.inner.memoize(state)
    }

    fn get_range(&self, idx: usize, rows: usize) -> Result<Range<usize>> {
        self.inner.get_range(idx, rows)
    }

    fn is_causal(&self) -> bool {
        self.inner.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        account::check()?;
        if self.copies {
            for constant in &self.constants {
                self.hold(constant, rows)?;
            }
        }
        self.inner.evaluate_all(values, rows)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        if self.rows.is_multiple_of(LOOK_ROWS) {
            account::check()?;
        }
        self.rows = self.rows.wrapping_add(1);
        let value = self.inner.evaluate(values, range)?;
        if self.copies {
            self.hold(&value, 1)?;
        }
        Ok(value)
    }

    fn evaluate_all_with_rank(
        &self,
        rows: usize,
        ranks_in_partition: &[Range<usize>],
    ) -> Result<ArrayRef> {
        self.inner.evaluate_all_with_rank(rows, ranks_in_partition)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.inner.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.inner.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.inner.include_rank()
    }
}

/// Functions that give each row a value of another.
const COPYING: &[&str] = &["lead", "lag", "first_value", "last_value", "nth_value"];
/// Values below this are not counted one by one.
const LONG: usize = 1 << 10;
/// Rows from one look to the next.
const LOOK_ROWS: usize = 64;
