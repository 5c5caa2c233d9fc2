//! The schema `information_schema`, as PostgreSQL says what there is. Owns its tables and their
//! columns; must never name a type or a setting of the engine.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result};

use crate::types;

/// What the catalog called `catalog` has, told about `schemas`.
#[derive(Debug)]
pub(crate) struct InformationSchema {
    catalog: &'static str,
    /// All but this one.
    schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
    /// Of functions, which the engine tells about itself.
    engine: InformationSchemaProvider,
}

impl InformationSchema {
    pub(crate) fn new(
        catalog: &'static str,
        schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
    ) -> Self {
        Self {
            catalog,
            schemas,
            engine: InformationSchemaProvider::new(Arc::new(Nothing)),
        }
    }

    /// Schema, name and kind of every table.
    fn tables(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut tables = Vec::new();
        for (schema, provider) in &self.schemas {
            let mut names = provider.table_names();
            names.sort_unstable();
            tables.extend(names.into_iter().map(|name| (*schema, name, "BASE TABLE")));
        }
        let own = TABLES.iter().map(|name| (*name).to_owned());
        tables.extend(own.map(|name| (INFORMATION_SCHEMA, name, "VIEW")));
        tables
    }

    async fn columns(&self) -> Result<RecordBatch> {
        let mut columns = Vec::new();
        for (schema, provider) in &self.schemas {
            let mut names = provider.table_names();
            names.sort_unstable();
            for name in names {
                if let Some(table) = provider.table(&name).await? {
                    let fields = table.schema().fields().clone();
                    columns.push((*schema, name, fields));
                }
            }
        }
        for name in TABLES.iter().filter(|name| **name != COLUMNS) {
            if let Some(table) = self.described(name).await? {
                let fields = table.schema().fields().clone();
                columns.push((INFORMATION_SCHEMA, (*name).to_owned(), fields));
            }
        }
        let own = column_batch(self.catalog, &[])?;
        let fields = own.schema().fields().clone();
        columns.push((INFORMATION_SCHEMA, COLUMNS.to_owned(), fields));
        let rows: Vec<ColumnRow<'_>> = columns
            .iter()
            .flat_map(|(schema, table, fields)| {
                fields.iter().enumerate().map(move |(at, field)| ColumnRow {
                    schema,
                    table,
                    ordinal: i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1),
                    field,
                })
            })
            .collect();
        column_batch(self.catalog, &rows)
    }

    /// Every table but that of the columns, which asks for these.
    async fn described(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let batch = match name {
            "schemata" => {
                let names: Vec<&str> = self.schemas.iter().map(|(name, _)| *name).collect();
                let names: Vec<&str> = names.into_iter().chain([INFORMATION_SCHEMA]).collect();
                batch([
                    ("catalog_name", same(self.catalog, names.len())),
                    ("schema_name", text(names.iter().map(|name| Some(*name)))),
                    ("schema_owner", same("headwater", names.len())),
                ])?
            }
            "tables" => {
                let tables = self.tables();
                batch([
                    ("table_catalog", same(self.catalog, tables.len())),
                    (
                        "table_schema",
                        text(tables.iter().map(|table| Some(table.0))),
                    ),
                    (
                        "table_name",
                        text(tables.iter().map(|table| Some(table.1.as_str()))),
                    ),
                    ("table_type", text(tables.iter().map(|table| Some(table.2)))),
                ])?
            }
            // There are none.
            "views" => batch([
                ("table_catalog", same("", 0)),
                ("table_schema", same("", 0)),
                ("table_name", same("", 0)),
                ("view_definition", same("", 0)),
            ])?,
            "routines" | "parameters" => return self.engine.table(name).await,
            _ => return Ok(None),
        };
        filled(batch).map(Some)
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        TABLES.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let name = name.to_ascii_lowercase();
        if name == COLUMNS {
            return filled(self.columns().await?).map(Some);
        }
        self.described(&name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name.to_ascii_lowercase().as_str())
    }
}

/// For the engine, which is asked about functions only.
#[derive(Debug)]
struct Nothing;

impl CatalogProviderList for Nothing {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn catalog(&self, _name: &str) -> Option<Arc<dyn CatalogProvider>> {
        None
    }
}

struct ColumnRow<'a> {
    schema: &'a str,
    table: &'a str,
    ordinal: i64,
    field: &'a FieldRef,
}

fn column_batch(catalog: &str, rows: &[ColumnRow<'_>]) -> Result<RecordBatch> {
    let kinds = || rows.iter().map(|row| row.field.data_type());
    let short: Vec<String> = kinds().map(types::short_name).collect();
    let nothing = || number(rows.iter().map(|_| None));
    let nullable = |row: &ColumnRow<'_>| if row.field.is_nullable() { "YES" } else { "NO" };
    batch([
        ("table_catalog", same(catalog, rows.len())),
        (
            "table_schema",
            text(rows.iter().map(|row| Some(row.schema))),
        ),
        ("table_name", text(rows.iter().map(|row| Some(row.table)))),
        (
            "column_name",
            text(rows.iter().map(|row| Some(row.field.name().as_str()))),
        ),
        (
            "ordinal_position",
            number(rows.iter().map(|row| Some(row.ordinal))),
        ),
        ("column_default", text(rows.iter().map(|_| None))),
        (
            "is_nullable",
            text(rows.iter().map(|row| Some(nullable(row)))),
        ),
        (
            "data_type",
            text(kinds().map(|data_type| Some(types::standard_name(data_type)))),
        ),
        ("character_maximum_length", nothing()),
        ("character_octet_length", nothing()),
        (
            "numeric_precision",
            number(kinds().map(|data_type| digits(data_type).0)),
        ),
        (
            "numeric_precision_radix",
            number(kinds().map(|data_type| digits(data_type).1)),
        ),
        (
            "numeric_scale",
            number(kinds().map(|data_type| digits(data_type).2)),
        ),
        ("datetime_precision", number(kinds().map(fraction))),
        ("interval_type", text(rows.iter().map(|_| None))),
        ("udt_catalog", same(catalog, rows.len())),
        ("udt_schema", same("pg_catalog", rows.len())),
        (
            "udt_name",
            text(short.iter().map(|name| Some(name.as_str()))),
        ),
    ])
}

/// Precision, its radix and the scale of a number.
fn digits(data_type: &DataType) -> (Option<i64>, Option<i64>, Option<i64>) {
    let integer = |bits| (Some(bits), Some(2), Some(0));
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            (Some((*precision).into()), Some(10), Some((*scale).into()))
        }
        DataType::UInt64 => (Some(20), Some(10), Some(0)),
        other => match types::standard_name(other) {
            "smallint" => integer(16),
            "integer" => integer(32),
            "bigint" => integer(64),
            "real" => (Some(24), Some(2), None),
            "double precision" => (Some(53), Some(2), None),
            _ => (None, None, None),
        },
    }
}

/// Digits of a time's fraction of a second.
fn fraction(data_type: &DataType) -> Option<i64> {
    match data_type {
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => {
            Some(match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            })
        }
        DataType::Date32 | DataType::Date64 => Some(0),
        _ => None,
    }
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn filled(batch: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    Ok(Arc::new(table))
}

fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn same(value: &str, rows: usize) -> ArrayRef {
    text(std::iter::repeat_n(Some(value), rows))
}

fn number(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

/// The schema's own name.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";
const COLUMNS: &str = "columns";
const TABLES: &[&str] = &[
    "columns",
    "parameters",
    "routines",
    "schemata",
    "tables",
    "views",
];
