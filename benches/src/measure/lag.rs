//! Commit to visible on a secondary at several rates, quietly and while others join from
//! nothing.
//!
//! Primary and secondary begin with the same log, compacted, so that a join moves many bytes.
//! During the second measurement at each rate one fresh secondary after the other joins,
//! back-fills, and is ended, until the time is over: what a live secondary pays for others'
//! back-fill is the difference. Must never use the nodes of one rate for another.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::BenchError;
use crate::load::generator::sleep_until;
use crate::load::rows::{Filler, log_bytes};
use crate::machine;
use crate::measure::args::{ProtocolArgs, mebibytes, seconds};
use crate::measure::visible::{Observed, Script, observe};
use crate::node::{Follow, Headwater, Primary, Secondary};
use crate::stats::{Spread, Table, grouped};

/// Rows per second, and how many of them travel in one message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Rows per second.
    pub rows_per_second: f64,
    /// Rows of one message.
    pub per_message: u16,
}

impl std::str::FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rows, per_message) = text.split_once('x').unwrap_or((text, "1"));
        let pace = Self {
            rows_per_second: rows.parse().map_err(|error| format!("{rows}: {error}"))?,
            per_message: per_message
                .parse()
                .map_err(|error| format!("{per_message}: {error}"))?,
        };
        if pace.rows_per_second.is_finite() && pace.rows_per_second > 0.0 && pace.per_message > 0 {
            Ok(pace)
        } else {
            Err("write it as 50000x10: rows per second, and rows in each message".to_owned())
        }
    }
}

/// Times commit to visible on a secondary at several rates, with and without others that join.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    headwater: Headwater,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Rows per second x rows in each message, as often as needed.
    #[arg(long = "rate", default_values = ["1000x1", "10000x1", "50000x10"])]
    paces: Vec<Pace>,
    /// Connections.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Mebibytes of log that are there from the start, for others to back-fill.
    #[arg(
        long = "backfill-mib",
        value_name = "BACKFILL_MIB",
        default_value = "256",
        value_parser = mebibytes
    )]
    backfill: u64,
    /// Seconds to measure, for each rate with and without joins.
    #[arg(long = "seconds", value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    measured: Duration,
    /// Seconds before measuring.
    #[arg(long, default_value = "3", value_parser = seconds)]
    warmup: Duration,
}

/// The joins during one measurement.
#[derive(Debug, Default)]
struct Joins {
    /// Seconds of each that came to its end.
    seconds: Vec<f64>,
}

