//! `compare`: Headwater beside the do-nothing server, or a primary alone beside one with a secondary
//! or one that compacts its log.

use std::process::ExitCode;

use benches::measure::args::{NodeArgs, ProtocolArgs, seconds};
use benches::measure::compacting::with_compaction;
use benches::measure::compare::{Options, Regime, servers, with_secondary};
use benches::{BenchError, finish};
use clap::Parser;

/// Measures acknowledged messages per second and CPU per message, and prints a Markdown table.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    nodes: NodeArgs,
    /// CONNECTIONSxWINDOW, as often as needed.
    #[arg(long = "regime", default_values = ["50x64", "1000x1"])]
    regimes: Vec<Regime>,
    /// Rounds; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds measured per server, regime and round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds at full load before measuring.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Messages per second; without it, as many as the windows allow.
    #[arg(long)]
    rate: Option<f64>,
    /// Generator threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Worker threads of the do-nothing server and of Headwater; by default one per core.
    #[arg(long)]
    workers: Option<usize>,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Compares a primary alone with the same primary and one secondary.
    #[arg(long)]
    with_secondary: bool,
    /// Compares a primary whose segments are never sealed with one that compacts while it ingests.
    #[arg(long, conflicts_with = "with_secondary")]
    with_compaction: bool,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let mut nodes = args.nodes;
    nodes.set.extend(
        args.workers
            .map(|workers| format!("mqtt.workers={workers}")),
    );
    let options = Options {
        warmup: seconds(args.warmup)?,
        measured: seconds(args.seconds)?,
        headwater: nodes.open()?,
        regimes: args.regimes,
        rounds: args.rounds.max(1),
        rate: args.rate,
        threads: args.threads,
        workers: args.workers,
        version: args.protocol.version(),
    };
    let table = if args.with_secondary {
        with_secondary(&options)?
    } else if args.with_compaction {
        with_compaction(&options)?
    } else {
        servers(&options)?
    };
    println!("{table}");
    Ok(())
}
