//! From publish to visible: how long until a row is in the answers of a secondary.
//!
//! A fleet publishes at a fixed rate, open loop. Among its messages travel probes: one connection
//! publishes them in order to a table of their own, so the count of that table says exactly which
//! probes an answer includes. The time runs from the probe's `write` to the end of that answer, the
//! query and the wait for the next query included.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::conn::Peers;
use crate::error::{BenchError, Context};
use crate::fleet::Fleet;
use crate::http::Http;
use crate::load::Pacer;
use crate::machine;
use crate::node::Headwater;
use crate::packet::Version;
use crate::stats::{Spread, Table, grouped};

const FLEET_TABLE: &str = "bench";

const PROBE_TABLE: &str = "probe";

/// Probes sent and not yet seen: far more than a working secondary leaves waiting.
const PROBES_WAITING: usize = 65_536;

/// What was published must be visible, and acknowledged, within this time after the end.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// One measurement.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the nodes are started.
    pub headwater: Headwater,
    /// Messages per second.
    pub rate: f64,
    /// Connections of the fleet.
    pub connections: usize,
    /// Not measured.
    pub warmup: Duration,
    /// Measured.
    pub measured: Duration,
    /// Mean time between probes.
    pub probe_every: Duration,
    /// Time between an answer and the next query.
    pub poll_every: Duration,
    /// The protocol.
    pub version: Version,
}

/// What the publishing thread did.
#[derive(Debug)]
struct Published {
    messages: u64,
    worst_debt: u64,
    micros: Vec<f64>,
}

/// What the asking thread saw.
#[derive(Debug, Default)]
struct Seen {
    visible: Vec<f64>,
    queries: Vec<f64>,
}

/// Starts a primary and a secondary and measures between them: a Markdown table.
///
/// # Errors
/// When a node does not start, fails, or loses a message.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    if !options.rate.is_finite() || options.rate <= 0.0 || options.probe_every.is_zero() {
        return Err(BenchError::Usage(
            "rate and time between probes must be above 0".to_owned(),
        ));
    }
    let primary = options.headwater.shipping_primary()?;
    let mut secondary = options.headwater.secondary(&primary)?;
    secondary.wait_ready()?;
    let peers = |table: &str, connections, window| Peers {
        server: primary.mqtt,
        version: options.version,
        window,
        connections,
        table: table.to_owned(),
        sites: 10,
    };
    let fleet = Fleet::new(peers(FLEET_TABLE, options.connections, 1000).open()?, 64)?;
    let probes = Fleet::new(peers(PROBE_TABLE, 1, 1000).open()?, 0)?;
    let (sender, receiver) = sync_channel(PROBES_WAITING);
    let start = Instant::now();
    let publisher = {
        let options = options.clone();
        thread::spawn(move || publish(fleet, probes, &sender, &options, start))
    };
    let cpu = (
        primary.process.cpu_seconds()?,
        secondary.process.cpu_seconds()?,
    );
    let seen = watch(&secondary.http, &receiver, options, start)?;
    let published = publisher
        .join()
        .map_err(|_| BenchError::Invalid("the publishing thread panicked".to_owned()))??;
    let million = published.messages as f64 / 1e6;
    let cpu = (
        (primary.process.cpu_seconds()? - cpu.0) / million,
        (secondary.process.cpu_seconds()? - cpu.1) / million,
    );
    check_count(&secondary.http, published.messages)?;
    Ok(render(options, published, seen, cpu))
}

