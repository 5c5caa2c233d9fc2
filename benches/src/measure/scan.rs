//! SQL over the log beside plain DataFusion over the same rows in Parquet, in one process.
//!
//! Both sides run the same statements on the same number of threads, warm, and must agree: a
//! time must never count without that.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use clap::Args;
use datafusion::physical_plan::common::collect;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{BenchError, Context};
use crate::load::rows::{self, Filler, Reading, TABLE, TIME_STEP, reading, topics};
use crate::machine;
use crate::measure::args::rounds;
use crate::node::data_dir::DataDir;
use crate::stats::{Table, grouped, median};

/// Writes the same rows to a log and to Parquet and times the same statements on both.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Rows.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Rows per group commit.
    #[arg(long, default_value_t = 1000)]
    group: usize,
    /// Devices the rows come from.
    #[arg(long, default_value_t = 1000)]
    devices: usize,
    /// Timed runs of each statement after a first, untimed one; medians are printed.
    #[arg(long, default_value = "5", value_parser = rounds)]
    rounds: usize,
    /// Threads and partitions of both sides; by default one per core.
    #[arg(long, default_value_t = machine::cores(), hide_default_value = true)]
    threads: usize,
}

/// The node an engine asks for its log: a secondary that is up to date.
struct Node(wal::Log);

impl query::Node for Node {
    fn log(&self) -> Option<wal::Log> {
        Some(self.0.clone())
    }

    fn lag_ms(&self) -> Option<u64> {
        Some(0)
    }

    fn replication(&self) -> Vec<query::ReplicationRow> {
        Vec::new()
    }
}

/// What must be equal on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    rows: usize,
    counted: i64,
}

/// Writes the rows twice and runs the statements on both: a Markdown table.
///
/// # Errors
/// When a side fails, or the answers differ.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    if options.rows == 0 || options.rows > MOST_ROWS || options.devices == 0 {
        return Err(BenchError::Usage(format!(
            "rows are 1 to {MOST_ROWS}, devices start at 1"
        )));
    }
    let dir = options.data.temp("scan")?;
    let mut filler = Filler::create(&dir.path().join("data"), options.devices)?;
    let started = Instant::now();
    filler.rows(options.rows, options.group)?;
    eprintln!("log written in {:.1} s", started.elapsed().as_secs_f64());
    let file = dir.path().join("rows.parquet");
    let started = Instant::now();
    write_parquet(&file, options)?;
    eprintln!(
        "Parquet written in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let sizes = (
        rows::log_bytes(&filler.log()),
        file.metadata().context("stat the file")?.len(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .enable_all()
        .build()
        .context("start a runtime")?;
    let table = runtime.block_on(compare(options, filler.log(), &file))?;
    drop(runtime);
    filler.close()?;
    let per_row = |bytes: u64| bytes as f64 / options.rows as f64;
    Ok(format!(
        "{}\n\n{table}\n{} rows of {} devices, in groups of {}; {:.1} bytes per row in the log, \
         {:.1} in Parquet.",
        machine::describe(),
        grouped(options.rows as f64),
        options.devices,
        options.group,
        per_row(sizes.0),
        per_row(sizes.1)
    ))
}

async fn compare(options: &Options, log: wal::Log, file: &Path) -> Result<Table, BenchError> {
    let engine = engine(options, log)?;
    let config = SessionConfig::new().with_target_partitions(options.threads.max(1));
    let plain = SessionContext::new_with_config(config);
    plain
        .register_parquet(TABLE, file.to_string_lossy(), ParquetReadOptions::default())
        .await
        .context("open the Parquet file")?;
    let mut table = Table::new(&["statement", "Headwater ms", "Parquet ms", "of Parquet"]);
    for (name, sql) in statements(options.rows) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first round warms both sides up.
        for round in 0..=options.rounds {
            let (left, took) = ask_engine(&engine, &sql).await?;
            let (right, plain_took) = ask_plain(&plain, &sql).await?;
            if left != right {
                return Err(BenchError::Invalid(format!(
                    "{sql}: {left:?} is not {right:?}"
                )));
            }
            if round > 0 {
                ours.push(took.as_secs_f64() * 1e3);
                theirs.push(plain_took.as_secs_f64() * 1e3);
            }
        }
        let (ours, theirs) = (median(&ours), median(&theirs));
        table.row(&[
            name.to_owned(),
            format!("{ours:.1}"),
            format!("{theirs:.1}"),
            format!("{:.2}", ours / theirs),
        ]);
    }
    Ok(table)
}

