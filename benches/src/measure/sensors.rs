//! A day of slow sensors whose rows often come late: whether files, bytes and reads stay flat.
//!
//! The day passes as fast as the log takes it: rows have simulated times, group commits are
//! real. Every segment is compacted as soon as it is sealed, so that late rows meet old files
//! again and again. After every few simulated hours the whole table and its newest hour are
//! read and counted; a time must never stand for fewer rows than were written.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use clap::Args;
use wal::{CompactionStats, Config, Log, Row, TableSchema, Value, Wanted};

use crate::error::{BenchError, Context};
use crate::load::rows::{FIRST_TIME, log_bytes};
use crate::load::writer::Writer;
use crate::machine;
use crate::measure::args::mebibytes;
use crate::node::data_dir::DataDir;
use crate::stats::{Table, grouped, median};

/// Writes and compacts a simulated day of slow sensors, and prints a line for every few hours.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Devices, each with one row a minute.
    #[arg(long, default_value_t = 1000)]
    devices: u64,
    /// Simulated hours.
    #[arg(long, default_value_t = 24)]
    hours: u32,
    /// Simulated hours between two lines.
    #[arg(long, default_value_t = 4)]
    every: u32,
    /// Part of the rows that are 1 to 30 days late.
    #[arg(long, default_value_t = 0.05)]
    late: f64,
    /// Rows per group commit: what arrives in a second.
    #[arg(long, default_value_t = 17)]
    group: usize,
    /// Mebibytes of a segment.
    #[arg(
        long = "segment-mib",
        value_name = "SEGMENT_MIB",
        default_value = "4",
        value_parser = mebibytes
    )]
    segment_size: u64,
    /// Chooses which rows are late, and by how much.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The rows in the order in which they arrive.
struct Fleet {
    topics: Vec<String>,
    random: fastrand::Rng,
    late: f64,
    next: u64,
    /// Rows in the hour that `hour` starts.
    in_hour: u64,
    hour: i64,
}

/// A row before it borrows its names.
struct Reading {
    time: i64,
    device: usize,
    temperature: f64,
    battery_millivolts: i64,
}

/// What reading a part of the table gave.
struct Read {
    rows: u64,
    millis: f64,
}

/// Simulates the day: a Markdown table with a line for every few hours.
///
/// # Errors
/// When the log fails, or reads other rows than were written.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    if options.devices == 0 || options.hours == 0 || options.every == 0 || options.group == 0 {
        return Err(BenchError::Usage(
            "devices, hours, steps and groups start at 1".to_owned(),
        ));
    }
    let dir = options.data.temp("sensors")?;
    let config = Config {
        segment_size: options.segment_size,
        // Few enough that what is dropped and what is kept for secondaries levels off within the
        // day.
        keep_segments: 4 * options.segment_size,
        ..Config::default()
    };
    let mut writer = Writer::open(&dir.path().join("data"), &config)?;
    let mut run = Run::new(options, writer.log());
    let mut table = Table::new(&[
        "hours",
        "rows",
        "files",
        "Parquet bytes per row",
        "log bytes per row",
        "segments",
        "MiB held, log and files",
        "newest hour ms",
        "everything ms",
        "compaction s",
    ]);
    for hour in 1..=options.hours {
        run.hour(options, &mut writer)?;
        if hour.is_multiple_of(options.every) || hour == options.hours {
            let cells = run.look(hour)?;
            eprintln!("{}", cells.join(" | "));
            table.row(&cells);
        }
    }
    let stats = run.compaction;
    drop(run.log);
    writer.close()?;
    Ok(format!(
        "{}\n\n{table}\n{} devices, one row a minute, {:.0} % of them 1 to 30 days late; groups of {}, \
         segments of {} MiB; {} compaction steps, {} merges, {} MB written.",
        machine::describe(),
        grouped(options.devices as f64),
        options.late * 100.0,
        options.group,
        options.segment_size >> 20,
        stats.steps,
        stats.merges,
        grouped(stats.bytes_out as f64 / 1e6)
    ))
}

