//! The load generator: connections over threads, closed loop or paced, and what came of it.
//!
//! Bounded in time and count. What it reports is measured between two instants while everything
//! runs, so connecting and draining must never be in the numbers.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::{BenchError, Context};
use crate::load::conn::{Conn, Peers};
use crate::load::fleet::Fleet;
use crate::machine;
use crate::stats::Spread;

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// After so many messages over all connections. Everything is measured.
    Messages(u64),
    /// After `warmup` and then `measured`. Only the latter is measured.
    Time {
        /// Runs at full load, not measured.
        warmup: Duration,
        /// The measured part.
        measured: Duration,
    },
}

/// One run of the generator.
#[derive(Clone, Debug)]
pub struct Options {
    /// The connections.
    pub peers: Peers,
    /// Generator threads; the connections are spread over them.
    pub threads: usize,
    /// When it ends.
    pub extent: Extent,
    /// Messages per second over all connections; `None`: as many as the windows allow.
    pub rate: Option<f64>,
    /// One message in so many per connection is timed.
    pub sample_every: u64,
    /// The server's process, to measure its CPU time over the same interval.
    pub server_pid: Option<u32>,
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Messages acknowledged in the measured part.
    pub messages: u64,
    /// All messages acknowledged, warm-up and drain included.
    pub all_messages: u64,
    /// Length of the measured part.
    pub seconds: f64,
    /// From send to PUBACK, in microseconds.
    pub latency: Spread,
    /// CPU seconds of this process in the measured part.
    pub own_cpu: f64,
    /// CPU seconds of the server in the measured part.
    pub server_cpu: Option<f64>,
    /// The most messages that were due and could not be sent at once; 0 without a rate.
    pub late: u64,
}

impl Report {
    /// Acknowledged messages per second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// CPU seconds of the server per million acknowledged messages.
    pub fn server_cpu_per_million(&self) -> Option<f64> {
        self.server_cpu.map(|cpu| cpu * 1e6 / self.messages as f64)
    }

    /// The report as one line of JSON.
    pub fn json(&self) -> serde_json::Value {
        let millions = self.messages as f64 / 1e6;
        json!({
            "messages": self.messages,
            "seconds": self.seconds,
            "messages_per_second": self.rate(),
            "latency_us": {
                "p50": self.latency.p50,
                "p99": self.latency.p99,
                "max": self.latency.max,
                "samples": self.latency.count,
            },
            "own_cpu_seconds": self.own_cpu,
            "own_cpu_seconds_per_million": self.own_cpu / millions,
            "server_cpu_seconds": self.server_cpu,
            "server_cpu_seconds_per_million": self.server_cpu_per_million(),
        })
    }
}

/// Connects, runs and measures.
///
/// # Errors
/// When the server refuses, breaks the protocol or does not acknowledge everything.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    check(options)?;
    let conns = options.peers.open()?;
    let shares = split(conns, options.threads);
    let threads = shares.len() as u64;
    let plan = Plan::new(options, threads);
    let in_messages = matches!(options.extent, Extent::Messages(_));
    let at_once = Clocks::read(options.server_pid)?;
    let started = plan.start;
    let workers: Vec<_> = shares
        .into_iter()
        .enumerate()
        .map(|(index, conns)| {
            let plan = plan.for_thread(index as u64, threads);
            let sample_every = options.sample_every;
            thread::spawn(move || drive(Fleet::new(conns, sample_every)?, &plan))
        })
        .collect();
    let (before, at_end) = if in_messages {
        (at_once, None)
    } else {
        sleep_until(plan.from);
        let before = Clocks::read(options.server_pid)?;
        sleep_until(plan.to.unwrap_or(plan.from));
        (before, Some(Clocks::read(options.server_pid)?))
    };
    let mut outcomes = Vec::with_capacity(workers.len());
    for worker in workers {
        let outcome = worker
            .join()
            .map_err(|_| BenchError::Invalid("a generator thread panicked".to_owned()))?;
        outcomes.push(outcome?);
    }
    let after = match at_end {
        Some(clocks) => clocks,
        None => Clocks::read(options.server_pid)?,
    };
    let report = report(outcomes, started, in_messages, &before, &after);
    if report.messages == 0 {
        return Err(BenchError::Invalid(
            "no message was acknowledged".to_owned(),
        ));
    }
    Ok(report)
}

