//! `transfer`: catch-up by log and snapshot join beside plain quinn and TCP + TLS, on good and bad lines.

use std::process::ExitCode;

use benches::measure::args::{NodeArgs, command, seconds};
use benches::measure::transfer::{Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Moves the same number of bytes in four ways and prints a Markdown table.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    nodes: NodeArgs,
    /// Mebibytes of log.
    #[arg(long, default_value_t = 256)]
    mib: u32,
    /// Percent of the packets that are lost in each direction, as often as needed.
    #[arg(long = "loss", default_values = ["0", "1", "5"])]
    losses: Vec<f64>,
    /// Milliseconds a packet travels each way.
    #[arg(long, default_value_t = 0)]
    delay_ms: u16,
    /// Chooses bytes and lost packets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Longest time of one transfer; what has arrived by then counts.
    #[arg(long, default_value_t = 120.0)]
    limit_seconds: f64,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        headwater: args.nodes.open()?,
        bytes: u64::from(args.mib.max(1)) << 20,
        losses: args.losses.iter().map(|percent| percent / 100.0).collect(),
        delay: std::time::Duration::from_millis(args.delay_ms.into()),
        seed: args.seed,
        rounds: args.rounds.max(1),
        limit: seconds(args.limit_seconds)?,
    })?;
    println!("{table}\n\n    {}", command());
    Ok(())
}