/// The simulation between two looks.
struct Run {
    log: Log,
    fleet: Fleet,
    /// Block bytes of the log when it was last compacted.
    compacted_at: u64,
    compaction: CompactionStats,
    compacting: Duration,
}

impl Run {
    fn new(options: &Options, log: Log) -> Self {
        Self {
            log,
            fleet: Fleet {
                topics: (0..options.devices)
                    .map(|device| format!("{TABLE}/site-{}/device-{device}", device % 10))
                    .collect(),
                random: fastrand::Rng::with_seed(options.seed),
                late: options.late,
                next: 0,
                in_hour: 0,
                hour: FIRST_TIME,
            },
            compacted_at: 0,
            compaction: CompactionStats::default(),
            compacting: Duration::ZERO,
        }
    }

    /// One simulated hour.
    fn hour(&mut self, options: &Options, writer: &mut Writer) -> Result<(), BenchError> {
        self.fleet.hour = self.fleet.now(options.devices);
        self.fleet.in_hour = 0;
        let end = self.fleet.next + 60 * options.devices;
        while self.fleet.next < end {
            let count = usize::try_from(end - self.fleet.next)
                .map_or(options.group, |left| left.min(options.group));
            let readings: Vec<Reading> = (0..count)
                .map(|_| self.fleet.step(options.devices))
                .collect();
            self.fleet.append(&readings, writer)?;
            // So many bytes cannot have been written without sealing a segment.
            let written = self.log.stats().bytes;
            if written - self.compacted_at >= options.segment_size {
                self.compacted_at = written;
                self.compact()?;
            }
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), BenchError> {
        let started = Instant::now();
        let stats = wal::compact_now(&self.log).context("compact the log")?;
        self.compacting += started.elapsed();
        self.compaction.steps += stats.steps;
        self.compaction.merges += stats.merges;
        self.compaction.bytes_out += stats.bytes_out;
        Ok(())
    }

    /// What there is after `hour` hours: the cells of a line.
    fn look(&self, hour: u32) -> Result<Vec<String>, BenchError> {
        let rows = self.fleet.next;
        let newest = timed(&self.log, self.fleet.hour, self.fleet.hour + HOUR - 1)?;
        let all = timed(&self.log, i64::MIN, i64::MAX)?;
        for (what, read, written) in [
            ("the newest hour", &newest, self.fleet.in_hour),
            ("the table", &all, rows),
        ] {
            if read.rows != written {
                return Err(BenchError::Invalid(format!(
                    "{what} has {} rows, {written} were written",
                    read.rows
                )));
            }
        }
        let snapshot = self.log.snapshot();
        let files = snapshot.file_infos();
        let file_rows: u64 = files.iter().map(|file| file.rows).sum();
        let file_bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let held = (log_bytes(&self.log) + file_bytes) as f64 / f64::from(1 << 20);
        Ok(vec![
            hour.to_string(),
            grouped(rows as f64),
            files.len().to_string(),
            format!("{:.2}", file_bytes as f64 / file_rows.max(1) as f64),
            format!("{:.1}", self.log.stats().bytes as f64 / rows as f64),
            snapshot.segments().len().to_string(),
            format!("{held:.1}"),
            format!("{:.1}", newest.millis),
            format!("{:.1}", all.millis),
            format!("{:.2}", self.compacting.as_secs_f64()),
        ])
    }
}

impl Fleet {
    /// The simulated clock.
    fn now(&self, devices: u64) -> i64 {
        FIRST_TIME + (i128::from(self.next) * i128::from(60 * SECOND) / i128::from(devices)) as i64
    }

    /// The next row: as it is measured, or kept back for 1 to 30 days.
    fn step(&mut self, devices: u64) -> Reading {
        let now = self.now(devices);
        let late = self.random.f64() < self.late;
        let time = if late {
            now - self.random.i64(DAY..=30 * DAY)
        } else {
            now
        };
        if (self.hour..self.hour + HOUR).contains(&time) {
            self.in_hour += 1;
        }
        let number = self.next;
        self.next += 1;
        Reading {
            time,
            device: (number % devices) as usize,
            temperature: 15.0 + f64::from(self.random.u16(0..1000)) / 100.0,
            battery_millivolts: 3300 - (number / (devices * 60)) as i64,
        }
    }

