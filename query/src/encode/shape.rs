//! The shape in which the rows of one answer leave: unique column names, times in one zone, texts
//! in a layout every Arrow reader knows. Must never change a value.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::format::Format;
use crate::at_zone::Zoneless;
use crate::names::unlike;

/// The shape in which the rows of one result leave.
#[derive(Debug)]
pub(crate) struct Shape {
    schema: SchemaRef,
}

impl Shape {
    /// Times are those of `zone`; those without one are what `zoneless` says.
    pub(crate) fn new(schema: &Schema, format: Format, zone: &str, zoneless: Zoneless) -> Self {
        let mut taken = HashSet::new();
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|field| {
                let name = unlike(field.name(), &mut taken);
                // Nullable, since planners are not strict about nulls in what they compute.
                let left = outgoing(field.data_type(), format, zone, zoneless);
                Field::new(name, left, true)
            })
            .collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
        }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| convert(column, field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

fn convert(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == wanted {
        Ok(Arc::clone(column))
    } else {
        cast(column, wanted)
    }
}

fn outgoing(data_type: &DataType, format: Format, zone: &str, zoneless: Zoneless) -> DataType {
    match data_type {
        DataType::Timestamp(unit, None) if zoneless == Zoneless::Utc => {
            DataType::Timestamp(*unit, Some(UTC.into()))
        }
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some(zone.into())),
        DataType::Utf8View if format.is_typed() => DataType::Utf8,
        DataType::BinaryView if format.is_typed() => DataType::Binary,
        other => other.clone(),
    }
}

/// The zone of times unless another is asked for.
pub(crate) const UTC: &str = "+00:00";

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn columns_are_unique_and_times_have_a_zone() {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
            Field::new("a", DataType::Utf8View, true),
            Field::new("a_2", DataType::Int64, true),
        ]);
        let shape = Shape::new(&schema, Format::Arrow, UTC, Zoneless::Utc);
        let names: Vec<&str> = shape
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect();
        assert_eq!(names, ["a", "a_2", "a_2_2"]);
        let types: Vec<&DataType> = shape
            .schema()
            .fields()
            .iter()
            .map(|f| f.data_type())
            .collect();
        let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()));
        assert_eq!(types, [&zoned, &DataType::Utf8, &DataType::Int64]);
        let shape = Shape::new(&schema, Format::Json, UTC, Zoneless::Local);
        assert_eq!(shape.schema().field(1).data_type(), &DataType::Utf8View);
        let hands = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert_eq!(shape.schema().field(0).data_type(), &hands);
    }
}
