//! The tables of schema `system` that no log holds. Owns their columns; must never block, since a
//! query plan waits for each of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use wal::{Column, ColumnRole, ColumnType, Dedup, FileInfo, SegmentInfo, Snapshot, TableSchema};

use super::view::View;
use crate::node::ReplicationRow;
use crate::running::RunningQuery;

/// Whether `name` shows the state of the node rather than stored rows.
pub(crate) fn is_live(name: &str) -> bool {
    TABLES.contains(&name) && name != DEAD_LETTERS
}

/// The table called `name`, as it is now.
pub(crate) fn table(name: &str, view: &View) -> Result<Option<Arc<dyn TableProvider>>> {
    let (schema, batches) = match name {
        // Until the first dead letter is stored, the table is there and empty.
        DEAD_LETTERS => (dead_letters(), Vec::new()),
        COLUMNS => filled(columns(&column_infos(&view.snapshot))?),
        FILES => filled(files(&view.snapshot.file_infos())?),
        QUERIES => filled(queries(&view.running.list())?),
        REPLICATION => filled(replication(&view.node.replication())?),
        SEGMENTS => filled(segments(&view.snapshot.segments())?),
        STORED_TABLES => filled(tables(&table_infos(&view.snapshot))?),
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(MemTable::try_new(schema, vec![batches])?)))
}

fn filled(batch: RecordBatch) -> (SchemaRef, Vec<RecordBatch>) {
    (batch.schema(), vec![batch])
}

fn dead_letters() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()));
    Arc::new(Schema::new(vec![
        Field::new("time", time, false),
        Field::new("topic", DataType::Utf8View, true),
        Field::new("client", DataType::Utf8, true),
        Field::new("reason", DataType::Utf8, true),
        Field::new("payload", DataType::Utf8, true),
        Field::new("encoding", DataType::Utf8, true),
    ]))
}

fn queries(running: &[Arc<RunningQuery>]) -> Result<RecordBatch> {
    batch([
        ("id", count(running, |query| Some(query.id))),
        ("sql", text(running, |query| Some(query.sql.as_str()))),
        ("state", text(running, |query| Some(query.state()))),
        ("started", time(running, |query| Some(query.started_ns))),
        (
            "elapsed_ms",
            count(running, |query| Some(query.elapsed_ms())),
        ),
        ("waited_ms", count(running, |query| Some(query.waited_ms()))),
        ("rows", count(running, |query| Some(query.rows()))),
    ])
}

fn replication(rows: &[ReplicationRow]) -> Result<RecordBatch> {
    batch([
        ("node", text(rows, |row| Some(row.node.as_str()))),
        ("peer", text(rows, |row| Some(row.peer.as_str()))),
        ("role", text(rows, |row| Some(row.role.as_str()))),
        ("address", text(rows, |row| Some(row.address.as_str()))),
        ("state", text(rows, |row| Some(row.state.as_str()))),
        ("sent_lsn", count(rows, |row| row.sent_lsn)),
        ("received_lsn", count(rows, |row| row.received_lsn)),
        ("flushed_lsn", count(rows, |row| row.flushed_lsn)),
        ("applied_lsn", count(rows, |row| row.applied_lsn)),
        ("lag_rows", count(rows, |row| row.lag_rows)),
        ("lag_bytes", count(rows, |row| row.lag_bytes)),
        ("lag_ms", count(rows, |row| row.lag_ms)),
        ("reason", text(rows, |row| row.reason.as_deref())),
        ("id", text(rows, |row| Some(row.id.as_str()))),
        ("via", text(rows, |row| Some(row.via.as_str()))),
        ("hops", count(rows, |row| Some(row.hops))),
    ])
}

fn segments(segments: &[SegmentInfo]) -> Result<RecordBatch> {
    let sealed: Vec<bool> = segments.iter().map(|segment| segment.sealed).collect();
    let sealed: ArrayRef = Arc::new(BooleanArray::from(sealed));
    batch([
        (
            "path",
            text(segments, |segment| Some(segment.path.as_str())),
        ),
        (
            "first_lsn",
            count(segments, |segment| Some(segment.first.0)),
        ),
        ("end_lsn", count(segments, |segment| Some(segment.end.0))),
        ("bytes", count(segments, |segment| Some(segment.bytes))),
        ("rows", count(segments, |segment| Some(segment.rows))),
        ("blocks", count(segments, |segment| Some(segment.blocks))),
        ("sealed", sealed),
        ("min_time", time(segments, |segment| segment.min_time)),
        ("max_time", time(segments, |segment| segment.max_time)),
    ])
}

