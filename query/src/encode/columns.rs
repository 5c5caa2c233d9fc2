//! JSON that says which columns there are, also where there are no rows: `names`, `types` and
//! `rows`. Must never write a value that the types do not tell how to read.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};
use serde_json::json;

use super::numbers::Numbers;
use crate::types;

/// Writes one answer.
#[derive(Debug)]
pub(crate) struct ColumnsWriter {
    options: EncoderOptions,
    begun: bool,
}

impl ColumnsWriter {
    pub(crate) fn new(numbers: Numbers) -> Self {
        let options = EncoderOptions::default().with_explicit_nulls(true);
        Self {
            options: match numbers.factory() {
                Some(factory) => options.with_encoder_factory(factory),
                None => options,
            },
            begun: false,
        }
    }

    pub(crate) fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let schema = batch.schema();
        let mut out = Vec::new();
        if !self.begun {
            out = head(&schema);
        }
        let columns = batch.columns().iter().zip(schema.fields());
        let mut columns = columns
            .map(|(column, field)| make_encoder(field, column.as_ref(), &self.options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(if self.begun { b",[" } else { b"[" });
            self.begun = true;
            for (at, column) in columns.iter_mut().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                if column.is_null(row) {
                    out.extend_from_slice(b"null");
                } else {
                    column.encode(row, &mut out);
                }
            }
            out.push(b']');
        }
        Ok(out)
    }

    pub(crate) fn finish(&self, schema: &Schema) -> Vec<u8> {
        let mut out = if self.begun { Vec::new() } else { head(schema) };
        out.extend_from_slice(b"]}\n");
        out
    }
}

fn head(schema: &Schema) -> Vec<u8> {
    let fields = schema.fields().iter();
    let names: Vec<&str> = fields.clone().map(|field| field.name().as_str()).collect();
    let types: Vec<String> = fields
        .map(|field| types::full_name(field.data_type()))
        .collect();
    format!(
        "{{\"names\":{},\"types\":{},\"rows\":[",
        json!(names),
        json!(types)
    )
    .into_bytes()
}
