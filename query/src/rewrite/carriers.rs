//! Functions that stand for an operator which DataFusion computes or plans wrongly. Owns how each
//! computes; must never show its own name where that of the operator stood.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, LargeStringArray, StringArray, StringViewArray,
};
use arrow::compute::CastOptions;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float32Type, Float64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
};
use arrow::error::ArrowError;
use datafusion::common::format::DEFAULT_CAST_OPTIONS;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use super::clock_text::{instant, spelled};

/// What a carrier computes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    /// Of integers: an overflow is an error.
    Add,
    Subtract,
    Multiply,
    Negate,
    /// A float with one zero and one NaN, the largest value.
    OneZero,
    /// A cast that moves an instant, which no comparison may be drawn through.
    Move {
        to: DataType,
        safe: bool,
    },
    /// A text that may be a time, as the engine reads it.
    ClockText,
    /// Such a text as an instant: without a zone of its own it is local to this one.
    ZonedText(String),
    /// How long an interval is, in nanoseconds: a month has 30 days, and a day 24 hours.
    Span,
    /// The first argument, which is there where the second is.
    Given,
    /// The value as it is, which no bound may be drawn through.
    Same,
}

/// The call of a carrier.
pub(crate) fn carry(kernel: Kernel, args: Vec<Expr>) -> Expr {
    let udf = match kernel {
        Kernel::Add => Arc::clone(&ADD),
        Kernel::Subtract => Arc::clone(&SUBTRACT),
        Kernel::Multiply => Arc::clone(&MULTIPLY),
        Kernel::Negate => Arc::clone(&NEGATE),
        Kernel::OneZero => Arc::clone(&ONE_ZERO),
        Kernel::Same => Arc::clone(&SAME),
        Kernel::ClockText => Arc::clone(&CLOCK_TEXT),
        Kernel::Given => Arc::clone(&GIVEN),
        Kernel::Span => Arc::clone(&SPAN),
        other @ (Kernel::Move { .. } | Kernel::ZonedText(_)) => made(other),
    };
    udf.call(args)
}

/// What a call carries, if it is one.
pub(crate) fn carried(udf: &ScalarUDF) -> Option<&Kernel> {
    udf.inner()
        .downcast_ref::<Carrier>()
        .map(|carrier| &carrier.kernel)
}

struct Carrier {
    kernel: Kernel,
    signature: Signature,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.kernel, f)
    }
}

impl PartialEq for Carrier {
    fn eq(&self, other: &Self) -> bool {
        self.kernel == other.kernel
    }
}

impl Eq for Carrier {}

impl Hash for Carrier {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kernel.hash(state);
    }
}

impl Carrier {
    /// The operator between two texts, or the text alone.
    fn named(&self, texts: &[String]) -> String {
        let sign = match self.kernel {
            Kernel::Add => "+",
            Kernel::Subtract => "-",
            Kernel::Multiply => "*",
            Kernel::Negate => return format!("(- {})", texts.concat()),
            Kernel::Given => return texts.first().cloned().unwrap_or_default(),
            Kernel::OneZero
            | Kernel::Move { .. }
            | Kernel::Same
            | Kernel::ClockText
            | Kernel::ZonedText(_)
            | Kernel::Span => {
                return texts.concat();
            }
        };
        texts.join(&format!(" {sign} "))
    }
}

impl ScalarUDFImpl for Carrier {
    fn name(&self) -> &str {
        match self.kernel {
            Kernel::Add => "add",
            Kernel::Subtract => "subtract",
            Kernel::Multiply => "multiply",
            Kernel::Negate => "negate",
            Kernel::OneZero => "one_zero",
            Kernel::Move { .. } => "move_zone",
            Kernel::Same => "same",
            Kernel::ClockText => "clock_text",
            Kernel::ZonedText(_) => "zoned_text",
            Kernel::Given => "given",
            Kernel::Span => "span",
        }
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let texts: Vec<String> = args.iter().map(ToString::to_string).collect();
        Ok(match &self.kernel {
            Kernel::Move { to, .. } => format!("CAST({} AS {to})", texts.concat()),
            _ => self.named(&texts),
        })
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let texts: Vec<String> = args.iter().map(|a| a.schema_name().to_string()).collect();
        Ok(self.named(&texts))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        if let Kernel::Move { to, .. } = &self.kernel {
            return Ok(to.clone());
        }
        if self.kernel == Kernel::Span {
            return Ok(NANOSECONDS);
        }
        arg_types
            .first()
            .cloned()
            .ok_or_else(|| DataFusionError::Plan(format!("{} needs an argument", self.name())))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let may_fail = matches!(self.kernel, Kernel::Move { safe: true, .. });
        let nullable = may_fail || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(
            self.name(),
            self.return_type(&types)?,
            nullable,
        )))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match (&self.kernel, args.args.as_slice()) {
            (Kernel::Add, [left, right]) => apply(left, right, numeric::add),
            (Kernel::Subtract, [left, right]) => apply(left, right, numeric::sub),
            (Kernel::Multiply, [left, right]) => apply(left, right, numeric::mul),
            (Kernel::Negate, [value]) => unary(value, |array| numeric::neg(array)),
            (Kernel::OneZero, [value]) => unary(value, |array| Ok(one_zero(array))),
            (Kernel::Move { to, safe }, [value]) => {
                let options = CastOptions {
                    safe: *safe,
                    ..DEFAULT_CAST_OPTIONS
                };
                value.cast_to(to, Some(&options))
            }
            (Kernel::Same, [value]) => Ok(value.clone()),
            (Kernel::ClockText, [value]) => unary(value, |texts| Ok(each_text(texts, spelled))),
            (Kernel::ZonedText(zone), [value]) => {
                let zone: Tz = zone.parse()?;
                unary(value, |texts| {
                    Ok(each_text(texts, |text| instant(text, &zone)))
                })
            }
            (Kernel::Span, [value]) => unary(value, spans),
            (Kernel::Given, [value, of]) => given(value, of),
            (_, args) => Err(DataFusionError::Internal(format!(
                "{} takes other arguments than {}",
                self.name(),
                args.len()
            ))),
        }
    }
}

