//! Numbers that JSON or its readers cannot hold. Owns how they are written where that was asked
//! for; must never change another value.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};

/// Which numbers become texts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    /// Integers beyond 2^53 - 1, which readers that know doubles only would round.
    pub(crate) big_as_text: bool,
    /// NaN and the infinities, which JSON has no numbers for: else they are null.
    pub(crate) special_as_text: bool,
}

impl EncoderFactory for Numbers {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Int64 if self.big_as_text => {
                Box::new(Integers::<Int64Type>(array.as_primitive()))
            }
            DataType::UInt64 if self.big_as_text => {
                Box::new(Integers::<UInt64Type>(array.as_primitive()))
            }
            DataType::Float64 if self.special_as_text => Box::new(Floats::<Float64Type> {
                array: array.as_primitive(),
                usual: make_encoder(field, array, &USUAL)?,
            }),
            DataType::Float32 if self.special_as_text => Box::new(Floats::<Float32Type> {
                array: array.as_primitive(),
                usual: make_encoder(field, array, &USUAL)?,
            }),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

impl Numbers {
    /// None where every number is written as usual.
    pub(crate) fn factory(self) -> Option<Arc<dyn EncoderFactory>> {
        (self.big_as_text || self.special_as_text).then(|| Arc::new(self) as _)
    }
}

struct Integers<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType> Encoder for Integers<'_, T>
where
    T::Native: Into<i128>,
{
    fn encode(&mut self, idx: usize, out: &mut Vec<u8>) {
        let value: i128 = self.0.value(idx).into();
        let quote = if value.unsigned_abs() > LARGEST_EXACT {
            "\""
        } else {
            ""
        };
        out.extend_from_slice(format!("{quote}{value}{quote}").as_bytes());
    }
}

struct Floats<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    usual: NullableEncoder<'a>,
}

impl<T: ArrowPrimitiveType> Encoder for Floats<'_, T>
where
    T::Native: Into<f64>,
{
    fn encode(&mut self, idx: usize, out: &mut Vec<u8>) {
        let value: f64 = self.array.value(idx).into();
        let special: &[u8] = if value.is_nan() {
            b"\"NaN\""
        } else if value == f64::INFINITY {
            b"\"Infinity\""
        } else if value == f64::NEG_INFINITY {
            b"\"-Infinity\""
        } else {
            return self.usual.encode(idx, out);
        };
        out.extend_from_slice(special);
    }
}

/// The largest integer that a double holds together with both of its neighbours.
const LARGEST_EXACT: u128 = (1 << 53) - 1;

static USUAL: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);
