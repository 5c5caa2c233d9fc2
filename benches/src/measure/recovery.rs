//! The time from opening a log of many gigabytes until it is ready, and the memory that takes.
//!
//! One log grows from size to size. Its rows are wide, so that the bytes come quickly, and
//! nothing is compacted or dropped: every segment has to be looked at. Must never leave the log
//! behind.

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

use clap::Args;
use wal::{Config, OsDisk, Row, Value};

use crate::error::{BenchError, Context};
use crate::load::rows::{FIRST_TIME, TABLE, TIME_STEP, log_bytes};
use crate::load::writer::Writer;
use crate::machine;
use crate::measure::args::{gibibytes, mebibytes, rounds};
use crate::node::data_dir::DataDir;
use crate::stats::{Table, grouped, median};

/// Writes a log, opens it at each size, and prints how long that took. Removes the log at the end.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Gibibytes of log, as often as needed; one log grows from size to size.
    #[arg(
        long = "gib",
        value_name = "GIB",
        default_values = ["1", "5", "20"],
        value_parser = gibibytes
    )]
    sizes: Vec<u64>,
    /// Mebibytes of a segment.
    #[arg(
        long = "segment-mib",
        value_name = "SEGMENT_MIB",
        default_value = "64",
        value_parser = mebibytes
    )]
    segment_size: u64,
    /// Times the log is opened at each size; medians are printed.
    #[arg(long, default_value = "3", value_parser = rounds)]
    rounds: usize,
}

/// One opening of a log.
struct Opened {
    seconds: f64,
    cpu: f64,
    peak: f64,
    held: f64,
    segments: usize,
}

/// Fills a log to each size and opens it there: a Markdown table.
///
/// # Errors
/// When the log cannot be written or opened.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    if !options.sizes.is_sorted() || options.sizes.first().is_none_or(|size| *size == 0) {
        return Err(BenchError::Usage(
            "sizes start at 1 and do not fall".to_owned(),
        ));
    }
    let dir = options.data.temp("recovery")?;
    let data = dir.path().join("data");
    let config = Config {
        segment_size: options.segment_size,
        keep_segments: 1 << 50,
        ..Config::default()
    };
    let mut table = Table::new(&[
        "log GiB",
        "segments",
        "seconds to ready",
        "CPU s",
        "peak memory MiB, mapped files included",
        "own memory MiB once open",
    ]);
    for &size in &options.sizes {
        let started = Instant::now();
        let bytes = fill(&data, &config, size)?;
        eprintln!(
            "{} bytes of log after {:.1} s more",
            grouped(bytes as f64),
            started.elapsed().as_secs_f64()
        );
        let mut rounds = Vec::with_capacity(options.rounds);
        for _ in 0..options.rounds {
            rounds.push(open(&data, &config)?);
        }
        let middle =
            |value: fn(&Opened) -> f64| median(&rounds.iter().map(value).collect::<Vec<f64>>());
        table.row(&[
            format!("{:.1}", bytes as f64 / (1024.0 * MEBIBYTE)),
            rounds[0].segments.to_string(),
            format!("{:.3}", middle(|opened| opened.seconds)),
            format!("{:.2}", middle(|opened| opened.cpu)),
            format!("{:.1}", middle(|opened| opened.peak)),
            format!("{:.1}", middle(|opened| opened.held)),
        ]);
    }
    Ok(format!(
        "{}\n\n{table}\nSegments of {} MiB, rows of {FIELDS} floats in groups of {}; the page cache \
         is warm as far as it reaches. Memory is what opening added.",
        machine::describe(),
        options.segment_size >> 20,
        grouped(GROUP as f64)
    ))
}

/// Appends rows until the log has `bytes` bytes, and closes it: the bytes there are.
fn fill(data: &Path, config: &Config, bytes: u64) -> Result<u64, BenchError> {
    let mut writer = Writer::open(data, config)?;
    let names: Vec<String> = (0..FIELDS)
        .map(|field| format!("channel_{field}"))
        .collect();
    let mut random = fastrand::Rng::with_seed(1);
    // What the values are does not matter here: every group has the same, at other times.
    let values: Vec<Vec<(Cow<'_, str>, Value<'_>)>> = (0..GROUP)
        .map(|_| {
            names
                .iter()
                .map(|name| (Cow::Borrowed(name.as_str()), Value::Float(random.f64())))
                .collect()
        })
        .collect();
    let mut time = FIRST_TIME + writer.log().snapshot().end().lsn.0 as i64 * TIME_STEP;
    let mut reached = log_bytes(&writer.log());
    while reached < bytes {
        for _ in 0..GROUPS {
            let rows: Vec<Row<'_>> = values
                .iter()
                .zip(0_i64..)
                .map(|(fields, at)| Row {
                    time: time + at * TIME_STEP,
                    tags: &[("topic", "bench/machine")],
                    fields,
                })
                .collect();
            writer.group(TABLE, &rows)?;
            time += GROUP as i64 * TIME_STEP;
        }
        reached = log_bytes(&writer.log());
    }
    writer.close()?;
    Ok(reached)
}

/// From the call to a log that takes rows and answers queries.
fn open(data: &Path, config: &Config) -> Result<Opened, BenchError> {
    machine::reset_own_peak()?;
    let before = machine::own_memory("VmHWM")?;
    let held = machine::own_memory("RssAnon")?;
    let cpu = machine::own_cpu_seconds()?;
    let started = Instant::now();
    let (committer, recovery) =
        wal::open_primary(OsDisk::new(), data, config).context("open the log")?;
    let seconds = started.elapsed().as_secs_f64();
    let growth = |after: u64, before: u64| after.saturating_sub(before) as f64 / MEBIBYTE;
    let opened = Opened {
        seconds,
        cpu: machine::own_cpu_seconds()? - cpu,
        peak: growth(machine::own_memory("VmHWM")?, before),
        held: growth(machine::own_memory("RssAnon")?, held),
        segments: recovery.segments,
    };
    eprintln!("opened in {seconds:.3} s, {:.1} MiB at most", opened.peak);
    committer.stop().context("close the log")?;
    Ok(opened)
}

/// Float fields of a row.
const FIELDS: usize = 50;

/// Rows of a group: about 3 MB.
const GROUP: usize = 8192;

/// Groups between two looks at the size of the log.
const GROUPS: usize = 8;

const MEBIBYTE: f64 = (1 << 20) as f64;
