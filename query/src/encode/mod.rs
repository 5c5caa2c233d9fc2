//! Rows to bytes, piece by piece. Owns one writer per format; must never hold a whole result,
//! except the bounded table for people.

mod columns;
mod compress;
mod csv;
pub(crate) mod format;
mod growth;
mod numbers;
mod pretty;
mod shape;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{JsonArray, LineDelimited, Writer as JsonWriter, WriterBuilder};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::at_zone::Zoneless;
use crate::coding::Coding;
use crate::error::QueryError;
use crate::pump::Sink;
use columns::ColumnsWriter;
use compress::Compressor;
use format::{Format, Output};
use numbers::Numbers;
use pretty::Table;
use shape::{Shape, UTC};

/// Encodes one result.
pub(crate) struct Encoder {
    output: Output,
    /// Of the times that it writes.
    zone: Arc<str>,
    compressor: Compressor,
    open: Option<Open>,
}

struct Open {
    shape: Shape,
    writer: Writer,
}

enum Writer {
    Json(JsonWriter<Vec<u8>, JsonArray>),
    JsonLines(JsonWriter<Vec<u8>, LineDelimited>),
    Csv { header: Vec<u8> },
    Columns(ColumnsWriter),
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
    Pretty(Table),
}

impl Encoder {
    /// `zone` is the statement's.
    pub(crate) fn new(output: Output, zone: Option<&str>) -> Self {
        let coding = output.coding.filter(|_| !output.format.is_compressed());
        let zone = zone.filter(|_| output.local_times).unwrap_or(UTC);
        Self {
            output,
            zone: zone.into(),
            compressor: Compressor::new(coding),
            open: None,
        }
    }

    fn open(&mut self) -> Result<&mut Open, QueryError> {
        self.open
            .as_mut()
            .ok_or_else(|| QueryError::Internal("rows before their schema".to_owned()))
    }
}

impl Sink for Encoder {
    type Item = Bytes;

    fn start(&mut self, schema: &SchemaRef, zoneless: Zoneless) -> Result<(), QueryError> {
        let shape = Shape::new(schema, self.output.format, &self.zone, zoneless);
        let writer = Writer::new(self.output, shape.schema())?;
        self.open = Some(Open { shape, writer });
        Ok(())
    }

    fn needs(&self, schema: &SchemaRef) -> usize {
        match self.output.format {
            Format::Parquet => schema.fields().len().saturating_mul(PARQUET_COLUMN_BYTES),
            _ => 0,
        }
    }

    fn writing(&self, rows: &RecordBatch) -> usize {
        let before = match &self.open {
            Some(Open {
                writer: Writer::Pretty(table),
                ..
            }) => table.bytes(),
            _ => 0,
        };
        growth::writing(rows, self.output.format, before)
    }

    fn push(&mut self, batch: RecordBatch) -> Result<Option<Bytes>, QueryError> {
        let open = self.open()?;
        let batch = open
            .shape
            .apply(&batch)
            .map_err(|e| QueryError::from_arrow(&e))?;
        let bytes = open.writer.write(&batch)?;
        self.compressor.push(bytes).map(piece)
    }

    fn finish(&mut self) -> Result<Option<Bytes>, QueryError> {
        let open = self.open()?;
        let schema = SchemaRef::clone(open.shape.schema());
        let bytes = open.writer.finish(&schema)?;
        self.compressor.finish(bytes).map(piece)
    }

    fn bytes(item: &Bytes) -> usize {
        item.len()
    }

    fn coding(&self) -> Option<Coding> {
        self.compressor.coding()
    }

    fn is_full(&self) -> bool {
        match &self.open {
            Some(Open {
                writer: Writer::Pretty(table),
                ..
            }) => table.is_full(),
            _ => false,
        }
    }
}

