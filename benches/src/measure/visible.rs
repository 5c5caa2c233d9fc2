//! From publish to visible: how long until a row is in the answers of a secondary.
//!
//! A fleet publishes at a fixed rate, open loop. Beside it travel probes to a table of their
//! own (`probe.rs`), so the count of that table says exactly which probes an answer includes.
//! The time runs from the probe's `write`, or from its PUBACK, to the end of that answer, the
//! query and the wait for the next query included. Must never count a probe that was not sent
//! in the measured part.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::BenchError;
use crate::load::conn::Peers;
use crate::load::generator::{self, Extent, Report};
use crate::load::probe::{self, Prober};
use crate::machine;
use crate::measure::args::{ProtocolArgs, microseconds, milliseconds, seconds};
use crate::node::http::Http;
use crate::node::{Headwater, Primary, Secondary};
use crate::stats::{Spread, Table, grouped};

/// What is published and how it is watched.
#[derive(Clone, Debug, Args)]
pub struct Script {
    #[command(flatten)]
    pub(crate) protocol: ProtocolArgs,
    /// Messages per second.
    #[arg(long, default_value_t = 10_000.0)]
    pub(crate) rate: f64,
    /// Rows of each message.
    #[arg(long, default_value_t = 1)]
    pub(crate) rows: u16,
    /// Connections.
    #[arg(long, default_value_t = 100)]
    pub(crate) connections: usize,
    /// Seconds to measure.
    #[arg(long = "seconds", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) measured: Duration,
    /// Seconds before measuring.
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Mean milliseconds between probes.
    #[arg(
        long = "probe-ms",
        value_name = "PROBE_MS",
        default_value = "10",
        value_parser = milliseconds
    )]
    pub(crate) probe_every: Duration,
    /// Microseconds between an answer and the next query.
    #[arg(
        long = "poll-us",
        value_name = "POLL_US",
        default_value = "500",
        value_parser = microseconds
    )]
    pub(crate) poll_every: Duration,
}

/// Starts a primary and a secondary, publishes at a fixed rate and watches the secondary.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    headwater: Headwater,
    #[command(flatten)]
    script: Script,
}

/// What came of it. Times are in milliseconds.
#[derive(Debug)]
pub struct Observed {
    /// From a probe's `write` until it was visible.
    pub from_publish: Spread,
    /// From a probe's PUBACK until it was visible; 0 where the answer was faster than the PUBACK.
    pub from_ack: Spread,
    /// How long a query took.
    pub queries: Spread,
    /// What the fleet saw.
    pub fleet: Report,
    /// CPU seconds per million rows: of the primary, and of the secondary with its queries.
    pub cpu: (f64, f64),
}

/// What the asking thread saw: for every probe when it was sent and when an answer included it.
#[derive(Debug, Default)]
struct Seen {
    probes: Vec<(Instant, Instant)>,
    queries: Vec<f64>,
}

/// Starts a primary and a secondary and measures between them: a Markdown table.
///
/// # Errors
/// When a node does not start, fails, or loses a message.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    let primary = options.headwater.shipping_primary()?;
    let mut secondary = options.headwater.secondary(&primary)?;
    secondary.wait_ready()?;
    let observed = observe(&primary, &secondary, &options.script)?;
    Ok(render(&options.script, &observed))
}

/// Publishes to a primary and watches a secondary, which must be up to date. Both are fresh to
/// this: a pair of nodes can be observed once.
///
/// # Errors
/// When a node fails or loses a message.
pub fn observe(
    primary: &Primary,
    secondary: &Secondary,
    script: &Script,
) -> Result<Observed, BenchError> {
    if script.probe_every.is_zero() {
        return Err(BenchError::Usage(
            "the time between probes must be above 0".to_owned(),
        ));
    }
    let before = (
        primary.process.cpu_seconds()?,
        secondary.process.cpu_seconds()?,
    );
    let from = Instant::now() + script.warmup;
    let prober = Prober::start(&probe::Options {
        server: primary.mqtt,
        version: script.protocol.version(),
        table: PROBE_TABLE.to_owned(),
        every: script.probe_every,
        end: from + script.measured,
    })?;
    let load = load_options(primary, script);
    let fleet = thread::spawn(move || generator::run(&load));
    let seen = watch(&secondary.http, &prober.sent, script, from)?;
    let fleet = fleet
        .join()
        .map_err(|_| BenchError::Invalid("the publishing thread panicked".to_owned()))??;
    let acked = prober.finish()?;
    let rows = fleet.all_messages * u64::from(script.rows);
    check_count(&secondary.http, rows)?;
    let million = rows as f64 / 1e6;
    let cpu = (
        (primary.process.cpu_seconds()? - before.0) / million,
        (secondary.process.cpu_seconds()? - before.1) / million,
    );
    let measured = || {
        seen.probes
            .iter()
            .zip(&acked)
            .filter(move |((sent, _), _)| *sent >= from)
    };
    let millis =
        |from: &Instant, to: &Instant| to.saturating_duration_since(*from).as_secs_f64() * 1e3;
    Ok(Observed {
        from_publish: Spread::of(
            measured()
                .map(|((sent, seen), _)| millis(sent, seen))
                .collect(),
        ),
        from_ack: Spread::of(
            measured()
                .map(|((_, seen), acked)| millis(acked, seen))
                .collect(),
        ),
        queries: Spread::of(seen.queries.clone()),
        fleet,
        cpu,
    })
}

