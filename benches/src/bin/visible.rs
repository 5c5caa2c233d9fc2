//! `visible`: the time from publish to visible in SQL on a secondary, at a fixed rate.

use std::process::ExitCode;
use std::time::Duration;

use benches::measure::args::{NodeArgs, ProtocolArgs, command};
use benches::measure::visible::{Course, Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Starts a primary and a secondary, publishes at a fixed rate and watches the secondary.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Messages per second.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Rows of each message.
    #[arg(long, default_value_t = 1)]
    rows: u16,
    /// Connections.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 30)]
    seconds: u16,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 3)]
    warmup: u16,
    /// Mean milliseconds between probes.
    #[arg(long, default_value_t = 10)]
    probe_ms: u16,
    /// Microseconds between an answer and the next query.
    #[arg(long, default_value_t = 500)]
    poll_us: u32,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        headwater: args.nodes.open()?,
        course: Course {
            rate: args.rate,
            rows: args.rows,
            connections: args.connections,
            warmup: Duration::from_secs(args.warmup.into()),
            measured: Duration::from_secs(args.seconds.into()),
            probe_every: Duration::from_millis(args.probe_ms.into()),
            poll_every: Duration::from_micros(args.poll_us.into()),
            version: args.protocol.version(),
        },
    })?;
    println!("{table}\n\n    {}", command());
    Ok(())
}