/// Publishes until the end and waits for the last acknowledgement.
fn publish(
    mut fleet: Fleet,
    mut probes: Fleet,
    sender: &SyncSender<Instant>,
    options: &Options,
    start: Instant,
) -> Result<Published, BenchError> {
    let from = start + options.warmup;
    let end = from + options.measured;
    let mut pacer = Pacer::new(options.rate, start);
    let mut unlimited = u64::MAX;
    let mut next_probe = start;
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        fleet.samples.open = now >= from;
        if now >= next_probe {
            // Sent to the watcher first: it must never see a probe it does not know.
            sender.send(Instant::now()).context("hand over a probe")?;
            if probes.publish(1)? == 0 {
                return Err(BenchError::Invalid(
                    "the primary stopped acknowledging".to_owned(),
                ));
            }
            // Random, so that probes do not beat with the ticks or with group commits.
            next_probe = now + options.probe_every.mul_f64(0.5 + fastrand::f64());
        }
        probes.serve(Duration::ZERO, &mut 0)?;
        pacer.tick(&mut fleet, &mut unlimited)?;
    }
    let limit = Instant::now() + DRAIN_LIMIT;
    while fleet.in_flight() + probes.in_flight() > 0 {
        if Instant::now() >= limit {
            return Err(BenchError::Invalid(
                "not every message was acknowledged".to_owned(),
            ));
        }
        fleet.serve(Duration::from_millis(1), &mut 0)?;
        probes.serve(Duration::from_millis(1), &mut 0)?;
    }
    Ok(Published {
        messages: fleet.acked(),
        worst_debt: pacer.worst_debt,
        micros: std::mem::take(&mut fleet.samples.micros),
    })
}

/// Asks for the number of probes, again and again, until the last one is visible.
fn watch(
    http: &Http,
    probes: &Receiver<Instant>,
    options: &Options,
    start: Instant,
) -> Result<Seen, BenchError> {
    let from = start + options.warmup;
    let limit = from + options.measured + DRAIN_LIMIT;
    let mut waiting = VecDeque::new();
    let mut seen = Seen::default();
    let mut visible = 0;
    loop {
        let asked = Instant::now();
        let count = http.count(PROBE_TABLE)?;
        let answered = Instant::now();
        let done = loop {
            match probes.try_recv() {
                Ok(sent) => waiting.push_back(sent),
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        if asked >= from {
            seen.queries.push((answered - asked).as_secs_f64() * 1e3);
        }
        for _ in visible..count {
            let sent = waiting.pop_front().ok_or_else(|| {
                BenchError::Invalid("the secondary shows probes that were never sent".to_owned())
            })?;
            if sent >= from {
                seen.visible.push((answered - sent).as_secs_f64() * 1e3);
            }
        }
        if count < visible {
            return Err(BenchError::Invalid(format!(
                "a count fell from {visible} to {count}"
            )));
        }
        visible = count;
        if done && waiting.is_empty() {
            return Ok(seen);
        }
        if answered >= limit {
            return Err(BenchError::Invalid(format!(
                "{} probes never became visible",
                waiting.len()
            )));
        }
        thread::sleep(options.poll_every);
    }
}

/// Everything acknowledged must be there. It may still be on its way when the last probe is seen.
fn check_count(http: &Http, messages: u64) -> Result<(), BenchError> {
    let limit = Instant::now() + DRAIN_LIMIT;
    loop {
        let count = http.count(FLEET_TABLE)?;
        if count == messages {
            return Ok(());
        }
        if count > messages || Instant::now() >= limit {
            return Err(BenchError::Invalid(format!(
                "{messages} messages were acknowledged, the secondary has {count}"
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn render(options: &Options, published: Published, seen: Seen, cpu: (f64, f64)) -> String {
    let mut table = Table::new(&["at", "p50 ms", "p99 ms", "max ms", "samples"]);
    let rate = grouped(options.rate);
    let acked = published.micros.iter().map(|micros| micros / 1e3).collect();
    for (name, values) in [
        (
            format!("publish to visible, {rate} messages/s"),
            seen.visible,
        ),
        ("publish to PUBACK".to_owned(), acked),
        ("one query".to_owned(), seen.queries),
    ] {
        let spread = Spread::of(values);
        table.row(&[
            name,
            format!("{:.1}", spread.p50),
            format!("{:.1}", spread.p99),
            format!("{:.1}", spread.max),
            spread.count.to_string(),
        ]);
    }
    format!(
        "{}\n\n{table}\n{} messages over {} connections; at most {} were late; CPU s per million: \
         primary {:.1}, secondary {:.1} (queries included).",
        machine::describe(),
        grouped(published.messages as f64),
        options.connections,
        published.worst_debt,
        cpu.0,
        cpu.1
    )
}
