//! How the columns of one file are stored: the narrowest form that loses nothing. Chosen from the
//! rows themselves, so that equal rows give equal files. Pure. It must never choose by anything but
//! the rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal32Array, Decimal64Array, Float64Array, Int32Array, Int64Array,
    PrimitiveArray, RecordBatch,
};
use arrow::datatypes::{
    ArrowPrimitiveType, ArrowTimestampType, DataType, Decimal32Type, Decimal64Type, Field,
    Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::format::cast::brought;
use crate::format::schema::{Column, ColumnRole, ColumnType, TableSchema};
use crate::parquet::decimal::{self, mantissa, power, scale_of};

/// How one column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In this unit; every time is a multiple of it.
    Time(TimeUnit),
    Tag,
    Int(Width),
    /// As it is.
    Float,
    /// Floats that are decimals with this many digits after the point.
    Decimal(u8, Width),
    Bool,
    Text,
}

/// How wide stored integers are. Narrow ones are packed in smaller blocks, which fit them closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Width {
    Narrow,
    Wide,
}

impl Width {
    /// The width for integers of this size; decimals of nine digits are narrow everywhere.
    fn of(largest: u64) -> Self {
        if largest < NARROW {
            Self::Narrow
        } else {
            Self::Wide
        }
    }

    fn precision(self) -> u8 {
        match self {
            Self::Narrow => 9,
            Self::Wide => 18,
        }
    }
}

/// How the columns of one file are stored; columns without a value are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Column of the schema and its form, ascending.
    pub(crate) columns: Vec<(usize, Form)>,
}

impl Layout {
    /// The layout for just these rows; `batch` has all columns of `schema`.
    pub(crate) fn of_rows(schema: &TableSchema, batch: &RecordBatch) -> Self {
        let present = |(at, column)| {
            let array: &ArrayRef = batch.column(at);
            let empty = at > 0 && array.null_count() == array.len();
            (!empty).then(|| (at, form_of(column, array)))
        };
        let columns = schema.columns.iter().enumerate().filter_map(present);
        Self {
            columns: columns.collect(),
        }
    }

    /// A layout that holds the rows of all of `inputs`.
    pub(crate) fn of_inputs(schema: &TableSchema, inputs: &[Self]) -> Self {
        let mut forms: Vec<Option<Form>> = vec![None; schema.columns.len()];
        for (at, form) in inputs.iter().flat_map(|input| &input.columns) {
            let Some(held) = forms.get_mut(*at) else {
                continue;
            };
            let column = &schema.columns[*at];
            let form = match (column.kind, form) {
                (ColumnType::Float, Form::Int(width)) => Form::Decimal(0, *width),
                // Whatever it was in that file.
                (ColumnType::Text, _) if column.role == ColumnRole::Tag => Form::Tag,
                (ColumnType::Text, _) => Form::Text,
                (_, form) => *form,
            };
            *held = Some(held.map_or(form, |held| join(held, form)));
        }
        let columns = forms.into_iter().enumerate();
        Self {
            columns: columns.filter_map(|(at, form)| Some((at, form?))).collect(),
        }
    }

    /// The layout of a file with this Arrow schema, as Parquet says it.
    pub(crate) fn of_file(schema: &TableSchema, arrow: &Schema) -> Self {
        let names: HashMap<&str, usize> = (0..schema.columns.len())
            .map(|at| (schema.stored_name(at), at))
            .collect();
        let mut columns: Vec<(usize, Form)> = arrow
            .fields()
            .iter()
            .filter_map(|field| {
                let at = *names.get(field.name().as_str())?;
                Some((at, stored_form(&schema.columns[at], field.data_type())?))
            })
            .collect();
        columns.sort_by_key(|(at, _)| *at);
        Self { columns }
    }

    /// The same, but with the next wider form for a column; `None` when there is none.
    pub(crate) fn widened(mut self, column: usize) -> Option<Self> {
        let (_, form) = self.columns.iter_mut().find(|(at, _)| *at == column)?;
        *form = match *form {
            Form::Int(Width::Narrow) => Form::Int(Width::Wide),
            Form::Decimal(scale, Width::Narrow) => Form::Decimal(scale, Width::Wide),
            Form::Decimal(_, Width::Wide) => Form::Float,
            _ => return None,
        };
        Some(self)
    }

