//! The load generator by hand, against a server that already runs. Must never reach beyond
//! loopback.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::error::BenchError;
use crate::load::conn::{Peers, loopback};
use crate::load::generator::{self, Extent};
use crate::measure::args::{ProtocolArgs, seconds};

/// Publishes QoS 1 readings of devices to one MQTT server, and prints one line of JSON.
#[derive(Debug, Args)]
pub struct Options {
    /// The MQTT server, a loopback address.
    #[arg(long, default_value = "127.0.0.1:1883", value_parser = loopback)]
    server: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 64)]
    window: u16,
    /// Ends after so many messages and measures all of them.
    #[arg(long, conflicts_with_all = ["measured", "warmup"])]
    messages: Option<u64>,
    /// Seconds to measure.
    #[arg(long = "seconds", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    measured: Duration,
    /// Seconds at full load before measuring.
    #[arg(long, default_value = "1", value_parser = seconds)]
    warmup: Duration,
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

/// Publishes: one line of JSON.
///
/// # Errors
/// When the server refuses, breaks the protocol or does not acknowledge everything.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    let report = generator::run(&generator::Options {
        peers: Peers {
            server: options.server,
            version: options.protocol.version(),
            rows: options.rows,
            window: options.window,
            connections: options.connections,
            table: options.table.clone(),
            sites: options.sites,
        },
        threads: options.threads,
        extent: match options.messages {
            Some(messages) => Extent::Messages(messages),
            None => Extent::Time {
                warmup: options.warmup,
                measured: options.measured,
            },
        },
        rate: options.rate,
        sample_every: options.sample_every,
        server_pid: options.server_pid,
    })?;
    Ok(report.json().to_string())
}
