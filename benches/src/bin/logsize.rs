//! `logsize`: log bytes per row at 1, 10, 100 and 1,000 rows per group.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::measure::logsize::{Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Writes logs with groups of fixed sizes and prints a Markdown table.
#[derive(Debug, Parser)]
struct Args {
    /// Where the logs are written; by default beside the build.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Rows per group, as often as needed.
    #[arg(long = "size", default_values = ["1", "10", "100", "1000"])]
    sizes: Vec<usize>,
    /// Groups of each size, each with its own fsync.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Devices the rows come from.
    #[arg(long, default_value_t = 1000)]
    devices: usize,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        dir: args.dir,
        sizes: args.sizes,
        groups: args.groups,
        devices: args.devices,
    })?;
    println!("{table}");
    Ok(())
}
