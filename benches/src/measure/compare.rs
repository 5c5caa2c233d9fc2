//! Headwater beside the do-nothing server and Mosquitto, in one run and under the same load.
//!
//! Also what one secondary costs the primary; what compaction costs it is in `compacting.rs`. Rounds alternate the order, so that a machine that gets
//! slower does not look like a server that is slower.

use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::load::conn::Peers;
use crate::load::generator::{self, Extent, Report};
use crate::load::packet::Version;
use crate::machine;
use crate::node::Headwater;
use crate::node::process::{Server, start_mosquitto, start_noop};
use crate::stats::{Table, grouped, median};

/// A secondary that lags more than this when the load ends has failed.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

const CATCH_UP_POLL: Duration = Duration::from_millis(20);

/// Connections and messages in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regime {
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

/// One comparison.
#[derive(Clone, Debug)]
pub struct Options {
    /// How Headwater is started.
    pub headwater: Headwater,
    /// The loads.
    pub regimes: Vec<Regime>,
    /// Rounds; medians are reported.
    pub rounds: usize,
    /// Full load before measuring.
    pub warmup: Duration,
    /// Measured per server, regime and round.
    pub measured: Duration,
    /// Messages per second instead of as many as possible.
    pub rate: Option<f64>,
    /// Generator threads.
    pub threads: usize,
    /// Worker threads of the do-nothing server; one per core without it.
    pub workers: Option<usize>,
    /// The protocol.
    pub version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Noop,
    Headwater,
    Mosquitto,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Noop => "do-nothing",
            Self::Headwater => "Headwater",
            Self::Mosquitto => "Mosquitto, nothing durable",
        }
    }
}

/// All rounds of one server or set-up under one load.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) rates: Vec<f64>,
    pub(crate) cpu: Vec<f64>,
    own_cpu: Vec<f64>,
    p50: Vec<f64>,
    pub(crate) p99: Vec<f64>,
}

impl Rounds {
    pub(crate) fn add(&mut self, report: &Report, cpu_per_million: f64) {
        self.rates.push(report.rate());
        self.cpu.push(cpu_per_million);
        self.own_cpu
            .push(report.own_cpu * 1e6 / report.messages as f64);
        self.p50.push(report.latency.p50 / 1e3);
        self.p99.push(report.latency.p99 / 1e3);
    }
}

/// Measures every server in every regime: a Markdown table.
///
/// # Errors
/// When a server does not start, fails or breaks the protocol.
pub fn servers(options: &Options) -> Result<String, BenchError> {
    let mut kinds = vec![Kind::Noop, Kind::Headwater];
    if start_mosquitto(&options.headwater.dir)?.is_some() {
        kinds.push(Kind::Mosquitto);
    }
    let mut table = Table::new(&[
        "server",
        "regime",
        "messages/s",
        "of do-nothing",
        "CPU s per million",
        "p50 ms",
        "p99 ms",
        "generator CPU s per million",
    ]);
    for &regime in &options.regimes {
        let mut all: Vec<Rounds> = kinds.iter().map(|_| Rounds::default()).collect();
        for round in 0..options.rounds {
            for index in order(kinds.len(), round) {
                let report = measure(options, kinds[index], regime)?;
                eprintln!(
                    "{} {regime} round {}: {}",
                    kinds[index].name(),
                    round + 1,
                    report.json()
                );
                let cpu = report.server_cpu_per_million().unwrap_or(0.0);
                all[index].add(&report, cpu);
            }
        }
        let limit = median(&all[0].rates);
        for (kind, rounds) in kinds.iter().zip(&all) {
            table.row(&[
                kind.name().to_owned(),
                regime.to_string(),
                grouped(median(&rounds.rates)),
                format!("{:.2}", median(&rounds.rates) / limit),
                format!("{:.2}", median(&rounds.cpu)),
                format!("{:.2}", median(&rounds.p50)),
                format!("{:.2}", median(&rounds.p99)),
                format!("{:.2}", median(&rounds.own_cpu)),
            ]);
        }
    }
    Ok(format!("{}\n\n{table}", machine::describe()))
}