/// Measures every rate without and with joins: a Markdown table.
///
/// # Errors
/// When a node does not start, fails, or loses a row.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    let mut table = Table::new(&[
        "rows/s",
        "joins meanwhile",
        "PUBACK to visible p50 ms",
        "p99 ms",
        "max ms",
        "publish to visible p50 ms",
        "p99 ms",
        "max ms",
        "probes",
        "messages late",
        "seconds per join",
    ]);
    for &pace in &options.paces {
        for joining in [false, true] {
            let (observed, joins) = run(options, pace, joining)?;
            let spread = Spread::of(joins.seconds);
            let cells = cells(pace, &observed, joining, &spread);
            eprintln!("{}", cells.join("  "));
            table.row(&cells);
        }
    }
    Ok(format!(
        "{}\n\n{table}\n{} MiB of log from the start; {} connections; {:.0} s measured after {:.0} s; \
         rows per message: {}.",
        machine::describe(),
        options.backfill >> 20,
        options.connections,
        options.measured.as_secs_f64(),
        options.warmup.as_secs_f64(),
        options
            .paces
            .iter()
            .map(|pace| pace.per_message.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

fn cells(pace: Pace, observed: &Observed, joining: bool, joins: &Spread) -> Vec<String> {
    let mut cells = vec![
        grouped(pace.rows_per_second),
        if joining {
            joins.count.to_string()
        } else {
            "none".to_owned()
        },
    ];
    for spread in [observed.from_ack, observed.from_publish] {
        cells.extend([spread.p50, spread.p99, spread.max].map(|value| format!("{value:.1}")));
    }
    cells.push(observed.from_publish.count.to_string());
    cells.push(observed.fleet.late.to_string());
    cells.push(if joining {
        format!("{:.1}", joins.p50)
    } else {
        "-".to_owned()
    });
    cells
}

/// Fresh nodes at one rate.
fn run(options: &Options, pace: Pace, joining: bool) -> Result<(Observed, Joins), BenchError> {
    let headwater = &options.headwater;
    let dir = headwater.data.temp("lag")?;
    let data = dir.path().join("data");
    let mut filler = Filler::create(&data, DEVICES)?;
    filler.bytes(options.backfill, DEVICES)?;
    eprintln!("{} bytes of log", log_bytes(&filler.log()));
    filler.close()?;
    let primary = headwater.shipping_primary_over(&data)?;
    let secondary = headwater.secondary(&primary)?;
    secondary.wait_lsn(primary.lsn()?, POLL, CATCH_UP_LIMIT)?;
    wait_quiet(&primary, &secondary)?;
    let script = Script {
        rate: pace.rows_per_second / f64::from(pace.per_message),
        rows: pace.per_message,
        connections: options.connections,
        warmup: options.warmup,
        measured: options.measured,
        probe_every: Duration::from_millis(10),
        poll_every: Duration::from_micros(500),
        protocol: options.protocol,
    };
    let from = Instant::now() + options.warmup;
    let to = from + options.measured;
    thread::scope(|scope| {
        let joins = joining.then(|| scope.spawn(|| join_until(headwater, &primary, from, to)));
        let observed = observe(&primary, &secondary, &script)?;
        let joins = match joins {
            Some(joins) => joins
                .join()
                .map_err(|_| BenchError::Invalid("the joining thread panicked".to_owned()))??,
            None => Joins::default(),
        };
        Ok((observed, joins))
    })
}

/// One fresh secondary after the other; the last one is ended with the time.
fn join_until(
    headwater: &Headwater,
    primary: &Primary,
    from: Instant,
    to: Instant,
) -> Result<Joins, BenchError> {
    let mut joins = Joins::default();
    sleep_until(from);
    loop {
        let started = Instant::now();
        if started >= to {
            return Ok(joins);
        }
        let follow = Follow {
            name: "joiner",
            ..Follow::default()
        };
        let joiner = headwater.follow(primary, &follow)?;
        // What was there when it began; the rest is live for it too.
        if joiner.reaches(primary.lsn()?, POLL, to.saturating_duration_since(started)) {
            joins.seconds.push(started.elapsed().as_secs_f64());
        }
    }
}

/// Waits until neither node compacts any more.
fn wait_quiet(primary: &Primary, secondary: &Secondary) -> Result<(), BenchError> {
    let limit = Instant::now() + QUIET_LIMIT;
    for http in [&primary.http, &secondary.http] {
        while http.status_number("backlog_bytes")? > 0 {
            if Instant::now() >= limit {
                return Err(BenchError::Invalid(
                    "compaction did not end in time".to_owned(),
                ));
            }
            thread::sleep(POLL);
        }
    }
    Ok(())
}

/// Devices and rows per group of the log that is there from the start.
const DEVICES: usize = 1000;

const POLL: Duration = Duration::from_millis(20);

/// A secondary that takes longer has failed.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(300);

/// Compaction of the log that is there from the start must end within this time.
const QUIET_LIMIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_rows_and_how_they_are_put_into_messages() {
        let pace: Pace = "50000x10".parse().unwrap();
        assert_eq!((pace.rows_per_second, pace.per_message), (50_000.0, 10));
        assert_eq!("1000".parse::<Pace>().unwrap().per_message, 1);
        for wrong in ["", "x", "0", "-1x1", "NaN", "10x0", "10x70000"] {
            assert!(wrong.parse::<Pace>().is_err(), "{wrong}");
        }
    }
}