fn files(files: &[FileInfo]) -> Result<RecordBatch> {
    let hashes = files.iter().map(|file| Some(format!("{:016x}", file.hash)));
    let hashes: ArrayRef = Arc::new(hashes.collect::<StringArray>());
    batch([
        ("name", text(files, |file| Some(file.name.as_str()))),
        ("table", text(files, |file| Some(file.table.as_str()))),
        ("window", text(files, |file| Some(file.window.as_str()))),
        ("first_lsn", count(files, |file| Some(file.first.0))),
        ("end_lsn", count(files, |file| Some(file.end.0))),
        ("rows", count(files, |file| Some(file.rows))),
        ("bytes", count(files, |file| Some(file.bytes))),
        ("min_time", time(files, |file| Some(file.min_time))),
        ("max_time", time(files, |file| Some(file.max_time))),
        ("hash", hashes),
    ])
}

/// One row of `system.tables`.
#[derive(Debug, Default)]
struct TableInfo {
    name: String,
    retention: Option<String>,
    dedup: &'static str,
    columns: u64,
    cut: Option<i64>,
    files: u64,
    file_rows: u64,
    file_bytes: u64,
    tags: String,
    fields: String,
}

fn table_infos(snapshot: &Snapshot) -> Vec<TableInfo> {
    let mut infos = BTreeMap::new();
    for table in snapshot.catalog().tables() {
        let options = snapshot.catalog().options(table.id);
        let info = TableInfo {
            name: table.name.clone(),
            retention: options.retention.map(show_duration),
            dedup: match options.dedup {
                Dedup::None => "none",
                Dedup::Key => "key",
            },
            columns: table.columns.len() as u64,
            cut: snapshot.cut(table.id),
            tags: list(table, ColumnRole::Tag, |column| column.name.to_string()),
            fields: list(table, ColumnRole::Field, |column| {
                format!("{} {}", column.name, type_name(column.kind))
            }),
            ..TableInfo::default()
        };
        infos.insert(table.name.clone(), info);
    }
    for file in snapshot.file_infos() {
        if let Some(info) = infos.get_mut(&file.table) {
            info.files += 1;
            info.file_rows += file.rows;
            info.file_bytes += file.bytes;
        }
    }
    infos.into_values().collect()
}

/// Columns of one role, for people.
fn list(table: &TableSchema, role: ColumnRole, show: impl Fn(&Column) -> String) -> String {
    let columns = table.columns.iter().filter(|column| column.role == role);
    columns.map(show).collect::<Vec<_>>().join(", ")
}

/// One row of `system.columns`.
#[derive(Debug)]
struct ColumnInfo {
    table: String,
    name: String,
    position: u64,
    role: &'static str,
    kind: &'static str,
}

fn column_infos(snapshot: &Snapshot) -> Vec<ColumnInfo> {
    let mut tables: Vec<_> = snapshot.catalog().tables().collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let mut infos = Vec::new();
    for table in tables {
        for (position, column) in (1..).zip(&table.columns) {
            infos.push(ColumnInfo {
                table: table.name.clone(),
                name: column.name.to_string(),
                position,
                role: match column.role {
                    ColumnRole::Time => "time",
                    ColumnRole::Tag => "tag",
                    ColumnRole::Field => "field",
                },
                kind: type_name(column.kind),
            });
        }
    }
    infos
}

/// As a conf file writes it.
fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Time => "time",
        ColumnType::Int => "int",
        ColumnType::BigInt | ColumnType::OldInt => "bigint",
        ColumnType::Float => "float",
        ColumnType::Bool => "bool",
        ColumnType::Text => "text",
    }
}

fn columns(columns: &[ColumnInfo]) -> Result<RecordBatch> {
    batch([
        ("table", text(columns, |column| Some(column.table.as_str()))),
        ("name", text(columns, |column| Some(column.name.as_str()))),
        ("position", count(columns, |column| Some(column.position))),
        ("role", text(columns, |column| Some(column.role))),
        ("type", text(columns, |column| Some(column.kind))),
    ])
}

