//! Operators of texts as functions, so that they can be bounded like ones. Must never answer anything
//! but what the operator does.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};

/// An operator of two texts, by its name.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operation {
    op: Operator,
    name: &'static str,
    signature: Signature,
}

impl Operation {
    /// All that there are.
    pub(crate) fn all() -> impl Iterator<Item = (Operator, Self)> {
        NAMES.iter().map(|(op, name)| {
            let operation = Self {
                op: *op,
                name: *name,
                signature: Signature::any(2, Volatility::Immutable),
            };
            (*op, operation)
        })
    }
}

impl ScalarUDFImpl for Operation {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Both sides have been coerced to one type.
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        if self.op != Operator::StringConcat {
            return Ok(DataType::Boolean);
        }
        let first = arg_types.first().cloned();
        first.ok_or_else(|| DataFusionError::Internal("|| of nothing".to_owned()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        let mut sides: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        for (value, name) in args.args.iter().zip(["left", "right"]) {
            match value {
                ColumnarValue::Scalar(value) => sides.push(Arc::new(Literal::new(value.clone()))),
                ColumnarValue::Array(values) => {
                    sides.push(Arc::new(Column::new(name, columns.len())));
                    fields.push(Field::new(name, values.data_type().clone(), true));
                    columns.push(Arc::clone(values));
                }
            }
        }
        let constant = columns.is_empty();
        let rows = if constant { 1 } else { args.number_rows };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let mut sides = sides.into_iter();
        let (Some(left), Some(right)) = (sides.next(), sides.next()) else {
            let name = self.name;
            return Err(DataFusionError::Internal(format!("{name} of one text")));
        };
        match BinaryExpr::new(left, self.op, right).evaluate(&batch)? {
            ColumnarValue::Array(array) if constant => {
                let value = ScalarValue::try_from_array(&array, 0)?;
                Ok(ColumnarValue::Scalar(value))
            }
            other => Ok(other),
        }
    }
}

const NAMES: &[(Operator, &str)] = &[
    (Operator::StringConcat, "||"),
    (Operator::RegexMatch, "~"),
    (Operator::RegexIMatch, "~*"),
    (Operator::RegexNotMatch, "!~"),
    (Operator::RegexNotIMatch, "!~*"),
    (Operator::LikeMatch, "LIKE"),
    (Operator::ILikeMatch, "ILIKE"),
    (Operator::NotLikeMatch, "NOT LIKE"),
    (Operator::NotILikeMatch, "NOT ILIKE"),
];
