//! `||` of two texts as a function, so that it can be bounded like one. Must never answer anything
//! but what the operator does.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};

/// The function `||`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Joined {
    signature: Signature,
}

impl Joined {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &'static str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Both sides have been coerced to one type.
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let first = arg_types.first().cloned();
        first.ok_or_else(|| DataFusionError::Internal("|| of nothing".to_owned()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let constant = args.args.iter().all(is_scalar);
        let rows = if constant { 1 } else { args.number_rows };
        let sides = args.args.iter().map(|side| side.to_array(rows));
        let sides = sides.collect::<Result<Vec<_>>>()?;
        let fields = sides.iter().zip(["left", "right"]);
        let fields = fields.map(|(side, name)| Field::new(name, side.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(schema, sides)?;
        let (left, right) = (Column::new("left", 0), Column::new("right", 1));
        let both = BinaryExpr::new(Arc::new(left), Operator::StringConcat, Arc::new(right));
        let joined = both.evaluate(&batch)?;
        match joined {
            ColumnarValue::Array(array) if constant => {
                let value = ScalarValue::try_from_array(&array, 0)?;
                Ok(ColumnarValue::Scalar(value))
            }
            other => Ok(other),
        }
    }
}
