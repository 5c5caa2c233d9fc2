//! `catchup`: how fast a fresh secondary takes a primary's log, beside plain quinn.

use std::process::ExitCode;

use benches::measure::args::{NodeArgs, command};
use benches::measure::catchup::{Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Fills a log, starts a primary on it, and times secondaries that start with an empty disk.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    nodes: NodeArgs,
    /// Mebibytes of log.
    #[arg(long, default_value_t = 1024)]
    mib: u32,
    /// Rows per group commit.
    #[arg(long, default_value_t = 1000)]
    group: usize,
    /// Devices the rows come from.
    #[arg(long, default_value_t = 1000)]
    devices: usize,
    /// Rounds; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        headwater: args.nodes.open()?,
        bytes: u64::from(args.mib.max(1)) << 20,
        group: args.group,
        devices: args.devices,
        rounds: args.rounds.max(1),
    })?;
    println!("{table}\n\n    {}", command());
    Ok(())
}
