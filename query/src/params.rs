//! Values for the placeholders of a statement. Owns their way from JSON; must never paste a value
//! into SQL text.

use std::collections::HashMap;

use datafusion::common::{ParamValues, ScalarValue};
use serde_json::Value;

use crate::error::QueryError;

/// Values for `$1`, `$2` … or for `$name`.
#[derive(Debug, Clone, Default)]
pub struct Params {
    values: Option<ParamValues>,
    /// Bytes of the longest text among them.
    longest: usize,
}

impl Params {
    /// No values.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// An array gives `$1`, `$2` …; an object gives `$name`; null gives none.
    ///
    /// # Errors
    /// When a value is itself an array or an object, or all of it is a bare value.
    pub fn from_json(value: &Value) -> Result<Self, QueryError> {
        match value {
            Value::Null => Ok(Self::none()),
            Value::Array(items) => {
                let scalars = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| scalar(&format!("${}", index + 1), item))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Self {
                    values: Some(ParamValues::from(scalars)),
                    longest: items.iter().map(length).max().unwrap_or(0),
                })
            }
            Value::Object(fields) => {
                let scalars = fields
                    .iter()
                    .map(|(name, item)| Ok((name.clone(), scalar(&format!("${name}"), item)?)))
                    .collect::<Result<HashMap<String, ScalarValue>, QueryError>>()?;
                Ok(Self {
                    values: Some(ParamValues::from(scalars)),
                    longest: fields.values().map(length).max().unwrap_or(0),
                })
            }
            _ => Err(QueryError::Parameter(
                "params must be a JSON object ($name) or a JSON array ($1, $2 ...)".to_owned(),
            )),
        }
    }

    /// None where there are none.
    #[must_use]
    pub fn values(&self) -> Option<&ParamValues> {
        self.values.as_ref()
    }

    /// Bytes of the longest text among them.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }
}

fn length(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

fn scalar(name: &str, value: &Value) -> Result<ScalarValue, QueryError> {
    match value {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(flag) => Ok(ScalarValue::Boolean(Some(*flag))),
        Value::String(text) => Ok(ScalarValue::Utf8(Some(text.clone()))),
        Value::Number(number) => number
            .as_i64()
            .map(|integer| ScalarValue::Int64(Some(integer)))
            .or_else(|| {
                number
                    .as_u64()
                    .map(|integer| ScalarValue::UInt64(Some(integer)))
            })
            .or_else(|| {
                number
                    .as_f64()
                    .map(|float| ScalarValue::Float64(Some(float)))
            })
            .ok_or_else(|| {
                QueryError::Parameter(format!("params: {name} is not a number we know"))
            }),
        Value::Array(_) | Value::Object(_) => Err(QueryError::Parameter(format!(
            "params: {name} must be a number, a string, a boolean or null"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn first(params: &Params, id: &str) -> ScalarValue {
        let values = params.values().expect("some values");
        values
            .get_placeholders_with_values(id)
            .expect("the value")
            .into_inner()
            .0
    }

    #[test]
    fn arrays_are_positional_and_objects_are_named() {
        let params = Params::from_json(&json!([1, 2.5, "x", true, null])).expect("an array");
        assert_eq!(first(&params, "$1"), ScalarValue::Int64(Some(1)));
        assert_eq!(first(&params, "$2"), ScalarValue::Float64(Some(2.5)));
        assert_eq!(
            first(&params, "$3"),
            ScalarValue::Utf8(Some("x".to_owned()))
        );
        assert_eq!(first(&params, "$4"), ScalarValue::Boolean(Some(true)));
        assert_eq!(first(&params, "$5"), ScalarValue::Null);
        let params = Params::from_json(&json!({"site": "a"})).expect("an object");
        assert_eq!(
            first(&params, "$site"),
            ScalarValue::Utf8(Some("a".to_owned()))
        );
    }

    #[test]
    fn nested_values_and_bare_scalars_are_refused() {
        assert!(Params::from_json(&json!([[1]])).is_err());
        assert!(Params::from_json(&json!({"a": {"b": 1}})).is_err());
        assert!(Params::from_json(&json!(7)).is_err());
        assert!(
            Params::from_json(&json!(null))
                .expect("null")
                .values()
                .is_none()
        );
    }
}
