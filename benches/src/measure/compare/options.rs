//! What is compared, and the load that all sides get. Must never give one side another load.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::load::conn::Peers;
use crate::load::generator::{self, Extent};
use crate::measure::args::{ProtocolArgs, rounds, seconds};
use crate::node::Headwater;

/// Measures acknowledged messages per second and CPU per message, beside the do-nothing server.
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    pub(crate) headwater: Headwater,
    /// CONNECTIONSxWINDOW, as often as needed.
    #[arg(long = "regime", default_values = ["50x64", "1000x1"])]
    pub(crate) regimes: Vec<Regime>,
    /// Rounds; medians are printed.
    #[arg(long, default_value = "3", value_parser = rounds)]
    pub(crate) rounds: usize,
    /// Seconds measured per server, regime and round.
    #[arg(long = "seconds", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
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
    /// Worker threads of the do-nothing server and of Headwater; by default one per core.
    #[arg(long)]
    pub(crate) workers: Option<usize>,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Compares a primary alone with the same primary and one secondary.
    #[arg(long)]
    pub(crate) with_secondary: bool,
    /// Compares a primary whose segments are never sealed with one that compacts while it ingests.
    #[arg(long, conflicts_with = "with_secondary")]
    pub(crate) with_compaction: bool,
}

/// Connections and messages in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Regime {
    /// Connections.
    pub connections: usize,
    /// Messages in flight on each connection.
    pub window: u16,
}

impl std::str::FromStr for Regime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (connections, window) = text.split_once('x').ok_or("write it as 50x64")?;
        Ok(Self {
            connections: connections
                .parse()
                .map_err(|error| format!("{connections}: {error}"))?,
            window: window
                .parse()
                .map_err(|error| format!("{window}: {error}"))?,
        })
    }
}

impl std::fmt::Display for Regime {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} x {}", self.connections, self.window)
    }
}

/// The load of one server, which is the process `pid`.
pub(crate) fn load_options(
    options: &Options,
    regime: Regime,
    server: SocketAddr,
    pid: u32,
) -> generator::Options {
    generator::Options {
        peers: Peers {
            server,
            version: options.protocol.version(),
            rows: 1,
            window: regime.window,
            connections: regime.connections,
            table: "bench".to_owned(),
            sites: 10,
        },
        threads: options.threads,
        extent: Extent::Time {
            warmup: options.warmup,
            measured: options.measured,
        },
        rate: options.rate,
        sample_every: 64,
        server_pid: Some(pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regime_reads_as_it_is_written_on_the_command_line() {
        let regime: Regime = "50x64".parse().unwrap();
        assert_eq!(
            regime,
            Regime {
                connections: 50,
                window: 64
            }
        );
        assert_eq!(regime.to_string(), "50 x 64");
        assert!("50".parse::<Regime>().is_err());
    }
}