fn check(options: &Options) -> Result<(), BenchError> {
    let fits = match options.extent {
        Extent::Messages(count) => count > 0,
        Extent::Time { warmup, measured } => {
            measured >= SHORTEST && warmup.saturating_add(measured) <= LONGEST
        }
    };
    if !fits {
        return Err(BenchError::Usage(
            "a run takes at least 1 message or 0.1 s, and at most 1 hour".to_owned(),
        ));
    }
    if options.threads == 0
        || options
            .rate
            .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
    {
        return Err(BenchError::Usage(
            "threads and rate must be above 0".to_owned(),
        ));
    }
    Ok(())
}

fn report(
    outcomes: Vec<Outcome>,
    started: Instant,
    in_messages: bool,
    before: &Clocks,
    after: &Clocks,
) -> Report {
    let mut micros = Vec::new();
    let (mut messages, mut all_messages, mut rate, mut last) = (0, 0, 0.0, started);
    let mut late = 0;
    for outcome in outcomes {
        late += outcome.late;
        messages += outcome.measured;
        all_messages += outcome.all;
        rate += outcome.measured as f64 / (outcome.to - outcome.from).as_secs_f64();
        last = last.max(outcome.to);
        micros.extend(outcome.micros);
    }
    // In time, each thread's edges are a loop late: its own clock gives the exact rate.
    let seconds = if in_messages {
        (last - started).as_secs_f64()
    } else {
        messages as f64 / rate
    };
    Report {
        messages,
        all_messages,
        seconds,
        latency: Spread::of(micros),
        own_cpu: after.own - before.own,
        server_cpu: after
            .server
            .zip(before.server)
            .map(|(after, before)| after - before),
        late,
    }
}

/// CPU seconds at one instant.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    own: f64,
    server: Option<f64>,
}

impl Clocks {
    fn read(server: Option<u32>) -> Result<Self, BenchError> {
        Ok(Self {
            own: machine::own_cpu_seconds()?,
            server: server
                .map(machine::cpu_seconds)
                .transpose()
                .context("measure the server")?,
        })
    }
}

/// What one thread has to do.
#[derive(Clone, Copy, Debug)]
struct Plan {
    start: Instant,
    from: Instant,
    to: Option<Instant>,
    give_up: Instant,
    quota: u64,
    rate: Option<f64>,
}

impl Plan {
    fn new(options: &Options, threads: u64) -> Self {
        let start = Instant::now();
        let (from, to, quota) = match options.extent {
            Extent::Messages(count) => (start, None, count),
            Extent::Time { warmup, measured } => {
                (start + warmup, Some(start + warmup + measured), u64::MAX)
            }
        };
        Self {
            start,
            from,
            to,
            give_up: to.unwrap_or(start + LONGEST) + DRAIN_LIMIT,
            quota,
            rate: options.rate.map(|rate| rate / threads as f64),
        }
    }

    fn for_thread(&self, index: u64, threads: u64) -> Self {
        let quota = match self.to {
            Some(_) => self.quota,
            None => self.quota / threads + u64::from(index < self.quota % threads),
        };
        Self { quota, ..*self }
    }
}

/// What one thread did.
#[derive(Debug)]
struct Outcome {
    measured: u64,
    all: u64,
    from: Instant,
    to: Instant,
    micros: Vec<f64>,
    late: u64,
}