/// Measures a primary alone and with one secondary: a Markdown table of CPU per message.
///
/// The CPU time counts until the secondary has everything, so shipping cannot be put off.
///
/// # Errors
/// When a node does not start or fails, or the secondary does not catch up.
pub fn with_secondary(options: &Options) -> Result<String, BenchError> {
    let mut table = Table::new(&[
        "primary",
        "regime",
        "messages/s",
        "CPU s per million",
        "of alone",
        "p99 ms",
    ]);
    for &regime in &options.regimes {
        let mut all = [Rounds::default(), Rounds::default()];
        for round in 0..options.rounds {
            for index in order(all.len(), round) {
                let (report, cpu) = measure_primary(options, regime, index == 1)?;
                eprintln!(
                    "{index} secondaries, {regime}, {cpu:.2} CPU s: {}",
                    report.json()
                );
                all[index].add(&report, cpu);
            }
        }
        let alone = median(&all[0].cpu);
        for (name, rounds) in ["alone", "with 1 secondary"].iter().zip(&all) {
            table.row(&[
                (*name).to_owned(),
                regime.to_string(),
                grouped(median(&rounds.rates)),
                format!("{:.2}", median(&rounds.cpu)),
                format!("{:.2}", median(&rounds.cpu) / alone),
                format!("{:.2}", median(&rounds.p99)),
            ]);
        }
    }
    Ok(format!("{}\n\n{table}", machine::describe()))
}

/// Indices forwards in even rounds, backwards in odd ones.
pub(crate) fn order(count: usize, round: usize) -> Vec<usize> {
    let forwards = 0..count;
    if round.is_multiple_of(2) {
        forwards.collect()
    } else {
        forwards.rev().collect()
    }
}

/// A fresh server under one load.
fn measure(options: &Options, kind: Kind, regime: Regime) -> Result<Report, BenchError> {
    let dir = &options.headwater.dir;
    let server: Server = match kind {
        Kind::Noop => start_noop(dir, options.workers)?,
        Kind::Mosquitto => start_mosquitto(dir)?
            .ok_or_else(|| BenchError::Usage("mosquitto is gone from PATH".to_owned()))?,
        Kind::Headwater => {
            let primary = options.headwater.primary()?;
            return generator::run(&load_options(
                options,
                regime,
                primary.mqtt,
                primary.process.pid(),
            ));
        }
    };
    generator::run(&load_options(
        options,
        regime,
        server.mqtt,
        server.process.pid(),
    ))
}

/// A fresh primary under one load: its CPU seconds per million messages, everything included.
fn measure_primary(
    options: &Options,
    regime: Regime,
    ship: bool,
) -> Result<(Report, f64), BenchError> {
    let headwater = &options.headwater;
    let primary = headwater.shipping_primary()?;
    let secondary = if ship {
        let mut secondary = headwater.secondary(&primary)?;
        secondary.wait_ready()?;
        Some(secondary)
    } else {
        None
    };
    let before = primary.process.cpu_seconds()?;
    let load = load_options(options, regime, primary.mqtt, primary.process.pid());
    let report = generator::run(&load)?;
    let drained = Instant::now();
    if let Some(secondary) = &secondary {
        secondary.wait_lsn(primary.lsn()?, CATCH_UP_POLL, CATCH_UP_LIMIT)?;
        eprintln!(
            "caught up {:.2} s after the last PUBACK",
            drained.elapsed().as_secs_f64()
        );
    }
    let cpu = primary.process.cpu_seconds()? - before;
    Ok((report.clone(), cpu * 1e6 / report.all_messages as f64))
}

pub(crate) fn load_options(
    options: &Options,
    regime: Regime,
    server: std::net::SocketAddr,
    pid: u32,
) -> generator::Options {
    generator::Options {
        peers: Peers {
            server,
            version: options.version,
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

    #[test]
    fn rounds_alternate() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
    }
}
