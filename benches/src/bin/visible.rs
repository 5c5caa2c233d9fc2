//! `visible`: the time from publish to visible in SQL on a secondary, at a fixed rate.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::node::Headwater;
use benches::packet::Version;
use benches::visible::{Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Starts a primary and a secondary, publishes at a fixed rate and watches the secondary.
#[derive(Debug, Parser)]
struct Args {
    /// The released binary; by default the one beside this program.
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// Where data goes; by default beside the build.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// `section.key=value` for the primary, as often as needed.
    #[arg(long)]
    set: Vec<String>,
    /// Messages per second.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
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
    /// Speaks MQTT 5 instead of 3.1.1.
    #[arg(long)]
    v5: bool,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let table = measure(&Options {
        headwater: Headwater::new(args.headwater, args.dir, args.set)?,
        rate: args.rate,
        connections: args.connections,
        warmup: Duration::from_secs(args.warmup.into()),
        measured: Duration::from_secs(args.seconds.into()),
        probe_every: Duration::from_millis(args.probe_ms.into()),
        poll_every: Duration::from_micros(args.poll_us.into()),
        version: if args.v5 { Version::V5 } else { Version::V3 },
    })?;
    println!("{table}");
    Ok(())
}
