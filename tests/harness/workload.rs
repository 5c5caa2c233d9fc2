//! Numbered rows: written one by one, read back as numbers, so that any loss, repetition or
//! reordering is seen.

use std::borrow::Cow;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use wal::{Appender, Log, Row, Value, WalError};

/// The table of numbered rows.
pub const TABLE: &str = "numbers";

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
    let ticket = appender
        .append(TABLE, &[row])
        .map_err(|_| WalError::Closed)?;
    appender.wait(ticket).map(|_| ())
}

/// All numbers in the log, in LSN order.
///
/// # Errors
/// When a block is damaged.
pub fn numbers(log: &Log) -> Result<Vec<i64>, WalError> {
    let snapshot = log.snapshot();
    let Some(schema) = snapshot.catalog().table(TABLE) else {
        return Ok(Vec::new());
    };
    let n = schema.column("n").expect("the column of numbers");
    let mut all = Vec::new();
    for block in snapshot.blocks(schema.id) {
        let batch = block.read(schema, &[n])?;
        all.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
    }
    Ok(all)
}
