//! Numbered rows: written one by one, read back as numbers, so that any loss, repetition or
//! reordering is seen. Must never use a number twice.

use std::borrow::Cow;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use wal::{Appender, Config, Dedup, Log, Row, TableDef, TableOptions, Value, WalError, Wanted};

/// Tuning under which the table of numbered rows keeps one row per key.
pub fn keyed() -> Config {
    let options = TableOptions {
        dedup: Dedup::Key,
        retention: None,
    };
    Config {
        tables: vec![TableDef {
            name: TABLE.to_owned(),
            options,
            ..TableDef::default()
        }],
        ..Config::default()
    }
}

/// Appends row `number` and waits until it is durable.
///
/// # Errors
/// When the log does not acknowledge it.
pub fn append(appender: &mut Appender, number: i64) -> Result<(), WalError> {
    let mut fields = vec![(Cow::Borrowed("n"), Value::Int(number))];
    // Schemas change on the way: another column every fifth row, a widening at the seventh.
    if number % 5 == 0 {
        fields.push((
            Cow::Owned(format!("c{}", number / 5 % 7)),
            Value::Bool(true),
        ));
    }
    let wide = if number == 7 {
        Value::Float(0.5)
    } else {
        Value::Int(1)
    };
    fields.push((Cow::Borrowed("w"), wide));
    let topic = format!("{TABLE}/{}", number % 3);
    let row = Row {
        time: number,
        tags: &[("topic", &topic)],
        fields: &fields,
    };
    let group = appender
        .append(TABLE, &[row])
        .map_err(|_| WalError::Closed)?;
    appender.wait(group).map(|_| ())
}

/// All numbers in the log: in LSN order, or ascending once some are in Parquet files.
///
/// # Errors
/// When a block or file is damaged.
pub fn numbers(log: &Log) -> Result<Vec<i64>, WalError> {
    let snapshot = log.snapshot();
    let Some(schema) = snapshot.catalog().table(TABLE) else {
        return Ok(Vec::new());
    };
    if let Some(damage) = snapshot.damaged(schema.id) {
        return Err(damage);
    }
    let n = schema.column("n").expect("the column of numbers");
    let mut all = Vec::new();
    let mut take = |batch: &RecordBatch| {
        all.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
    };
    let files = snapshot.files(schema.id);
    let wanted = Wanted::default();
    for file in &files {
        let groups = file.row_groups(schema, &wanted)?;
        for batch in file.read(schema, &[n], &groups, &wanted, 1000)? {
            take(&batch?);
        }
    }
    for block in snapshot.blocks(schema.id) {
        take(&block.read(schema, &[n])?);
    }
    if !files.is_empty() {
        all.sort_unstable();
    }
    Ok(all)
}

/// The table of numbered rows.
pub const TABLE: &str = "numbers";