fn load_options(primary: &Primary, script: &Script) -> generator::Options {
    let window = (IN_FLIGHT / script.connections.max(1)).clamp(1, 1000);
    generator::Options {
        peers: Peers {
            server: primary.mqtt,
            version: script.protocol.version(),
            rows: script.rows,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            connections: script.connections,
            table: FLEET_TABLE.to_owned(),
            sites: 10,
        },
        threads: 1,
        extent: Extent::Time {
            warmup: script.warmup,
            measured: script.measured,
        },
        rate: Some(script.rate),
        sample_every: 64,
        server_pid: None,
    }
}

/// Asks for the number of probes, again and again, until the last one is visible.
fn watch(
    http: &Http,
    probes: &Receiver<Instant>,
    script: &Script,
    from: Instant,
) -> Result<Seen, BenchError> {
    let limit = from + script.measured + DRAIN_LIMIT;
    let mut sent = Vec::new();
    let mut seen = Seen::default();
    loop {
        let asked = Instant::now();
        let count = usize::try_from(http.count(PROBE_TABLE)?).unwrap_or(usize::MAX);
        let answered = Instant::now();
        let done = loop {
            match probes.try_recv() {
                Ok(probe) => sent.push(probe),
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        if asked >= from {
            seen.queries.push((answered - asked).as_secs_f64() * 1e3);
        }
        let visible = seen.probes.len();
        let Some(new) = sent.get(visible..count.max(visible)) else {
            return Err(BenchError::Invalid(
                "the secondary shows probes that were never sent".to_owned(),
            ));
        };
        if count < visible {
            return Err(BenchError::Invalid(format!(
                "a count fell from {visible} to {count}"
            )));
        }
        seen.probes.extend(new.iter().map(|sent| (*sent, answered)));
        if done && seen.probes.len() == sent.len() {
            return Ok(seen);
        }
        if answered >= limit {
            return Err(BenchError::Invalid(format!(
                "{} probes never became visible",
                sent.len() - seen.probes.len()
            )));
        }
        thread::sleep(script.poll_every);
    }
}

/// Everything acknowledged must be there. It may still be on its way when the last probe is seen.
fn check_count(http: &Http, rows: u64) -> Result<(), BenchError> {
    let limit = Instant::now() + DRAIN_LIMIT;
    loop {
        let count = http.count(FLEET_TABLE)?;
        if count == rows {
            return Ok(());
        }
        if count > rows || Instant::now() >= limit {
            return Err(BenchError::Invalid(format!(
                "{rows} rows were acknowledged, the secondary has {count}"
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn render(script: &Script, observed: &Observed) -> String {
    let mut table = Table::new(&["at", "p50 ms", "p99 ms", "max ms", "samples"]);
    let rate = grouped(script.rate * f64::from(script.rows));
    let acked = Spread {
        p50: observed.fleet.latency.p50 / 1e3,
        p99: observed.fleet.latency.p99 / 1e3,
        max: observed.fleet.latency.max / 1e3,
        ..observed.fleet.latency
    };
    for (name, spread) in [
        (
            format!("publish to visible, {rate} rows/s"),
            observed.from_publish,
        ),
        ("PUBACK to visible".to_owned(), observed.from_ack),
        ("publish to PUBACK".to_owned(), acked),
        ("one query".to_owned(), observed.queries),
    ] {
        table.row(&[
            name,
            format!("{:.1}", spread.p50),
            format!("{:.1}", spread.p99),
            format!("{:.1}", spread.max),
            spread.count.to_string(),
        ]);
    }
    format!(
        "{}\n\n{table}\n{} messages of {} rows over {} connections; at most {} were late; CPU s per \
         million rows: primary {:.1}, secondary {:.1} (queries included).",
        machine::describe(),
        grouped(observed.fleet.all_messages as f64),
        script.rows,
        script.connections,
        observed.fleet.late,
        observed.cpu.0,
        observed.cpu.1
    )
}

const FLEET_TABLE: &str = "live";

const PROBE_TABLE: &str = "probe";

/// Messages in flight of the whole fleet: enough for a pause of a second at most rates.
const IN_FLIGHT: usize = 100_000;

/// What was published must be visible, and acknowledged, within this time after the end.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
