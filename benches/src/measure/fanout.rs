//! What those who follow a primary cost it: nobody, real secondaries, light followers directly
//! and over relays, and one that stops reading.
//!
//! Each measurement has fresh nodes, and must never stop counting before everybody has
//! everything, so that shipping cannot be put off. In every round the order is rotated, so that
//! a machine that gets slower does not look like a crowd that is dearer. Segments are so long
//! that none is sealed: nobody compacts.

use std::fmt;
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::BenchError;
use crate::load::conn::Peers;
use crate::load::generator::{self, Extent};
use crate::load::lights::{Lights, MOST_FOLLOWERS, Plan};
use crate::machine::{self, Traffic};
use crate::measure::args::{ProtocolArgs, rounds};
use crate::node::peak::{Peak, Watch};
use crate::node::{Follow, Headwater, Primary, Secondary};
use crate::stats::{Table, grouped, median};

/// Who follows the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// Real secondaries, processes of their own.
    Secondaries(usize),
    /// Light followers in this process, directly or spread over relays.
    Light {
        /// How many.
        followers: usize,
        /// Real secondaries between them and the primary; 0: none.
        relays: usize,
    },
    /// One light follower that reads nothing after the handshake.
    Stalled,
}

impl Crowd {
    /// How many receive the log from the primary itself.
    fn direct(self) -> usize {
        match self {
            Self::Secondaries(count) => count,
            Self::Light {
                followers,
                relays: 0,
            } => followers,
            Self::Light { relays, .. } => relays,
            Self::Stalled => 0,
        }
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secondaries(0) => out.write_str("nobody"),
            Self::Secondaries(1) => out.write_str("1 secondary"),
            Self::Secondaries(count) => write!(out, "{count} secondaries"),
            Self::Light {
                followers,
                relays: 0,
            } => write!(out, "{} light", grouped(*followers as f64)),
            Self::Light { followers, relays } => {
                write!(
                    out,
                    "{} light over {relays} relays",
                    grouped(*followers as f64)
                )
            }
            Self::Stalled => out.write_str("1 light, stalled"),
        }
    }
}

/// What is published in one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Rows in all.
    pub rows: u64,
    /// Rows per second; `None`: as many as the windows allow.
    pub rate: Option<f64>,
    /// Rows of each message.
    pub per_message: u16,
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} rows, ", grouped(self.rows as f64))?;
        match self.rate {
            Some(rate) => write!(out, "{} rows/s", grouped(rate))?,
            None => out.write_str("as fast as they are acknowledged")?,
        }
        write!(out, ", {} per message", self.per_message)
    }
}

/// Publishes the same rows to a primary that nobody follows and to one that many follow.
///
/// Real secondaries are processes, light followers live in this one.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    headwater: Headwater,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Real secondaries, as often as needed; without any crowd: 0, 1, 2, 4, 8, 16 and 32.
    #[arg(long)]
    secondaries: Vec<usize>,
    /// Light followers of the primary itself, as often as needed.
    #[arg(long)]
    light: Vec<usize>,
    /// Measures each number of light followers over so many relays too.
    #[arg(long, default_value_t = 0, requires = "light")]
    relays: usize,
    /// Measures one light follower that reads, and one that stops reading after the handshake.
    #[arg(long)]
    stalled: bool,
    /// Rows published at a fixed rate; 0: none.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// Rows per second of these.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Rounds with them; medians are printed.
    #[arg(long, default_value = "3", value_parser = rounds)]
    rounds: usize,
    /// Rows published as fast as they are acknowledged; 0: none.
    #[arg(long, default_value_t = 1_000_000)]
    flood_rows: u64,
    /// Rounds with these.
    #[arg(long, default_value = "1", value_parser = rounds)]
    flood_rounds: usize,
    /// Rows of each message.
    #[arg(long, default_value_t = 10)]
    per_message: u16,
    /// Connections of the generator.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 64)]
    window: u16,
}

impl Options {
    /// The loads, each with how many rounds.
    fn loads(&self) -> impl Iterator<Item = (Load, usize)> {
        [
            (self.rows, Some(self.rate), self.rounds),
            (self.flood_rows, None, self.flood_rounds),
        ]
        .into_iter()
        .filter(|(rows, _, _)| *rows > 0)
        .map(|(rows, rate, rounds)| {
            let per_message = self.per_message;
            let load = Load {
                rows,
                rate,
                per_message,
            };
            (load, rounds)
        })
    }