/// What is asked: everything, everything by device, and the middle hundredth of the time.
fn statements(rows: u64) -> [(&'static str, String); 3] {
    let middle = rows / 2;
    let until = middle + (rows / 100).max(1);
    [
        ("`count(*)`", format!("SELECT count(*) AS n FROM {TABLE}")),
        (
            "`avg(temperature)` by `topic`",
            format!("SELECT topic, avg(temperature) AS mean FROM {TABLE} GROUP BY topic"),
        ),
        (
            "`count`, `avg` of 1 % of the time",
            format!(
                "SELECT count(*) AS n, avg(temperature) AS mean FROM {TABLE} \
                 WHERE time >= '{}' AND time < '{}'",
                moment(middle),
                moment(until)
            ),
        ),
    ]
}

/// The time of a row as text.
fn moment(row: u64) -> String {
    let millis = row * TIME_STEP.unsigned_abs() / 1_000_000;
    let seconds = millis / 1000;
    format!(
        "2026-01-01T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        millis % 1000
    )
}

fn engine(options: &Options, log: wal::Log) -> Result<query::Engine, BenchError> {
    let config = query::Config {
        memory_limit: 4 << 30,
        query_timeout: Duration::from_secs(600),
        max_concurrent_queries: 8,
        threads: options.threads.max(1),
        ..query::Config::default()
    };
    query::Engine::new(&config, Arc::new(Node(log))).context("start the engine")
}

async fn ask_engine(engine: &query::Engine, sql: &str) -> Result<(Shape, Duration), BenchError> {
    let started = Instant::now();
    let stream = engine
        .sql(sql, query::Params::none())
        .await
        .context("query the log")?;
    let batches = collect(stream).await.context("query the log")?;
    Ok((shape(&batches), started.elapsed()))
}

async fn ask_plain(plain: &SessionContext, sql: &str) -> Result<(Shape, Duration), BenchError> {
    let started = Instant::now();
    let frame = plain.sql(sql).await.context("plan over Parquet")?;
    let batches = frame.collect().await.context("query the Parquet file")?;
    Ok((shape(&batches), started.elapsed()))
}

fn shape(batches: &[RecordBatch]) -> Shape {
    let counts = batches.iter().filter_map(|batch| batch.column_by_name("n"));
    let counts = counts.filter_map(|column| column.as_primitive_opt::<Int64Type>());
    Shape {
        rows: batches.iter().map(RecordBatch::num_rows).sum(),
        counted: counts.flat_map(|counts| counts.iter().flatten()).sum(),
    }
}

/// The rows as a user would keep them: zstd, row groups of a million, in the order of arrival.
fn write_parquet(path: &Path, options: &Options) -> Result<(), BenchError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    let topics = topics(options.devices);
    let file = File::create(path).context(format!("create {}", path.display()))?;
    let first = batch(0..options.rows.min(BATCH), &topics)?;
    let mut writer =
        ArrowWriter::try_new(file, first.schema(), Some(properties)).context("write Parquet")?;
    writer.write(&first).context("write Parquet")?;
    let mut from = BATCH;
    while from < options.rows {
        let until = (from + BATCH).min(options.rows);
        writer
            .write(&batch(from..until, &topics)?)
            .context("write Parquet")?;
        from = until;
    }
    writer.close().context("write Parquet")?;
    Ok(())
}

fn batch(numbers: std::ops::Range<u64>, topics: &[String]) -> Result<RecordBatch, BenchError> {
    let rows: Vec<Reading> = numbers
        .map(|number| reading(number, topics.len()))
        .collect();
    let time = rows.iter().map(|row| row.time).collect::<Vec<_>>();
    let time = TimestampNanosecondArray::from(time).with_timezone("+00:00");
    let topic = rows
        .iter()
        .map(|row| topics[row.device].as_str())
        .collect::<Vec<_>>();
    let temperature = rows.iter().map(|row| row.temperature).collect::<Vec<_>>();
    let humidity = rows
        .iter()
        .map(|row| row.relative_humidity)
        .collect::<Vec<_>>();
    let battery = rows
        .iter()
        .map(|row| row.battery_millivolts)
        .collect::<Vec<_>>();
    let columns: [(&str, ArrayRef); 5] = [
        ("time", Arc::new(time)),
        ("topic", Arc::new(StringArray::from(topic))),
        ("temperature", Arc::new(Float64Array::from(temperature))),
        ("relative_humidity", Arc::new(Float64Array::from(humidity))),
        ("battery_millivolts", Arc::new(Int64Array::from(battery))),
    ];
    RecordBatch::try_from_iter(columns).context("build a batch")
}

/// Rows handed to the Parquet writer at once.
const BATCH: u64 = 65_536;

/// Rows per Parquet row group.
const ROW_GROUP: usize = 1_000_000;

/// The times of more rows would leave the first day, which the time filter is written for.
const MOST_ROWS: u64 = 80_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_the_times_of_rows() {
        assert_eq!(moment(0), "2026-01-01T00:00:00.000Z");
        assert_eq!(moment(5_000_123), "2026-01-01T01:23:20.123Z");
        assert_eq!(
            reading(5_000_123, 10).time,
            rows::FIRST_TIME + 5_000_123_000_000
        );
    }
}