    pub(crate) fn form(&self, column: usize) -> Option<Form> {
        let at = self
            .columns
            .binary_search_by_key(&column, |(at, _)| *at)
            .ok()?;
        Some(self.columns[at].1)
    }

    /// The Arrow schema that the file's bytes are written and read as.
    pub(crate) fn arrow(&self, schema: &TableSchema) -> SchemaRef {
        let field = |(at, form): &(usize, Form)| {
            let column = &schema.columns[*at];
            Field::new(
                schema.stored_name(*at),
                stored_type(*form),
                column.role != ColumnRole::Time,
            )
        };
        Arc::new(Schema::new(
            self.columns.iter().map(field).collect::<Vec<_>>(),
        ))
    }

    /// Rows in their stored form; `batch` has all columns of the schema. `Err` names the column
    /// that has a value which its form cannot hold.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, usize> {
        let store = |(at, form): &(usize, Form)| store(batch.column(*at), *form).ok_or(*at);
        self.columns.iter().map(store).collect()
    }

    /// How the file is written. Everything that shapes its bytes is set here.
    pub(crate) fn properties(&self, schema: &TableSchema) -> WriterProperties {
        let level = ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default();
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_dictionary_enabled(false)
            .set_sorting_columns(Some(self.sorting(schema)));
        for (at, form) in &self.columns {
            let path = ColumnPath::from(vec![schema.stored_name(*at).to_owned()]);
            properties = match form {
                Form::Time(_) | Form::Int(_) | Form::Decimal(..) => {
                    properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
                }
                Form::Float => properties.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT),
                Form::Bool => properties.set_column_encoding(path, Encoding::RLE),
                Form::Text => properties.set_column_dictionary_enabled(path, true),
                Form::Tag => properties
                    .set_column_dictionary_enabled(path.clone(), true)
                    .set_column_bloom_filter_enabled(path.clone(), true)
                    .set_column_bloom_filter_max_ndv(path, GROUP_ROWS as u64),
            };
        }
        properties.build()
    }

    fn sorting(&self, schema: &TableSchema) -> Vec<SortingColumn> {
        let by = sort_columns(schema);
        let place = |at: usize| self.columns.iter().position(|(held, _)| *held == at);
        by.into_iter()
            .filter_map(place)
            .map(|at| SortingColumn {
                column_idx: i32::try_from(at).unwrap_or(i32::MAX),
                descending: false,
                nulls_first: true,
            })
            .collect()
    }
}

/// What rows are sorted by: the columns that were made as tags, then the time.
pub(crate) fn sort_columns(schema: &TableSchema) -> Vec<usize> {
    let columns = schema.columns.iter().enumerate();
    let sorts = columns.filter(|(_, column)| column.sorts());
    sorts.map(|(at, _)| at).chain([0]).collect()
}

fn form_of(column: &Column, array: &ArrayRef) -> Form {
    match (column.role, column.kind) {
        (ColumnRole::Time, _) | (_, ColumnType::Time) => {
            let times = array.as_primitive::<TimestampNanosecondType>();
            Form::Time(unit_of(times.values()))
        }
        (ColumnRole::Tag, _) => Form::Tag,
        (_, ColumnType::Int | ColumnType::BigInt | ColumnType::OldInt) => {
            let ints = array.as_primitive::<Int64Type>().iter().flatten();
            Form::Int(Width::of(ints.map(i64::unsigned_abs).max().unwrap_or(0)))
        }
        (_, ColumnType::Float) => decimal_form(array.as_primitive()),
        (_, ColumnType::Bool) => Form::Bool,
        (_, ColumnType::Text) => Form::Text,
    }
}

