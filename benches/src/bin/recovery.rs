//! `recovery`: how long a primary needs to open logs of 1, 5 and 20 GiB.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::measure::recovery::{Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Writes a log, opens it at each size and prints a Markdown table. Removes the log at the end.
#[derive(Debug, Parser)]
struct Args {
    /// Where the log is written, with room for the largest size; by default beside the build.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Gibibytes of log, as often as needed; one log grows from size to size.
    #[arg(long = "gib", default_values = ["1", "5", "20"])]
    sizes: Vec<f64>,
    /// Mebibytes of a segment.
    #[arg(long, default_value_t = 64)]
    segment_mib: u32,
    /// Times the log is opened at each size; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        dir: args.dir,
        sizes: args
            .sizes
            .iter()
            .map(|gib| (gib * f64::from(1 << 30)) as u64)
            .collect(),
        segment_size: u64::from(args.segment_mib.max(1)) << 20,
        rounds: args.rounds.max(1),
    })?;
    println!("{table}");
    Ok(())
}
