//! The formats a result can take. Owns their names and media types, and the schema that leaves:
//! unique column names, times in UTC, strings in a layout every Arrow reader knows. Must never
//! change a value.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One array of objects.
    #[default]
    Json,
    /// One object per line.
    JsonLines,
    /// A header line, then one line per row.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
    /// A table for people, cut at a number of rows.
    Pretty,
}

impl Format {
    /// The format called `name` in a request.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS
            .iter()
            .find(|(known, _, _)| *known == name)
            .map(|(_, _, format)| *format)
    }

    /// Names that a request may use.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|(name, _, _)| *name)
    }

    /// The first format that an `Accept` header asks for by name.
    #[must_use]
    pub fn from_accept(accept: &str) -> Option<Self> {
        accept.split(',').find_map(|choice| {
            let media = choice
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase();
            let known = FORMATS.iter().find(|(_, known, _)| *known == media);
            known
                .map(|(_, _, format)| *format)
                .or(match media.as_str() {
                    "application/x-ndjson" | "application/ndjson" => Some(Self::JsonLines),
                    _ => None,
                })
        })
    }

    /// Value of the `Content-Type` header.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Pretty => "text/plain; charset=utf-8",
        }
    }

    /// Whether readers other than people and JSON parsers take the Arrow types as they are.
    fn is_typed(self) -> bool {
        matches!(self, Self::Arrow | Self::Parquet)
    }
}

/// The shape in which the rows of one result leave.
#[derive(Debug)]
pub(crate) struct Shape {
    schema: SchemaRef,
}

impl Shape {
    pub(crate) fn new(schema: &Schema, format: Format) -> Self {
        let mut taken = HashSet::new();
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|field| {
                let name = unique(field.name(), &mut taken);
                // Nullable, since planners are not strict about nulls in what they compute.
                Field::new(name, outgoing(field.data_type(), format), true)
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

fn outgoing(data_type: &DataType, format: Format) -> DataType {
    match data_type {
        // The engine computes in UTC throughout, so a time without a zone is one in UTC.
        DataType::Timestamp(unit, None) => DataType::Timestamp(*unit, Some("+00:00".into())),
        DataType::Utf8View if format.is_typed() => DataType::Utf8,
        DataType::BinaryView if format.is_typed() => DataType::Binary,
        other => other.clone(),
    }
}

/// `name`, or `name_2`, `name_3` … where a join gives two columns the same name.
fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

/// Name, media type, format.
const FORMATS: &[(&str, &str, Format)] = &[
    ("json", "application/json", Format::Json),
    ("jsonl", "application/jsonl", Format::JsonLines),
    ("csv", "text/csv", Format::Csv),
    (
        "arrow",
        "application/vnd.apache.arrow.stream",
        Format::Arrow,
    ),
    ("parquet", "application/vnd.apache.parquet", Format::Parquet),
    ("pretty", "text/plain", Format::Pretty),
];

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn names_and_accept_headers() {
        assert_eq!(Format::from_name("jsonl"), Some(Format::JsonLines));
        assert_eq!(Format::from_name("xml"), None);
        assert_eq!(
            Format::from_accept("text/html, text/csv;q=0.9"),
            Some(Format::Csv)
        );
        assert_eq!(
            Format::from_accept("application/x-ndjson"),
            Some(Format::JsonLines)
        );
        assert_eq!(Format::from_accept("Application/JSON"), Some(Format::Json));
        assert_eq!(Format::from_accept("*/*"), None);
        assert_eq!(Format::names().count(), 6);
    }

    #[test]
    fn columns_are_unique_and_times_have_a_zone() {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
            Field::new("a", DataType::Utf8View, true),
            Field::new("a_2", DataType::Int64, true),
        ]);
        let shape = Shape::new(&schema, Format::Arrow);
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
        let shape = Shape::new(&schema, Format::Json);
        assert_eq!(shape.schema().field(1).data_type(), &DataType::Utf8View);
    }
}
