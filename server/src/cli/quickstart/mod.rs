//! `headwater quickstart`: a whole cluster with simulated devices in one process, for a first look.
//! It uses real ports, real MQTT and real HTTP; must never leave anything behind unless told where.

mod board;
mod cluster;
mod error;
mod fleet;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use crate::cli::output::{self, say};
use crate::node::parts::runtime;
use crate::signals::{Request, Signals};

use board::Board;
use cluster::Cluster;
use error::QuickstartError;
use fleet::{Fleet, Totals};

/// What a user may choose.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Read-only secondaries to run
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=16)
    )]
    secondaries: u16,
    /// Simulated devices
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    devices: u32,
    /// Messages per second, of all devices together
    #[arg(
        long,
        value_name = "MSGS_PER_S",
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    rate: u32,
    /// End after this long; without it, at Ctrl-C
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Keep the data here; without it, it goes when this ends
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs until `--seconds` or Ctrl-C.
pub(crate) fn run(options: &Options) -> Result<(), QuickstartError> {
    let runtime = runtime()?;
    let result = runtime.block_on(start(options));
    runtime.shutdown_background();
    result
}

async fn start(options: &Options) -> Result<(), QuickstartError> {
    let mut signals = Signals::new()?;
    say!(
        "starting a primary and {} ...",
        count(options.secondaries.into(), "secondary")
    );
    let cluster = Cluster::start(options.data.as_deref(), options.secondaries).await?;
    let outcome = demonstrate(&cluster, options, &mut signals).await;
    let stopped = cluster.stop().await;
    let (totals, stored) = outcome?;
    stopped?;
    say!(
        "{} acknowledged to the devices, {stored} rows on the secondary",
        count(totals.acknowledged, "message")
    );
    if stored < totals.acknowledged {
        let acknowledged = totals.acknowledged;
        return Err(QuickstartError::Missing {
            acknowledged,
            stored,
        });
    }
    Ok(())
}

/// Shows the cluster at work; returns what the devices saw and what the secondary holds of it.
async fn demonstrate(
    cluster: &Cluster,
    options: &Options,
    signals: &mut Signals,
) -> Result<(Totals, u64), QuickstartError> {
    say!("{}", cluster.introduction());
    let mut board = Board::new(cluster.secondary_url())?;
    let before = board.rows().await?;
    let mut fleet = Fleet::start(options.devices, options.rate, cluster.mqtt_addr());
    let end = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let failed = show(cluster, &mut board, signals, end).await;
    say!("stopping ...");
    let totals = fleet.stop().await;
    if let Some(reason) = failed {
        return Err(QuickstartError::Failed(reason));
    }
    let after = board.rows_at(cluster.durable_lsn()).await?;
    Ok((totals, after.saturating_sub(before)))
}

/// Prints the board until the end; returns why the log has failed, if it has.
async fn show(
    cluster: &Cluster,
    board: &mut Board,
    signals: &mut Signals,
    end: Option<Instant>,
) -> Option<String> {
    let mut ticks = tokio::time::interval_at(Instant::now() + PERIOD, PERIOD);
    loop {
        tokio::select! {
            biased;
            request = signals.next() => if !matches!(request, Request::Nothing(_)) {
                return None;
            },
            reason = cluster.failed() => return Some(reason),
            () = until(end) => return None,
            _ = ticks.tick() => {
                board.print().await;
                // Nobody looks any more.
                if output::is_lost() {
                    return None;
                }
            }
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn count(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// Time between two boards.
const PERIOD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_agree_with_their_number() {
        assert_eq!(count(1, "secondary"), "1 secondary");
        assert_eq!(count(3, "secondary"), "3 secondaries");
        assert_eq!(count(0, "message"), "0 messages");
    }
}
