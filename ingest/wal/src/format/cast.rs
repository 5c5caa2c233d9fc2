//! Values of an earlier version of a column as the column is now: integers as floats, and anything as
//! text. Integers are written in decimal, booleans as `true` and `false`, floats as JSON answers
//! write them, which is the shortest text that is the same float again. Pure. It must never give one
//! value two texts, whatever way it comes.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, StringArray, StringBuilder, StringViewBuilder,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use arrow::json::writer::{EncoderOptions, make_encoder};

use crate::format::number::{int_to_float, is_exact, stored, whole};
use crate::format::row::Value;
use crate::format::schema::{Column, ColumnType};

/// An array of an earlier version of a column, as the column is now. What no version can have been
/// stays what it is.
pub(crate) fn brought(array: &ArrayRef, column: &Column) -> ArrayRef {
    let wanted = column.arrow_type();
    if *array.data_type() == wanted {
        return Arc::clone(array);
    }
    match wanted {
        DataType::Float64 => widen_array(array),
        DataType::Utf8 => match texts(array, column.was) {
            Some(texts) => Arc::new(texts),
            None => Arc::clone(array),
        },
        DataType::Utf8View => match texts(array, column.was) {
            Some(texts) => {
                let mut views = StringViewBuilder::new().with_deduplicate_strings();
                texts.iter().for_each(|text| views.append_option(text));
                Arc::new(views.finish())
            }
            None => Arc::clone(array),
        },
        _ => Arc::clone(array),
    }
}

/// The text of a value in a column that was of type `was`: as it would be if it had come before.
pub(crate) fn text<'a>(value: &'a Value<'_>, was: ColumnType) -> Cow<'a, str> {
    let float = match (value, was) {
        (Value::Int(value), ColumnType::Float) if is_exact(*value) => int_to_float(*value),
        (Value::Float(value), ColumnType::Int) => match whole(*value) {
            Some(value) => return value.to_string().into(),
            None => *value,
        },
        (Value::Float(value), _) => stored(*value),
        (Value::Int(value), _) => return value.to_string().into(),
        (Value::Bool(value), _) => return value.to_string().into(),
        (Value::Text(value), _) => return Cow::Borrowed(value),
    };
    let texts = of_floats(&Float64Array::from(vec![float]));
    texts.value(0).to_owned().into()
}

fn put(texts: &mut StringBuilder, value: impl std::fmt::Display) {
    // Writing to memory cannot fail.
    let _ = write!(texts, "{value}");
    texts.append_value("");
}

/// An integer column as the floats it widened to.
fn widen_array(array: &ArrayRef) -> ArrayRef {
    match array.as_primitive_opt::<Int64Type>() {
        Some(ints) => Arc::new(ints.unary::<_, Float64Type>(int_to_float)),
        None => Arc::clone(array),
    }
}

/// The texts of an array; `None` where it is of no type that a column can have.
fn texts(array: &ArrayRef, was: Option<ColumnType>) -> Option<StringArray> {
    match array.data_type() {
        // Written before the column widened.
        DataType::Int64 if was == Some(ColumnType::Float) => texts(&widen_array(array), was),
        DataType::Int64 => Some(of_all(array.as_primitive::<Int64Type>().iter())),
        DataType::Float64 => Some(of_floats(array.as_primitive::<Float64Type>())),
        DataType::Boolean => Some(of_all(array.as_boolean().iter())),
        DataType::Utf8 => Some(array.as_string::<i32>().clone()),
        DataType::Utf8View => Some(of_all(array.as_string_view().iter())),
        _ => None,
    }
}

fn of_all<T: std::fmt::Display>(values: impl Iterator<Item = Option<T>>) -> StringArray {
    let mut texts = StringBuilder::new();
    for value in values {
        match value {
            Some(value) => put(&mut texts, value),
            None => texts.append_null(),
        }
    }
    texts.finish()
}

