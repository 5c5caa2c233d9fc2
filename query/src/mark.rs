//! A cast whose name tells its type, for two columns that would else share one. Must never change
//! the value.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::naming::MARK;

/// The function: a cast, and the type as it was written.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    signature: Signature,
}

impl Mark {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &'static str {
        MARK
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let texts: Vec<String> = args.iter().map(|a| a.schema_name().to_string()).collect();
        Ok(format!("CAST({})", texts.join(" AS ")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let first = arg_types.first().cloned();
        first.ok_or_else(|| DataFusionError::Plan(format!("{MARK} needs an argument")))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let first = args.arg_fields.first();
        let kind = first.map(|field| field.data_type().clone());
        let nullable = first.is_none_or(|field| field.is_nullable());
        let kind = kind.ok_or_else(|| DataFusionError::Plan(format!("{MARK} needs an argument")));
        Ok(Arc::new(Field::new(MARK, kind?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let first = args.args.into_iter().next();
        first.ok_or_else(|| DataFusionError::Execution(format!("{MARK} needs an argument")))
    }
}
