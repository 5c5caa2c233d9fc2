//! `version()`: which program answers. Must never say that it is another.

use std::sync::LazyLock;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    signature: Signature,
}

impl Version {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::nullary(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Version {
    fn name(&self) -> &'static str {
        "version"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let text = ScalarValue::Utf8(Some(VERSION.clone()));
        Ok(ColumnarValue::Scalar(text))
    }
}

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let engine = datafusion::DATAFUSION_VERSION;
    let engine = engine.rsplit_once('.').map_or(engine, |(short, _)| short);
    format!(
        "Headwater {} (DataFusion {engine})",
        env!("CARGO_PKG_VERSION")
    )
});