    /// Nobody first: what all others are compared with.
    fn crowds(&self) -> Result<Vec<Crowd>, BenchError> {
        let mut secondaries = self.secondaries.clone();
        if secondaries.is_empty() && self.light.is_empty() && !self.stalled {
            secondaries = vec![1, 2, 4, 8, 16, 32];
        }
        if secondaries.iter().any(|count| *count > MOST_SECONDARIES)
            || self.light.iter().any(|count| *count > MOST_FOLLOWERS)
            || self.relays > MOST_SECONDARIES
        {
            return Err(BenchError::Usage(format!(
                "at most {MOST_SECONDARIES} secondaries or relays and {MOST_FOLLOWERS} light followers"
            )));
        }
        let mut crowds = vec![Crowd::Secondaries(0)];
        crowds.extend(secondaries.into_iter().map(Crowd::Secondaries));
        for &followers in &self.light {
            for relays in [0, self.relays] {
                crowds.push(Crowd::Light { followers, relays });
            }
        }
        if self.stalled {
            crowds.push(Crowd::Light {
                followers: 1,
                relays: 0,
            });
            crowds.push(Crowd::Stalled);
        }
        let mut distinct = Vec::with_capacity(crowds.len());
        for crowd in crowds {
            if !distinct.contains(&crowd) {
                distinct.push(crowd);
            }
        }
        Ok(distinct)
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rows_per_second: f64,
    /// CPU seconds of the primary per million rows.
    cpu: f64,
    peak: Peak,
    /// From the last PUBACK until everybody had everything.
    drain: f64,
    /// Bytes of log the load made.
    log: u64,
    /// What the light followers received.
    light: u64,
    /// All that went over loopback, MQTT included.
    traffic: Traffic,
    late: u64,
}

/// Everybody who follows a primary.
#[derive(Debug)]
struct Followers {
    secondaries: Vec<Secondary>,
    lights: Option<Lights>,
    stalled: bool,
}

/// Measures every crowd under every load: a Markdown table each.
///
/// # Errors
/// When a node does not start or fails, or somebody does not get everything.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    let crowds = options.crowds()?;
    let mut text = machine::describe();
    for (load, rounds) in options.loads() {
        let mut all: Vec<Vec<Sample>> = vec![Vec::new(); crowds.len()];
        for round in 0..rounds {
            for index in rotated(crowds.len(), round) {
                let crowd = crowds[index];
                let sample = run(options, crowd, load)?;
                eprintln!("{crowd}, {load}, round {}: {sample:?}", round + 1);
                all[index].push(sample);
            }
        }
        let table = render(&crowds, &all);
        text.push_str(&format!("\n\n{load}, {rounds} rounds:\n\n{table}"));
    }
    text.push_str(&format!(
        "\n{} connections with {} messages in flight each. {}.",
        options.connections,
        options.window,
        SET.join(", ")
    ));
    Ok(text)
}

/// All indices, beginning with another one in each round.
fn rotated(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| (index + round) % count)
}

/// A fresh primary with its crowd under one load.
fn run(options: &Options, crowd: Crowd, load: Load) -> Result<Sample, BenchError> {
    let headwater = options.headwater.with_defaults(&SET);
    let primary = headwater.shipping_primary()?;
    let followers = gather(&headwater, &primary, crowd)?;
    let watch = Watch::start(primary.process.pid());
    let (cpu, traffic) = (primary.process.cpu_seconds()?, machine::loopback_traffic()?);
    let log = primary.http.status_number("segment_bytes")?;
    let report = generator::run(&load_options(options, &primary, load))?;
    let acknowledged = Instant::now();
    followers.wait(primary.lsn()?)?;
    let drain = acknowledged.elapsed().as_secs_f64();
    let cpu = primary.process.cpu_seconds()? - cpu;
    let traffic = machine::loopback_traffic()?.since(traffic);
    let rows = report.all_messages * u64::from(load.per_message);
    Ok(Sample {
        rows_per_second: report.rate() * f64::from(load.per_message),
        cpu: cpu * 1e6 / rows as f64,
        peak: watch.finish()?,
        drain,
        log: primary
            .http
            .status_number("segment_bytes")?
            .saturating_sub(log),
        light: followers.lights.as_ref().map_or(0, Lights::bytes),
        traffic,
        late: report.late,
    })
}

fn load_options(options: &Options, primary: &Primary, load: Load) -> generator::Options {
    let per_message = u64::from(load.per_message.max(1));
    generator::Options {
        peers: Peers {
            server: primary.mqtt,
            version: options.protocol.version(),
            rows: load.per_message,
            window: options.window,
            connections: options.connections,
            table: TABLE.to_owned(),
            sites: 10,
        },
        threads: 1,
        extent: Extent::Messages(load.rows.div_ceil(per_message)),
        rate: load.rate.map(|rate| rate / per_message as f64),
        sample_every: 64,
        server_pid: None,
    }
}

