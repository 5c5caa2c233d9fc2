//! `sensors`: a day of 1,000 slow sensors with late rows, as fast as the log takes it.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::measure::sensors::{Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Writes and compacts a simulated day and prints a Markdown table, a line for every few hours.
#[derive(Debug, Parser)]
struct Args {
    /// Where log and files are written; by default beside the build.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Devices, each with one row a minute.
    #[arg(long, default_value_t = 1000)]
    devices: u32,
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
    #[arg(long, default_value_t = 4)]
    segment_mib: u32,
    /// Chooses which rows are late, and by how much.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        dir: args.dir,
        devices: args.devices.into(),
        hours: args.hours,
        every: args.every,
        late: args.late,
        group: args.group,
        segment_size: u64::from(args.segment_mib.max(1)) << 20,
        seed: args.seed,
    })?;
    println!("{table}");
    Ok(())
}