impl Writer {
    fn new(output: Output, schema: &SchemaRef) -> Result<Self, QueryError> {
        let format = output.format;
        let numbers = Numbers {
            big_as_text: output.big_integers_as_text,
            special_as_text: format == Format::JsonColumns,
        };
        let json = || {
            let builder = WriterBuilder::new().with_explicit_nulls(true);
            match numbers.factory() {
                Some(factory) => builder.with_encoder_factory(factory),
                None => builder,
            }
        };
        Ok(match format {
            Format::Json => Self::Json(json().build(Vec::new())),
            Format::JsonLines => Self::JsonLines(json().build(Vec::new())),
            Format::JsonColumns => Self::Columns(ColumnsWriter::new(numbers)),
            Format::Csv => Self::Csv {
                header: csv::header(schema)?,
            },
            Format::Arrow => {
                let writer = StreamWriter::try_new(Vec::new(), schema)
                    .map_err(|e| QueryError::from_arrow(&e))?;
                Self::Arrow(Box::new(writer))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(Default::default()))
                    .set_max_row_group_row_count(Some(PARQUET_GROUP_ROWS))
                    .build();
                let writer =
                    ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties))
                        .map_err(|e| from_parquet(&e))?;
                Self::Parquet(Box::new(writer))
            }
            Format::Pretty => Self::Pretty(Table::new(schema)),
        })
    }

    /// Writes rows and gives the bytes that are ready.
    fn write(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let written: Result<Vec<u8>, ArrowError> = match self {
            Self::Json(writer) => writer
                .write(batch)
                .map(|()| std::mem::take(writer.get_mut())),
            Self::JsonLines(writer) => writer
                .write(batch)
                .map(|()| std::mem::take(writer.get_mut())),
            Self::Csv { header } => csv::lines(batch).map(|lines| {
                let mut bytes = std::mem::take(header);
                bytes.extend(lines);
                bytes
            }),
            Self::Columns(writer) => writer.rows(batch),
            Self::Arrow(writer) => writer
                .write(batch)
                .map(|()| std::mem::take(writer.get_mut())),
            Self::Parquet(writer) => {
                writer.write(batch).map_err(|e| from_parquet(&e))?;
                if writer.in_progress_size() > PARQUET_GROUP_BYTES {
                    writer.flush().map_err(|e| from_parquet(&e))?;
                }
                Ok(std::mem::take(writer.inner_mut()))
            }
            Self::Pretty(table) => {
                table.push(batch);
                Ok(Vec::new())
            }
        };
        written.map_err(|e| QueryError::from_arrow(&e))
    }

    /// Ends the result and gives its last bytes.
    fn finish(&mut self, schema: &SchemaRef) -> Result<Vec<u8>, QueryError> {
        let written: Result<Vec<u8>, ArrowError> = match self {
            Self::Json(writer) => writer.finish().map(|()| {
                let mut bytes = std::mem::take(writer.get_mut());
                bytes.push(b'\n');
                bytes
            }),
            Self::JsonLines(_) => Ok(Vec::new()),
            Self::Csv { header } => Ok(std::mem::take(header)),
            Self::Columns(writer) => Ok(writer.finish(schema)),
            Self::Arrow(writer) => writer.finish().map(|()| std::mem::take(writer.get_mut())),
            Self::Parquet(writer) => {
                writer.finish().map_err(|e| from_parquet(&e))?;
                Ok(std::mem::take(writer.inner_mut()))
            }
            Self::Pretty(table) => table.draw(),
        };
        written.map_err(|e| QueryError::from_arrow(&e))
    }
}

fn piece(bytes: Vec<u8>) -> Option<Bytes> {
    (!bytes.is_empty()).then(|| Bytes::from(bytes))
}

fn from_parquet(error: &ParquetError) -> QueryError {
    QueryError::Execution(error.to_string())
}

