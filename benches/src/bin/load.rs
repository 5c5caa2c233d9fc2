//! `load`: publishes to one MQTT server on loopback and prints one line of JSON.

use std::process::ExitCode;

use benches::load::conn::{Peers, loopback};
use benches::load::generator::{Extent, Options, run};
use benches::measure::args::{ProtocolArgs, seconds};
use benches::{BenchError, finish};
use clap::Parser;

/// Publishes QoS 1 readings of devices and measures the acknowledgements.
#[derive(Debug, Parser)]
struct Args {
    /// The MQTT server, a loopback address.
    #[arg(long, default_value = "127.0.0.1:1883")]
    server: String,
    /// Connections.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 64)]
    window: u16,
    /// Ends after so many messages and measures all of them.
    #[arg(long, conflicts_with_all = ["seconds", "warmup"])]
    messages: Option<u64>,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10.0)]
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
    /// Times one message in so many per connection.
    #[arg(long, default_value_t = 64)]
    sample_every: u64,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Readings in each message, 1 to 1000.
    #[arg(long, default_value_t = 1)]
    rows: u16,
    /// First topic level: the table.
    #[arg(long, default_value = "bench")]
    table: String,
    /// Second topic levels to spread the devices over.
    #[arg(long, default_value_t = 10)]
    sites: usize,
    /// The server's process id: reports its CPU time too.
    #[arg(long)]
    server_pid: Option<u32>,
}

fn main() -> ExitCode {
    finish(start(&Args::parse()))
}

fn start(args: &Args) -> Result<(), BenchError> {
    let extent = match args.messages {
        Some(messages) => Extent::Messages(messages),
        None => Extent::Time {
            warmup: seconds(args.warmup)?,
            measured: seconds(args.seconds)?,
        },
    };
    let report = run(&Options {
        peers: Peers {
            server: loopback(&args.server)?,
            version: args.protocol.version(),
            rows: args.rows,
            window: args.window,
            connections: args.connections,
            table: args.table.clone(),
            sites: args.sites,
        },
        threads: args.threads,
        extent,
        rate: args.rate,
        sample_every: args.sample_every,
        server_pid: args.server_pid,
    })?;
    println!("{}", report.json());
    Ok(())
}
