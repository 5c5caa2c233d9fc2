//! `lag`: commit to visible in SQL on a secondary at several rates, with and without joins.

use std::process::ExitCode;
use std::time::Duration;

use benches::measure::args::{NodeArgs, ProtocolArgs, command};
use benches::measure::lag::{Options, Pace, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Starts nodes anew for each rate, watches a secondary, and prints a Markdown table.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Rows per second x rows in each message, as often as needed.
    #[arg(long = "rate", default_values = ["1000x1", "10000x1", "50000x10"])]
    paces: Vec<Pace>,
    /// Connections.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Mebibytes of log that are there from the start, for others to back-fill.
    #[arg(long, default_value_t = 256)]
    backfill_mib: u32,
    /// Seconds to measure, for each rate with and without joins.
    #[arg(long, default_value_t = 20)]
    seconds: u16,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 3)]
    warmup: u16,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        headwater: args.nodes.open()?,
        paces: args.paces,
        connections: args.connections,
        backfill: u64::from(args.backfill_mib.max(1)) << 20,
        warmup: Duration::from_secs(args.warmup.into()),
        measured: Duration::from_secs(args.seconds.max(1).into()),
        version: args.protocol.version(),
    })?;
    println!("{table}\n\n    {}", command());
    Ok(())
}