fn made(kernel: Kernel) -> Arc<ScalarUDF> {
    let arguments = match kernel {
        Kernel::Add | Kernel::Subtract | Kernel::Multiply | Kernel::Given => 2,
        _ => 1,
    };
    Arc::new(ScalarUDF::new_from_impl(Carrier {
        kernel,
        signature: Signature::any(arguments, Volatility::Immutable),
    }))
}

fn unary(
    value: &ColumnarValue,
    kernel: impl Fn(&dyn Array) -> std::result::Result<ArrayRef, ArrowError>,
) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(array) => Ok(ColumnarValue::Array(kernel(array)?)),
        ColumnarValue::Scalar(scalar) => {
            let array = kernel(&scalar.to_array()?)?;
            let scalar = datafusion::common::ScalarValue::try_from_array(&array, 0)?;
            Ok(ColumnarValue::Scalar(scalar))
        }
    }
}

fn each_text(array: &dyn Array, made: impl Fn(&str) -> Cow<'_, str>) -> ArrayRef {
    let made = |text: Option<&str>| text.map(|text| made(text).into_owned());
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>().iter().map(made);
            Arc::new(texts.collect::<StringArray>())
        }
        DataType::LargeUtf8 => {
            let texts = array.as_string::<i64>().iter().map(made);
            Arc::new(texts.collect::<LargeStringArray>())
        }
        DataType::Utf8View => {
            let texts = array.as_string_view().iter().map(made);
            Arc::new(texts.collect::<StringViewArray>())
        }
        _ => array.slice(0, array.len()),
    }
}

fn spans(array: &dyn Array) -> std::result::Result<ArrayRef, ArrowError> {
    let span = |months: i32, days: i32, nanoseconds: i64| {
        (i128::from(months) * 30 + i128::from(days)) * DAY + i128::from(nanoseconds)
    };
    let spans: Decimal128Array = match array.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => array
            .as_primitive::<IntervalMonthDayNanoType>()
            .unary(|it| span(it.months, it.days, it.nanoseconds)),
        DataType::Interval(IntervalUnit::DayTime) => array
            .as_primitive::<IntervalDayTimeType>()
            .unary(|it| span(0, it.days, i64::from(it.milliseconds) * 1_000_000)),
        DataType::Interval(IntervalUnit::YearMonth) => array
            .as_primitive::<IntervalYearMonthType>()
            .unary(|months| span(months, 0, 0)),
        other => {
            let told = format!("an interval was expected, not {other}");
            return Err(ArrowError::ComputeError(told));
        }
    };
    Ok(Arc::new(spans.with_data_type(NANOSECONDS)))
}

/// `value`, unless it is lost for something in `of`.
fn given(value: &ColumnarValue, of: &ColumnarValue) -> Result<ColumnarValue> {
    let rows = match (value, of) {
        (ColumnarValue::Array(array), _) | (_, ColumnarValue::Array(array)) => array.len(),
        _ => 1,
    };
    let values = value.to_array(rows)?;
    if values.null_count() == 0 {
        return Ok(value.clone());
    }
    let sources = of.to_array(rows)?;
    if (0..rows).any(|row| values.is_null(row) && sources.is_valid(row)) {
        return Err(DataFusionError::Execution(
            "date_bin: a time and the origin are more than 292 years apart: choose an origin that \
             is nearer"
                .to_owned(),
        ));
    }
    Ok(value.clone())
}

/// Floats as SQL counts them; all else as it is.
fn one_zero(array: &dyn Array) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => Arc::new(
            array
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 }),
        ),
        DataType::Float32 => Arc::new(
            array
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 }),
        ),
        _ => array.slice(0, array.len()),
    }
}

/// Of a day.
const DAY: i128 = 86_400_000_000_000;
const NANOSECONDS: DataType = DataType::Decimal128(38, 0);

static ADD: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::Add));
static SUBTRACT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::Subtract));
static MULTIPLY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::Multiply));
static NEGATE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::Negate));
static ONE_ZERO: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::OneZero));
static CLOCK_TEXT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::ClockText));
static SPAN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::Span));
static GIVEN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::Given));
static SAME: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kernel::Same));
