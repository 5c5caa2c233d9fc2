//! `scan`: SQL over millions of rows in the log, beside plain DataFusion over Parquet.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::measure::scan::{Options, measure};
use benches::{BenchError, finish, machine};
use clap::Parser;

// The product's allocator, for both sides.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Writes the same rows to a log and to Parquet and times the same statements on both.
#[derive(Debug, Parser)]
struct Args {
    /// Where log and Parquet file go; by default beside the build.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Rows.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Rows per group commit.
    #[arg(long, default_value_t = 1000)]
    group: usize,
    /// Devices the rows come from.
    #[arg(long, default_value_t = 1000)]
    devices: usize,
    /// Timed runs of each statement; medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Threads and partitions of both sides; by default one per core.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        dir: args.dir,
        rows: args.rows,
        group: args.group,
        devices: args.devices,
        rounds: args.rounds.max(1),
        threads: args.threads.unwrap_or_else(machine::cores),
    })?;
    println!("{table}");
    Ok(())
}
