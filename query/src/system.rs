//! The tables of schema `system` that no log holds. Owns their columns; must never block, since a
//! query plan waits for each of them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use wal::SegmentInfo;

use crate::admit::RunningQuery;
use crate::catalog::View;
use crate::node::ReplicationRow;

/// Tables that are always there.
pub(crate) const TABLES: &[&str] = &[DEAD_LETTERS, QUERIES, REPLICATION, SEGMENTS];

/// Whether `name` shows the state of the node rather than stored rows.
pub(crate) fn is_live(name: &str) -> bool {
    TABLES.contains(&name) && name != DEAD_LETTERS
}

/// The table called `name`, as it is now.
pub(crate) fn table(name: &str, view: &View) -> Result<Option<Arc<dyn TableProvider>>> {
    let (schema, batches) = match name {
        // Until the first dead letter is stored, the table is there and empty.
        DEAD_LETTERS => (dead_letters(), Vec::new()),
        QUERIES => filled(queries(&view.running.list())?),
        REPLICATION => filled(replication(&view.node.replication())?),
        SEGMENTS => filled(segments(&view.snapshot.segments())?),
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
        ("started", time(running, |query| Some(query.started_ns))),
        (
            "elapsed_ms",
            count(running, |query| Some(query.elapsed_ms())),
        ),
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

const DEAD_LETTERS: &str = "dead_letters";
const QUERIES: &str = "queries";
const REPLICATION: &str = "replication";
const SEGMENTS: &str = "segments";
const UTC: &str = "+00:00";

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    #[test]
    fn empty_lists_are_empty_tables_with_columns() {
        assert_eq!(replication(&[]).expect("a batch").num_rows(), 0);
        assert_eq!(segments(&[]).expect("a batch").num_columns(), 9);
        assert_eq!(queries(&[]).expect("a batch").num_columns(), 5);
        assert_eq!(dead_letters().fields().len(), 6);
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
    }
}