fn decimal_form(floats: &Float64Array) -> Form {
    let Some(scale) = scale_of(floats.iter().flatten(), 0) else {
        return Form::Float;
    };
    let mantissas = floats
        .iter()
        .flatten()
        .filter_map(|value| mantissa(value, scale));
    let largest = mantissas.map(i64::unsigned_abs).max().unwrap_or(0);
    Form::Decimal(scale, Width::of(largest))
}

/// The coarsest unit that loses nothing of these times.
fn unit_of(times: &[i64]) -> TimeUnit {
    let whole = |nanos: i64| times.iter().all(|time| time % nanos == 0);
    if whole(nanos(TimeUnit::Millisecond)) {
        TimeUnit::Millisecond
    } else if whole(nanos(TimeUnit::Microsecond)) {
        TimeUnit::Microsecond
    } else {
        TimeUnit::Nanosecond
    }
}

/// Nanoseconds of one unit.
pub(crate) fn nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// A form that holds what both hold.
fn join(a: Form, b: Form) -> Form {
    match (a, b) {
        (Form::Time(a), Form::Time(b)) if nanos(a) < nanos(b) => Form::Time(a),
        (Form::Time(_), Form::Time(b)) => Form::Time(b),
        (Form::Int(a), Form::Int(b)) => Form::Int(a.max(b)),
        (Form::Decimal(a, v), Form::Decimal(b, w)) => Form::Decimal(a.max(b), v.max(w)),
        (Form::Decimal(..) | Form::Float, Form::Decimal(..) | Form::Float) => Form::Float,
        (a, _) => a,
    }
}

fn stored_type(form: Form) -> DataType {
    match form {
        Form::Time(unit) => DataType::Timestamp(unit, Some(UTC.into())),
        Form::Tag => DataType::Utf8View,
        Form::Int(Width::Narrow) => DataType::Int32,
        Form::Int(Width::Wide) => DataType::Int64,
        Form::Float => DataType::Float64,
        Form::Decimal(scale, width @ Width::Narrow) => {
            DataType::Decimal32(width.precision(), scale.cast_signed())
        }
        Form::Decimal(scale, width @ Width::Wide) => {
            DataType::Decimal64(width.precision(), scale.cast_signed())
        }
        Form::Bool => DataType::Boolean,
        Form::Text => DataType::Utf8,
    }
}

/// The form of a stored column of this type; `None` when such a column is never written.
fn stored_form(column: &Column, kind: &DataType) -> Option<Form> {
    Some(match (column.role, kind) {
        (ColumnRole::Time, DataType::Timestamp(unit, _)) => Form::Time(*unit),
        (ColumnRole::Tag, DataType::Utf8) => Form::Tag,
        (_, DataType::Int32) => Form::Int(Width::Narrow),
        (_, DataType::Int64) => Form::Int(Width::Wide),
        (_, DataType::Float64) => Form::Float,
        // As the reader sees any decimal at first.
        (_, DataType::Decimal128(precision, scale)) => {
            let narrow = *precision <= Width::Narrow.precision();
            let width = if narrow { Width::Narrow } else { Width::Wide };
            Form::Decimal(scale.cast_unsigned(), width)
        }
        (_, DataType::Boolean) => Form::Bool,
        (_, DataType::Utf8) => Form::Text,
        _ => return None,
    })
}

/// An array as `form` stores it; `None` when a value does not fit.
fn store(array: &ArrayRef, form: Form) -> Option<ArrayRef> {
    Some(match form {
        Form::Time(TimeUnit::Millisecond) => coarsen::<TimestampMillisecondType>(array)?,
        Form::Time(TimeUnit::Microsecond) => coarsen::<TimestampMicrosecondType>(array)?,
        Form::Time(_) => coarsen::<TimestampNanosecondType>(array)?,
        Form::Decimal(scale, width) => store_decimals(array.as_primitive(), scale, width)?,
        Form::Int(Width::Narrow) => {
            let ints = array.as_primitive::<Int64Type>();
            let narrow: Option<Vec<i32>> = masked(ints)
                .map(|value| i32::try_from(value).ok())
                .collect();
            Arc::new(Int32Array::new(narrow?.into(), ints.nulls().cloned()))
        }
        Form::Int(Width::Wide) | Form::Tag | Form::Float | Form::Bool | Form::Text => {
            Arc::clone(array)
        }
    })
}

