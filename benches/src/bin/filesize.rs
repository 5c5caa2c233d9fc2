//! `filesize`: bytes per row of a TSBS-like `cpu` table, in the log and in Parquet files.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::measure::filesize::{Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Writes a log, compacts it and prints a Markdown table.
#[derive(Debug, Parser)]
struct Args {
    /// Where log and files are written; by default beside the build.
    #[arg(long)]
    dir: Option<PathBuf>,
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
    #[arg(long, default_value_t = 16)]
    segment_mib: u32,
    /// Chooses the rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the same rows to this file, for `benches/peers/size.py`.
    #[arg(long)]
    csv: Option<PathBuf>,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        dir: args.dir,
        rows: args.rows,
        hosts: args.hosts,
        group: args.group,
        segment_size: u64::from(args.segment_mib.max(1)) << 20,
        seed: args.seed,
        csv: args.csv,
    })?;
    println!("{table}");
    Ok(())
}