fn tables(tables: &[TableInfo]) -> Result<RecordBatch> {
    batch([
        ("name", text(tables, |table| Some(table.name.as_str()))),
        (
            "retention",
            text(tables, |table| table.retention.as_deref()),
        ),
        ("dedup", text(tables, |table| Some(table.dedup))),
        ("columns", count(tables, |table| Some(table.columns))),
        ("cut", time(tables, |table| table.cut)),
        ("files", count(tables, |table| Some(table.files))),
        ("file_rows", count(tables, |table| Some(table.file_rows))),
        ("file_bytes", count(tables, |table| Some(table.file_bytes))),
        ("tags", text(tables, |table| Some(table.tags.as_str()))),
        ("fields", text(tables, |table| Some(table.fields.as_str()))),
    ])
}

/// A time in the largest unit that divides it, as a conf file writes it.
fn show_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let (unit, length) = UNITS
        .iter()
        .find(|(_, length)| nanos.is_multiple_of(*length))
        .unwrap_or(&("ns", 1));
    let number = nanos / length;
    let unit = match (number, *unit) {
        (1, "days") => "day",
        (_, unit) => unit,
    };
    format!("{number} {unit}")
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn text<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> Option<&'a str>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<StringArray>())
}

/// Signed, so that SQL may subtract one from the other.
fn count<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> Option<u64>) -> ArrayRef {
    let signed = |row| value(row).map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    Arc::new(rows.iter().map(signed).collect::<Int64Array>())
}

fn time<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> Option<i64>) -> ArrayRef {
    let times = rows.iter().map(value).collect::<TimestampNanosecondArray>();
    Arc::new(times.with_timezone(UTC))
}

/// Tables that are always there.
pub(crate) const TABLES: &[&str] = &[
    COLUMNS,
    DEAD_LETTERS,
    FILES,
    QUERIES,
    REPLICATION,
    SEGMENTS,
    STORED_TABLES,
];

const COLUMNS: &str = "columns";
const DEAD_LETTERS: &str = "dead_letters";
const FILES: &str = "files";
const QUERIES: &str = "queries";
const REPLICATION: &str = "replication";
const SEGMENTS: &str = "segments";
const STORED_TABLES: &str = "tables";
const UTC: &str = "+00:00";
/// Largest first, in nanoseconds.
const UNITS: [(&str, u128); 6] = [
    ("days", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    #[test]
    fn empty_lists_are_empty_tables_with_columns() {
        assert_eq!(replication(&[]).expect("a batch").num_rows(), 0);
        assert_eq!(replication(&[]).expect("a batch").num_columns(), 16);
        assert_eq!(segments(&[]).expect("a batch").num_columns(), 9);
        assert_eq!(queries(&[]).expect("a batch").num_columns(), 7);
        assert_eq!(files(&[]).expect("a batch").num_columns(), 10);
        assert_eq!(tables(&[]).expect("a batch").num_columns(), 10);
        assert_eq!(columns(&[]).expect("a batch").num_columns(), 5);
        assert_eq!(dead_letters().fields().len(), 6);
    }

    #[test]
    fn durations_have_the_largest_unit_that_divides_them() {
        for (time, expected) in [
            (Duration::from_secs(90 * 86_400), "90 days"),
            (Duration::from_secs(86_400), "1 day"),
            (Duration::from_secs(36 * 3_600), "36 h"),
            (Duration::from_secs(90), "90 s"),
            (Duration::from_millis(1_500), "1500 ms"),
            (Duration::from_nanos(7), "7 ns"),
        ] {
            assert_eq!(show_duration(time), expected);
        }
    }

    #[test]
    fn unlimited_retention_and_no_cut_are_null() {
        let table = TableInfo {
            name: "plant".to_owned(),
            dedup: "none",
            ..TableInfo::default()
        };
        let batch = tables(&[table]).expect("a batch");
        let column = |name| batch.column_by_name(name).expect("the column").null_count();
        assert_eq!(
            (column("retention"), column("cut"), column("files")),
            (1, 1, 0)
        );
    }

    #[test]
    fn unknown_numbers_are_null() {
        let row = ReplicationRow {
            sent_lsn: Some(u64::MAX),
            ..ReplicationRow::default()
        };
        let batch = replication(&[row]).expect("a batch");
        let column = |name| batch.column_by_name(name).expect("the column").null_count();
        assert_eq!(
            (column("sent_lsn"), column("lag_ms"), column("reason")),
            (0, 1, 1)
        );
        assert_eq!((column("id"), column("via"), column("hops")), (0, 0, 0));
    }
}
