//! Bytes per row in the log and in the Parquet files it is compacted to, and what compaction
//! costs.
//!
//! Only sealed segments are compacted, so the numbers are over the rows that are in files and
//! must never be over others; segments are small, so that these are nearly all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use wal::{CompactionStats, Config, FileInfo, Log};

use crate::error::{BenchError, Context};
use crate::load::cpu::{self, Fleet};
use crate::load::rows::FIRST_TIME;
use crate::load::writer::Writer;
use crate::machine;
use crate::measure::args::mebibytes;
use crate::node::data_dir::DataDir;
use crate::stats::{Table, grouped};

/// Writes a TSBS-like `cpu` table to a log, compacts it, and prints bytes per row in both.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Rows, one per host every 10 s.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Hosts the rows come from.
    #[arg(long, default_value_t = 100)]
    hosts: usize,
    /// Rows per group commit.
    #[arg(long, default_value_t = 1000)]
    group: usize,
    /// Mebibytes of a segment; only sealed ones are compacted.
    #[arg(
        long = "segment-mib",
        value_name = "SEGMENT_MIB",
        default_value = "16",
        value_parser = mebibytes
    )]
    segment_size: u64,
    /// Chooses the rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the same rows to this file, for `benches/peers/size.py`.
    #[arg(long)]
    csv: Option<PathBuf>,
}

/// What one compaction of everything took.
struct Compaction {
    stats: CompactionStats,
    seconds: f64,
    cpu: f64,
}

/// What is sealed.
#[derive(Default)]
struct Sealed {
    segments: usize,
    rows: u64,
    bytes: u64,
}

/// Writes the rows, compacts them and looks at what there is: a Markdown table.
///
/// # Errors
/// When the log fails, or nothing was compacted.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    if options.rows == 0 || options.hosts == 0 || options.group == 0 {
        return Err(BenchError::Usage(
            "rows, hosts and group start at 1".to_owned(),
        ));
    }
    let dir = options.data.temp("filesize")?;
    let config = Config {
        segment_size: options.segment_size,
        keep_segments: 1 << 50,
        ..Config::default()
    };
    let mut writer = Writer::open(&dir.path().join("data"), &config)?;
    let started = Instant::now();
    fill(options, &mut writer)?;
    eprintln!(
        "{} rows written in {:.1} s",
        grouped(options.rows as f64),
        started.elapsed().as_secs_f64()
    );
    let log = writer.log();
    let sealed = sealed(&log);
    let compaction = compact(&log)?;
    let files = log.snapshot().file_infos();
    let text = report(options, &sealed, &compaction, &files)?;
    drop(log);
    writer.close()?;
    Ok(text)
}

fn fill(options: &Options, writer: &mut Writer) -> Result<(), BenchError> {
    let mut csv = match &options.csv {
        Some(path) => {
            let file = File::create(path).context(format!("create {}", path.display()))?;
            let mut csv = BufWriter::with_capacity(1 << 20, file);
            cpu::csv_header(&mut csv).context("write the CSV file")?;
            Some(csv)
        }
        None => None,
    };
    let mut fleet = Fleet::new(options.hosts, options.seed, FIRST_TIME);
    let mut left = options.rows;
    while left > 0 {
        let count = usize::try_from(left).map_or(options.group, |left| left.min(options.group));
        let rows = fleet.take(count);
        cpu::with_rows(&fleet, &rows, |rows| writer.group(cpu::TABLE, rows))?;
        if let Some(csv) = &mut csv {
            cpu::csv_rows(csv, &fleet, &rows).context("write the CSV file")?;
        }
        left -= count as u64;
    }
    match &mut csv {
        Some(csv) => csv.flush().context("write the CSV file"),
        None => Ok(()),
    }
}

fn sealed(log: &Log) -> Sealed {
    let mut sum = Sealed::default();
    for segment in log.snapshot().segments() {
        if segment.sealed {
            sum.segments += 1;
            sum.rows += segment.rows;
            sum.bytes += segment.bytes;
        }
    }
    sum
}

fn compact(log: &Log) -> Result<Compaction, BenchError> {
    let cpu = machine::own_cpu_seconds()?;
    let started = Instant::now();
    let stats = wal::compact_now(log).context("compact the log")?;
    Ok(Compaction {
        stats,
        seconds: started.elapsed().as_secs_f64(),
        cpu: machine::own_cpu_seconds()? - cpu,
    })
}

fn report(
    options: &Options,
    sealed: &Sealed,
    compaction: &Compaction,
    files: &[FileInfo],
) -> Result<String, BenchError> {
    let files: Vec<&FileInfo> = files
        .iter()
        .filter(|file| file.table == cpu::TABLE)
        .collect();
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    if rows == 0 {
        return Err(BenchError::Invalid(
            "nothing was compacted: it takes more rows or smaller segments".to_owned(),
        ));
    }
    if rows != sealed.rows {
        return Err(BenchError::Invalid(format!(
            "{rows} rows are in files, {} in sealed segments",
            sealed.rows
        )));
    }
    let (log_row, file_row) = (
        sealed.bytes as f64 / rows as f64,
        bytes as f64 / rows as f64,
    );
    let mut table = Table::new(&["what", "value"]);
    let mut line = |what: &str, value: String| table.row(&[what.to_owned(), value]);
    line("log bytes per row", format!("{log_row:.2}"));
    line("Parquet bytes per row", format!("{file_row:.2}"));
    line("log of Parquet", format!("{:.1}", log_row / file_row));
    line("Parquet files", files.len().to_string());
    line("rows in files", grouped(rows as f64));
    line("compaction s", format!("{:.2}", compaction.seconds));
    line("compaction CPU s", format!("{:.2}", compaction.cpu));
    let megabytes = sealed.bytes as f64 / 1e6;
    line(
        "MB of log/s per core",
        format!("{:.1}", megabytes / compaction.cpu.max(0.01)),
    );
    line("rows/s", grouped(rows as f64 / compaction.seconds));
    line(
        "bytes written for each that is left",
        format!("{:.2}", compaction.stats.bytes_out as f64 / bytes as f64),
    );
    Ok(format!(
        "{}\n\n{table}\n{} rows of {} hosts in groups of {}, seed {}; {} sealed segments of {} MiB; \
         {} steps, {} merges.",
        machine::describe(),
        grouped(options.rows as f64),
        options.hosts,
        options.group,
        options.seed,
        sealed.segments,
        options.segment_size >> 20,
        compaction.stats.steps,
        compaction.stats.merges
    ))
}