fn of_floats(floats: &Float64Array) -> StringArray {
    let field = Arc::new(Field::new("", DataType::Float64, true));
    let options = EncoderOptions::default();
    let mut encoder = make_encoder(&field, floats, &options).ok();
    let mut texts = StringBuilder::new();
    let mut bytes = Vec::new();
    for (row, value) in floats.iter().enumerate() {
        let Some(value) = value else {
            texts.append_null();
            continue;
        };
        bytes.clear();
        match &mut encoder {
            Some(encoder) if value.is_finite() => encoder.encode(row, &mut bytes),
            _ if value.is_nan() => bytes.extend_from_slice(b"NaN"),
            _ if value == f64::INFINITY => bytes.extend_from_slice(b"Infinity"),
            _ if value == f64::NEG_INFINITY => bytes.extend_from_slice(b"-Infinity"),
            _ => bytes.extend_from_slice(format!("{value:?}").as_bytes()),
        }
        texts.append_value(String::from_utf8_lossy(&bytes));
    }
    texts.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::schema::ColumnRole;
    use arrow::array::{BooleanArray, Int64Array};

    fn text_column(was: ColumnType) -> Column {
        Column::new("c", ColumnRole::Field, was).as_text()
    }

    fn one(value: &Value<'_>, was: ColumnType) -> String {
        text(value, was).into_owned()
    }

    #[test]
    fn every_float_is_the_text_that_is_the_same_float_again() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let floats = (0..20_000).map(|_| f64::from_bits(random.u64(..)));
        let known = [
            0.0,
            5.0,
            -1.5,
            0.1,
            1e9,
            1e16,
            1e300,
            5e-324,
            1e-7,
            f64::MAX,
        ];
        let floats: Vec<f64> = floats
            .chain(known)
            .filter(|value| value.is_finite())
            .collect();
        let array: ArrayRef = Arc::new(Float64Array::from(floats.clone()));
        let array = brought(&array, &text_column(ColumnType::Float));
        for (text, value) in array.as_string::<i32>().iter().zip(&floats) {
            let text = text.expect("a value");
            let parsed: f64 = text.parse().expect("a number");
            assert_eq!(parsed.to_bits(), value.to_bits(), "{text}");
            // As a single value is written.
            assert_eq!(
                one(&Value::Float(*value), ColumnType::Float),
                *text,
                "{value}"
            );
        }
    }

    #[test]
    fn a_value_has_one_text_whether_it_came_before_the_change_or_after() {
        let int = |value| Arc::new(Int64Array::from(vec![Some(value), None])) as ArrayRef;
        let float = |value| Arc::new(Float64Array::from(vec![Some(value), None])) as ArrayRef;
        let flag = |value| Arc::new(BooleanArray::from(vec![Some(value), None])) as ArrayRef;
        for (array, value, was, expected) in [
            (int(7), Value::Int(7), ColumnType::Int, "7"),
            (
                int(i64::MIN),
                Value::Int(i64::MIN),
                ColumnType::Int,
                "-9223372036854775808",
            ),
            // Stored as the integer that it is.
            (int(7), Value::Float(7.0), ColumnType::Int, "7"),
            // Before the column widened, and after.
            (int(7), Value::Int(7), ColumnType::Float, "7.0"),
            (float(7.0), Value::Float(7.0), ColumnType::Float, "7.0"),
            (float(0.0), Value::Float(-0.0), ColumnType::Float, "0.0"),
            (
                float(21.37),
                Value::Float(21.37),
                ColumnType::Float,
                "21.37",
            ),
            (flag(true), Value::Bool(true), ColumnType::Bool, "true"),
            (flag(false), Value::Bool(false), ColumnType::Bool, "false"),
        ] {
            let found = brought(&array, &text_column(was));
            let found: Vec<Option<&str>> = found.as_string::<i32>().iter().collect();
            assert_eq!(found, [Some(expected), None], "{value:?}");
            assert_eq!(one(&value, was), expected, "{value:?}");
        }
        // What could not come before.
        for (value, was, expected) in [
            (Value::Text("on".into()), ColumnType::Bool, "on"),
            (Value::Bool(true), ColumnType::Text, "true"),
            (Value::Float(0.5), ColumnType::Int, "0.5"),
            (
                Value::Int(i64::MAX),
                ColumnType::Float,
                "9223372036854775807",
            ),
        ] {
            assert_eq!(one(&value, was), expected, "{value:?}");
        }
    }
}