/// Starts everybody and waits until they follow.
fn gather(headwater: &Headwater, primary: &Primary, crowd: Crowd) -> Result<Followers, BenchError> {
    let (count, relays) = match crowd {
        Crowd::Secondaries(count) => (count, false),
        Crowd::Light { relays, .. } => (relays, true),
        Crowd::Stalled => (0, false),
    };
    let mut secondaries = Vec::with_capacity(count);
    for index in 0..count {
        let name = format!("secondary-{index}");
        secondaries.push(headwater.follow(
            primary,
            &Follow {
                name: &name,
                upstream: None,
                relays,
            },
        )?);
    }
    for secondary in &mut secondaries {
        secondary.wait_ready()?;
    }
    let light = match crowd {
        Crowd::Secondaries(_) => 0,
        Crowd::Light { followers, .. } => followers,
        Crowd::Stalled => 1,
    };
    let stalled = crowd == Crowd::Stalled;
    let lights = if light == 0 {
        None
    } else {
        let mut upstreams: Vec<_> = secondaries
            .iter()
            .filter_map(|relay| relay.serves)
            .collect();
        if upstreams.is_empty() {
            upstreams.push(primary.replication()?);
        }
        Some(Lights::start(&Plan {
            upstreams,
            certs: headwater.guest(primary, "light")?,
            followers: light,
            stalled,
        })?)
    };
    Ok(Followers {
        secondaries,
        lights,
        stalled,
    })
}

impl Followers {
    /// Waits until everybody who reads has everything below `lsn`.
    fn wait(&self, lsn: u64) -> Result<(), BenchError> {
        for secondary in &self.secondaries {
            secondary.wait_lsn(lsn, POLL, CATCH_UP_LIMIT)?;
        }
        match &self.lights {
            Some(lights) if self.stalled => {
                // A primary may give up on it; that is its right and worth knowing.
                if let Err(error) = lights.check() {
                    eprintln!("the stalled follower: {error}");
                }
                Ok(())
            }
            Some(lights) => lights.wait_lsn(lsn, CATCH_UP_LIMIT),
            None => Ok(()),
        }
    }
}

fn render(crowds: &[Crowd], all: &[Vec<Sample>]) -> Table {
    let mut table = Table::new(&[
        "who follows",
        "rows/s",
        "of the first",
        "CPU s per million rows",
        "of the first",
        "own memory MiB, peak",
        "resident MiB, peak",
        "open files, peak",
        "log MB shipped by the primary",
        "log MB received by light followers",
        "loopback MB",
        "s until all had everything",
        "messages late",
    ]);
    let middle = |samples: &[Sample], value: fn(&Sample) -> f64| {
        median(&samples.iter().map(value).collect::<Vec<f64>>())
    };
    let first = all.first().map_or(&[][..], Vec::as_slice);
    for (crowd, samples) in crowds.iter().zip(all) {
        let ratio = |value: fn(&Sample) -> f64| {
            let base = middle(first, value);
            if base > 0.0 {
                format!("{:.2}", middle(samples, value) / base)
            } else {
                "-".to_owned()
            }
        };
        let megabytes = middle(samples, |sample| sample.log as f64 / 1e6);
        table.row(&[
            crowd.to_string(),
            grouped(middle(samples, |sample| sample.rows_per_second)),
            ratio(|sample| sample.rows_per_second),
            format!("{:.2}", middle(samples, |sample| sample.cpu)),
            ratio(|sample| sample.cpu),
            format!(
                "{:.1}",
                middle(samples, |sample| sample.peak.own as f64 / MEBIBYTE)
            ),
            format!(
                "{:.1}",
                middle(samples, |sample| sample.peak.resident as f64 / MEBIBYTE)
            ),
            grouped(middle(samples, |sample| sample.peak.files as f64)),
            grouped(megabytes * crowd.direct() as f64),
            grouped(middle(samples, |sample| sample.light as f64 / 1e6)),
            grouped(middle(samples, |sample| sample.traffic.bytes as f64 / 1e6)),
            format!("{:.2}", middle(samples, |sample| sample.drain)),
            grouped(middle(samples, |sample| sample.late as f64)),
        ]);
    }
    table
}

/// More real secondaries than that are not started on one machine.
pub const MOST_SECONDARIES: usize = 64;

/// Given to primaries before what the user set: nothing is sealed, so nothing is compacted.
const SET: [&str; 2] = ["log.segment_size=1 GiB", "log.reserve_disk=0 B"];

const TABLE: &str = "bench";

const POLL: Duration = Duration::from_millis(20);

/// Followers that lag more than this when the load ends have failed.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(300);

const MEBIBYTE: f64 = (1 << 20) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_all_crowds_and_begins_with_another_one() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| rotated(3, round).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }

    #[test]
    fn over_relays_the_primary_ships_to_the_relays_alone() {
        let over = Crowd::Light {
            followers: 1000,
            relays: 4,
        };
        assert_eq!(over.direct(), 4);
        assert_eq!(over.to_string(), "1,000 light over 4 relays");
        let directly = Crowd::Light {
            followers: 100,
            relays: 0,
        };
        assert_eq!(directly.direct(), 100);
        assert_eq!(Crowd::Secondaries(0).to_string(), "nobody");
    }
}