/// Values, with the neutral one where there is none.
fn masked<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> impl Iterator<Item = T::Native> {
    array.iter().map(Option::unwrap_or_default)
}

fn store_decimals(floats: &Float64Array, scale: u8, width: Width) -> Option<ArrayRef> {
    let mantissas: Option<Vec<i64>> = masked(floats).map(|value| mantissa(value, scale)).collect();
    let (mantissas, nulls) = (mantissas?, floats.nulls().cloned());
    let (precision, scale) = (width.precision(), scale.cast_signed());
    Some(match width {
        Width::Wide => {
            let decimals = Decimal64Array::new(mantissas.into(), nulls);
            Arc::new(decimals.with_precision_and_scale(precision, scale).ok()?)
        }
        Width::Narrow => {
            let narrow = |value: i64| {
                i32::try_from(value)
                    .ok()
                    .filter(|_| value.unsigned_abs() < NARROW)
            };
            let narrow: Option<Vec<i32>> = mantissas.into_iter().map(narrow).collect();
            let decimals = Decimal32Array::new(narrow?.into(), nulls);
            Arc::new(decimals.with_precision_and_scale(precision, scale).ok()?)
        }
    })
}

fn coarsen<T: ArrowTimestampType>(array: &ArrayRef) -> Option<ArrayRef> {
    let times = array.as_primitive::<TimestampNanosecondType>();
    let unit = nanos(T::UNIT);
    if times.values().iter().any(|time| time % unit != 0) {
        return None;
    }
    let stored: Vec<i64> = times.values().iter().map(|time| time / unit).collect();
    let stored = PrimitiveArray::<T>::new(stored.into(), None).with_timezone(UTC);
    Some(Arc::new(stored))
}

/// A stored array as queries see the column.
pub(crate) fn restore(array: &ArrayRef, form: Form, column: &Column) -> ArrayRef {
    let array: ArrayRef = match form {
        Form::Time(TimeUnit::Millisecond) => refine::<TimestampMillisecondType>(array),
        Form::Time(TimeUnit::Microsecond) => refine::<TimestampMicrosecondType>(array),
        Form::Time(_) => refine::<TimestampNanosecondType>(array),
        Form::Decimal(scale, width) => {
            let power = power(scale);
            let floats: Float64Array = match width {
                Width::Narrow => array
                    .as_primitive::<Decimal32Type>()
                    .unary(|mantissa| decimal::value(i64::from(mantissa), power)),
                Width::Wide => array
                    .as_primitive::<Decimal64Type>()
                    .unary(|mantissa| decimal::value(mantissa, power)),
            };
            Arc::new(floats)
        }
        Form::Int(Width::Narrow) => {
            let ints: Int64Array = array.as_primitive::<Int32Type>().unary(i64::from);
            Arc::new(ints)
        }
        Form::Tag | Form::Int(Width::Wide) | Form::Float | Form::Bool | Form::Text => {
            Arc::clone(array)
        }
    };
    brought(&array, column)
}

fn refine<T: ArrowTimestampType>(array: &ArrayRef) -> ArrayRef {
    let unit = nanos(T::UNIT);
    let times: PrimitiveArray<TimestampNanosecondType> = array
        .as_primitive::<T>()
        .unary(|time| time.wrapping_mul(unit));
    Arc::new(times.with_timezone("+00:00"))
}

/// Rows of one row group at most.
pub(crate) const GROUP_ROWS: usize = 131_072;
/// Rows of one page at most: the grain of pruning inside a row group.
const PAGE_ROWS: usize = 8_192;
/// Integers below this, of either sign, are stored in 32 bits.
const NARROW: u64 = 1_000_000_000;
const ZSTD_LEVEL: i32 = 3;
/// Changes only when the bytes of files do.
const CREATED_BY: &str = "headwater files 1";
const UTC: &str = "UTC";
