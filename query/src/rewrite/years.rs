//! The year of a time, compared as a range of times only where both ends of that year are times
//! themselves: DataFusion takes an end that 64 bits cannot hold for NULL, and no row passes. Owns
//! also that the seconds of an interval have their fractions. Must never change what a year is.

use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use super::spans;

/// In place of `function`, if that finds parts of times.
pub(super) fn checked(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    let found = function.name() == "date_part" && !function.inner().is::<Years>();
    found.then(|| {
        Arc::new(ScalarUDF::new_from_impl(Years {
            inner: Arc::clone(function),
        }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Years {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Years {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let epoch = |part: &ScalarValue| {
            let part = part.try_as_str().flatten();
            part.is_some_and(|part| part.eq_ignore_ascii_case("epoch"))
        };
        if let [ColumnarValue::Scalar(part), of] = args.args.as_slice()
            && epoch(part)
            && let Some(seconds) = spans::seconds(of)?
        {
            return Ok(seconds);
        }
        self.inner.invoke_with_args(args)
    }

    fn preimage(
        &self,
        args: &[Expr],
        year: &Expr,
        context: &SimplifyContext,
    ) -> Result<PreimageResult> {
        let found = self.inner.preimage(args, year, context)?;
        if let PreimageResult::Range { interval, .. } = &found
            && (interval.lower().is_null() || interval.upper().is_null())
        {
            return Ok(PreimageResult::None);
        }
        Ok(found)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
