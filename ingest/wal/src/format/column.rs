//! Builds one column of one batch, row by row. A value that is not given is a null. It must never
//! round a value; a whole float becomes the integer that it is where the column holds integers.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Float64Array, Int64Array,
    NullBufferBuilder, StringBuilder, StringViewBuilder,
};

use crate::format::cast;
use crate::format::number::{int_to_float, stored, whole};
use crate::format::row::Value;
use crate::format::schema::{Column, ColumnRole, ColumnType};

/// Values of one column, appended in row order.
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    values: Values,
    /// Of text that takes any value, what it was.
    was: Option<ColumnType>,
    /// Rows that have a value or a null so far.
    rows: usize,
}

enum Values {
    Tag(Box<StringViewBuilder>),
    Int(Vec<i64>, NullBufferBuilder),
    Float(Vec<f64>, NullBufferBuilder),
    Bool(BooleanBufferBuilder, NullBufferBuilder),
    Text(StringBuilder),
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Values")
    }
}

impl ColumnBuilder {
    pub(crate) fn new(column: &Column) -> Self {
        let nulls = NullBufferBuilder::new(FIRST_ROWS);
        let values = match (column.role, column.kind) {
            (ColumnRole::Tag, _) => Values::Tag(Box::new(
                StringViewBuilder::new().with_deduplicate_strings(),
            )),
            (_, ColumnType::Int | ColumnType::BigInt | ColumnType::OldInt | ColumnType::Time) => {
                Values::Int(Vec::new(), nulls)
            }
            (_, ColumnType::Float) => Values::Float(Vec::new(), nulls),
            (_, ColumnType::Bool) => Values::Bool(BooleanBufferBuilder::new(FIRST_ROWS), nulls),
            (_, ColumnType::Text) => Values::Text(StringBuilder::new()),
        };
        Self {
            values,
            was: column.was,
            rows: 0,
        }
    }

    /// The same values as the text that `column` has become.
    pub(crate) fn into_text(self, column: &Column) -> Self {
        let rows = self.rows;
        let array = cast::brought(&self.finish(rows), column);
        let mut new = Self::new(column);
        match (
            &mut new.values,
            array.as_string_opt::<i32>(),
            array.as_string_view_opt(),
        ) {
            (Values::Text(values), Some(texts), _) => {
                texts.iter().for_each(|text| values.append_option(text));
                new.rows = rows;
            }
            (Values::Tag(values), _, Some(texts)) => {
                texts.iter().for_each(|text| values.append_option(text));
                new.rows = rows;
            }
            _ => {}
        }
        new.pad_to(rows);
        new
    }

    /// Adds nulls until the column has `rows` rows.
    pub(crate) fn pad_to(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.rows);
        if missing == 0 {
            return;
        }
        match &mut self.values {
            Values::Tag(values) => (0..missing).for_each(|_| values.append_null()),
            Values::Int(values, nulls) => {
                values.resize(rows, 0);
                nulls.append_n_nulls(missing);
            }
            Values::Float(values, nulls) => {
                values.resize(rows, 0.0);
                nulls.append_n_nulls(missing);
            }
            Values::Bool(values, nulls) => {
                values.append_n(missing, false);
                nulls.append_n_nulls(missing);
            }
            Values::Text(values) => (0..missing).for_each(|_| values.append_null()),
        }
        self.rows = rows;
    }

    /// Appends a text, to a column of tags or to a text field.
    pub(crate) fn push_tag(&mut self, value: &str) {
        match &mut self.values {
            Values::Tag(values) => values.append_value(value),
            Values::Text(values) => values.append_value(value),
            _ => return self.pad_to(self.rows + 1),
        }
        self.rows += 1;
    }

    /// Appends a value that the schema has been checked to hold.
    pub(crate) fn push(&mut self, value: &Value<'_>) {
        if let Some(was) = self.was {
            return self.push_tag(&cast::text(value, was));
        }
        match (&mut self.values, value) {
            (Values::Int(values, nulls), Value::Int(value)) => {
                values.push(*value);
                nulls.append_non_null();
            }
            (Values::Int(values, nulls), Value::Float(value)) if whole(*value).is_some() => {
                values.extend(whole(*value));
                nulls.append_non_null();
            }
            (Values::Float(values, nulls), Value::Float(value)) => {
                values.push(stored(*value));
                nulls.append_non_null();
            }
            (Values::Float(values, nulls), Value::Int(value)) => {
                values.push(int_to_float(*value));
                nulls.append_non_null();
            }
            (Values::Bool(values, nulls), Value::Bool(value)) => {
                values.append(*value);
                nulls.append_non_null();
            }
            (Values::Text(values), Value::Text(value)) => values.append_value(value),
            (Values::Tag(values), Value::Text(value)) => values.append_value(value),
            (Values::Tag(values), Value::Int(value)) => values.append_value(value.to_string()),
            (Values::Tag(values), Value::Float(value)) => {
                values.append_value(stored(*value).to_string());
            }
            (Values::Tag(values), Value::Bool(value)) => values.append_value(value.to_string()),
            _ => return self.pad_to(self.rows + 1),
        }
        self.rows += 1;
    }

    /// Widens an integer column to float.
    pub(crate) fn widen(&mut self) {
        if let Values::Int(values, nulls) = &mut self.values {
            let nulls = std::mem::replace(nulls, NullBufferBuilder::new(0));
            let floats = values.iter().map(|value| int_to_float(*value)).collect();
            self.values = Values::Float(floats, nulls);
        }
    }

    /// The finished column of `rows` rows.
    pub(crate) fn finish(mut self, rows: usize) -> ArrayRef {
        self.pad_to(rows);
        match self.values {
            Values::Tag(mut values) => Arc::new(values.finish()),
            Values::Int(values, mut nulls) => {
                Arc::new(Int64Array::new(values.into(), nulls.finish()))
            }
            Values::Float(values, mut nulls) => {
                Arc::new(Float64Array::new(values.into(), nulls.finish()))
            }
            Values::Bool(mut values, mut nulls) => {
                Arc::new(BooleanArray::new(values.finish(), nulls.finish()))
            }
            Values::Text(mut values) => Arc::new(values.finish()),
        }
    }
}

const FIRST_ROWS: usize = 16;