/// What a writer of Parquet takes for each column before there is a row.
const PARQUET_COLUMN_BYTES: usize = 112 << 10;
/// Rows held before a Parquet row group is written out.
const PARQUET_GROUP_ROWS: usize = 131_072;
/// Bytes held before it is written out.
const PARQUET_GROUP_BYTES: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringViewArray, TimestampNanosecondArray};
    use arrow::datatypes::{DataType, Field, Schema};

    fn rows() -> RecordBatch {
        let time = TimestampNanosecondArray::from(vec![Some(0), Some(1_500_000_000)]);
        let value = Float64Array::from(vec![Some(f64::NAN), None]);
        let text = StringViewArray::from(vec![Some("a,\"b\""), None]);
        let time: ArrayRef = Arc::new(time.with_timezone("+00:00"));
        let columns: [(&str, ArrayRef); 3] = [
            ("time", time),
            ("v", Arc::new(value)),
            ("s", Arc::new(text)),
        ];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }

    fn encoder(format: Format) -> Encoder {
        let output = Output {
            format,
            ..Output::default()
        };
        Encoder::new(output, None)
    }

    fn encoded(format: Format, batches: &[RecordBatch], schema: &SchemaRef) -> Vec<u8> {
        let mut encoder = encoder(format);
        let mut bytes = Vec::new();
        encoder.start(schema, Zoneless::Utc).expect("a start");
        for batch in batches {
            bytes.extend(
                encoder
                    .push(batch.clone())
                    .expect("rows")
                    .unwrap_or_default(),
            );
        }
        bytes.extend(encoder.finish().expect("an end").unwrap_or_default());
        bytes
    }

    fn text(format: Format, batches: &[RecordBatch]) -> String {
        String::from_utf8(encoded(format, batches, &rows().schema())).expect("UTF-8")
    }

    #[test]
    fn json_has_nulls_and_utc_times_and_is_one_array_over_many_pieces() {
        let first = r#"{"time":"1970-01-01T00:00:00Z","v":null,"s":"a,\"b\""}"#;
        let second = r#"{"time":"1970-01-01T00:00:01.500Z","v":null,"s":null}"#;
        let both = format!("{first},{second}");
        assert_eq!(text(Format::Json, &[rows()]), format!("[{both}]\n"));
        assert_eq!(
            text(Format::Json, &[rows(), rows()]),
            format!("[{both},{both}]\n")
        );
        assert_eq!(text(Format::Json, &[]), "[]\n");
        assert_eq!(
            text(Format::JsonLines, &[rows()]),
            format!("{first}\n{second}\n")
        );
        assert_eq!(text(Format::JsonLines, &[]), "");
    }

    #[test]
    fn csv_has_one_header_even_without_rows() {
        let lines = "1970-01-01T00:00:00Z,NaN,\"a,\"\"b\"\"\"\n1970-01-01T00:00:01.500Z,,\n";
        assert_eq!(text(Format::Csv, &[rows()]), format!("time,v,s\n{lines}"));
        assert_eq!(
            text(Format::Csv, &[rows(), rows()]),
            format!("time,v,s\n{lines}{lines}")
        );
        assert_eq!(text(Format::Csv, &[]), "time,v,s\n");
    }

    #[test]
    fn arrow_streams_read_back() {
        let bytes = encoded(Format::Arrow, &[rows(), rows()], &rows().schema());
        let reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None);
        let batches: Vec<RecordBatch> = reader
            .expect("a stream")
            .map(|batch| batch.expect("a batch"))
            .collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
        assert_eq!(batches[0].column(2).data_type(), &DataType::Utf8);
    }

    #[test]
    fn parquet_files_are_whole() {
        let bytes = encoded(Format::Parquet, &[rows()], &rows().schema());
        assert_eq!(
            (&bytes[..4], &bytes[bytes.len() - 4..]),
            (&b"PAR1"[..], &b"PAR1"[..])
        );
    }

    #[test]
    fn tables_for_people_are_cut_and_say_so() {
        assert!(text(Format::Pretty, &[]).contains("| time | v | s |"));
        let mut encoder = encoder(Format::Pretty);
        encoder
            .start(&rows().schema(), Zoneless::Utc)
            .expect("a start");
        for _ in 0..=5_000 {
            encoder.push(rows()).expect("rows");
        }
        assert!(encoder.is_full());
        let bytes = encoder.finish().expect("an end").expect("some text");
        assert!(String::from_utf8_lossy(&bytes).contains("(the first 10000 rows"));
    }

    #[test]
    fn nested_columns_do_not_fit_csv() {
        let item = Arc::new(Field::new("item", DataType::Int64, true));
        let schema = Arc::new(Schema::new(vec![Field::new(
            "l",
            DataType::List(item),
            true,
        )]));
        let refused = encoder(Format::Csv).start(&schema, Zoneless::Utc);
        let refused = refused.expect_err("no lists in CSV");
        assert!(matches!(refused, QueryError::Execution(_)));
    }

    #[test]
    fn columns_are_named_and_typed_even_without_rows_and_special_numbers_told_apart() {
        let head = r#"{"names":["time","v","s"],"types":["timestamp with time zone","double precision","text"],"rows":["#;
        assert_eq!(text(Format::JsonColumns, &[]), format!("{head}]}}\n"));
        let rows_ =
            r#"["1970-01-01T00:00:00Z","NaN","a,\"b\""],["1970-01-01T00:00:01.500Z",null,null]"#;
        let twice = format!("{head}{rows_},{rows_}]}}\n");
        assert_eq!(text(Format::JsonColumns, &[rows(), rows()]), twice);
    }

    #[test]
    fn big_integers_are_texts_and_times_local_where_that_was_asked_for() {
        let zoned = TimestampNanosecondArray::from(vec![0, 0]).with_timezone("+00:00");
        let big = arrow::array::Int64Array::from(vec![(1 << 53) - 1, i64::MIN]);
        let floats = Float64Array::from(vec![f64::INFINITY, f64::NEG_INFINITY]);
        let columns: [(&str, ArrayRef); 3] = [
            ("time", Arc::new(zoned)),
            ("n", Arc::new(big)),
            ("f", Arc::new(floats)),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let output = Output {
            format: Format::JsonLines,
            coding: None,
            big_integers_as_text: true,
            local_times: true,
        };
        let mut encoder = Encoder::new(output, Some("Asia/Kolkata"));
        encoder
            .start(&batch.schema(), Zoneless::Local)
            .expect("a start");
        let bytes = encoder.push(batch).expect("rows").expect("bytes");
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "{\"time\":\"1970-01-01T05:30:00+05:30\",\"n\":9007199254740991,\"f\":null}\n\
             {\"time\":\"1970-01-01T05:30:00+05:30\",\"n\":\"-9223372036854775808\",\"f\":null}\n"
        );
    }
}