/// One thread: publish until the plan ends, then wait for the last acknowledgement.
fn drive(mut fleet: Fleet, plan: &Plan) -> Result<Outcome, BenchError> {
    let mut budget = plan.quota;
    let mut pacer = plan.rate.map(|rate| Pacer::new(rate, plan.start));
    // A run of so many messages is measured as a whole.
    let mut begin = plan.to.is_none().then_some((plan.start, 0));
    fleet.samples.open = begin.is_some();
    let mut end = None;
    let mut late = 0;
    if pacer.is_none() {
        budget -= fleet.publish(budget)?;
    }
    loop {
        match &mut pacer {
            Some(pacer) => {
                pacer.tick(&mut fleet, &mut budget)?;
                late = pacer.worst_debt;
            }
            None => fleet.serve(IDLE_POLL, &mut budget)?,
        }
        let now = Instant::now();
        if begin.is_none() && now >= plan.from {
            begin = Some((now, fleet.acked()));
            fleet.samples.open = true;
        }
        if end.is_none() && plan.to.is_some_and(|to| now >= to) {
            end = Some((now, fleet.acked()));
            fleet.samples.open = false;
            budget = 0;
            pacer = None;
        }
        if budget == 0 && fleet.in_flight() == 0 {
            let (from, first) = begin.unwrap_or((plan.start, 0));
            let (to, last) = end.unwrap_or((now, fleet.acked()));
            let micros = std::mem::take(&mut fleet.samples.micros);
            return Ok(Outcome {
                measured: last - first,
                all: fleet.acked(),
                from,
                to,
                micros,
                late,
            });
        }
        if now >= plan.give_up {
            return Err(BenchError::Invalid(format!(
                "{} messages were not acknowledged in time",
                fleet.in_flight()
            )));
        }
    }
}

/// Decides how many messages are due; keeps what could not be sent in time as debt.
#[derive(Debug)]
pub struct Pacer {
    rate: f64,
    start: Instant,
    issued: u64,
    next_tick: Instant,
    /// The most messages that were due and could not be sent at once.
    pub worst_debt: u64,
}

impl Pacer {
    /// `rate` messages per second from `start` on.
    pub fn new(rate: f64, start: Instant) -> Self {
        Self {
            rate,
            start,
            issued: 0,
            next_tick: start + TICK,
            worst_debt: 0,
        }
    }

    /// One tick: sends what is due, takes what has been acknowledged, sleeps until the next tick.
    ///
    /// # Errors
    /// When a connection is broken.
    pub fn tick(&mut self, fleet: &mut Fleet, budget: &mut u64) -> Result<(), BenchError> {
        let due = (self.start.elapsed().as_secs_f64() * self.rate) as u64;
        let due = due.saturating_sub(self.issued).min(*budget);
        let sent = fleet.publish(due)?;
        self.issued += sent;
        *budget -= sent;
        self.worst_debt = self.worst_debt.max(due - sent);
        fleet.serve(Duration::ZERO, &mut 0)?;
        let now = Instant::now();
        if let Some(rest) = self.next_tick.checked_duration_since(now) {
            thread::sleep(rest);
        }
        self.next_tick = (self.next_tick + TICK).max(now);
        Ok(())
    }
}

/// Deals the connections out to at most `threads` threads.
fn split(conns: Vec<Conn>, threads: usize) -> Vec<Vec<Conn>> {
    let threads = threads.clamp(1, conns.len().max(1));
    let mut shares: Vec<Vec<Conn>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, conn) in conns.into_iter().enumerate() {
        shares[index % threads].push(conn);
    }
    shares
}

/// Sleeps until an instant, not at all when it has passed.
pub fn sleep_until(instant: Instant) {
    thread::sleep(instant.saturating_duration_since(Instant::now()));
}

/// How often a thread with nothing to do looks at the clock.
const IDLE_POLL: Duration = Duration::from_millis(5);

/// A paced generator sends once in this time.
const TICK: Duration = Duration::from_millis(1);

/// Messages sent before the end must be acknowledged within this time after it.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Process times are counted in 10 ms: less would measure nothing.
const SHORTEST: Duration = Duration::from_millis(100);

/// Nothing here may run longer.
const LONGEST: Duration = Duration::from_secs(3600);