    fn append(&self, readings: &[Reading], writer: &mut Writer) -> Result<(), BenchError> {
        let tags: Vec<[(&str, &str); 1]> = readings
            .iter()
            .map(|reading| [("topic", self.topics[reading.device].as_str())])
            .collect();
        let fields: Vec<[(Cow<'_, str>, Value<'_>); 2]> = readings
            .iter()
            .map(|reading| {
                [
                    (
                        Cow::Borrowed("temperature"),
                        Value::Float(reading.temperature),
                    ),
                    (
                        Cow::Borrowed("battery_millivolts"),
                        Value::Int(reading.battery_millivolts),
                    ),
                ]
            })
            .collect();
        let rows: Vec<Row<'_>> = readings
            .iter()
            .zip(tags.iter().zip(&fields))
            .map(|(reading, (tags, fields))| Row {
                time: reading.time,
                tags,
                fields,
            })
            .collect();
        writer.group(TABLE, &rows).map(drop)
    }
}

/// Reads rows with `from <= time <= last` a few times: how many they are, and the median time.
fn timed(log: &Log, from: i64, last: i64) -> Result<Read, BenchError> {
    let mut millis = Vec::with_capacity(READS);
    let mut rows = 0;
    for _ in 0..READS {
        let started = Instant::now();
        rows = read(log, from, last)?;
        millis.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Read {
        rows,
        millis: median(&millis),
    })
}

/// Reads all columns of the wanted rows from files and blocks, as a scan does.
fn read(log: &Log, from: i64, last: i64) -> Result<u64, BenchError> {
    let snapshot = log.snapshot();
    let Some(schema) = snapshot.catalog().table(TABLE).map(Arc::clone) else {
        return Ok(0);
    };
    let schema: &TableSchema = &schema;
    let projection: Vec<usize> = (0..schema.columns.len()).collect();
    let wanted = Wanted {
        min_time: from,
        max_time: last,
        ..Wanted::default()
    };
    let overlaps = |min: i64, max: i64| max >= wanted.min_time && min <= wanted.max_time;
    let mut rows = 0;
    for file in snapshot.files(schema.id) {
        if !overlaps(file.min_time(), file.max_time()) {
            continue;
        }
        let groups = file
            .row_groups(schema, &wanted)
            .context("prune a Parquet file")?;
        let reader = file
            .read(schema, &projection, &groups, &wanted, BATCH)
            .context("open a Parquet file")?;
        for batch in reader {
            rows += within(&batch.context("read a Parquet file")?, &wanted)?;
        }
    }
    for block in snapshot.blocks(schema.id) {
        if overlaps(block.min_time(), block.max_time()) {
            let batch = block.read(schema, &projection).context("read a block")?;
            rows += within(&batch, &wanted)?;
        }
    }
    Ok(rows)
}

/// Pruning gives whole pages and blocks: the rows of them that are wanted.
fn within(batch: &RecordBatch, wanted: &Wanted) -> Result<u64, BenchError> {
    let times = batch
        .column(0)
        .as_primitive_opt::<TimestampNanosecondType>()
        .ok_or_else(|| BenchError::Invalid("the first column is not the time".to_owned()))?;
    let inside = |time: &&i64| (wanted.min_time..=wanted.max_time).contains(*time);
    Ok(times.values().iter().filter(inside).count() as u64)
}

const TABLE: &str = "sensors";

const SECOND: i64 = 1_000_000_000;

const HOUR: i64 = 3600 * SECOND;

const DAY: i64 = 24 * HOUR;

/// Rows a reader asks for at once, as a query does.
const BATCH: usize = 8192;

/// Timed reads; medians are reported.
const READS: usize = 3;
