//! Rows for the benchmarks that start from a log: a fleet's readings, and a log filled with
//! them.
//!
//! Every row is a pure function of its number, so the same rows can be written elsewhere. A log
//! is filled through the product's own write path, one group commit for every call, and must
//! never be written in any other way.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use wal::{Config, Log, Lsn, Row, Value};

use crate::error::BenchError;
use crate::load::writer::Writer;

/// One row's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Unix nanoseconds.
    pub time: i64,
    /// Number of the device, below the number of devices.
    pub device: usize,
    /// Degrees with two decimals.
    pub temperature: f64,
    /// Percent with one decimal.
    pub relative_humidity: f64,
    /// Millivolts, falling slowly.
    pub battery_millivolts: i64,
}

/// Row `number` of a fleet of `devices`.
pub fn reading(number: u64, devices: usize) -> Reading {
    // A cheap mix, so that neighbours differ as devices do.
    let noise = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    Reading {
        time: FIRST_TIME + number as i64 * TIME_STEP,
        device: (number % devices as u64) as usize,
        temperature: 15.0 + (noise % 1000) as f64 / 100.0,
        relative_humidity: 40.0 + (noise / 1000 % 300) as f64 / 10.0,
        battery_millivolts: 3300 - (number / (devices as u64 * 1000) % 600) as i64,
    }
}

/// The topics of a fleet, by device.
pub fn topics(devices: usize) -> Vec<String> {
    (0..devices)
        .map(|device| format!("{TABLE}/site-{}/device-{device}", device % 10))
        .collect()
}

/// A primary's log that is being filled.
pub struct Filler {
    writer: Writer,
    topics: Vec<String>,
    next: u64,
}

impl fmt::Debug for Filler {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Filler")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Filler {
    /// A new log in `data_dir`, for rows of `devices` devices.
    ///
    /// # Errors
    /// When the log cannot be made.
    pub fn create(data_dir: &Path, devices: usize) -> Result<Self, BenchError> {
        Ok(Self {
            writer: Writer::open(data_dir, &Config::default())?,
            topics: topics(devices.max(1)),
            next: 0,
        })
    }

    /// Appends the next `count` rows as one group and waits until it is durable.
    ///
    /// # Errors
    /// When the log refuses or fails.
    pub fn group(&mut self, count: usize) -> Result<Lsn, BenchError> {
        let devices = self.topics.len();
        let readings: Vec<Reading> = (self.next..self.next + count as u64)
            .map(|number| reading(number, devices))
            .collect();
        let tags: Vec<[(&str, &str); 1]> = readings
            .iter()
            .map(|reading| [("topic", self.topics[reading.device].as_str())])
            .collect();
        let fields: Vec<[(Cow<'_, str>, Value<'_>); 3]> = readings.iter().map(fields).collect();
        let rows: Vec<Row<'_>> = readings
            .iter()
            .zip(tags.iter().zip(&fields))
            .map(|(reading, (tags, fields))| Row {
                time: reading.time,
                tags,
                fields,
            })
            .collect();
        let lsn = self.writer.group(TABLE, &rows)?;
        self.next += count as u64;
        Ok(lsn)
    }

    /// Appends `rows` rows in groups of `group`.
    ///
    /// # Errors
    /// When the log refuses or fails.
    pub fn rows(&mut self, rows: u64, group: usize) -> Result<(), BenchError> {
        let end = self.next + rows;
        while self.next < end {
            let left = usize::try_from(end - self.next).unwrap_or(usize::MAX);
            self.group(group.max(1).min(left))?;
        }
        Ok(())
    }

    /// Appends groups of `group` rows until the log has `bytes` bytes.
    ///
    /// # Errors
    /// When the log refuses or fails.
    pub fn bytes(&mut self, bytes: u64, group: usize) -> Result<(), BenchError> {
        while log_bytes(&self.log()) < bytes {
            // Asking for the size of a log costs more than a group.
            for _ in 0..32 {
                self.group(group.max(1))?;
            }
        }
        Ok(())
    }

    /// The read side of this log.
    pub fn log(&self) -> Log {
        self.writer.log()
    }

    /// Rows appended so far.
    pub fn len(&self) -> u64 {
        self.next
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// Closes the log, so that a node can open it.
    ///
    /// # Errors
    /// When the last write failed.
    pub fn close(self) -> Result<(), BenchError> {
        self.writer.close()
    }
}

/// Bytes of all segments.
pub fn log_bytes(log: &Log) -> u64 {
    log.snapshot()
        .segments()
        .iter()
        .map(|segment| segment.bytes)
        .sum()
}

fn fields(reading: &Reading) -> [(Cow<'static, str>, Value<'static>); 3] {
    [
        (
            Cow::Borrowed("temperature"),
            Value::Float(reading.temperature),
        ),
        (
            Cow::Borrowed("relative_humidity"),
            Value::Float(reading.relative_humidity),
        ),
        (
            Cow::Borrowed("battery_millivolts"),
            Value::Int(reading.battery_millivolts),
        ),
    ]
}

/// The table all rows go to.
pub const TABLE: &str = "bench";

/// 2026-01-01T00:00:00Z, the time of row 0.
pub const FIRST_TIME: i64 = 1_767_225_600_000_000_000;

/// Nanoseconds between two rows.
pub const TIME_STEP: i64 = 1_000_000;
