//! A log that no compression makes smaller: many floats of full precision, fresh in every row.
//!
//! With it, bytes that travel compressed and bytes that do not are as many, so that transfers
//! can be compared byte for byte. Values must never repeat.

use std::borrow::Cow;
use std::path::Path;

use wal::{Config, Row, Value};

use crate::error::BenchError;
use crate::load::rows::{FIRST_TIME, TIME_STEP, log_bytes};
use crate::load::writer::Writer;

/// What a filled log holds.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    /// Rows.
    pub rows: u64,
    /// Bytes of all segments.
    pub bytes: u64,
}

/// Makes a log of at least `bytes` bytes in `data_dir` and closes it.
///
/// # Errors
/// When the log refuses or fails.
pub fn fill(data_dir: &Path, config: &Config, bytes: u64, seed: u64) -> Result<Filled, BenchError> {
    let mut writer = Writer::open(data_dir, config)?;
    let names: Vec<String> = (0..FIELDS)
        .map(|field| format!("channel_{field}"))
        .collect();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut time = FIRST_TIME;
    let mut filled = Filled { rows: 0, bytes: 0 };
    while filled.bytes < bytes {
        let values: Vec<Vec<(Cow<'_, str>, Value<'_>)>> = (0..GROUP)
            .map(|_| {
                names
                    .iter()
                    .map(|name| (Cow::Borrowed(name.as_str()), Value::Float(random.f64())))
                    .collect()
            })
            .collect();
        let rows: Vec<Row<'_>> = values
            .iter()
            .map(|fields| {
                time += TIME_STEP;
                Row {
                    time,
                    tags: &[("source", "noise")],
                    fields,
                }
            })
            .collect();
        writer.group(TABLE, &rows)?;
        filled.rows += rows.len() as u64;
        filled.bytes = log_bytes(&writer.log());
    }
    writer.close()?;
    Ok(filled)
}

/// The table all rows go to.
pub const TABLE: &str = "noise";

/// Float fields of a row.
const FIELDS: usize = 50;

/// Rows of a group: about 400 KB, so that even segments of 1 MiB hold more than one.
const GROUP: usize = 1024;
